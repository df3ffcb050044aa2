"""The engine on tiny models: the whole grid, resuming, and what is refused before any work."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError, MissingPackageError
from embshare.tasks.averaging import AveragingError
from embshare.tasks.benchmark import BenchmarkConfig, BenchmarkReport, run_benchmark
from embshare.tasks.benchmark import engine as engine_module
from embshare.tasks.benchmark.config import CELLS, Cell
from embshare.tasks.benchmark.folder import read_report, write_report
from embshare.tasks.benchmark.report import cell_of
from embshare.tasks.errors import MissingDataError
from embshare.tasks.running.folder import RunExistsError
from embshare.tasks.running.loading import FinishedRun
from embshare.tasks.running.result import RunResult
from tests.tasks.benchmark.conftest import LM


class Recorder:
    """Remembers what it is told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.cells: list[tuple[Cell, int]] = []
        self.resumed: list[bool] = []
        self._stop_after = stop_after

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None:
        self.cells = list(cells)

    def ended(self, cell: Cell, result: RunResult, *, resumed: bool) -> None:
        self.resumed.append(resumed)
        if len(self.resumed) == self._stop_after:
            raise KeyboardInterrupt


def changed(config: BenchmarkConfig, **fields: Any) -> BenchmarkConfig:
    """Checked anew, which a copy is not."""
    return BenchmarkConfig(**(config.model_dump() | fields))


def test_the_whole_grid_is_run_measured_and_written(config: BenchmarkConfig) -> None:
    recorder = Recorder()
    report = run_benchmark(config, observer=recorder)
    assert len(report.results) == 3 * 3 * 2 == len(recorder.cells)
    written = BenchmarkReport.from_json((config.out / "results.json").read_text())
    assert written == report
    assert (config.out / "pareto-language_modelling.png").stat().st_size > 10_000
    assert "<table" in (config.out / "report.html").read_text()
    rows = {(row.architecture, row.method): row for row in report.rows(LM)}
    for architecture in config.architectures:
        dense, veps = rows[architecture, "dense"], rows[architecture, "veps"]
        assert veps.stored < 0.75 * dense.stored
        assert veps.read == dense.read
        assert veps.bytes_on_disk < dense.bytes_on_disk + 20_000  # the plan of so small a model
        assert veps.metric.count == 2
    sizes = {row.read for row in rows.values()}
    assert max(sizes) < 1.1 * min(sizes)
    assert all(result.ms_per_step > 0 for result in report.results)
    assert all(result.peak_mib >= result.resident_mib > 10 for result in report.results)
    cell = next(cell for cell in config.cells() if cell.method == "veps")
    found = FinishedRun.load(config.out / CELLS / cell.name)  # every model is there to be used
    assert found.config == config.run_config(cell)


def test_two_at_a_time_give_what_one_at_a_time_gives(config: BenchmarkConfig) -> None:
    small = changed(config, architectures=("conv",), seeds=(0,), out=config.out / "one")
    one = run_benchmark(small)
    two = run_benchmark(changed(small, jobs=2, out=config.out / "two"))
    assert [r.metrics for r in two.results] == [r.metrics for r in one.results]


def test_a_result_says_where_it_came_from(config: BenchmarkConfig) -> None:
    small = changed(config, architectures=("conv",), methods=("dense",), seeds=(3,))
    run_benchmark(small)
    found: dict[str, Any] = json.loads((config.out / "results.json").read_text())
    assert found["config"]["seeds"] == [3]
    assert found["results"][0]["seed"] == 3
    assert {"commit", "dirty", "packages", "python", "cores"} <= set(found["provenance"])
    assert found["provenance"]["seconds"] > 0
    assert found["tasks"][0]["data"]["tokens"]["test"] == 3 * 16 + 301


def test_a_stopped_benchmark_is_resumed_where_it_stopped(config: BenchmarkConfig) -> None:
    small = changed(config, architectures=("conv",))
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(small, observer=Recorder(stop_after=2))
    kept = {path: path.read_bytes() for path in (config.out / CELLS).glob("*/result.json")}
    assert len(kept) == 2
    again = Recorder()
    report = run_benchmark(small, resume=True, observer=again)
    assert again.resumed == [True] * 2 + [False] * 4
    assert len(report.results) == 6
    alone = sum(result.provenance.seconds for result in report.results)  # one after the other
    assert report.provenance.seconds > alone - 0.1
    assert all(path.read_bytes() == old for path, old in kept.items())


def test_a_cell_of_other_settings_or_no_cell_at_all_is_trained_again(
    config: BenchmarkConfig,
) -> None:
    small = changed(config, architectures=("conv",), seeds=(0,))
    run_benchmark(small)
    (config.out / CELLS / "language_modelling--conv--dense--seed0" / "result.json").write_text("{")
    again = Recorder()
    other = changed(small, share=ShareConfig(anchor=2.0, gain="none"))
    run_benchmark(other, resume=True, observer=again)
    assert again.resumed == [False, False, False]  # broken, and two of another gain


