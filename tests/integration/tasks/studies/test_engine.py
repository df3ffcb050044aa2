"""The engine on tiny models: the whole grid, resuming, and what is refused before any work."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError, MissingPackageError
from embshare.tasks.averaging import AveragingError
from embshare.tasks.errors import MissingDataError
from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.runs import engine as runs
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunExistsError
from embshare.tasks.runs.loading import load_run
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies import engine
from embshare.tasks.studies.engine import (
    Silent,
    TrialsFailedError,
    do_trials,
    run_study,
)
from embshare.tasks.studies.folder import OtherStudyError
from embshare.tasks.studies.record import TrialRecord
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.store import busy_seconds, read_report, write_report
from embshare.tasks.studies.study_file import TRIALS, StudyFile, Trial
from embshare.tasks.studies.trial import Doing, code_of
from embshare.tasks.studies.workers import Pool, Processes, ThisProcess
from tests.integration.tasks.studies.conftest import LM, Small

DENSE_AND_VEPS = {"dense": {"share": "none"}, "veps": {"share": {"method": "veps", "anchor": 2.0}}}


class Recorder:
    """Remembers what it is told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.trials: list[Trial] = []
        self.resumed: list[bool] = []
        self._stop_after = stop_after

    def planned(self, trials: Sequence[Trial]) -> None:
        self.trials = list(trials)

    def begun(self, trial: Trial) -> None: ...

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        self.resumed.append(resumed)
        if len(self.resumed) == self._stop_after:
            raise KeyboardInterrupt


def test_the_whole_grid_is_run_measured_and_written(
    bench: Callable[..., StudyFile], out: Path
) -> None:
    recorder = Recorder()
    report = run_study(bench(), out, jobs=0, observer=recorder)
    assert len(report.trials) == 3 * 3 * 2 == len(recorder.trials)
    assert StudyReport.from_json((out / "results.json").read_text()) == report
    assert StudyFile.load(out / "study.yaml") == report.study
    assert (out / "figures" / "language_modelling-bytes.svg").stat().st_size > 10_000
    assert "<table" in (out / "report.html").read_text()
    records = {path.stem: path for path in (out / TRIALS).glob("*.json")}
    assert records.keys() == {trial.id for trial in report.trials}
    for trial in report.trials:
        assert TrialRecord.from_json(records[trial.id].read_text()) == trial
    rows = {(row.labels["model"], row.labels["method"]): row for row in report.rows(LM)}
    for architecture in ("lstm", "conv", "attention"):
        dense, veps = rows[architecture, "dense"], rows[architecture, "veps"]
        assert veps.stored < 0.75 * dense.stored
        assert veps.read == dense.read
        assert veps.bytes_on_disk < dense.bytes_on_disk + 20_000  # the plan of so small a model
        assert veps.metric.count == 2
    sizes = {row.read for row in rows.values()}
    assert max(sizes) < 1.1 * min(sizes)
    assert all(trial.result.ms_per_step > 0 for trial in report.trials)
    assert all(t.result.peak_mib >= t.result.resident_mib > 10 for t in report.trials)
    shared = next(trial for trial in recorder.trials if trial.labels["method"] == "veps")
    found = load_run(out / TRIALS / shared.name)  # every model is there to be used
    assert found.config == shared.config
    assert not list(out.rglob("checkpoints"))


def test_two_at_a_time_give_what_one_at_a_time_gives(small: Small, tmp_path: Path) -> None:
    study = small(model=("conv",), method=DENSE_AND_VEPS)
    one = run_study(study, tmp_path / "one", jobs=0)
    two = run_study(study, tmp_path / "two", jobs=2)
    assert [t.result.metrics for t in two.trials] == [t.result.metrics for t in one.trials]
    assert [t.id for t in two.trials] == [t.id for t in one.trials]  # wherever they lie


def test_a_result_says_where_it_came_from(small: Small, out: Path) -> None:
    run_study(small(seed=(3,)), out, jobs=0)
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert found["study"]["axes"]["seed"] == [3]
    assert found["trials"][0]["result"]["seed"] == 3
    assert {"commit", "dirty", "packages", "python", "cores"} <= set(found["provenance"])
    assert found["provenance"]["seconds"] > 0
    assert found["tasks"][0]["name"] == LM


