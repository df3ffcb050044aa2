"""What a benchmark may replace: its own files, in a folder of its own."""

from pathlib import Path

import pytest

from embshare.tasks.benchmark import BenchmarkReport
from embshare.tasks.benchmark.config import CELLS
from embshare.tasks.benchmark.folder import check_folder, open_folder, write_report
from embshare.tasks.benchmark.report import cell_of
from embshare.tasks.running.folder import ForeignFolderError, RunFolder


def written(folder: Path, files: dict[str, str]) -> list[Path]:
    """Files of somebody else."""
    paths = [folder / name for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths


def replaced(out: Path) -> None:
    check_folder(out, overwrite=True, resume=False)
    open_folder(out, overwrite=True)


@pytest.mark.parametrize(
    "content",
    ['{"my": "survey"}', "[]", "no JSON", "\x00", '{"config": {"tasks": [["a"]]}}'],
)
@pytest.mark.parametrize("asked", ["overwrite", "resume"])
def test_results_of_somebody_else_are_no_benchmark(
    tmp_path: Path, content: str, asked: str
) -> None:
    mine = {"results.json": content, "report.html": "mine", f"{CELLS}/microscopy.csv": "mine"}
    paths = written(tmp_path, mine)
    with pytest.raises(ForeignFolderError, match=r"has no results\.json of ours"):
        check_folder(tmp_path, overwrite=asked == "overwrite", resume=asked == "resume")
    assert [path.read_text() for path in paths] == list(mine.values())


@pytest.mark.parametrize("finished", [False, True])
def test_a_benchmark_is_replaced_and_what_lies_beside_it_is_not(
    report: BenchmarkReport, finished: bool
) -> None:
    out = report.config.out
    folders = [RunFolder(result.config.out) for result in report.results]
    for folder, result in zip(folders, report.results, strict=True):
        folder.open(result.config, overwrite=False)
        folder.result.write_text(result.to_json())
    if finished:
        write_report(report)
    name = cell_of(report.results[0]).name
    mine = written(
        out,
        {
            "pareto-mine.png": "mine",
            f"{CELLS}/microscopy.csv": "mine",
            f"{CELLS}/other/model/weights.bin": "mine",
            f"{CELLS}/{name}/notes.txt": "mine",
        },
    )
    replaced(out)
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(mine)
    assert {path.name for path in (out / CELLS).iterdir()} == {"microscopy.csv", "other", name}


def test_a_folder_of_other_cells_is_written_beside(tmp_path: Path) -> None:
    (mine,) = written(tmp_path, {f"{CELLS}/microscopy.csv": "mine"})
    replaced(tmp_path)
    assert mine.read_text() == "mine"
