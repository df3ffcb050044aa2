"""A run that was stopped goes on as if it had not been, or says why it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.running import engine
from embshare.tasks.running.engine import run
from embshare.tasks.running.folder import OtherBeginError
from tests.tasks.running.example import config


class Killed(BaseException):
    """What a test stops a run with."""


@pytest.mark.parametrize("average", [1, 3])
def test_a_run_killed_after_its_last_step_makes_no_other(
    tmp_path: Path, average: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"schedule": "constant", "average": average}
    whole = run(config(tmp_path, out=tmp_path / "whole", training=training))
    killed = config(tmp_path, training=training)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(engine, "save_trained", die)
        run(killed)
    last = killed.out / "checkpoints" / "checkpoint-8" / "trainer_state.json"
    trained = json.loads(last.read_text())["log_history"][-1]["seconds"]
    for _ in range(2):  # a finished run may be taken up again, too
        resumed = run(killed, resume=True)
        assert resumed.metrics == whole.metrics
        assert resumed.training_loss == whole.training_loss
        assert resumed.seconds > trained
        curve = json.loads((killed.out / "curve.json").read_text())
        assert [point["step"] for point in curve] == list(range(1, 9))
    steps = [path.name for path in (killed.out / "checkpoints").iterdir()]
    assert "checkpoint-9" not in steps
    assert "checkpoint-8" in steps


@pytest.mark.parametrize("lost", ["trainer_state.json", "model.safetensors"])
def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path, lost: str) -> None:
    whole = run(config(tmp_path, out=tmp_path / "whole"))
    killed = config(tmp_path)
    run(killed)
    newest = killed.out / "checkpoints" / "checkpoint-8"
    assert newest.is_dir()
    (newest / "trainer_state.json").unlink()  # it is written last
    (newest / lost).write_bytes(b"{")
    resumed = run(killed, resume=True)
    assert resumed.metrics == whole.metrics
    seconds = [p["seconds"] for p in json.loads((killed.out / "curve.json").read_text())]
    assert seconds == sorted(seconds)  # counted on from the checkpoint, not from nothing
    assert resumed.seconds >= seconds[-1]


def test_a_run_goes_on_with_the_data_that_it_began_with(tmp_path: Path) -> None:
    killed = config(tmp_path)
    run(killed)
    before = (killed.out / "processor").stat()
    train = Path(killed.settings.data) / "train.txt"  # type: ignore[attr-defined]
    train.write_text(train.read_text().replace("fox", "cat"))
    with pytest.raises(OtherBeginError, match=r"but `data\.fingerprint.*` changed"):
        run(killed, resume=True)
    assert (killed.out / "processor").stat().st_mtime_ns == before.st_mtime_ns
    assert run(killed, overwrite=True).data != {}


def test_a_run_goes_on_with_as_many_processes(tmp_path: Path) -> None:
    killed = config(tmp_path)
    run(killed)
    begin = killed.out / "begin.json"
    begin.write_text(begin.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(OtherBeginError, match="but `processes` changed"):
        run(killed, resume=True)