def test_a_stopped_study_is_resumed_where_it_stopped(small: Small, out: Path) -> None:
    study = small(method=DENSE_AND_VEPS, seed=(0, 1, 2))
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, jobs=0, observer=Recorder(stop_after=2))
    kept = {path: path.read_bytes() for path in (out / TRIALS).glob("*.json")}
    assert len(kept) == 2
    again = Recorder()
    report = run_study(study, out, jobs=0, resume=True, observer=again)
    assert again.resumed == [True] * 2 + [False] * 4
    assert len(report.trials) == 6
    alone = sum(t.result.provenance.seconds for t in report.trials)  # one after the other
    assert report.provenance.seconds > alone - 0.1
    assert all(path.read_bytes() == old for path, old in kept.items())


def test_a_study_that_has_grown_runs_what_is_new(small: Small, out: Path) -> None:
    run_study(small(method=DENSE_AND_VEPS), out, jobs=0)
    again, eps = Recorder(), {"eps": {"share": "eps"}}
    report = run_study(small(method=DENSE_AND_VEPS | eps), out, jobs=0, resume=True, observer=again)
    assert again.resumed == [True, True, False]
    assert [row.labels["method"] for row in report.rows(LM)] == ["dense", "veps", "eps"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fixed": {"width": 24}}, "fixed.width"),
        ({"method": {"dense": {}, "veps": {"share": "eps"}}}, "axes.method.veps"),
        ({"seed": (0,)}, "axes.seed"),
        ({"method": {"dense": {"share": "none"}}}, "axes.method.veps"),
    ],
)
def test_another_study_is_refused_in_the_same_folder(
    small: Small, out: Path, change: dict[str, Any], field: str
) -> None:
    run_study(small(method=DENSE_AND_VEPS), out, jobs=0, observer=Recorder())
    before = (out / "results.json").read_bytes()
    other = small(**({"method": DENSE_AND_VEPS} | change))
    with pytest.raises(OtherStudyError, match="must be resumed as it began") as caught:
        run_study(other, out, jobs=0, resume=True)
    assert field in caught.value.fields
    assert (out / "results.json").read_bytes() == before


def test_other_data_or_a_broken_record_are_trained_again(
    small: Small, out: Path, text: Path
) -> None:
    study = small(method=DENSE_AND_VEPS)
    report = run_study(study, out, jobs=0)
    (out / TRIALS / f"{report.trials[0].id}.json").write_text("{")
    again = Recorder()
    run_study(study, out, jobs=0, resume=True, observer=again)
    assert again.resumed == [False, True]
    with (text / "train.txt").open("a") as file:
        file.write("one more line\n")
    again = Recorder()
    run_study(study, out, jobs=0, resume=True, observer=again)
    assert again.resumed == [False, False]


class StopError(Exception):
    """Raised in the middle of a training."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each run was resumed; the first is stopped after five of its six steps."""
    real, found = runs.run, list[bool]()

    def stop() -> None:
        steps.append(1)
        if len(steps) == 5:
            raise StopError

    def run(config: RunConfig, **how: Any) -> RunResult:
        found.append(how["resume"])
        return real(config, **how, on_step=stop)

    steps = list[int]()
    monkeypatch.setattr(runs, "run", run)
    return found


def test_a_trial_that_was_killed_is_resumed_from_its_checkpoint(
    small: Small, out: Path, asked: list[bool]
) -> None:
    study = small(fixed={"save_every": 2})
    (trial,) = study.trials(out)
    with pytest.raises(TrialsFailedError, match="StopError"):
        run_study(study, out, jobs=0, checkpoints=True)
    resumed = run_study(study, out, jobs=0, resume=True, checkpoints=True).trials[0].result
    whole = run_study(study, out.with_name("whole"), jobs=0).trials[0].result
    assert resumed.metrics == whole.metrics
    assert asked == [False, True, False]
    assert not (out / TRIALS / trial.name / "checkpoints").exists()


