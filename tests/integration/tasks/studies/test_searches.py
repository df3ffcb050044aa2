"""Budgets that are met, rates that are searched, trials that start from others, and what fails."""

import errno
import json
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.changing import FixedSettingError
from embshare.tasks.runs.folder import NoFolderError
from embshare.tasks.runs.loading import load_run
from embshare.tasks.runs.result import RunResult
from embshare.tasks.runs.starting import StartRunError
from embshare.tasks.studies import Study
from embshare.tasks.studies.budget import BudgetError, Models, _largest, sized
from embshare.tasks.studies.engine import TrialsFailedError, run_study, run_trials
from embshare.tasks.studies.folder import StudyBusyError
from embshare.tasks.studies.options import run_config
from embshare.tasks.studies.record import OtherVersionError, TrialRecord
from embshare.tasks.studies.search import best_of, selected_by
from embshare.tasks.studies.store import read_report
from embshare.tasks.studies.study_file import TRIALS, StudyFile
from embshare.tasks.studies.trial import prepared_task
from embshare.tasks.task import Metric
from tests.integration.tasks.studies.conftest import LM, Small

PERPLEXITY = Metric(name="perplexity", label="perplexity", better="lower")
ACCURACY = Metric(name="accuracy", label="accuracy", better="higher")


def changed(study: StudyFile, **fields: Any) -> StudyFile:
    return StudyFile(**(dict(study) | fields))


@given(limit=st.integers(-2, 300), size=st.integers(1, 120), step=st.integers(1, 9))
def test_the_largest_value_that_fits(limit: int, size: int, step: int) -> None:
    values = range(0, size, step)
    slow = [value for value in values if value <= limit]
    assert _largest(values, lambda value: value <= limit) == (slow[-1] if slow else None)


@pytest.mark.parametrize("budget", ["40kB", "12k", {"ratio": 1.3}])
def test_each_method_meets_a_budget_by_its_own_size(small: Small, out: Path, budget: Any) -> None:
    shares = {
        "dense": {},
        "veps": {"share": "veps"},
        "eps": {"share": {"method": "eps"}, "budget": None},
        "wide": {"share": "veps", "budget": {"bytes": "60kB", "free": "width"}},
    }
    study = changed(small(method=shares, seed=(0, 1)), budget=budget)
    report = run_study(study, out, jobs=0)
    found = {(t.labels["method"], t.labels["seed"]): t for t in report.trials}
    wide = {"dense", "wide"} | ({"veps", "eps"} if budget == "12k" else set())  # more than dense
    for (method, seed), trial in found.items():
        assert [*trial.solved] == ["width" if method in wide else "residual_rank"], method
        if method == "wide":
            assert 0.7 * 60_000 < trial.result.bytes <= 60_000
        elif budget == "40kB":
            assert 0.6 * 40_000 < trial.result.bytes <= 40_000
        elif budget == "12k":
            assert 0.5 * 12_000 < trial.result.stored_parameters <= 12_000
        assert trial.solved == found[method, "0"].solved, seed
    folder = out / TRIALS / found["veps", "1"].name
    assert load_run(folder).config.share == found["veps", "1"].result.config.share


def test_a_budget_that_cannot_be_met_is_refused_before_any_work(small: Small, out: Path) -> None:
    with pytest.raises(BudgetError, match=r"smallest model takes [\d,]+ bytes") as caught:
        run_study(changed(small(), budget="2kB"), out, jobs=0)
    assert caught.value.free == "width" and not out.exists()


def record(small: Small, out: Path, **metrics: float) -> TrialRecord:
    (trial,) = small().trials(out)
    result = RunResult.model_construct(metrics=metrics, task=LM)
    return TrialRecord.model_construct(id="", name=trial.name, labels={}, result=result)


