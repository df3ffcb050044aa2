"""The engine on tiny models: the whole grid, resuming, and what is refused before any work."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from embshare.errors import EmbshareError, InvalidValueError, MissingPackageError
from embshare.tasks.benchmark import BenchmarkConfig, BenchmarkReport, CellRecord, run_benchmark
from embshare.tasks.benchmark import engine as engine_module
from embshare.tasks.benchmark.config import Cell
from embshare.tasks.benchmark.folder import OutputExistsError
from embshare.tasks.language_modelling.errors import SplitMissingError


class Recorder:
    """Remembers what it is told."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.cells: list[tuple[Cell, int]] = []
        self.began_cells: list[Cell] = []
        self.resumed: list[bool] = []
        self.steps = 0
        self._stop_before = stop_before

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None:
        self.cells = list(cells)

    def began(self, cell: Cell) -> None:
        if len(self.began_cells) == self._stop_before:
            raise KeyboardInterrupt
        self.began_cells.append(cell)

    def stepped(self) -> None:
        self.steps += 1

    def ended(self, cell: Cell, record: CellRecord, *, resumed: bool) -> None:
        self.resumed.append(resumed)


def test_the_whole_grid_is_run_measured_and_written(config: BenchmarkConfig) -> None:
    recorder = Recorder()
    report = run_benchmark(config, recorder)
    assert len(report.records) == 3 * 3 * 2 == len(recorder.cells)
    assert recorder.steps == 18 * 6
    written = BenchmarkReport.from_json((config.out / "results.json").read_text())
    assert written == report
    assert (config.out / "pareto-language_modelling.png").stat().st_size > 10_000
    assert len(list((config.out / "cells").glob("*.json"))) == 18
    rows = {(row.architecture, row.method): row for row in report.rows("language_modelling")}
    for architecture in config.architectures:
        dense, veps = rows[architecture, "dense"], rows[architecture, "veps"]
        assert veps.stored < 0.75 * dense.stored
        assert veps.read == dense.read
        assert veps.bytes_on_disk < dense.bytes_on_disk + 20_000  # the plan of so small a model
        assert veps.metric.count == 2
    sizes = {row.read for row in rows.values()}
    assert max(sizes) < 1.1 * min(sizes)
    assert all(record.ms_per_step > 0 for record in report.records)
    assert all(record.peak_mib >= record.resident_mib > 10 for record in report.records)


def test_a_result_says_where_it_came_from(config: BenchmarkConfig) -> None:
    small = config.model_copy(
        update={"architectures": ("conv",), "methods": ("dense",), "seeds": (3,)}
    )
    run_benchmark(small)
    found: dict[str, Any] = json.loads((config.out / "results.json").read_text())
    assert found["config"]["seeds"] == [3]
    assert found["records"][0]["seed"] == 3
    assert {"commit", "dirty", "packages", "python", "cores"} <= set(found["provenance"])
    assert found["provenance"]["seconds"] > 0
    assert found["tasks"][0]["data"]["symbols"]["test"] == 3 * 16 + 301


def test_a_stopped_run_is_resumed_where_it_stopped(config: BenchmarkConfig) -> None:
    small = config.model_copy(update={"architectures": ("conv",)})
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(small, Recorder(stop_before=2))
    kept = {path.name: path.read_bytes() for path in (config.out / "cells").glob("*.json")}
    assert len(kept) == 2
    again = Recorder()
    report = run_benchmark(small.model_copy(update={"resume": True}), again)
    assert again.resumed == [True] * 2 + [False] * 4
    assert len(report.records) == 6
    assert all((config.out / "cells" / name).read_bytes() == old for name, old in kept.items())


def test_a_cell_of_other_settings_or_no_cell_at_all_is_trained_again(
    config: BenchmarkConfig,
) -> None:
    small = config.model_copy(update={"architectures": ("conv",), "seeds": (0,)})
    run_benchmark(small)
    (config.out / "cells" / "language_modelling--conv--dense--seed0.json").write_text("{")
    again = Recorder()
    run_benchmark(small.model_copy(update={"resume": True, "gain": "none"}), again)
    assert again.resumed == [False, False, False]  # broken, and two of another gain


def test_a_folder_with_results_is_left_alone_unless_told(config: BenchmarkConfig) -> None:
    config.out.mkdir()
    run_benchmark(config.model_copy(update={"architectures": ("conv",), "methods": ("dense",)}))
    other = config.out / "notes.txt"
    other.write_text("mine")
    with pytest.raises(OutputExistsError) as caught:
        run_benchmark(config)
    assert str(caught.value) == (
        f"`{config.out}` must be a new or an empty folder, but is neither. Name another with "
        "--out, replace the results in it with --overwrite, or go on with --resume."
    )
    run_benchmark(
        config.model_copy(
            update={"overwrite": True, "architectures": ("lstm",), "methods": ("dense",)}
        )
    )
    assert other.read_text() == "mine"
    cells = sorted(path.name for path in (config.out / "cells").iterdir())
    assert cells == [f"language_modelling--lstm--dense--seed{seed}.json" for seed in (0, 1)]


def refused(config: BenchmarkConfig, kind: type[EmbshareError], message: str) -> None:
    """Running must fail like this, with no model begun and no folder made."""
    recorder = Recorder()
    with pytest.raises(kind, match=message):
        run_benchmark(config, recorder)
    assert recorder.cells == []
    assert not config.out.exists()


def test_what_cannot_work_is_refused_before_any_work(
    config: BenchmarkConfig, tmp_path: Path
) -> None:
    modelling = config.language_modelling
    nowhere = modelling.model_copy(update={"data": tmp_path / "nowhere"})
    refused(
        config.model_copy(update={"language_modelling": nowhere}),
        SplitMissingError,
        "must be a folder with the split `train`",
    )
    deep = modelling.model_copy(update={"layers": 6})
    refused(
        config.model_copy(update={"language_modelling": deep, "tie": "none"}),
        EmbshareError,
        r"`embedding\.weight` must have \d+ columns for these layers, but has 16",
    )
    refused(config.model_copy(update={"tie": "some"}), InvalidValueError, "`tie`: must be")


def test_a_missing_package_is_named_before_any_work(
    config: BenchmarkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "NEEDED", ("torch", "no_such_package"))
    refused(config, MissingPackageError, r"`no_such_package` is not installed: pip install")
