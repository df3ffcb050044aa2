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
from embshare.tasks.studies.budget import Budget
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
    one = next(trial for trial in trials if trial.labels["share"] == "veps tie=all")
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
    ("old", "new", "message", "line"),
    [
        ("arch: [lstm, conv]", "arch: []", "`arch` must have a value, and each value once", 5),
        ("seed: [0, 1]", "seed: [1, 1]", "`seed` must have a value, and each value once", 5),
        ("{share: none}", "{share: dense}", "'dense' must be one of none, veps tie=all", 12),
        ("{share: none}", "{gain: none}", "'gain' must be one of the axes arch, share, rate", 12),
        ("name: ties", "nmae: ties", "`nmae`: is no field here; did you mean `name`", 2),
        ("axes:", "axis:", "`axis`: is no field here; did you mean `axes`", 5),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, old: str, new: str, message: str, line: int) -> None:
    path = tmp_path / "ties.yaml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(InvalidValueError, match=message) as caught:
        StudyFile.load(path)
    assert caught.value.__notes__ == [f"in {path}, line {line}"]


@pytest.mark.parametrize(
    ("more", "message", "line"),
    [
        ("repeats: 3", "`seed` must be varied once, but is by `axes` and by `repeats`", 11),
        ("zip: {arch: [lstm]}", "`arch` must be varied once, but is by `axes` and by `zip`", 6),
        ("zip: {a: [1], b: [1, 2]}", "as many .*`a` has 1, `b` has 2", 13),
        ("rates: {anchor: []}", "at least 1 item", 13),
        ("budget: {bytes: 2, stored: 3}", "must have one of `bytes`", 13),
        ("budget: {bytes: 2 apples}", "a number with a unit", 13),
        ("needs: {teacher: {share: dense}}", "'dense' must be one of", 13),
        ("random: {count: 2, options: {anchor: {unifrom: [0, 1]}}}", "unifrom", 13),
        ("random: {count: 2, options: {anchor: {uniform: [3, 1]}}}", "the lowest and the high", 13),
        ("then: {b: {axes: {width: []}}}", "`width` must have a value", 13),
    ],
)
def test_a_wrong_part_is_named(tmp_path: Path, more: str, message: str, line: int) -> None:
    path = tmp_path / "ties.yaml"
    path.write_text(FILE + more)
    with pytest.raises(InvalidValueError, match=message) as caught:
        StudyFile.load(path)
    assert caught.value.__notes__ == [f"in {path}, line {line}"]


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


def of(**fields: Any) -> StudyFile:
    same = {"name": "s", "task": LM, "fixed": {"width": 32, "steps": 2}}
    return StudyFile(**(same | fields))


def labels(study: StudyFile) -> list[dict[str, str]]:
    return [dict(trial.labels) for trial in study.trials(OUT)]


def test_zipped_options_go_together_and_are_crossed_with_the_axes() -> None:
    found = labels(of(axes={"arch": ["lstm", "conv"]}, zip={"width": [8, 16], "layers": [2, 4]}))
    assert found == [
        {"arch": arch, "width": width, "layers": layers}
        for arch in ("lstm", "conv")
        for width, layers in (("8", "2"), ("16", "4"))
    ]


def test_listed_points_have_a_dash_where_they_say_nothing() -> None:
    study = of(list=[{"arch": "lstm"}, {"width": 16}, {"arch": "conv", "width": 8}])
    assert labels(study) == [
        {"arch": "lstm", "width": "-"},
        {"arch": "-", "width": "16"},
        {"arch": "conv", "width": "8"},
    ]
    trials = study.trials(OUT)
    widths = [t.config.settings.model_dump()["width"] for t in trials]
    assert widths == [32, 16, 8]  # what a point does not say is as for all
    assert len({trial.name for trial in trials}) == 3


def test_repeats_are_seeds_and_come_first() -> None:
    found = of(axes={"arch": ["lstm", "conv"]}, repeats=2).trials(OUT)
    assert [(t.config.seed, t.labels["arch"]) for t in found] == [
        (0, "lstm"), (0, "conv"), (1, "lstm"), (1, "conv"),
    ]  # fmt: skip