def test_a_report_is_written_again_where_its_folder_has_gone(config: BenchmarkConfig) -> None:
    run_benchmark(changed(config, architectures=("conv",), methods=("dense",)))
    moved = config.out.rename(config.out.with_name("moved"))
    (moved / "report.html").unlink()
    write_report(read_report(moved))
    assert "<table" in (moved / "report.html").read_text()


def test_a_folder_with_results_is_left_alone_unless_told(config: BenchmarkConfig) -> None:
    config.out.mkdir()
    run_benchmark(changed(config, architectures=("conv",), methods=("dense",)))
    other = config.out / "notes.txt"
    other.write_text("mine")
    with pytest.raises(RunExistsError, match="must be a new or an empty folder, but is neither"):
        run_benchmark(config)
    run_benchmark(changed(config, architectures=("lstm",), methods=("dense",)), overwrite=True)
    assert other.read_text() == "mine"
    cells = sorted(path.name for path in (config.out / CELLS).iterdir())
    assert cells == [f"language_modelling--lstm--dense--seed{seed}" for seed in (0, 1)]


def refused(config: BenchmarkConfig, kind: type[EmbshareError], message: str) -> None:
    """Running must fail like this, with no model begun and no folder made."""
    recorder = Recorder()
    with pytest.raises(kind, match=message):
        run_benchmark(config, observer=recorder)
    assert recorder.cells == []
    assert not config.out.exists()


def test_what_cannot_work_is_refused_before_any_work(
    config: BenchmarkConfig, tmp_path: Path
) -> None:
    settings = config.settings[LM].model_dump()
    nowhere = {LM: settings | {"data": tmp_path / "nowhere"}}
    refused(changed(config, settings=nowhere), MissingDataError, "must be a folder with the split")
    deep = changed(config, settings={LM: settings | {"layers": 6}}, share=ShareConfig(tie="none"))
    refused(
        deep, EmbshareError, r"`embedding\.weight` must have \d+ columns for these layers, but has"
    )
    with pytest.raises(InvalidValueError, match=r"`share\.tie`: must be"):
        changed(config, share={"tie": "some"})


@pytest.mark.parametrize("jobs", [1, 2])
def test_seconds_are_those_in_which_models_were_trained(
    report: BenchmarkReport, config: BenchmarkConfig, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of runs that were kept, which went on ``jobs`` at a time, each for ten seconds."""

    first = datetime(2026, 1, 1, tzinfo=UTC)
    kept = {}
    for index, result in enumerate(report.results):
        begun = first + timedelta(seconds=index // jobs * 10)
        times = {"seconds": 10.0, "started": begun.isoformat()}
        when = result.provenance.model_copy(update=times)
        kept[cell_of(result)] = result.model_copy(update={"provenance": when})
    monkeypatch.setattr(engine_module, "_kept", lambda *_: kept)
    found = run_benchmark(config, resume=True)
    assert found.provenance.seconds == pytest.approx(len(kept) / jobs * 10, abs=9)


@pytest.mark.parametrize(
    ("training", "kind", "message"),
    [
        ({"average": 9, "save_every": 1}, AveragingError, "of 6 steps must have 9 .*, but has 6"),
        ({"layer_decay": 0.9}, InvalidValueError, "`layer_decay` must be 1 for this model"),
        ({"trackers": ("foo",)}, InvalidValueError, "'foo' must be a tracker that is installed"),
        ({"optimizer": "lamb"}, MissingPackageError, "`timm` is not installed"),
    ],
)
def test_what_a_training_would_fail_at_is_refused_before_any(
    config: BenchmarkConfig,
    training: dict[str, Any],
    kind: type[EmbshareError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm.optim.lamb", None)
    settings = config.settings[LM].model_dump()
    settings["training"] |= training
    refused(changed(config, settings={LM: settings}), kind, message)


def test_workers_refuse_what_one_model_of_several_cannot(config: BenchmarkConfig) -> None:
    settings = config.settings[LM].model_dump()
    settings["training"] |= {"layer_decay": 0.9}  # a dense model of attention may have that
    axes = {"architectures": ("attention",), "methods": ("dense", "eps"), "jobs": 2}
    wrong = changed(config, settings={LM: settings}, **axes)
    refused(wrong, InvalidValueError, "`layer_decay` must be 1 .* layers are shared")


def test_a_missing_package_is_named_before_any_work(
    config: BenchmarkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "NEEDED", ("torch", "no_such_package"))
    refused(config, MissingPackageError, r"`no_such_package` is not installed: pip install")
