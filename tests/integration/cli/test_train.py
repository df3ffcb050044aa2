"""``train``, ``eval`` and ``predict``: options, files, and what they print."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embshare.cli import app
from embshare.cli.train import settings_fields, share_fields
from embshare.cli.using import _lines, _Scores
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs import engine
from embshare.tasks.runs.config import read_config_file
from embshare.tasks.settings import TrainSettings
from tests._support.task_examples import EXAMPLES

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    env = {"COLUMNS": "300", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, list(arguments), env=env, input=stdin)
    return result.exit_code, ANSI.sub("", result.stdout), ANSI.sub("", result.stderr)


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_is_an_option(task: str) -> None:
    code, out, err = run("train", task.replace("_", "-"), "--help")
    assert (code, err) == (0, "")
    own = set(TASKS[task].settings_class().model_fields) - {"training"}
    for name in own | set(TrainSettings.model_fields):
        assert f"--{name.replace('_', '-')}" in out
    for name in set(ShareConfig.model_fields) - {"method"}:
        assert f"--share-{name.replace('_', '-')}" in out


def test_help_lists_every_task() -> None:
    code, out, _ = run("train", "--help")
    assert code == 0
    assert all(task in out for task in TASKS)


def test_a_model_is_trained_scored_and_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    settings = EXAMPLES["language_modelling"].settings(data)
    training = settings.pop("training")
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps({"settings": {**settings, "training": training}, "model": "lstm"}))
    out = tmp_path / "run"
    arguments = ["train", "language_modelling", "--config", str(file), "--out", str(out)]
    arguments += ["--arch", "conv", "--share", "veps", "--tie", "all", "--share-anchor", "2"]
    code, printed, err = run(*arguments, "--steps", "4", "--exclude", "*.feed_forward.*")
    assert (code, err) == (0, "")
    assert "perplexity" in printed
    found = json.loads((out / "result.json").read_text())
    assert found["config"]["model"] == "conv"  # the command line wins
    assert found["config"]["share"]["exclude"] == ["*.feed_forward.*"]
    assert found["config"]["settings"]["training"]["steps"] == found["steps"] == 4
    assert found["config"]["settings"]["training"]["batch_size"] == training["batch_size"]

    code, printed, _ = run("eval", str(out), "--out", str(tmp_path / "again.json"))
    assert code == 0
    again = json.loads((tmp_path / "again.json").read_text())["metrics"]
    assert again["perplexity"] == pytest.approx(found["metrics"]["perplexity"], rel=1e-6)
    code, printed, _ = run("eval", str(out), "--set", "stride=3")
    assert code == 0
    assert f"{found['metrics']['perplexity']:,.4f}" not in printed
    code, printed, _ = run("predict", str(out), stdin="the quick\nbrown\n")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == ["the", "brown"]
    assert run("predict", str(out), "the lazy")[1].startswith("the lazy")


class StoppedError(Exception):
    """Nothing is trained here."""


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_trained_by_its_own_defaults(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def stop(config: Any, **_: Any) -> None:
        asked.append(config.training)
        raise StoppedError

    monkeypatch.setattr(engine, "run", stop)
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps({"settings": {"training": {"accumulation": 2}}}))
    words = ["train", task, "--out", str(tmp_path / "out")]
    for more in ([], ["--steps", "1000"], ["--config", str(file), "--warmup-steps", "5"]):
        assert isinstance(CliRunner().invoke(app, [*words, *more]).exception, StoppedError)
    default: Any = TASKS[task].settings_class()()
    assert asked[0] == default.training
    assert asked[1] == default.training.model_copy(update={"steps": 1000})
    changes = {"accumulation": 2, "warmup_steps": 5}
    assert asked[2] == default.training.model_copy(update=changes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "weather"], "No such command 'weather'"),
        (["train", "glue", "--width", "nope"], "Invalid value for '--width'"),
        (["train", "glue", "--widht", "3"], "--width"),
        (["train", "glue", "--eval-limit", "0"], "`eval_limit`"),
        (["train", "glue", "--data", "nowhere"], "`nowhere` must be a folder or a file (`data`)"),
        (["train", "glue", "--init-from", "no"], "`no` must be a folder or a file (`init_from`)"),
        (["train", "captioning", "--images", "no"], "`no` must be a folder or a file (`images`)"),
        (["train", "captioning", "--arch", "gpt2"], "it takes models of the matched family"),
        (["train", "glue", "--arch", "embshare:no"], "there is no such model"),
        (["train", "glue", "--arch", "./no"], "there is no such folder"),
        (["train", "glue", "--arch", "lsmt"], "Did you mean lstm?"),
        (["train", "glue", "--arch", "no.such:model"], "there is no module `no.such`"),
        (["train", "glue", "--teacher", "no"], "must be a folder that `embshare train` wrote"),
        (["train", "language-modelling", "--steps", "0"], "`training.steps`"),
        (["train", "language-modelling", "--tie", "all"], "`tie`: says how to share, but nothing"),
        (["train", "language-modelling", "--share", "maybe"], "`share.method`"),
        (["train", "language-modelling", "--config", "none.yaml"], "must be a YAML file"),
        (["train", "language-modelling", "--steps", "3", "--epochs", "1"], "exclude each other"),
        (["train", "language-modelling", "--resume", "--overwrite"], "exclude each other"),
        (["eval", "nowhere"], "must be a folder that `embshare train` wrote"),
        (["train", "language-modelling", "--seed", str(2**32)], "should be less than 4294967296"),
        (["train", "language-modelling", "--temperature", "3"], "add --teacher"),
        (["train", "language-modelling", "--teacher-share", "0"], "add --teacher"),
        (["eval", "nowhere", "--set", "stride"], "must be NAME=VALUE"),
        (["eval", "nowhere", "--set", "x=["], "`--set`: the value must be YAML, but 'x=['"),
        (["eval", "nowhere", "--most", "3"], "name their folder with --blimp"),
        (["eval", "nowhere", "--blimp", "x", "--most", "0"], "greater than or equal to 1"),
        (["eval", "nowhere", "--blimp", "x", "--data", "y"], "takes the place of --data"),
        (["predict", "nowhere"], "must be a folder that `embshare train` wrote"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code in (1, 2)
    assert says in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("settings: 5", "`settings` is not a mapping of names to values"),
        ("settings: {training: [1]}", "`settings.training` is not a mapping"),
        ("share: veps", "`share` is not a mapping"),
        ("1: 2", "it has 1 where a name should be"),
        ("seed: 1\nseed: 2", "'seed' occurs twice"),
        ("- 1", "it is not a mapping"),
    ],
)
def test_a_file_of_another_shape_is_one_message(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    code, _, err = run("train", "glue", "--config", str(file), "--out", str(tmp_path / "out"))
    assert code == 1
    assert says in err
    assert not (tmp_path / "out").exists()


def test_parts_of_a_file_may_be_empty_and_merged(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("settings:\nshare:\n")
    assert read_config_file(file) == {"settings": {}, "share": None}
    file.write_text("settings: &a {training: }\nshare: {<<: *a, tie: all}\n")
    assert read_config_file(file)["settings"] == {"training": {}}


def test_scores_are_written_over_nothing(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("mine")
    code, _, err = run("eval", "nowhere", "--out", str(file))
    assert (code, file.read_text()) == (1, "mine")
    assert "there already" in err
    code, _, err = run("eval", "nowhere", "--samples", str(file))
    assert (code, file.read_text()) == (1, "mine")
    assert "no folder that can be made (File exists)" in err
    code, _, err = run("eval", "nowhere", "--samples", str(tmp_path))
    assert (code, file.read_text()) == (1, "mine")
    assert "not empty (it holds scores.json). Name a new folder." in err


def test_scores_that_are_no_numbers_are_json(tmp_path: Path) -> None:
    text = _Scores(run=tmp_path, metrics={"loss": math.nan, "perplexity": math.inf}).to_json()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(text, parse_constant=refuse)
    assert found["metrics"] == {"loss": "NaN", "perplexity": "Infinity"}


def test_a_line_that_is_no_text_is_named() -> None:
    lines = _lines(BytesIO("née\r\n".encode() + b"caf\xe9\n"))
    assert next(lines) == "née"
    with pytest.raises(InvalidValueError, match=r"line 2 of the input must be UTF-8, .*caf"):
        next(lines)


def test_a_file_for_another_task_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("task: translation\n")
    code, _, err = run("train", "language-modelling", "--config", str(file))
    assert code == 2
    assert "the file is for 'translation', the command for 'language_modelling'" in err


@pytest.mark.parametrize(
    ("before", "method", "given", "fields"),
    [
        (None, None, {}, None),
        (None, "none", {}, None),
        ({"tie": "none"}, "none", {}, None),
        (None, "eps", {"tie": "none"}, {"method": "eps", "tie": "none"}),
        ({"tie": "none", "factor": 3}, None, {"factor": 4}, {"tie": "none", "factor": 4}),
    ],
)
def test_fields_of_sharing_come_from_file_and_options(
    before: Any, method: str | None, given: dict[str, Any], fields: Any
) -> None:
    assert share_fields(before, method, given) == fields


def test_steps_on_the_command_line_take_the_place_of_epochs_in_a_file() -> None:
    found = settings_fields({"training": {"epochs": 2, "batch_size": 3}}, {}, {"steps": 5})
    assert found["training"] == {"batch_size": 3, "steps": 5}
    found = settings_fields({"training": {"warmup_steps": 9}}, {}, {"warmup": 0.1})
    assert found["training"] == {"warmup": 0.1}


LIGHT: list[list[str]] = [
    ["--help"],
    ["--width", "nope"],
    ["--width", "0"],
    ["--widht", "3"],
    ["--data", "nowhere"],
    ["--steps", "3", "--epochs", "2"],
    ["--arch", "embshare:no"],
    ["--share", "veps", "--tie", "nope"],
    ["--resume", "--overwrite"],
]


@pytest.mark.parametrize("task", ["language_modelling", "captioning"])
def test_a_mistake_is_found_before_anything_heavy_is_imported(task: str, tmp_path: Path) -> None:
    """Importing torch and transformers takes seconds, and both are all that takes time here."""
    code = (
        "import sys\n"
        "from embshare.cli import app\n"
        f"for words in {LIGHT!r}:\n"
        "    try:\n"
        f"        app(['train', {task!r}, *words])\n"
        "    except SystemExit as end:\n"
        "        assert (end.code == 0) == (words == ['--help']), words\n"
        "    heavy = {'torch', 'transformers', 'numpy', 'datasets'} & sys.modules.keys()\n"
        "    assert not heavy, (words, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("task", TASKS)
def test_each_group_of_options_fits_a_screen(task: str) -> None:
    result = CliRunner().invoke(app, ["train", task, "--help"], env={"COLUMNS": "120"})
    groups = re.split(r"^╭─+ ?", ANSI.sub("", result.stdout), flags=re.MULTILINE)[1:]
    sizes = {group.split(" ─")[0]: len(group.splitlines()) for group in groups}
    assert {"The run", "Evaluation", "Data and vocabulary"} < sizes.keys()
    assert max(sizes.values()) <= 50, sizes
    assert "None" not in result.stdout.replace("None of", "")


def example(tmp_path: Path, **changes: Any) -> Path:
    """A file of settings of a small run."""
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    settings = EXAMPLES["language_modelling"].settings(data)
    settings["training"] |= changes
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps({"settings": settings, "model": "conv"}))
    return file


def test_a_run_is_resumed_and_extended_with_its_own_settings(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    words = ["train", "language_modelling", "--out", out]
    file = str(example(tmp_path))
    assert run(*words, "--config", file, "--share", "veps", "--seed", "3")[0] == 0
    first = json.loads((tmp_path / "run" / "result.json").read_text())
    assert run(*words, "--resume")[0] == 0
    again = json.loads((tmp_path / "run" / "result.json").read_text())
    assert again["metrics"] == first["metrics"]
    code, _, err = run(*words, "--resume", "--seed", "4")
    assert code == 1 and "but `seed` changed" in err
    code, _, err = run(*words, "--resume", "--steps", "5")
    assert code == 1 and "at least the 8" in err
    code, printed, _ = run(*words, "--resume", "--steps", "11")
    assert code == 0 and "11 steps" in printed
    longer = json.loads((tmp_path / "run" / "result.json").read_text())
    assert longer["config"]["seed"] == 3 and longer["config"]["share"]["method"] == "veps"
    assert len({r["metrics"]["perplexity"] for r in (first, longer)}) == 2


def test_what_would_be_stored_is_what_is_stored(tmp_path: Path) -> None:
    words = ["train", "language_modelling", "--config", str(example(tmp_path))]
    for share in ("none", "veps"):
        out = tmp_path / share
        code, counted, _ = run(*words, "--share", share, "--out", str(out), "--count")
        assert code == 0 and not out.exists()
        code, printed, _ = run(*words, "--share", share, "--out", str(out))
        stored, read, size = re.findall(r"([\d,]+) (?:parameters stored|read|bytes)", printed)
        assert f"{stored} parameters stored" in counted
        assert f"{read} read, {size} bytes. Nothing was trained or written." in counted
        assert f"language_modelling, on {tmp_path / 'data'}: conv" in counted
        assert counted.splitlines()[0] == printed.splitlines()[0]


def test_the_task_of_a_task_its_data_and_a_limit_are_printed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps({"settings": EXAMPLES["glue"].settings(data), "model": "conv"}))
    words = ["train", "glue", "--config", str(file), "--out", str(tmp_path / "run")]
    code, printed, _ = run(*words, "--eval-limit", "5")
    assert code == 0
    assert printed.startswith(f"glue RTE, on {data}: conv, dense")
    assert "first 5 rows of each split at most (--eval-limit)" in printed


FACTORY = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.embedding, self.head = nn.Embedding(size, 8), nn.Linear(8, size)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embedding(input_ids))
        if labels is None:
            return {"logits": logits}
        shifted = logits[:, :-1].flatten(0, 1)
        loss = nn.functional.cross_entropy(shifted, labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}

def model(size):
    return Own(size)
"""


