"""Parts of a grid are joined into the report that the whole grid would have had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.benchmark import BenchmarkConfig, BenchmarkReport
from embshare.tasks.benchmark.config import CELLS
from embshare.tasks.benchmark.folder import NoBenchmarkError, read_report, write_report
from embshare.tasks.benchmark.joining import NoGridError, OtherBenchmarkError, join_benchmarks
from embshare.tasks.benchmark.report import cell_of
from embshare.tasks.running.folder import RunExistsError
from embshare.tasks.running.result import RunResult

Part = Callable[..., Path]


@pytest.fixture
def part(report: BenchmarkReport, tmp_path: Path) -> Part:
    """Write some of the made-up report's models as a benchmark of its own."""

    def write(name: str, *, config: dict[str, Any] | None = None, **axes: Any) -> Path:
        out = tmp_path / name
        fields = report.config.model_dump() | axes | (config or {}) | {"out": out}
        found = BenchmarkConfig(**fields)
        cells = set(found.cells())
        mine = [
            result.model_copy(update={"config": found.run_config(cell_of(result))})
            for result in report.results
            if cell_of(result) in cells
        ]
        for result in mine:
            folder = out / CELLS / cell_of(result).name
            (folder / "samples").mkdir(parents=True)
            (folder / "samples" / "samples.json").write_text(
                f'[{{"source": "a", "prediction": "by {cell_of(result).name}"}}]'
            )
            (folder / "result.json").write_text(result.to_json())
            (folder / "model").mkdir()
        write_report(report.model_copy(update={"config": found, "results": tuple(mine)}))
        return out

    return write


def changed_results(folder: Path, change: Callable[[RunResult], RunResult]) -> None:
    found = read_report(folder)
    write_report(found.model_copy(update={"results": tuple(map(change, found.results))}))


@pytest.mark.parametrize(
    ("axis", "halves"),
    [
        ("seeds", ((0,), (1,))),
        ("architectures", (("lstm",), ("conv", "attention"))),
        ("methods", (("dense",), ("eps", "veps"))),
    ],
)
def test_the_parts_of_a_grid_are_the_whole_again(
    report: BenchmarkReport, part: Part, axis: str, halves: Any, tmp_path: Path
) -> None:
    folders = [
        part(f"part{index}", **{axis: half, "jobs": index + 1}) for index, half in enumerate(halves)
    ]
    joined = join_benchmarks(folders, tmp_path / "joined")
    assert list(joined.rows("language_modelling")) == list(report.rows("language_modelling"))
    assert [cell_of(r) for r in joined.results] == [cell_of(r) for r in report.results]
    assert joined.provenance.seconds == 2 * report.provenance.seconds
    assert read_report(tmp_path / "joined") == joined
    page = (tmp_path / "joined" / "report.html").read_text()
    assert page.count("by language_modelling--") == 9  # samples of the first seed came along
    cell = tmp_path / "joined" / CELLS / joined.config.cells()[-1].name
    assert {path.name for path in cell.iterdir()} == {"samples", "result.json"}


def refused(folders: list[Path], out: Path, kind: type[EmbshareError], message: str) -> None:
    """Joining must fail like this, and make no folder."""
    with pytest.raises(kind, match=message):
        join_benchmarks(folders, out)
    assert not out.exists()


def test_other_settings_data_code_or_packages_do_not_compare(part: Part, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    first = part("first", seeds=(0,))
    gains = part("gains", seeds=(1,), config={"share": ShareConfig(gain="none")})
    refused([first, gains], out, OtherBenchmarkError, "`.*gains` differs from `.*first` in `share`")
    second = part("second", seeds=(1,))
    changed_results(
        second,
        lambda r: r.model_copy(
            update={
                "provenance": r.provenance.model_copy(
                    update={"commit": "another", "packages": {"torch": "0"}}
                )
            }
        ),
    )
    refused([first, second], out, OtherBenchmarkError, "in `commit`, `packages`. Run one of them")
    third = part("third", seeds=(1,))
    found = read_report(third)
    (record,) = found.tasks
    other = record.model_copy(update={"data": {"text": "another"}})
    write_report(found.model_copy(update={"tasks": (other,)}))
    refused([first, third], out, OtherBenchmarkError, "in `data of language_modelling`")


def test_each_model_must_be_there_once(part: Part, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    both, one = part("both"), part("one", seeds=(1,), architectures=("lstm",))
    name = "language_modelling--lstm--dense--seed1"
    refused([both, one], out, NoGridError, f"but have twice {name}, .*--veps--seed1. Leave out a")
    zero = part("zero", seeds=(0,))
    refused([zero, one], out, NoGridError, "but lack language_modelling--conv--dense--seed1, .* 3 ")


def test_folders_are_looked_at_before_anything_is_written(part: Part, tmp_path: Path) -> None:
    first, second = part("first", seeds=(0,)), part("second", seeds=(1,))
    refused([first, tmp_path / "none"], tmp_path / "out", NoBenchmarkError, "no results.json")
    with pytest.raises(RunExistsError):
        join_benchmarks([first], second)
    before = (second / "results.json").read_bytes()
    with pytest.raises(InvalidValueError, match="another folder than those that are joined"):
        join_benchmarks([first, second], second, overwrite=True)
    assert (second / "results.json").read_bytes() == before
    joined = join_benchmarks([first], second, overwrite=True)
    assert joined.config.seeds == (0,) == read_report(second).config.seeds
