"""What a study may replace: its own files, in a folder of its own."""

from pathlib import Path

import pytest

from embshare.tasks.runs.folder import ForeignFolderError, RunFolder
from embshare.tasks.studies.folder import check_folder, open_folder
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.store import write_report
from embshare.tasks.studies.study_file import TRIALS, StudyFile

STUDY = StudyFile(name="any", task="glue")


def written(folder: Path, files: dict[str, str]) -> list[Path]:
    """Files of somebody else."""
    paths = [folder / name for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths


def replaced(out: Path) -> None:
    check_folder(STUDY, out, overwrite=True, resume=False)
    open_folder(STUDY, out, overwrite=True)


@pytest.mark.parametrize("content", ["my: survey", "[]", "a: [", "\x00", "name: x\naxes: 5"])
@pytest.mark.parametrize("asked", ["overwrite", "resume"])
def test_a_study_of_somebody_else_is_none(tmp_path: Path, content: str, asked: str) -> None:
    mine = {"study.yaml": content, "report.html": "mine", f"{TRIALS}/microscopy.csv": "mine"}
    paths = written(tmp_path, mine)
    with pytest.raises(ForeignFolderError, match=r"has no study\.yaml of ours"):
        check_folder(STUDY, tmp_path, overwrite=asked == "overwrite", resume=asked == "resume")
    assert [path.read_text() for path in paths] == list(mine.values())


@pytest.mark.parametrize("finished", [False, True])
def test_a_study_is_replaced_and_what_lies_beside_it_is_not(
    report: StudyReport, out: Path, finished: bool
) -> None:
    open_folder(report.study, out, overwrite=False)
    for trial in report.trials:
        folder = RunFolder(trial.result.config.out)
        folder.open(trial.result.config, overwrite=False)
        folder.result.write_text(trial.result.to_json())
        (out / TRIALS / f"{trial.id}.json").write_text(trial.to_json())
    if finished:
        write_report(report, out)
    name = report.trials[0].name
    mine = written(
        out,
        {
            "pareto-mine.png": "mine",
            f"{TRIALS}/microscopy.csv": "mine",
            f"{TRIALS}/settings.json": "mine",
            f"{TRIALS}/other/model/weights.bin": "mine",
            f"{TRIALS}/{name}/notes.txt": "mine",
        },
    )
    replaced(out)
    left = {path for path in out.rglob("*") if path.is_file()}
    assert left == {*mine, out / "study.yaml"}
    folders = {path.name for path in (out / TRIALS).iterdir() if path.is_dir()}
    assert folders == {"other", name}


def test_a_folder_of_other_files_is_written_beside(tmp_path: Path) -> None:
    (mine,) = written(tmp_path, {f"{TRIALS}/microscopy.csv": "mine"})
    replaced(tmp_path)
    assert mine.read_text() == "mine"
