"""Reports: spreads, JSON, and the table of a terminal."""

import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from embshare.errors import InvalidValueError
from embshare.tasks.studies.report import Spread, StudyReport
from embshare.tasks.studies.reporting.analysis import analyse
from embshare.tasks.studies.reporting.formatting import (
    show_bytes,
    show_difference,
    show_p,
    show_spread,
    shown,
)
from embshare.tasks.studies.reporting.significance import Comparison
from embshare.tasks.studies.reporting.table import MOST_ROWS, make_table
from embshare.tasks.studies.store import write_report
from embshare.tasks.studies.study_file import StudyFile
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
    Console(width=100, file=text).print(make_table(analyse(compared, "language_modelling")))
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
    Console(width=80, file=text).print(make_table(analyse(changed, "language_modelling")))
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


def test_labels_sizes_and_differences_are_shown_as_people_write_them() -> None:
    assert [shown(label) for label in ("lstm", "method=veps tie=all", "none")] == [
        "LSTM",
        "VEPS tie=all",
        "none",
    ]
    sizes = {999: "999 B", 1000: "1 kB", 81_950: "82 kB", 812_400: "812 kB", -1.62e6: "-1.62 MB"}
    assert {show_bytes(size): size for size in sizes} == {text: n for n, text in sizes.items()}
    assert [show_p(p) for p in (None, 0.0002, 0.0213, 1.0)] == ["", "< 0.001", "0.021", "1"]
    some = Comparison(difference=-2.345, pairs=3, half_width=0.12)
    assert show_difference(some) == "-2.35 ± 0.12"
    assert show_difference(Comparison(difference=120.4, pairs=1)) == "+120"
    assert show_difference(Comparison(difference=math.nan, pairs=0)) == show_difference(None) == ""


def printed(report: StudyReport) -> str:
    text = StringIO()
    Console(width=80, file=text).print(make_table(analyse(report, "language_modelling")))
    return text.getvalue()


def test_the_table_has_all_kinds_of_cost_and_the_interval(report: StudyReport) -> None:
    text = printed(report)
    lines = text.splitlines()
    assert "…" not in text, "a number is cut off"
    assert max(map(len, lines)) <= 80
    heading = "".join(lines[: next(i for i, line in enumerate(lines) if "─" in line)])
    for word in ("stored", "bytes", "disk", "perplexity", "(lower", "ms per", "peak"):
        assert word in heading
    (line,) = (line for line in lines if "attention" in line and "veps" in line)
    for cell in ("200,000", "800,000", "141.0 ± 12.7", "12.5", "900 (+40)"):
        assert cell in line
    assert "95 % interval over 2 seeds" in text and "significant" not in text
    on_front = [line for line in lines if "•" in line and "front" not in line]
    assert {line.split()[0] for line in on_front} == {"conv"}


def test_a_significant_difference_is_marked(report: StudyReport) -> None:
    study = StudyFile(**(dict(report.study) | {"compare": {"baseline": {"model": "lstm"}}}))
    noisy = with_first_metric(report, 155.0)  # else all differences are equal: no test
    assert printed(noisy.model_copy(update={"study": study})).count("%*") == 0
    third = StudyFile(**(dict(study) | {"axes": dict(study.axes) | {"seed": (0, 1, 2)}}))
    trials = []
    for trial in report.trials:
        for seed in ("0", "1", "2"):
            value = {"lstm": 150.0, "conv": 130.0, "attention": 149.0}[trial.labels["model"]]
            noise = (0.1 if trial.labels["model"] == "lstm" else 0.13) * int(seed) ** 2
            result = trial.result.model_copy(
                update={"metrics": {"perplexity": value + noise}, "seed": int(seed)}
            )
            labels = trial.labels | {"seed": seed}
            if trial.labels["seed"] == "0":
                trials.append(trial.model_copy(update={"labels": labels, "result": result}))
    text = printed(report.model_copy(update={"study": third, "trials": tuple(trials)}))
    assert "* significant against the baseline" in text
    assert text.count("-13.3 %*") == 3  # every conv model, after Holm's correction over six


def test_a_long_table_shows_the_front_and_says_what_is_left(report: StudyReport) -> None:
    axes = dict(report.study.axes) | {"model": tuple(f"m{n}" for n in range(100))}
    study = StudyFile(**(dict(report.study) | {"axes": axes}))
    trials = tuple(
        trial.model_copy(
            update={
                "labels": trial.labels | {"model": f"m{n}"},
                "result": trial.result.model_copy(
                    update={"metrics": {"perplexity": 100.0 + (n - 50) ** 2}}
                ),
            }
        )
        for n in range(100)
        for trial in report.trials[:1]
    )
    text = printed(report.model_copy(update={"study": study, "trials": trials}))
    assert f"{100 - MOST_ROWS} more rows are in rows.csv" in " ".join(text.split())
    assert "m50 " in text and "m0 " not in text


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
    study = StudyFile(
        **(dict(report.study) | {"axes": axes, "where": (), "compare": {"baseline": baseline}})
    )
    trials = tuple(
        trial.model_copy(
            update={"labels": trial.labels | {"method": sharing[trial.labels["method"]]}}
        )
        for trial in report.trials
    )
    changed = report.model_copy(update={"study": study, "trials": trials})
    text = StringIO()
    Console(width=80, file=text).print(make_table(analyse(changed, "language_modelling")))
    assert "…" not in text.getvalue()
    for cell in ("200,000", "800,000", "141.0 ± 12.7", "+0.0 %", "900 (+40)", "[x]"):
        assert cell in text.getvalue()