def test_a_run_that_other_code_began_is_neither_resumed_nor_kept(
    small: Small, out: Path, asked: list[bool]
) -> None:
    trials = small(fixed={"save_every": 2}).trials(out)
    (out / TRIALS).mkdir(parents=True)
    with ThisProcess() as pool:
        first, second, third, fourth, fifth = (
            do_trials(trials, pool, how=Doing(code=(code,), checkpoints=True), observer=Silent())
            for code in "abbab"
        )
    assert asked == [False, False, False, False]  # not even the one that the first code began
    assert list(first.failed) == ["conv"]
    assert not second.kept and third.kept and not fourth.kept
    assert not fifth.kept  # its record is there, but the model in its folder is of code a
    assert fifth.records["conv"].result.metrics == second.records["conv"].result.metrics


def test_a_metric_that_is_none_shows_when_the_first_trial_has_ended(
    small: Small, out: Path
) -> None:
    study, recorder = small(seed=(0, 1)), Recorder()
    wrong = StudyFile(**(dict(study) | {"compare": {"metric": "perplxity"}}))
    with pytest.raises(InvalidValueError, match=r"`compare\.metric`: must be one of .*perplexity"):
        run_study(wrong, out, jobs=0, observer=recorder)
    assert recorder.resumed == [False]
    again = Recorder()
    run_study(study, out, jobs=0, resume=True, observer=again)
    assert again.resumed == [True, False]