def test_a_model_of_one_s_own_is_trained_scored_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("own_model_of_a_test.py").write_text(FACTORY)
    words = ["train", "language_modelling", "--config", str(example(tmp_path)), "--out", "own"]
    code, printed, err = run(*words, "--arch", "own_model_of_a_test:model", "--share", "veps")
    assert (code, err) == (0, "")
    assert "own_model_of_a_test:model, shared by veps" in printed
    assert run("predict", "own", "the lazy")[1].startswith("the lazy")
    assert run("eval", "own")[0] == 0


def wait_for(found: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(tmp_path: Path) -> None:
    file, out = example(tmp_path, steps=100_000, save_every=50), tmp_path / "a run"
    words = ["train", "language_modelling", "--config", str(file), "--out", str(out)]
    command = [sys.executable, "-m", "embshare", *words]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        wait_for(lambda: list(out.glob("checkpoints/checkpoint-*/trainer_state.json")))
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == 130
    stopped = re.search(r"Stopped at step ([\d,]+)\. Resume with: (.*)$", err, re.MULTILINE)
    assert stopped is not None, err
    assert stopped[2] == f"embshare train language_modelling --out '{out}' --resume"
    assert (out / "checkpoints" / f"checkpoint-{stopped[1].replace(',', '')}").is_dir()
    assert "Traceback" not in err