def test_rates_are_chosen_on_the_validation_set(small: Small, out: Path) -> None:
    assert selected_by(PERPLEXITY, ["perplexity", "valid_perplexity"]) == ("valid_perplexity", True)
    assert selected_by(ACCURACY, ["accuracy", "valid_loss"]) == ("valid_loss", True)
    assert selected_by(ACCURACY, ["accuracy"]) == ("accuracy", False)
    found = [
        record(small, out, perplexity=perplexity, valid_perplexity=valid)
        for perplexity, valid in ((1.0, 9.0), (5.0, 2.0), (0.5, float("nan")), (4.0, 2.0))
    ]
    assert best_of(found, PERPLEXITY) is found[1]
    scores = [record(small, out, accuracy=value) for value in (0.1, float("nan"), 0.7)]
    assert best_of(scores, ACCURACY) is scores[2]


def test_each_point_has_its_own_best_rate(small: Small, out: Path) -> None:
    study = small(model=("conv", "lstm"), seed=(0, 1), fixed={"steps": 12})
    study = changed(study, rates={"learning_rate": [1e-5, 0.03]})
    report = run_study(study, out, jobs=0)
    assert len(report.trials) == 4 and len(report.search) == 2
    for trial in report.trials:
        assert trial.rates == {"learning_rate": 0.03}  # the other hardly learns
        assert trial.result.config.training.learning_rate == 0.03
    assert [row.metric.count for row in report.rows(LM)] == [2, 2]
    frame = pd.read_parquet(out / "index.parquet")
    assert frame["compared"].tolist() == [True] * 4 + [False] * 2
    assert sorted(frame["rate.learning_rate"].unique()) == [1e-5, 0.03]
    assert frame["seed"].dtype.kind == "i"
    assert Study.frame(out).equals(frame)