def test_a_trial_that_fails_is_recorded_and_the_rest_goes_on(
    small: Small, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embshare.tasks.studies import trial as module

    real = module._train

    def train(config: RunConfig, *more: Any, **how: Any) -> RunResult:
        if config.seed == 1:
            raise ZeroDivisionError("of no use")
        return real(config, *more, **how)

    monkeypatch.setattr(module, "_train", train)
    study = small(seed=(0, 1, 2))
    with pytest.raises(
        TrialsFailedError, match=r"but seed1 did not \(ZeroDivisionError: of no use\)"
    ) as caught:
        run_study(study, out, jobs=0)
    assert list(caught.value.failed) == ["seed1"]
    report = read_report(out)
    assert [trial.labels["seed"] for trial in report.trials] == ["0", "2"]
    assert list(report.failed) == ["seed1"]
    with pytest.raises(RuntimeError, match="of no use"):
        run_study(study, out.with_name("fast"), jobs=0, fail_fast=True)
    monkeypatch.setattr(module, "_train", real)
    again = Recorder()
    run_study(study, out, jobs=0, resume=True, observer=again)
    assert again.resumed == [True, False, True]
    assert not list(out.rglob("error.txt"))


def test_a_report_is_written_again_where_its_folder_has_gone(small: Small, out: Path) -> None:
    run_study(small(), out, jobs=0)
    moved = out.rename(out.with_name("moved"))
    (moved / "report.html").unlink()
    write_report(read_report(moved), moved)
    assert "<table" in (moved / "report.html").read_text()
    again = Recorder()
    run_study(small(), moved, jobs=0, resume=True, observer=again)
    assert again.resumed == [True]


def test_a_folder_with_results_is_left_alone_unless_told(small: Small, out: Path) -> None:
    run_study(small(seed=(0, 1)), out, jobs=0)
    other = out / "notes.txt"
    other.write_text("mine")
    with pytest.raises(RunExistsError, match="must be a new or an empty folder, but is neither"):
        run_study(small(seed=(0, 1)), out, jobs=0)
    run_study(small(model=("lstm",)), out, jobs=0, overwrite=True)
    assert other.read_text() == "mine"
    assert sorted(path.name for path in (out / TRIALS).iterdir() if path.is_dir()) == ["lstm"]


def refused(
    study: StudyFile, out: Path, kind: type[Exception], message: str, jobs: int = 0
) -> None:
    """Running must fail like this, with no trial begun and no folder made."""
    recorder = Recorder()
    with pytest.raises(kind, match=message):
        run_study(study, out, jobs=jobs, observer=recorder)
    assert recorder.trials == []
    assert not out.exists()


def test_what_cannot_work_is_refused_before_any_work(
    small: Small, out: Path, tmp_path: Path
) -> None:
    nowhere = small(fixed={"data": str(tmp_path / "nowhere")})
    refused(nowhere, out, MissingDataError, "must be a folder with the split")
    deep = small(fixed={"layers": 6, "share": "eps", "tie": "none"})
    refused(deep, out, EmbshareError, r"must have \d+ columns for these layers, but has")
    refused(small(), out, InvalidValueError, "`jobs`: must be at least 0, but is -1", jobs=-1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_seconds_are_those_in_which_models_were_trained(report: StudyReport, jobs: int) -> None:
    """Of trials that were kept, which went on ``jobs`` at a time, each for ten seconds."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    kept = []
    for index, trial in enumerate(report.trials):
        begun = first + timedelta(seconds=index // jobs * 10)
        times = {"seconds": 10.0, "started": begun.isoformat()}
        when = trial.result.provenance.model_copy(update=times)
        result = trial.result.model_copy(update={"provenance": when})
        kept.append(trial.model_copy(update={"result": result}))
    assert busy_seconds(kept) == pytest.approx(len(kept) / jobs * 10)


@pytest.mark.parametrize(
    ("training", "kind", "message"),
    [
        ({"average": 9, "save_every": 1}, AveragingError, "of 6 steps must have 9 .*, but has 6"),
        ({"layer_decay": 0.9}, InvalidValueError, "`layer_decay` must be 1 for this model"),
        ({"trackers": ["foo"]}, InvalidValueError, "'foo' must be a tracker that is installed"),
        ({"optimizer": "lamb"}, MissingPackageError, "`timm` is not installed"),
    ],
)
def test_what_a_training_would_fail_at_is_refused_before_any(
    small: Small,
    out: Path,
    training: dict[str, Any],
    kind: type[EmbshareError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm.optim.lamb", None)
    refused(small(fixed={"share": "veps"} | training), out, kind, message)


def test_workers_refuse_what_one_model_of_several_cannot(small: Small, out: Path) -> None:
    """A dense model of attention may have the rate that a shared one may not."""
    wrong = small(fixed={"layer_decay": 0.9, "model": "attention"}, method=DENSE_AND_VEPS)
    refused(wrong, out, InvalidValueError, "`layer_decay` must be 1 .* layers are shared", jobs=2)


def test_a_missing_package_is_named_before_any_work(
    small: Small, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NEEDED", ("torch", "no_such_package"))
    refused(small(), out, MissingPackageError, r"`no_such_package` is not installed: pip install")


@dataclass(frozen=True)
class Counted:
    """A measurement of a finished run: how many files its model has."""

    of: Path

    def __call__(self, config: RunConfig, resume: bool) -> RunResult:
        found = load_run(self.of)
        files = len(list((self.of / "model").iterdir()))
        result = RunResult.from_json((self.of / "result.json").read_text())
        assert found.config.seed == config.seed
        return result.model_copy(update={"metric": "files", "metrics": {"files": float(files)}})


@pytest.mark.parametrize("pool", [ThisProcess(), Processes(2)])
def test_what_needs_another_trial_is_done_after_it(small: Small, out: Path, pool: Pool) -> None:
    teacher, student = small(model=("conv", "lstm")).trials(out)
    taught = student.config.model_copy(update={"teacher": teacher.config.out})
    counted = teacher.config.model_copy(update={"out": out / TRIALS / "counted"})
    trials = (
        Trial(labels={}, config=counted, needs=(teacher.name,), work=Counted(teacher.config.out)),
        Trial(labels={}, config=taught, needs=(teacher.name,)),
        teacher,
    )
    how = Doing(code=code_of(read_provenance()))
    (out / TRIALS).mkdir(parents=True)
    broken = teacher.config.model_copy(update={"model": "nothing-of-this-name"})
    wrong = Trial(labels={}, config=broken)
    with pool:
        found = do_trials(trials, pool, how=how, observer=Silent())
        again = do_trials(trials, pool, how=how, observer=Silent())
        failed = do_trials((wrong, *trials[:2]), pool, how=how, observer=Silent())
    assert not found.failed
    assert found.records["counted"].result.metrics == {"files": 1.0}
    assert again.records == found.records
    assert len(again.kept) == 3
    assert not failed.records
    assert failed.failed["counted"] == failed.failed["lstm"] == "needs conv"


def test_the_anchor_of_a_study_reaches_its_models(small: Small, out: Path) -> None:
    (dense, veps) = small(method=DENSE_AND_VEPS).trials(out)
    assert dense.config.share is None
    assert veps.config.share == ShareConfig(anchor=2.0)
