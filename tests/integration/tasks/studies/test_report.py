"""Reports: spreads, JSON, table and plot."""

import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from embshare.errors import InvalidValueError
from embshare.tasks.studies.plot import draw_pareto, pareto_front
from embshare.tasks.studies.report import Spread, StudyReport
from embshare.tasks.studies.store import write_report
from embshare.tasks.studies.study_file import StudyFile
from embshare.tasks.studies.table import make_table, show_spread
from tests.integration.tasks.studies.conftest import with_first_metric


def test_seeds_are_taken_together(report: StudyReport) -> None:
    rows = list(report.rows("language_modelling"))
    assert [tuple(row.labels.values()) for row in rows[:4]] == [
        ("lstm", "dense"),
        ("lstm", "eps"),
        ("lstm", "veps"),
        ("conv", "dense"),
    ]
    assert rows[0].metric == Spread(151.0, math.sqrt(2), 2)
    assert rows[0].growth_mib.mean == 40
    assert {row.change for row in rows} == {None}


def test_rows_are_compared_with_the_baseline_on_the_same_other_axes(report: StudyReport) -> None:
    compare = {"baseline": {"model": "lstm"}, "metric": "perplexity"}
    study = StudyFile(**(dict(report.study) | {"compare": compare}))
    compared = report.model_copy(update={"study": study})
    changes = {
        tuple(row.labels.values()): row.change for row in compared.rows("language_modelling")
    }
    assert changes["lstm", "veps"] == 0
    assert changes["conv", "veps"] == pytest.approx(131 / 151 - 1)
    text = StringIO()
    Console(width=100, file=text).print(make_table(compared, "language_modelling"))
    assert "change" in text.getvalue() and "-13.2 %" in text.getvalue()
    with pytest.raises(InvalidValueError, match="'rnn' must be one of lstm, conv, attention"):
        StudyFile(**(dict(report.study) | {"compare": {"baseline": {"model": "rnn"}}}))


def test_one_seed_has_no_spread() -> None:
    assert Spread.over([3.0]) == Spread(3.0, None, 1)


def test_a_report_comes_back_from_json_even_when_a_model_diverged(report: StudyReport) -> None:
    changed = with_first_metric(report, math.inf)
    assert StudyReport.from_json(changed.to_json()) == changed


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_seed_that_diverged_leaves_the_rest_of_the_report(
    report: StudyReport, out: Path, bad: float, all_of_them: bool
) -> None:
    changed = with_first_metric(report, *[bad] * (len(report.trials) if all_of_them else 1))
    out.mkdir()
    write_report(changed, out)
    row = next(changed.rows("language_modelling"))
    assert row.metric.deviation is not None and math.isnan(row.metric.deviation)
    text = StringIO()
    Console(width=80, file=text).print(make_table(changed, "language_modelling"))
    assert f"{bad} ± nan" in text.getvalue()
    assert f"{bad} ± nan" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("spread", "shown"),
    [
        (Spread(98.0231, 1.26, 3), "98.02 ± 1.26"),
        (Spread(5234.56, 12.3, 2), "5,235 ± 12"),
        (Spread(1.85, None, 1), "1.850"),
        (Spread(math.inf, None, 1), "inf"),
    ],
)
def test_numbers_have_the_digits_that_they_are_worth(spread: Spread, shown: str) -> None:
    assert show_spread(spread, digits=4) == shown


def test_the_table_has_all_four_kinds_of_size_and_the_spread(report: StudyReport) -> None:
    text = StringIO()
    Console(width=80, file=text).print(make_table(report, "language_modelling"))
    lines = text.getvalue().splitlines()
    assert "…" not in text.getvalue(), "a number is cut off"
    heading = "".join(lines[: next(i for i, line in enumerate(lines) if "─" in line)])
    for word in ("stored", "read", "bytes", "disk", "perplexity", "(lower", "ms per", "peak"):
        assert word in heading
    (line,) = (line for line in lines if "attention" in line and "veps" in line)
    for cell in ("200,000", "600,000", "800,000", "141.0 ± 1.4", "12.5 ± 0.0", "900 (+40)"):
        assert cell in line
    assert "over 2 seeds" in text.getvalue()


def test_another_metric_may_be_better_the_other_way(report: StudyReport) -> None:
    trials = tuple(
        trial.model_copy(
            update={"result": trial.result.model_copy(update={"metrics": {"accuracy": 0.5}})}
        )
        for trial in report.trials
    )
    for better in ("lower", "higher"):
        compare = {"metric": "accuracy", "better": better}
        study = StudyFile(**(dict(report.study) | {"compare": compare}))
        compared = report.model_copy(update={"study": study, "trials": trials})
        assert compared.metric("language_modelling").better == better
        assert {row.metric.mean for row in compared.rows("language_modelling")} == {0.5}
    with pytest.raises(InvalidValueError, match="must be one of accuracy, but is 'bleu'"):
        other = StudyFile(**(dict(report.study) | {"compare": {"metric": "bleu"}}))
        list(
            report.model_copy(update={"study": other, "trials": trials}).rows("language_modelling")
        )


def test_long_labels_give_way_to_numbers(report: StudyReport) -> None:
    sharing = {label: f"method={label} tie=all anchor=2" for label in ("dense", "eps", "veps")}
    sharing["veps"] += " [x]"  # no markup of rich
    axes = dict(report.study.axes) | {"method": {new: {} for new in sharing.values()}}
    baseline = {"method": sharing["dense"]}
    study = StudyFile(**(dict(report.study) | {"axes": axes, "compare": {"baseline": baseline}}))
    trials = tuple(
        trial.model_copy(
            update={"labels": trial.labels | {"method": sharing[trial.labels["method"]]}}
        )
        for trial in report.trials
    )
    changed = report.model_copy(update={"study": study, "trials": trials})
    text = StringIO()
    Console(width=80, file=text).print(make_table(changed, "language_modelling"))
    assert "…" not in text.getvalue()
    for cell in ("200,000", "800,000", "141.0 ± 1.4", "+0.0 %", "900 (+40)", "[x]"):
        assert cell in text.getvalue()


@pytest.mark.parametrize(
    ("points", "lower", "front"),
    [
        ([(1, 9), (2, 5), (3, 7), (4, 4)], True, [(1, 9), (2, 5), (4, 4)]),
        ([(1, 9), (2, 5), (3, 10)], False, [(1, 9), (3, 10)]),
        ([(2, 5), (2, 4), (2, 4)], True, [(2, 4)]),
        ([], True, []),
        ([(1, math.nan), (2, 5), (3, 4), (4, math.nan)], True, [(2, 5), (3, 4)]),
        ([(1, math.inf), (2, 5)], False, [(2, 5)]),
    ],
)
def test_the_front_is_what_nothing_beats_in_both(
    points: list[tuple[float, float]], lower: bool, front: list[tuple[float, float]]
) -> None:
    assert pareto_front(points, lower=lower) == front


def test_a_picture_is_drawn_for_one_seed_and_for_a_diverged_model(
    report: StudyReport, tmp_path: Path
) -> None:
    draw_pareto(report, "language_modelling", tmp_path / "some.png")
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
    bad = with_first_metric(report, math.inf)
    one = bad.model_copy(update={"trials": bad.trials[:2]})
    draw_pareto(one, "language_modelling", tmp_path / "other.svg")
    assert "<svg" in (tmp_path / "other.svg").read_text()
