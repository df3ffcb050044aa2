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
from embshare.tasks.runs.folder import NoCheckpointError, OtherRunError, TooFewStepsError
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


def points(out: Path, name: str) -> list[float]:
    return [point[name] for point in json.loads((out / "curve.json").read_text())]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "inverse_sqrt"])
def test_an_extended_run_follows_the_schedule_of_the_longer_one(
    tmp_path: Path, schedule: str
) -> None:
    training = {"schedule": schedule, "log_every": 1, "warmup_steps": 3}
    longer = training | {"steps": 14}
    run(config(tmp_path, training=training))
    first = points(tmp_path / "run", "loss")
    left: list[int] = []
    result = run(config(tmp_path, training=longer), resume=True, on_start=left.append)
    assert (left, result.steps) == ([6], 14)
    assert points(tmp_path / "run", "loss")[:8] == first
    assert points(tmp_path / "run", "step") == list(range(1, 15))
    run(config(tmp_path, out=tmp_path / "whole", training=longer))
    rates = points(tmp_path / "whole", "learning_rate")
    assert points(tmp_path / "run", "learning_rate")[8:] == rates[8:]


def test_a_constant_rate_extended_is_a_run_that_was_long_from_the_start(tmp_path: Path) -> None:
    training = {"schedule": "constant", "warmup_steps": 2, "log_every": 1}
    whole = run(config(tmp_path, out=tmp_path / "whole", training=training | {"steps": 13}))
    run(config(tmp_path, training=training))
    extended = config(tmp_path, training=training | {"steps": 13})
    result = run(extended, resume=True)
    assert points(extended.out, "loss") == points(tmp_path / "whole", "loss")
    assert (result.metrics, result.training_loss) == (whole.metrics, whole.training_loss)
    assert result.config == extended
    assert run(extended, resume=True).metrics == whole.metrics


def test_an_extended_run_that_is_killed_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config(tmp_path))
    longer = config(tmp_path, training={"steps": 14})
    with pytest.raises(KeyboardInterrupt):
        run(longer, resume=True, stop=lambda: True)
    assert (longer.out / "checkpoints" / "checkpoint-9").is_dir()
    stopped = run(longer, resume=True)
    other = config(tmp_path, out=tmp_path / "other")
    run(other)
    whole = run(config(tmp_path, out=other.out, training={"steps": 14}), resume=True)
    assert stopped.metrics == whole.metrics


def test_a_run_is_extended_by_its_length_alone(tmp_path: Path) -> None:
    run(config(tmp_path))
    with pytest.raises(TooFewStepsError, match=r"at least the 8 that .* but is 7") as few:
        run(config(tmp_path, training={"steps": 7}), resume=True)
    assert (few.value.made, few.value.steps) == (8, 7)
    with pytest.raises(OtherRunError, match="Only its length may grow"):
        run(config(tmp_path, training={"steps": 9, "hidden_lr": 1.0}), resume=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    for steps in (8, 9):
        with pytest.raises(NoCheckpointError, match="must have a checkpoint in `checkpoints`"):
            run(config(tmp_path, training={"steps": steps}), resume=True)
    assert load_run(tmp_path / "run").config.training.steps == 8


def test_epochs_are_extended_too(tmp_path: Path) -> None:
    begun = config(tmp_path)
    fields = dict(begun.settings)
    training = begun.training.model_dump(exclude={"steps", "epochs"})

    def of(count: float) -> RunConfig:
        made = type(begun.settings)(**{**fields, "training": {**training, "epochs": count}})
        return begun.model_copy(update={"settings": made})

    first = run(of(0.5))
    second = run(of(1.0), resume=True)
    assert (first.steps, second.steps) == (9, 17)  # an epoch has 17, and half of one is rounded up
    with pytest.raises(TooFewStepsError):
        run(of(0.5), resume=True)


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint(tmp_path: Path) -> None:
    whole = run(config(tmp_path, out=tmp_path / "whole", training={"log_every": 1}))
    asked = config(tmp_path, training={"log_every": 1})
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(asked, on_step=lambda: steps.append(1), stop=lambda: len(steps) == 3)
    assert not (asked.out / "model").exists()
    found = [path.name for path in (asked.out / "checkpoints").iterdir()]
    assert sorted(found) == ["checkpoint-2", "checkpoint-3"]
    resumed = run(asked, resume=True)
    assert (resumed.metrics, resumed.training_loss) == (whole.metrics, whole.training_loss)


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