@given(
    count=st.integers(1, 30),
    more=st.integers(0, 10),
    low=st.floats(1e-6, 1.0),
    factor=st.floats(1.0, 1e3),
    seed=st.integers(0, 5),
)
def test_draws_are_in_their_range_and_a_larger_count_begins_with_a_smaller(
    count: int, more: int, low: float, factor: float, seed: int
) -> None:
    options = {
        "anchor": {"uniform": [low, low * factor]},
        "learning_rate": {"log_uniform": [low, low * factor]},
        "layers": {"integer": [1, 3]},
        "arch": ["lstm", "conv"],
    }

    def made(number: int) -> StudyFile:
        return of(random={"count": number, "seed": seed, "options": options})

    small, large = made(count), made(count + more)
    points = [tuple(found.values()) for found in labels(large)]
    assert points[: len(labels(small))] == [tuple(found.values()) for found in labels(small)]
    assert len(set(points)) == len(points) <= count + more
    for anchor, rate, layers, arch in points:
        for number in (float(anchor), float(rate)):
            assert low * 0.999 <= number <= low * factor * 1.001  # four digits are shown
        assert layers in "123" and arch in ("lstm", "conv")
    assert large.changes_from(small) == []
    assert (small.changes_from(large) == ["random"]) == (more > 0)


def test_rates_are_tried_with_the_first_seed_and_taken_by_the_others() -> None:
    study = of(
        axes={"arch": ["lstm", "conv"], "seed": [3, 4]},
        rates={"learning_rate": [0.1, 0.2], "hidden_lr": [1, 2]},
    )
    trials = study.trials(OUT)
    tried, rest = trials[:8], trials[8:]
    assert all(t.config.seed == 3 and len(t.rates) == 2 and not t.needs for t in tried)
    assert [t.config.training.hidden_lr for t in tried] == [1, 2] * 4
    assert len({t.name for t in trials}) == 10
    for trial, before in zip(rest, (tried[:4], tried[4:]), strict=True):
        assert trial.tuned == trial.needs == tuple(t.name for t in before)
        best = before[2]
        settled = trial.settled({trial.tuned: best}.__getitem__, len)
        assert settled.rates == best.rates == {"learning_rate": 0.2, "hidden_lr": 1}
        assert settled.config.training.learning_rate == 0.2
        assert (settled.config.seed, settled.name) == (4, trial.name)


def test_a_trial_that_needs_another_takes_its_folder() -> None:
    study = of(
        axes={"arch": ["lstm", "conv"], "share": ["none", "veps"]},
        needs={"teacher": {"share": "none"}},
    )
    by = {(t.labels["arch"], t.labels["share"]): t for t in study.trials(OUT)}
    for arch in ("lstm", "conv"):
        teacher, student = by[arch, "none"], by[arch, "veps"]
        assert not teacher.needs
        assert student.starts == {"teacher": (teacher.name,)}
        teachers: dict[tuple[str, ...], Any] = {(teacher.name,): teacher}
        settled = student.settled(teachers.__getitem__, len)
        assert settled.config.teacher == teacher.config.out


def test_stages_start_from_each_trial() -> None:
    study = of(
        axes={"arch": ["lstm", "conv"], "seed": [0, 1]},
        then={
            "small": {"axes": {"share": ["veps", "eps"]}, "fixed": {"steps": 1}},
            "glue": {"task": "glue", "start": "init_from"},
        },
    )
    assert study.labels["stage"] == ("first", "small", "glue")
    assert study.labels["share"] == ("-", "veps", "eps")
    trials = study.trials(OUT)
    assert len(trials) == 4 + 8 + 4 == len({trial.name for trial in trials})
    by_name = {trial.name: trial for trial in trials}
    for trial in trials[4:]:
        ((option, (before,)),) = trial.starts.items()
        assert by_name[before].labels["stage"] == "first"
        assert by_name[before].labels["arch"] == trial.labels["arch"]
        assert by_name[before].config.seed == trial.config.seed
        assert option == ("start" if trial.labels["stage"] == "small" else "init_from")
    small = trials[4].settled(lambda names: by_name[names[0]], len)
    assert small.config.start == by_name[trials[4].needs[0]].config.out
    grown = of(axes={"arch": ["lstm", "conv"], "seed": [0, 1]})
    assert {trial.name for trial in grown.trials(OUT)} < set(by_name)  # stages can be added later


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2MB", {"bytes": 2_000_000}),
        ("400kB", {"bytes": 400_000}),
        ("1.5 MiB", {"bytes": 1_572_864}),
        ("500k", {"stored": 500_000}),
        ("2M", {"stored": 2_000_000}),
        (123, {"stored": 123}),
        ("/20", {"ratio": 20.0}),
        ({"bytes": "2kB", "free": "width"}, {"bytes": 2000, "free": "width"}),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: object, found: dict[str, Any]) -> None:
    assert Budget.of(text) == Budget(**found)


