"""A resumed run equals one that was never stopped, or an error says why it cannot be resumed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.runs import engine
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.folder import OtherRunError
from embshare.tasks.runs.loading import load_run
from embshare.tasks.runs.result import RunResult
from tests._support.run_example import config
from tests._support.task_examples import EXAMPLES
from tests.integration.tasks.runs.fsdp import VARIABLES


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
    for _ in range(2):  # a finished run may be resumed, too
        resumed = run(killed, resume=True)
        assert resumed.metrics == whole.metrics
        assert resumed.training_loss == whole.training_loss
        assert resumed.seconds > trained
        curve = json.loads((killed.out / "curve.json").read_text())
        assert [point["step"] for point in curve] == list(range(1, 9))
    steps = [path.name for path in (killed.out / "checkpoints").iterdir()]
    assert "checkpoint-9" not in steps
    assert "checkpoint-8" in steps


@pytest.mark.parametrize("at", range(5))
def test_a_run_killed_while_an_earlier_one_goes_can_be_given_again(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path)
    run(settings)
    unlink, files = Path.unlink, list[Path]()

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.parent == settings.out:
            if len(files) == at:
                raise Killed
            files.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "unlink", die)
        run(settings, overwrite=True)
    run(settings, overwrite=True)
    assert (settings.out / "result.json").is_file()


def test_what_a_killed_process_left_half_written_is_no_part_of_the_model(tmp_path: Path) -> None:
    share = ShareConfig()
    whole = run(config(tmp_path, out=tmp_path / "whole", share=share))
    killed = config(tmp_path, share=share)
    (killed.out / "model" / ".saving-x").mkdir(parents=True)
    (killed.out / "model" / ".saving-x" / "config.json").write_text("{")
    (killed.out / "model" / ".model.safetensors.0f").write_text("half")
    (killed.out / "model" / ".notes").write_text("mine")
    (killed.out / "config.yaml").write_text(killed.to_yaml())
    resumed = run(killed, resume=True)
    assert resumed.bytes == whole.bytes + len("mine")


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


def test_a_run_is_resumed_with_the_same_data_only(tmp_path: Path) -> None:
    killed = config(tmp_path)
    run(killed)
    before = (killed.out / "processor").stat()
    train = Path(killed.settings.data) / "train.txt"  # type: ignore[attr-defined]
    train.write_text(train.read_text().replace("fox", "cat"))
    with pytest.raises(OtherRunError, match=r"but `data\.fingerprint.*` changed"):
        run(killed, resume=True)
    assert (killed.out / "processor").stat().st_mtime_ns == before.st_mtime_ns
    assert run(killed, overwrite=True).data != {}


def test_a_run_is_resumed_with_the_same_number_of_processes_only(tmp_path: Path) -> None:
    killed = config(tmp_path)
    run(killed)
    begin = killed.out / "begin.json"
    begin.write_text(begin.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(OtherRunError, match="but `processes` changed"):
        run(killed, resume=True)


def test_a_run_of_an_earlier_version_is_resumed_and_evaluated(tmp_path: Path) -> None:
    """Its settings and its description of the data have former names."""
    killed = config(tmp_path, "translation")
    whole = run(killed)
    for name, count in (("config.yaml", 1), ("begin.json", 2)):
        file = killed.out / name
        text, made = re.subn("(batch|source|target)_tokens", r"\1_symbols", file.read_text())
        assert made == count
        file.write_text(text)
    assert run(RunConfig.from_yaml(killed.out / "config.yaml"), resume=True).steps == whole.steps
    (killed.out / "config.yaml").write_text(
        killed.to_yaml().replace("batch_tokens", "batch_symbols")
    )
    found = load_run(killed.out)
    assert found.config == killed
    assert found.evaluate({}, folder=tmp_path)["bleu"] == whole.metrics["bleu"]


def test_a_setting_under_both_names_is_an_error(tmp_path: Path) -> None:
    given = {"batch_tokens": 200, "batch_symbols": 300}
    with pytest.raises(InvalidValueError, match="`batch_symbols`: is no field"):
        config(tmp_path, "translation", settings=given)


def train_with_two(module: str, config: Path, *options: str, **variables: str) -> None:
    """A training by two processes, as a settings file says."""
    task = RunConfig.from_yaml(config).task
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", module]
    command += ["train", task, "--config", str(config), *options]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr


def losses(folder: Path) -> list[tuple[int, float]]:
    points = json.loads((folder / "curve.json").read_text())
    return [(point["step"], point["loss"]) for point in points]


def test_a_point_of_the_curve_is_of_the_same_steps(tmp_path: Path) -> None:
    """Also where checkpoints are written between two points."""
    training = {"log_every": 3, "save_every": 2}
    whole = run(config(tmp_path, training=training))
    before = losses(whole.config.out)
    assert [step for step, _ in before] == [2, 3, 4, 6, 8]
    shutil.rmtree(whole.config.out / "checkpoints" / "checkpoint-8")
    left: list[int] = []
    resumed = run(whole.config, resume=True, on_start=left.append)
    assert left == [2]
    assert losses(whole.config.out) == before
    assert resumed.training_loss == whole.training_loss


@pytest.mark.slow
def test_two_processes_resume_in_a_later_epoch(tmp_path: Path) -> None:
    """With batches of rows of similar length, whose order changes with the epoch."""
    (tmp_path / "data").mkdir()
    settings = EXAMPLES["glue"].settings(tmp_path / "data")
    settings["training"] |= {"batch_size": 10, "save_every": 4, "log_every": 1}  # epochs of 3 steps
    fields: dict[str, Any] = {"model": "conv", "out": tmp_path / "run", "settings": settings}
    begun = RunConfig(task="glue", **fields)
    file = tmp_path / "config.yaml"
    file.write_text(begun.to_yaml())

    train_with_two("embshare", file)
    whole = losses(begun.out)
    shutil.rmtree(begun.out / "checkpoints" / "checkpoint-8")
    train_with_two("embshare", file, "--resume")
    assert losses(begun.out) == whole


@pytest.mark.slow
@pytest.mark.parametrize("share", [None, ShareConfig()])
def test_a_sharded_training_is_saved_whole_and_resumed(
    tmp_path: Path, share: ShareConfig | None
) -> None:
    begun = config(tmp_path, share=share, training={"average": 2})
    file = tmp_path / "config.yaml"
    file.write_text(begun.to_yaml())
    train_with_two("tests.integration.tasks.runs.fsdp", file, **VARIABLES)
    whole = losses(begun.out)
    metrics = RunResult.from_json((begun.out / "result.json").read_text()).metrics
    again = load_run(begun.out).evaluate({}, folder=tmp_path)
    assert again["perplexity"] == pytest.approx(metrics["perplexity"], rel=1e-6)
    shutil.rmtree(begun.out / "checkpoints" / "checkpoint-8")
    train_with_two("tests.integration.tasks.runs.fsdp", file, "--resume", **VARIABLES)
    assert losses(begun.out) == whole
