"""Tables of trained models, before and after, and what a report says of them."""

from pathlib import Path

import pytest
import torch

import embshare
from embshare.tasks.runs.folder import RunFolder
from embshare.tasks.runs.loading import load_run
from embshare.tasks.studies import run_study
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.analysis import analyse
from embshare.tasks.studies.reporting.embeddings import geometry_sheet, read_tables, table_of
from embshare.tasks.studies.study_file import TRIALS, StudyFile
from tests.integration.tasks.studies.conftest import LM, SENTENCE, Small


@pytest.fixture
def trained(small: Small, out: Path) -> StudyReport:
    """A study of a dense model, a shared one, and one whose table is factorised."""
    methods = {
        "dense": {},
        "veps": {"share": "veps"},
        "factor": {"share": {"method": "veps", "factor": 8}},
    }
    study = small(model=("conv",), method=methods)
    compare = {"baseline": {"method": "dense"}}
    return run_study(StudyFile(**(dict(study) | {"compare": compare})), out, jobs=1)


def test_tables_are_read_before_and_after(trained: StudyReport, out: Path) -> None:
    counted: dict[str, torch.Tensor | None] = {}
    for trial in trained.trials:
        folder = out / TRIALS / trial.name
        found = read_tables(folder, counted)
        model = load_run(folder).model
        assert torch.equal(found.after, table_of(model))
        plain = table_of(embshare.materialize(model)) if trial.labels["method"] == "veps" else None
        assert plain is None or torch.equal(plain, found.after)
        assert found.before.shape == found.after.shape
        assert found.after.shape[1] == (8 if trial.labels["method"] == "factor" else 16)
        moved = (found.after - found.before).norm() / found.before.norm()
        assert 0 < moved < 1, "six steps of training away, and not another random table"
        assert found.counts is not None and len(found.counts) == len(found.after)
        words = len(SENTENCE.split()) * 30
        assert int(found.counts.sum()) > words, "every word, and the ends of lines"
    assert len(counted) == 1, "one text, counted once"


def test_a_sheet_has_what_training_did_to_each_table(trained: StudyReport, out: Path) -> None:
    folders = {trial.name: out / TRIALS / trial.name for trial in trained.trials}
    before = set(out.rglob("*"))
    sheet = geometry_sheet(analyse(trained, LM), folders)
    assert sheet is not None and {len(row) for row in sheet.rows} == {len(sheet.head)}
    assert set(out.rglob("*")) == before
    kept = sheet.head.index("neighbours kept")
    values = [[cell.value for cell in row] for row in sheet.rows]
    assert all(0 < float(row[kept]) <= 1 for row in values)
    assert [row[kept + 1].text == "" for row in sheet.rows] == [True, False, False]
    assert not any("could not be counted" in note for note in sheet.notes)
    for trial in trained.trials[:1]:
        for path in RunFolder(folders[trial.name]).model.iterdir():
            path.unlink()
        RunFolder(folders[trial.name]).model.rmdir()
    fewer = geometry_sheet(analyse(trained, LM), folders)
    assert fewer is not None and len(fewer.rows) == 2
    assert "2 of 3 rows" in fewer.notes[-1]
    assert geometry_sheet(analyse(trained, LM), {}) is None


def test_without_the_text_a_token_is_as_frequent_as_its_place_says(
    trained: StudyReport, out: Path, text: Path
) -> None:
    (text / "train.txt").unlink()
    found = read_tables(out / TRIALS / trained.trials[0].name, {})
    assert found.counts is None
    assert found.frequency.tolist() == [-n for n in range(len(found.after))]
    folders = {trial.name: out / TRIALS / trial.name for trial in trained.trials}
    sheet = geometry_sheet(analyse(trained, LM), folders)
    assert sheet is not None and any("could not be counted" in note for note in sheet.notes)
