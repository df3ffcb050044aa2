"""Study files: what they say, what they refuse, and the trials that they make."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs.config import ConfigFileError
from embshare.tasks.studies.options import known_options, run_config
from embshare.tasks.studies.study_file import LONGEST, StudyFile

LM = "language_modelling"
OUT = Path("out")

FILE = """
name: ties
task: language_modelling
fixed: {width: 32, layers: 2, steps: 20, anchor: 4}
axes:
  arch: [lstm, conv]
  share: [none, {method: veps, tie: all}, eps]
  rate:
    slow: {learning_rate: 0.008}
    fast: {learning_rate: 0.03, gain: learned}
  seed: [0, 1]
compare: {metric: bits_per_byte, baseline: {share: none}}
"""


@pytest.fixture
def study(tmp_path: Path) -> StudyFile:
    path = tmp_path / "ties.yaml"
    path.write_text(FILE)
    return StudyFile.load(path)


def test_a_file_becomes_a_grid_of_runs(study: StudyFile) -> None:
    trials = study.trials(OUT)
    assert len(trials) == 2 * 3 * 2 * 2
    assert [trial.config.seed for trial in trials] == [0] * 12 + [1] * 12
    names = [trial.name for trial in trials]
    assert len(set(names)) == 24
    assert names[0] == "lstm--none--slow--seed0"
    one = next(trial for trial in trials if trial.labels["share"] == "method=veps tie=all")
    assert one.config.share == ShareConfig(method="veps", tie="all", anchor=4)
    wide = next(t for t in trials if (t.labels["share"], t.labels["rate"]) == ("eps", "fast"))
    assert wide.config.share == ShareConfig(method="eps", anchor=4, gain="learned")
    settings: Any = wide.config.settings
    assert (settings.width, settings.layers) == (32, 2)
    assert (wide.config.training.steps, wide.config.training.learning_rate) == (20, 0.03)
    default = TASKS[LM].settings_class()().training  # type: ignore[attr-defined]
    assert wide.config.training.batch_size == default.batch_size
    assert all(t.config.share is None for t in trials if t.labels["share"] == "none")


def test_a_study_comes_back_from_its_file(study: StudyFile, tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(study.to_yaml())
    assert StudyFile.load(path) == study


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("arch: [lstm, conv]", "arch: []", "`arch` must have a value, and each value once"),
        ("seed: [0, 1]", "seed: [1, 1]", "`seed` must have a value, and each value once"),
        ("{share: none}", "{share: dense}", "'dense' must be one of none, method=veps tie=all"),
        ("{share: none}", "{gain: none}", "'gain' must be one of the axes arch, share, rate"),
        ("name: ties", "nmae: ties", "`nmae`"),
        ("axes:", "axis:", "`axis`"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "ties.yaml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(InvalidValueError, match=message) as caught:
        StudyFile.load(path)
    assert caught.value.__notes__ == [f"in {path}"]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ties.yaml"
    with pytest.raises(ConfigFileError, match="No such file"):
        StudyFile.load(path)
    path.write_text("name: [")
    with pytest.raises(ConfigFileError, match=r"not YAML .* line 1"):
        StudyFile.load(path)
    path.write_text("name: a\nname: b\n")
    with pytest.raises(ConfigFileError, match=r"'name' occurs twice .* line"):
        StudyFile.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width: 32", "wdith: 32", "`wdith`: is no option here; did you mean `width`"),
        ("steps: 20", "steps: 0", "`training.steps`"),
        ("steps: 20", "training.stpes: 20", "`training.stpes`"),
        ("layers: 2", "share.tei: all", "`share.tei`"),
        ("tie: all", "tie: some", "`share.tie`: must be 'none', 'all'"),
        ("[none, ", "[7, ", "`share`: must be a mapping of fields, a method or none, but is 7"),
        ("task: language_modelling", "task: weather", "`task`: must be one of language_modelling"),
    ],
)
def test_a_wrong_option_is_named_with_its_trial(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "ties.yaml"
    path.write_text(FILE.replace(old, new).replace("baseline: {share: none}", "baseline: {}"))
    with pytest.raises(InvalidValueError, match=message) as caught:
        StudyFile.load(path).trials(OUT)
    assert caught.value.__notes__[0].startswith("in the trial arch lstm")


@pytest.mark.parametrize("task", list(TASKS))
def test_every_option_of_a_task_has_its_place(task: str) -> None:
    """An option that is known reaches the config: the error, if any, is one of its value."""
    for name in known_options(task):
        if name == "task":
            continue
        try:
            run_config({"task": task, "share": "veps", name: [object]}, OUT)
        except InvalidValueError as error:
            assert "is no option" not in str(error), name


def test_a_name_that_a_task_has_too_gets_its_part() -> None:
    found = run_config({"task": LM, "width": 32, "share": "veps", "share_width": 64}, OUT)
    settings: Any = found.settings
    assert found.share is not None
    assert (settings.width, found.share.width) == (32, 64)


def test_epochs_take_the_place_of_steps_whichever_comes_last() -> None:
    both = run_config({"task": LM, "steps": 5, "epochs": 2}, OUT).training
    assert both.epochs == 2
    other = run_config({"task": LM, "training.epochs": 2, "training": {"steps": 5}}, OUT).training
    assert (other.epochs, other.steps) == (None, 5)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
def test_names_of_folders_are_files_and_tell_trials_apart(values: list[str]) -> None:
    options: dict[str, Any] = {value: {"seed": n} for n, value in enumerate(values)}
    names = [t.name for t in StudyFile(name="any", task=LM, axes={"point": options}).trials(OUT)]
    assert len(set(names)) == len(names)
    for name in names:
        assert name not in (".", "..") and not {"/", "\\", "\0", ":"} & set(name)
        assert len(name) <= LONGEST + 9