@pytest.mark.parametrize("text", ["2TB", "-3k", "/2MB", "much", "/0.5", {"byte": 3}, {}, "0"])
def test_a_budget_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(InvalidValueError):
        Budget.of(text)


def test_a_budget_may_be_that_of_another_trial() -> None:
    methods = {
        "dense": {},
        "narrow": {"budget": {"like": {"method": "veps"}}},
        "veps": {"share": "veps"},
    }
    study = of(axes={"method": methods, "arch": ["lstm", "conv"], "seed": [0, 1]})
    by = {tuple(trial.labels.values()): trial for trial in study.trials(OUT)}
    narrow, veps = by["narrow", "conv", "1"], by["veps", "conv", "1"]
    assert narrow.alike == narrow.needs == (veps.name,)
    settled = narrow.settled(lambda names: veps, lambda names: 4321)
    assert settled.budget == Budget(bytes=4321)
    for like in ({"method": "narrow"}, {"method": "nothing"}, {"width": 3}):
        wrong = {**methods, "narrow": {"budget": {"like": like}}}
        with pytest.raises(InvalidValueError, match=r"`budget\.like`: must be labels of another"):
            of(axes={"method": wrong}).trials(OUT)


def test_a_budget_may_be_an_axis() -> None:
    found = of(axes={"budget": ["100kB", "200kB"]}).trials(OUT)
    assert [trial.budget for trial in found] == [Budget(bytes=10**5), Budget(bytes=2 * 10**5)]
    assert [trial.labels["budget"] for trial in found] == ["100kB", "200kB"]


GROWN = {
    "more on an axis": {"axes": {"arch": ["lstm", "conv", "attention"]}},
    "more rates": {"rates": {"anchor": [1, 2, 3]}},
    "another row": {"zip": {"width": [8, 16, 32], "layers": [1, 2, 3]}},
    "another point": {"list": [{"dropout": 0.1}, {"dropout": 0.2}, {"dropout": 0.3}]},
    "a stage": {"then": {"small": {"fixed": {"steps": 1}}, "other": {"fixed": {"steps": 3}}}},
    "a name": {"name": "t"},
    "comparing": {"compare": {"metric": "loss"}},
}
OTHER = {
    "fixed.steps": {"fixed": {"width": 32, "steps": 3}},
    "axes.arch.lstm": {"axes": {"arch": ["conv"]}},
    "rates.anchor.1": {"rates": {"anchor": [2]}},
    "zip": {"zip": {"width": [8, 16], "layers": [1, 3]}},
    "list": {"list": [{"dropout": 0.1}]},
    "then.small": {"then": {"small": {"fixed": {"steps": 2}}}},
    "budget": {"budget": {"bytes": "2MB"}},
    "needs": {"needs": {"teacher": {"arch": "lstm"}}},
    "task": {"task": "translation"},
}
BEFORE: dict[str, Any] = {
    "axes": {"arch": ["lstm", "conv"]},
    "rates": {"anchor": [1, 2]},
    "zip": {"width": [8, 16], "layers": [1, 2]},
    "list": [{"dropout": 0.1}, {"dropout": 0.2}],
    "then": {"small": {"fixed": {"steps": 1}}},
}


@pytest.mark.parametrize("change", GROWN.values(), ids=GROWN)
def test_a_study_that_has_grown_is_the_same(change: dict[str, Any]) -> None:
    assert of(**(BEFORE | change)).changes_from(of(**BEFORE)) == []


@pytest.mark.parametrize(("field", "change"), OTHER.items(), ids=OTHER)
def test_a_study_that_is_another_names_what_differs(field: str, change: dict[str, Any]) -> None:
    assert of(**(BEFORE | change)).changes_from(of(**BEFORE)) == [field]