def test_a_rate_that_diverges_loses_the_search_and_nothing_else(small: Small, out: Path) -> None:
    study = small(seed=(0, 1), fixed={"log_every": 1, "max_grad_norm": 1e30})
    study = changed(study, rates={"learning_rate": [1e30, 0.03]})
    with pytest.raises(TrialsFailedError, match="the loss must be finite, but was nan at step"):
        run_study(study, out, jobs=0)
    report = read_report(out)
    assert [trial.rates["learning_rate"] for trial in report.trials] == [0.03, 0.03]
    (line,) = (out / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == next(iter(report.failed))


def test_students_and_stages_follow_their_first_trials(small: Small, out: Path) -> None:
    study = small(share=("none", "veps"), seed=(0, 1))
    study = changed(
        study,
        needs={"teacher": {"share": "none"}},
        then={"shared": {"fixed": {"data": study.fixed["data"], "steps": 3, "share": "eps"}}},
    )
    report = run_study(study, out, jobs=0)
    assert len(report.trials) == 8
    for trial in report.trials:
        config = trial.result.config
        if trial.labels["stage"] == "shared":
            assert config.start is not None and config.share is not None
            assert config.settings.model_dump()["width"] == 16  # as where it started
        else:
            assert (config.teacher is None) == (trial.labels["share"] == "none")
    again = run_study(study, out, jobs=0, resume=True)
    assert again.trials == report.trials


def test_a_stage_starts_from_the_trained_weights(small: Small, out: Path) -> None:
    study = small(fixed={"steps": 40})
    fixed: dict[str, Any] = {"data": study.fixed["data"], "steps": 1, "learning_rate": 1e-9}
    report = run_study(changed(study, then={"same": {"fixed": fixed}}), out, jobs=0)
    first, same = (trial.result.metrics["perplexity"] for trial in report.trials)
    assert same == pytest.approx(first, rel=1e-4)


def test_what_a_run_cannot_start_from_is_named(small: Small, out: Path) -> None:
    run_study(small(), out, jobs=0)
    before = str(out / TRIALS / "conv")
    wrong: dict[str, Any] = {"arch": "lstm", "start": before}
    study = changed(small(), axes={}, fixed={**small().fixed, **wrong})
    with pytest.raises(StartRunError, match="must be a run of the same task and model"):
        run_study(study, out.with_name("other"), jobs=0)
    wrong = {"arch": "conv", "start": before, "width": 24}
    study = changed(small(), axes={}, fixed={**small().fixed, **wrong})
    with pytest.raises(FixedSettingError, match="`width` must stay 16"):
        run_study(study, out.with_name("other"), jobs=0)


def test_two_studies_in_one_folder_at_once_are_refused(small: Small, out: Path) -> None:
    run_study(small(), out, jobs=0)
    with FileLock(out / ".lock"), pytest.raises(StudyBusyError, match="one study at a time"):
        run_study(small(), out, jobs=0, resume=True)
    run_study(small(), out, jobs=0, resume=True)


def test_jobs_of_an_array_make_the_same_study(small: Small, out: Path, tmp_path: Path) -> None:
    study = changed(small(seed=(0, 1)), rates={"learning_rate": [0.01, 0.03]})
    whole = run_study(study, tmp_path / "whole", jobs=0)
    for trial in study.trials(out):
        run_trials(study, out, [trial.name])
    report = read_report(out)
    assert [t.id for t in report.trials] == [t.id for t in whole.trials]
    assert [t.result.metrics for t in report.trials] == [t.result.metrics for t in whole.trials]
    assert run_study(study, out, jobs=0, resume=True).trials == report.trials
    with pytest.raises(InvalidValueError, match="`trial`: must be one that --dry-run lists"):
        run_trials(study, out, ["nothing"])


def test_a_study_that_goes_on_can_be_read(small: Small, out: Path) -> None:
    study = small(seed=(0, 1, 2))
    seen = []

    class Reader:
        def planned(self, trials: object) -> None: ...
        def begun(self, trial: object) -> None: ...
        def ended(self, trial: object, found: object, *, resumed: bool) -> None:
            before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
            seen.append([found.labels["seed"] for found in read_report(out).trials])
            assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    run_study(study, out, jobs=0, observer=Reader())
    assert seen == [["0"], ["0", "1"], ["0", "1", "2"]]


def test_files_of_a_later_version_are_neither_read_nor_lost(small: Small, out: Path) -> None:
    report = run_study(small(), out, jobs=0)
    path = out / TRIALS / f"{report.trials[0].id}.json"
    later = path.read_text().replace('"format": 1', '"format": 2').replace('"labels"', '"names"', 1)
    path.write_text(later)
    with pytest.raises(TrialsFailedError, match="must be of a version that this one reads"):
        run_study(small(), out, jobs=0, resume=True)
    assert path.read_text() == later
    study = (out / "study.yaml").read_text() + "later: 3\n"
    (out / "study.yaml").write_text(study)
    with pytest.raises(OtherVersionError, match="`later`: is no field here"):
        run_study(small(), out, jobs=0, resume=True)
    assert (out / "study.yaml").read_text() == study
    run_study(small(), out, jobs=0, overwrite=True)


def test_a_disk_that_is_full_is_one_message(
    small: Small, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(seed=(0, 1))
    real, names = Path.write_text, list[str]()

    def write_text(path: Path, text: str, **how: Any) -> int:
        names.append(path.name)
        if sum(".json.part" in name for name in names) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, text, **how)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises((NoFolderError, TrialsFailedError), match="No space left on device"):
        run_study(study, out, jobs=0)
    monkeypatch.undo()
    kept = {path.name for path in (out / TRIALS).glob("*.json")}
    report = run_study(study, out, jobs=0, resume=True)
    assert kept < {f"{trial.id}.json" for trial in report.trials} or len(report.trials) == 2


def test_two_processes_do_not_do_one_trial(small: Small, out: Path) -> None:
    run_study(small(), out, jobs=0)
    with (
        FileLock(out / TRIALS / "conv" / ".lock"),
        pytest.raises(TrialsFailedError, match="another one does this trial"),
    ):
        run_study(small(), out, jobs=0, resume=True)
    assert run_study(small(), out, jobs=0, resume=True).trials


@pytest.mark.parametrize("task", [name for name, entry in TASKS.items() if entry.compared])
def test_a_model_of_any_task_is_as_wide_as_asked_for(task: str, tmp_path: Path) -> None:
    config = run_config({"task": task, "model": "conv"}, tmp_path / "run")
    models = Models(prepared_task(config), tmp_path)
    whole, half = (models.sizes(sized(config, "width", width)).stored for width in (64, 32))
    assert 0.3 * whole < half < 0.7 * whole
