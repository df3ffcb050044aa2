"""Parts of a grid are joined into the report that the whole grid would have had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.runs.folder import RunExistsError
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies.folder import NoStudyError
from embshare.tasks.studies.joining import NoGridError, UnlikeStudiesError, join_studies
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.store import read_report, write_report
from embshare.tasks.studies.study_file import TRIALS, StudyFile
from tests.integration.tasks.studies.conftest import LM, made_up

Part = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def part(report: StudyReport, bench: Callable[..., StudyFile], tmp_path: Path) -> Part:
    """Write some of the made-up report's trials as a study of its own."""

    def write(name: str, **fields: Any) -> Path:
        out, study = tmp_path / name, bench(**fields)
        trials = tuple(made_up(trial) for trial in study.trials(out))
        origin = report.trials[0].result.provenance
        for trial in trials:
            folder = out / TRIALS / trial.name
            (folder / "samples").mkdir(parents=True)
            (folder / "samples" / "samples.json").write_text(
                f'[{{"source": "a", "prediction": "by {trial.name}"}}]'
            )
            (folder / "result.json").write_text(trial.result.to_json())
            (folder / "model").mkdir()
        own = report.model_copy(update={"study": study, "trials": trials})
        write_report(changed(own, provenance=origin), out)
        return out

    return write


def changed(report: StudyReport, **fields: Any) -> StudyReport:
    """The report with other fields in all its results."""

    def one(result: RunResult) -> RunResult:
        return result.model_copy(update=fields)

    trials = (t.model_copy(update={"result": one(t.result)}) for t in report.trials)
    return report.model_copy(update={"trials": tuple(trials)})


@pytest.mark.parametrize(
    ("axis", "halves"),
    [
        ("seeds", ((0,), (1,))),
        ("architectures", (("lstm",), ("conv", "attention"))),
        ("methods", (("dense",), ("eps", "veps"))),
    ],
)
def test_the_parts_of_a_grid_are_the_whole_again(
    report: StudyReport, part: Part, axis: str, halves: Any, tmp_path: Path
) -> None:
    folders = [part(f"part{index}", **{axis: half}) for index, half in enumerate(halves)]
    joined = join_studies(folders, tmp_path / "joined")
    assert list(joined.rows(LM)) == list(report.rows(LM))
    assert joined.study == report.study
    assert [trial.name for trial in joined.trials] == [trial.name for trial in report.trials]
    assert joined.provenance.seconds == 2 * report.provenance.seconds
    assert read_report(tmp_path / "joined") == joined
    page = (tmp_path / "joined" / "report.html").read_text()
    assert page.count("by language_modelling--") == 9  # samples of the first seed came along
    trial = tmp_path / "joined" / TRIALS / joined.trials[-1].name
    assert {path.name for path in trial.iterdir()} == {"samples", "result.json"}


def refused(folders: list[Path], out: Path, kind: type[EmbshareError], message: str) -> None:
    """Joining must fail like this, and make no folder."""
    with pytest.raises(kind, match=message):
        join_studies(folders, out)
    assert not out.exists()


def test_other_settings_data_code_or_packages_do_not_compare(part: Part, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    first = part("first", seeds=(0,))
    gains = part("gains", seeds=(1,), share=ShareConfig(gain="none"))
    refused([first, gains], out, UnlikeStudiesError, "`.*gains` differs from `.*first` in .*eps")
    second = part("second", seeds=(1,))
    found = read_report(second)
    origin = found.trials[0].result.provenance
    other = origin.model_copy(update={"commit": "another", "packages": {"torch": "0"}})
    write_report(changed(found, provenance=other), second)
    refused([first, second], out, UnlikeStudiesError, "in `commit`, `packages`. Run one of them")
    third = part("third", seeds=(1,))
    found = read_report(third)
    (record,) = found.tasks
    moved = record.model_copy(update={"data": {"text": "another"}})
    write_report(found.model_copy(update={"tasks": (moved,)}), third)
    refused([first, third], out, UnlikeStudiesError, "in `data of language_modelling`")


def test_each_trial_must_be_there_once(part: Part, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    both, one = part("both"), part("one", seeds=(1,), architectures=("lstm",))
    name = "language_modelling--lstm--dense--seed1"
    refused([both, one], out, NoGridError, f"but have twice {name}, .*--veps--seed1. Leave out a")
    zero = part("zero", seeds=(0,))
    refused([zero, one], out, NoGridError, "but lack language_modelling--conv--dense--seed1, .* 3 ")


def test_folders_are_looked_at_before_anything_is_written(part: Part, tmp_path: Path) -> None:
    first, second = part("first", seeds=(0,)), part("second", seeds=(1,))
    refused([first, tmp_path / "none"], tmp_path / "out", NoStudyError, "no results.json")
    with pytest.raises(RunExistsError):
        join_studies([first], second)
    before = (second / "results.json").read_bytes()
    with pytest.raises(InvalidValueError, match="another folder than those that are joined"):
        join_studies([first, second], second, overwrite=True)
    assert (second / "results.json").read_bytes() == before
