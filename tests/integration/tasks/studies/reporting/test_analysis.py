"""What a study says of a task: fronts, comparisons, what is left out of sharing, and words."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats  # type: ignore[import-untyped]

from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.analysis import Analysis, analyse
from embshare.tasks.studies.reporting.sheets import (
    csv_rows,
    effects_sheet,
    interactions_sheet,
    rows_sheet,
    trades_sheet,
)
from embshare.tasks.studies.study_file import StudyFile
from tests.integration.tasks.studies.conftest import LM, with_first_metric

Measured = Callable[..., StudyReport]


@pytest.fixture
def measured(report: StudyReport) -> Measured:
    """A made-up report of any grid, whose metric and sizes are functions of the labels."""

    def make(
        axes: dict[str, Any],
        metric: Callable[[dict[str, str]], float],
        stored: Callable[[dict[str, str]], int] = lambda _: 1000,
        **compare: Any,
    ) -> StudyReport:
        fields: dict[str, Any] = {"task": LM, "axes": axes, "compare": compare}
        study = StudyFile(name="made up", **fields)
        first = report.trials[0]
        trials = []
        for trial in study.trials(Path("out")):
            labels = dict(trial.labels)
            result = first.result.model_copy(
                update={
                    "metrics": {"perplexity": metric(labels)},
                    "stored_parameters": stored(labels),
                    "bytes": 4 * stored(labels),
                    "config": trial.config,
                    "seed": trial.config.seed,
                }
            )
            update = {"name": trial.name, "labels": labels, "result": result}
            trials.append(first.model_copy(update=update))
        return report.model_copy(update={"study": study, "trials": tuple(trials)})

    return make


SHARES = {"dense": {}, "veps": {"share": "veps"}, "eps": {"share": "eps"}}
SEEDED: dict[str, Any] = {"arch": ["lstm", "conv"], "method": SHARES, "seed": [0, 1, 2]}


def quality(labels: dict[str, str]) -> float:
    seed = int(labels["seed"])
    worse = {"dense": 0.0, "veps": 3.0 + 0.5 * seed**2, "eps": 9.0 - 0.1 * seed**2}
    return {"lstm": 100.0, "conv": 90.0}[labels["arch"]] + seed + worse[labels["method"]]


def small(labels: dict[str, str]) -> int:
    return {"dense": 1_000_000, "veps": 250_000, "eps": 500_000}[labels["method"]]


def by_labels(analysis: Analysis) -> dict[tuple[str, ...], int]:
    return {tuple(row.labels.values()): n for n, row in enumerate(analysis.rows)}


def test_rows_are_compared_with_the_baseline_seed_by_seed(measured: Measured) -> None:
    found = analyse(measured(SEEDED, quality, small, baseline={"method": "dense"}), LM)
    places = by_labels(found)
    assert found.comparisons[places["lstm", "dense"]] is None
    veps = found.comparisons[places["lstm", "veps"]]
    assert veps is not None and veps.difference == pytest.approx(3.0 + 2.5 / 3)
    expected = stats.ttest_rel([3.0, 3.5, 5.0], [0.0, 0.0, 0.0]).pvalue
    assert veps.p == pytest.approx(expected)
    eps = found.comparisons[places["conv", "eps"]]
    assert eps is not None and eps.p is not None and eps.corrected is not None
    # four rows are compared: both of EPS have the smaller p, and ties are equally corrected
    assert (eps.corrected, veps.corrected) == pytest.approx((4 * eps.p, 2 * expected))
    assert eps.significant


def test_fronts_are_of_bytes_parameters_and_time(measured: Measured) -> None:
    found = analyse(measured(SEEDED, quality, small), LM)
    names = [tuple(found.rows[n].labels.values()) for n in found.fronts["bytes"]]
    assert names == [("conv", "veps"), ("conv", "dense")]
    assert found.fronts["parameters"] == found.fronts["bytes"]
    assert len(found.fronts["time"]) == 1, "all took as long"


def test_words_say_where_sharing_wins(measured: Measured) -> None:
    report = measured(SEEDED, quality, small)
    assert list(analyse(report, LM).sentences()) == [
        "Best for its bytes on disk: a model that shares from 1 MB up to 4 MB; one of ordinary "
        "layers from 4 MB."
    ]
    tied = {"dense": {}, "veps": {"share": "own"}, "eps": {"share": "own"}}
    (said,) = analyse(measured(SEEDED | {"method": tied}, quality, small), LM).sentences()
    assert said.startswith("All models have ordinary layers"), "tied layers are"
    shared = measured(SEEDED | {"method": {"a": {"share": "veps"}}}, lambda labels: 1.0)
    (said,) = analyse(shared, LM).sentences()
    assert said.startswith("All models share")


def test_words_say_what_no_number_can(measured: Measured, report: StudyReport) -> None:
    one = measured(SEEDED | {"seed": [0]}, quality, baseline={"method": "dense"})
    said = " ".join(analyse(one, LM).sentences())
    assert "One seed for each row: no intervals and no tests" in said
    bad = with_first_metric(
        measured(SEEDED, quality, small, baseline={"method": "dense"}), math.nan
    )
    found = analyse(bad, LM)
    said = " ".join(found.sentences())
    assert "1 of 6 rows have a trial that diverged (LSTM, dense)." in said
    assert "2 comparisons with the baseline: diverged with seed 0." in said
    first = found.comparisons[by_labels(found)["lstm", "veps"]]
    assert first is not None and first.p is None
    nothing = with_first_metric(report, *[math.inf] * len(report.trials))
    assert "every model diverged" in " ".join(analyse(nothing, LM).sentences())


def test_a_missing_seed_and_a_missing_baseline_are_said(measured: Measured) -> None:
    report = measured(SEEDED, quality, small, baseline={"method": "dense"})

    def without(**labels: str) -> StudyReport:
        left = (t for t in report.trials if not labels.items() <= t.labels.items())
        return report.model_copy(update={"trials": tuple(left)})

    said = " ".join(analyse(without(arch="lstm", method="dense", seed="2"), LM).sentences())
    assert "2 comparisons with the baseline: no pair for seed 2." in said
    found = analyse(without(arch="lstm", method="dense"), LM)
    assert "2 rows have no baseline with the same labels" in " ".join(found.sentences())
    assert found.comparisons[by_labels(found)["lstm", "veps"]] is None
    effects = effects_sheet(found)
    assert effects is not None and any("Left out" in note for note in effects.notes)


def test_what_each_slot_costs_is_beside_the_model_that_leaves_nothing_out(
    measured: Measured,
) -> None:
    def veps(*exclude: str) -> dict[str, Any]:
        return {"share": {"method": "veps", "exclude": list(exclude)}}

    axes: dict[str, Any] = {
        "shared": {"all": veps(), "not attention": veps("*.attention.*"), "not feed": veps("*.f*")},
        "seed": [0, 1],
    }
    gains = {"not attention": (5.0, 250_000), "not feed": (1.0, 500_000), "all": (0.0, 0)}
    report = measured(
        axes,
        lambda labels: 100.0 - gains[labels["shared"]][0],
        lambda labels: 50_000 + gains[labels["shared"]][1],
    )
    found = analyse(report, LM)
    assert found.report.study.compare.baseline == {"shared": "all"}
    sheet = trades_sheet(found, 10)
    assert sheet is not None
    texts = [[cell.text for cell in row] for row in sheet.rows]
    assert texts == [
        ["not attention", "larger, and better", "+1 MB", "-5.00", "5.00"],
        ["not feed", "larger, and better", "+2 MB", "-1.00", "0.500"],
    ]
    dense = measured({"method": SHARES, "seed": [0, 1]}, lambda labels: 1.0)
    assert not analyse(dense, LM).compared, "nothing is left out there"


def test_rates_that_were_searched_are_shown_with_what_that_cost(measured: Measured) -> None:
    report = measured(SEEDED, quality, small)
    rates = {"rates": {"learning_rate": 0.01}, "solved": {"width": 24}}
    tuned = tuple(trial.model_copy(update=rates) for trial in report.trials)
    found = analyse(report.model_copy(update={"trials": tuned, "search": tuned[:4]}), LM)
    sheet = rows_sheet(found, 10)
    place = sheet.head.index("searched and solved")
    assert {row[place].text for row in sheet.rows} == {"learning_rate 0.01, width 24"}
    assert "4 were trained for 12 s" in " ".join(found.sentences())
    assert "searched and solved" not in rows_sheet(analyse(report, LM), 10).head


def test_an_axis_beside_the_methods_has_panels(measured: Measured) -> None:
    found = analyse(measured(SEEDED, quality, small), LM)
    assert (found.method_axis, found.panel_axis) == ("method", "arch")
    widths = {"share": ["none", "veps"], "width": list(range(16, 96, 16))}
    found = analyse(measured(widths, lambda labels: 1.0), LM)
    assert (found.method_axis, found.panel_axis) == ("share", None)
    found = analyse(measured({}, lambda labels: 1.0), LM)
    assert (found.method_axis, found.panel_axis, len(found.rows)) == (None, None, 1)


def test_sheets_have_a_cell_for_each_heading(measured: Measured) -> None:
    for compare in ({}, {"baseline": {"method": "dense"}}):
        for seeds in ([0], [0, 1, 2]):
            report = measured(SEEDED | {"seed": seeds}, quality, small, **compare)
            found = analyse(report, LM)
            sheets = [rows_sheet(found, 3), trades_sheet(found, 3)]
            sheets += [effects_sheet(found), interactions_sheet(found)]
            assert (sheets[1] is None) == (not compare)
            for sheet in (each for each in sheets if each is not None):
                assert {len(row) for row in sheet.rows} == {len(sheet.head)}
                assert sorted(sheet.ordered()) == list(range(len(sheet.rows)))
            (row, *_) = csv_rows(found)
            assert (row["arch"], row["method"], row["seeds"]) == ("lstm", "dense", len(seeds))


def test_the_best_and_the_baseline_are_chosen_where_not_all_can_be(measured: Measured) -> None:
    found = analyse(measured(SEEDED, quality, small, baseline={"method": "dense"}), LM)
    places = by_labels(found)
    front = [places["conv", "veps"], places["conv", "dense"]]
    best = places["conv", "eps"]
    assert found.chosen(4) == sorted([*front, best, places["lstm", "dense"]])
    assert found.chosen(3) == sorted([*front, best]), "baselines would take most of the room"
    assert found.chosen(100) == list(range(6))


def test_a_report_does_not_make_a_studys_points_for_every_row(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"share": ["none", "veps"], "width": list(range(16, 816, 16))}
    report = measured(axes, lambda labels: 1.0, baseline={"share": "none"})
    asked, labels = list[str](), StudyFile.labels.fget  # type: ignore[attr-defined]

    def counted(study: StudyFile) -> dict[str, tuple[str, ...]]:
        asked.append(study.name)
        found: dict[str, tuple[str, ...]] = labels(study)
        return found

    monkeypatch.setattr(StudyFile, "labels", property(counted))
    found = analyse(report, LM)
    rows_sheet(found, 10), trades_sheet(found, 10), list(csv_rows(found)), found.chosen(5)
    assert len(found.rows) == 100 and len(asked) < 20
