"""Runs of `embshare train` as a report: rows are named by what differs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embshare.cli import app
from embshare.errors import InvalidValueError
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import ForeignFolderError, RunExistsError
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.plain_runs import (
    NoRunsError,
    labels_of,
    read_runs,
    with_absent,
    write_runs,
)
from embshare.tasks.studies.study_file import StudyFile
from tests.integration.tasks.studies.conftest import LM

Run = Callable[..., Path]


@pytest.fixture
def run(report: StudyReport, tmp_path: Path) -> Run:
    """Write the folder of a run that nobody made."""
    first = report.trials[0].result

    def write(name: str, value: float = 100.0, task: str = LM, **fields: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = RunConfig(task=task, out=folder, **fields)
        update: dict[str, Any] = {"task": task, "config": config, "seed": config.seed}
        if task == LM:
            update["metrics"] = {"perplexity": value}
        else:
            update |= {"metric": "bleu", "metrics": {"bleu": value}}
        result = first.model_copy(update=update)
        (folder / "config.yaml").write_text(config.to_yaml())
        (folder / "result.json").write_text(result.to_json())
        return folder

    return write


def test_runs_are_named_by_the_options_in_which_they_differ(run: Run, tmp_path: Path) -> None:
    for seed in (1, 0):
        run(f"dense{seed}", 100.0 + seed, seed=seed)
        run(f"tied{seed}", 103.0 + 2 * seed, seed=seed, share={"method": "veps", "tie": "all"})
        run(f"deep/own{seed}", 99.0, seed=seed, share={"method": "veps", "tie": "none"})
    found, folders = read_runs([tmp_path / "runs"])
    assert found.axes == ("share", "tie")
    rows = {tuple(row.labels.values()): row for row in found.rows(LM)}
    assert list(rows) == [("none", "-"), ("veps", "none"), ("veps", "all")]
    assert rows["veps", "all"].metric.mean == 104.0 and rows["none", "-"].metric.count == 2
    assert found.seeds == ("0", "1")
    assert set(folders.values()) == {path.parent for path in tmp_path.rglob("result.json")}
    compare = {"baseline": {"share": "none"}}
    study = StudyFile(**{**dict(found.study), "compare": compare})
    compared = with_absent(found.model_copy(update={"study": study}))
    (change,) = [row.change for row in compared.rows(LM) if row.labels["tie"] == "all"]
    assert change == pytest.approx(104 / 100.5 - 1), "a dense model has no tie to compare by"


def test_runs_of_several_tasks_have_a_table_each(run: Run, tmp_path: Path) -> None:
    run("one", model="lstm")
    run("two", model="conv")
    run("three", 20.0, task="translation", model="conv")
    found, _ = read_runs([tmp_path / "runs"])
    assert [task.name for task in found.tasks] == [LM, "translation"]
    assert found.axes == ("arch",)
    assert [row.labels for row in found.rows("translation")] == [{"arch": "conv"}]
    assert [found.metric(task.name).better for task in found.tasks] == ["lower", "higher"]


def test_runs_that_nothing_tells_apart_have_their_names(run: Run, tmp_path: Path) -> None:
    one, two, three = run("a/x"), run("b/x", 120.0), run("b/y", model="lstm")
    found, _ = read_runs([one])
    assert [row.labels for row in found.rows(LM)] == [{"run": "x"}]
    found, _ = read_runs([one, two, three])
    names = [tuple(row.labels.values()) for row in found.rows(LM)]
    assert names == [("x (0)", "attention"), ("x (1)", "attention"), ("y", "lstm")]


def test_options_of_one_name_keep_the_part_before_it() -> None:
    configs = [
        {"task": LM, "share.width": 1, "settings.width": 8, "settings.training.steps": 2},
        {"task": LM, "share.width": 2, "settings.width": 16, "settings.training.steps": 10},
    ]
    assert labels_of(configs, ["a", "b"])[1] == {
        "share.width": "2",
        "width": "16",
        "steps": "10",
    }


def test_a_report_of_runs_is_written_into_a_folder_of_its_own(run: Run, tmp_path: Path) -> None:
    run("one", model="lstm")
    run("two", model="conv")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report, folders = read_runs([tmp_path / "runs"])
    out = tmp_path / "out"
    write_runs(report, out, folders, overwrite=False)
    assert "convolution" in (out / "report.html").read_text()
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(RunExistsError):
        write_runs(report, out, folders, overwrite=False)
    write_runs(report, out, folders, overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.md").write_text("mine")
    with pytest.raises(ForeignFolderError, match=r"report\.md` would be lost"):
        write_runs(report, other, folders, overwrite=True)
    assert (other / "report.md").read_text() == "mine"


def test_what_is_no_run_is_one_message(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoRunsError, match=r"no result\.json beside a"):
        read_runs([run("one"), tmp_path / "empty"])
    damaged = run("two")
    (damaged / "result.json").write_text("{}")
    with pytest.raises(InvalidValueError) as caught:
        read_runs([damaged])
    assert caught.value.__notes__ == [f"in {damaged / 'result.json'}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--geometry"], "`--geometry`: is written, not printed"),
        (["--baseline", "share"], "`--baseline`: must be AXIS=LABEL, but is 'share'"),
        (["--baseline", "tie=all"], "'tie' must be one of the axes"),
    ],
)
def test_what_a_report_of_runs_cannot_be_is_one_message(
    tmp_path: Path, run: Run, words: list[str], message: str
) -> None:
    run("one"), run("two", model="lstm")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), *words])
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
    assert len(list((tmp_path / "runs").rglob("*"))) == 2 * 3
