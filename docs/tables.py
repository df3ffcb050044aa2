"""Fills the tables in the documentation from result files.

    python docs/tables.py

A page says ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between is written here.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
MARKED: Final = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES: Final = (
    "README.md",
    "docs/results/ablation.md",
    "docs/results/coverage.md",
    "docs/how-to/fairseq.md",
    "docs/results/tasks.md",
    "docs/results/speed.md",
    "docs/reference/sharebert.md",
    "docs/results/systems.md",
    "docs/how-to/training.md",
)
PAGES: Final = tuple(ROOT / name for name in NAMES)


def benchmark(name: str) -> ModuleType:
    """A script under ``benchmarks/`` as a module."""
    folder = str(ROOT / "benchmarks")
    if folder not in sys.path:
        sys.path.append(folder)  # where they find what they have in common
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its classes look for the names in their annotations
    spec.loader.exec_module(module)
    return module


def quality(name: str) -> Callable[[], str]:
    """Settings against architectures of one file of ``quality``: mean ± deviation (seeds).

    The percentage is against the best dense model of full width in the file; in brackets, how
    many times fewer hidden parameters than that one has.
    """

    def draw() -> str:
        records = json.loads((RESULTS / "quality" / f"{name}.json").read_text())
        cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for record in records:
            row = cells.setdefault(record["label"], {})
            row.setdefault(record["architecture"], []).append(record)
        names = [
            a for a in ("lstm", "conv", "attention") if any(a in row for row in cells.values())
        ]
        dense = {name: best_dense(records, name) for name in names}
        lines = [f"| setting | {' | '.join(names)} |", f"| --- {'| ---: ' * len(names)}|"]
        for label, row in cells.items():
            shown = [_perplexity(row[name], dense[name]) if name in row else "" for name in names]
            lines.append(f"| `{label}` | {' | '.join(shown)} |")
        return "\n".join(lines)

    return draw


def ways() -> str:
    """Tasks and architectures against methods of ``bench/six.json``: metric, and kB of files."""
    from embshare.tasks.studies.report import StudyReport

    report = StudyReport.from_json((RESULTS / "bench" / "six.json").read_text())
    methods = report.study.labels["method"]
    lines = [f"| | | {' | '.join(methods)} |", f"| --- | --- {'| ---: ' * len(methods)}|"]
    for task in report.tasks:
        rows = {(r.labels["model"], r.labels["method"]): r for r in report.rows(task.name)}
        arrow = "↓" if report.metric(task.name).better == "lower" else "↑"
        for model in report.study.labels["model"]:
            found = [rows[model, method] for method in methods]
            cells = [f"{r.metric.mean:.3g} ({r.bytes_on_disk / 1000:,.0f})" for r in found]
            name = f"{task.name.replace('_', ' ')} {arrow}"
            lines.append(f"| {name} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


ARCHITECTURES: Final = ("lstm", "conv", "attention")
FULL_WIDTH: Final = 192
"""Width of the models of ``quality`` but for those that are narrower on purpose."""


def best_dense(records: Sequence[dict[str, Any]], architecture: str) -> list[dict[str, Any]]:
    """The records, one for each seed, of the dense setting of full width with the best mean."""
    settings: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        setting = record["setting"]
        if (record["architecture"], setting["kind"], setting["model_width"]) == (
            architecture,
            "dense",
            FULL_WIDTH,
        ):
            settings.setdefault(record["label"], []).append(record)
    return min(settings.values(), key=_mean)


def _mean(records: Sequence[dict[str, Any]]) -> float:
    return statistics.mean(record["perplexity"] for record in records)


def _perplexity(records: Sequence[dict[str, Any]], dense: Sequence[dict[str, Any]]) -> str:
    values = [record["perplexity"] for record in records]
    deviation = f" ± {statistics.stdev(values):.1f} ({len(values)})" if len(values) > 1 else ""
    change = 100 * (_mean(records) / _mean(dense) - 1)
    fewer = dense[0]["hidden"] / records[0]["hidden"]
    return f"{_mean(records):.1f}{deviation}, {change:+.1f} % [{fewer:.1f}]"


def measured(name: str) -> Callable[[], str]:
    """The results of ``benchmarks/NAME.py``."""

    def draw() -> str:
        found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
        table: str = benchmark(name).table(found["results"])
        return table

    return draw


BEST: Final = "shared anchor=4.0 lr=0.016 hidden_lr=0.3"
"""The setting that the front page shows."""


def front() -> str:
    """The best dense model and the best shared one, for each architecture."""
    records: list[dict[str, Any]] = json.loads((RESULTS / "quality" / "study.json").read_text())

    def shown(found: list[dict[str, Any]]) -> str:
        deviation = statistics.stdev(record["perplexity"] for record in found)
        return f"{_mean(found):.1f} ± {deviation:.1f}"

    lines = [
        "| | hidden parameters | all stored parameters | perplexity, dense | shared | |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in ARCHITECTURES:
        dense = best_dense(records, name)
        shared = [r for r in records if (r["architecture"], r["label"]) == (name, BEST)]
        counts = [
            f"{dense[0][key]:,} → {shared[0][key]:,} ({dense[0][key] / shared[0][key]:.1f} ×)"
            for key in ("hidden", "stored")
        ]
        change = f"{100 * (_mean(shared) / _mean(dense) - 1):+.1f} %"
        cells = [name, *counts, shown(dense), shown(shared), change]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compared(*names: str) -> Callable[[], str]:
    """The models of files of ``embshare bench``, a table for each task that the first one has."""

    def draw() -> str:
        reports = [read_report(name) for name in names]
        return "\n\n".join(_compared(reports, task.name) for task in reports[0].tasks)

    return draw


def read_report(name: str) -> Any:
    """One file of ``embshare bench``."""
    from embshare.tasks.studies.report import StudyReport

    text = (RESULTS / "bench" / f"{name}.json").read_text(encoding="utf-8")
    return StudyReport.from_json(text)


def _compared(reports: Sequence[Any], task: str) -> str:
    from embshare.tasks.studies.reporting.formatting import show_spread

    first = reports[0]
    metric, methods = first.metric(task), first.study.labels["method"]
    results = [trial.result for report in reports for trial in report.trials]
    steps = {result.steps for result in results if result.task == task}
    seeds = sorted({len(report.seeds) for report in reports})
    lines = [
        f"{task.replace('_', ' ').capitalize()}, {metric.label} ({metric.better} is better), "
        f"{' or '.join(f'{n:,}' for n in sorted(steps))} steps, "
        f"{' or '.join(map(str, seeds))} seed{'s' * (seeds[-1] > 1)}:",
        "",
        f"| | {' | '.join(methods)} | hidden parameters |",
        f"| --- |{' ---: |' * (len(methods) + 1)}",
    ]
    for report in reports:
        rows = {(row.labels["model"], row.labels["method"]): row for row in report.rows(task)}
        for architecture in report.study.labels["model"]:
            mine = [rows[architecture, method] for method in methods]
            cells = [
                show_spread(row.metric, digits=4) + _kept(row, mine[0], metric.better)
                for row in mine
            ]
            dense, last = mine[0].hidden, mine[-1].hidden
            counts = f"{dense:,} → {last:,} ({dense / last:.1f} ×)"
            lines.append(f"| {architecture} | {' | '.join(cells)} | {counts} |")
    return "\n".join(lines)


def _kept(row: Any, dense: Any, better: str) -> str:
    """How much worse or better than the dense model."""
    if row is dense:
        return ""
    if better == "lower":
        return f" ({100 * (row.metric.mean / dense.metric.mean - 1):+.1f} %)"
    return f" (retains {100 * row.metric.mean / dense.metric.mean:.1f} %)"


def rates(*names: str) -> Callable[[], str]:
    """Files of ``embshare bench`` on one task, dense first, whose shared models differ in rate."""

    def draw() -> str:
        from embshare.tasks.studies.reporting.formatting import show_spread

        reports = [read_report(name) for name in names]
        task = reports[0].tasks[0].name
        metric = reports[0].metric(task)
        rows = [(report.study, row) for report in reports for row in report.rows(task)]
        dense = rows[0][1]
        lines = [
            f"| | rate, of the table's | {metric.label} | hidden parameters |",
            f"| --- |{' ---: |' * 3}",
        ]
        for study, row in rows:
            fewer = "" if row is dense else f" ({dense.hidden / row.hidden:.1f} ×)"
            trials = study.trials(Path("out"))
            trial = next(t for t in trials if row.labels.items() <= t.labels.items())
            rate = trial.config.training.hidden_lr
            cells = [
                f"{row.labels['model']}, {row.labels['method']}",
                f"{rate:g}",
                show_spread(row.metric, digits=4) + _kept(row, dense, metric.better),
                f"{row.hidden:,}{fewer}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    return draw


GOAL: Final = 97
"""Percent of the dense metric that a shared model is to keep."""
MULTI30K: Final = {
    way: (f"multi30k-{way}-lstm", f"multi30k-{way}-conv-attention") for way in ("en-de", "de-en")
}
"""The LSTM was trained at other rates than the others, hence in a separate file."""
KEPT: Final = (
    ("Multi30k en-de", MULTI30K["en-de"], "bleu"),
    ("Multi30k de-en", MULTI30K["de-en"], "bleu"),
    ("WikiText-2", ("wikitext2",), "perplexity"),
    ("WikiText-2", ("wikitext2",), "bits_per_byte"),
    ("Flickr8k", ("flickr8k",), "cider"),
    ("Flickr8k", ("flickr8k",), "meteor"),
)
"""Data, files of ``embshare bench`` on them, and a metric of theirs."""
Values: TypeAlias = Sequence[Sequence[float]]
"""Values of each method, dense first: one for each seed."""
LOWER_IS_BETTER: Final = frozenset({"perplexity", "bits_per_byte"})


def kept() -> str:
    """What shared models keep of the dense metric, and with how many times fewer hidden parameters.

    Of what is better lower, the part that the dense number is of the shared one. Means of all
    seeds are compared, and the deviation is that of what single seeds keep.
    """
    lines = [
        "| | architecture | EPS retains | VEPS retains | hidden parameters, dense / EPS / VEPS |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for data, names, metric in KEPT:
        for report in map(read_report, names):
            for architecture in report.study.labels["model"]:
                values, hidden = _values(report, architecture, metric)
                title = f"{data}, {metric.replace('_', ' ')}"
                lower = metric in LOWER_IS_BETTER
                lines.append(_kept_line(title, architecture, values, hidden, lower=lower))
    study: dict[str, Any] = json.loads((RESULTS / "glue.json").read_text())
    for architecture, values, hidden in benchmark("systems_tables").kept_of_glue(study):
        lines.append(_kept_line("GLUE, mean of five tasks", architecture, values, hidden))
    return "\n".join(lines)


def _values(report: Any, architecture: str, metric: str) -> tuple[Values, Sequence[int]]:
    """A metric of each method, dense first, and seed; and what each method stores."""
    of_methods = []
    for method in report.study.labels["method"]:
        mine = {"model": architecture, "method": method}.items()
        found = [trial.result for trial in report.trials if mine <= trial.labels.items()]
        of_methods.append(sorted(found, key=lambda result: result.seed))
    values = [[result.metrics[metric] for result in found] for found in of_methods]
    return values, [found[0].hidden_parameters for found in of_methods]


def _kept_line(
    title: str, architecture: str, values: Values, hidden: Sequence[int], *, lower: bool = False
) -> str:
    from embshare.tasks.studies.report import Spread

    def part(one: float, dense: float) -> float:
        return 100 * (dense / one if lower else one / dense)

    cells = []
    for mine in values[1:]:
        mean = part(statistics.fmean(mine), statistics.fmean(values[0]))
        each = Spread.over([part(*pair) for pair in zip(mine, values[0], strict=True)])
        spread = "" if each.deviation is None else f" ± {each.deviation:.1f}"
        cells.append(f"{mean:.1f}{spread} %{' ✓' * (mean >= GOAL)}")
    fewer = " / ".join(f"{n:,} ({hidden[0] / n:.1f} ×)" for n in hidden[1:])
    return f"| {title} | {architecture} | {' | '.join(cells)} | {hidden[0]:,} / {fewer} |"


def coverage(name: str) -> Callable[[], str]:
    """One of the tables of what was checked of every architecture."""

    def draw() -> str:
        if str(ROOT) not in sys.path:
            sys.path.append(str(ROOT))  # where tests are a package
        report = importlib.import_module("tests.architectures.results").Report
        found = report.from_json((RESULTS / "coverage.json").read_bytes())
        table: str = getattr(importlib.import_module("tests.architectures.tables"), name)(found)
        return table

    return draw


def fairseq() -> str:
    """What fairseq's architectures reach by its own commands, dense and shared."""
    found: dict[str, Any] = json.loads((RESULTS / "fairseq" / "multi30k.json").read_text())
    runs = {(run["architecture"], run["sharing"]): run for run in found["runs"]}
    lines = [
        "| architecture | BLEU, dense | shared | stored parameters | of that hidden |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(name for name, _ in runs):
        dense, shared = runs[name, "dense"], runs[name, "shared"]
        before = shared["hidden_before"]
        after = before - (dense["stored"] - shared["stored"])
        cells = [
            f"`{name}`",
            f"{dense['bleu']:.2f}",
            f"{shared['bleu']:.2f}",
            f"{dense['stored']:,} → {shared['stored']:,}",
            f"{before:,} → {after:,} ({before / after:.1f} ×)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def systems(part: str, name: str = "systems") -> Callable[[], str]:
    """A part of a study of ``benchmarks/systems.py``."""

    def draw() -> str:
        found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
        table: str = benchmark("systems").TABLES[part](found)
        return table

    return draw


def loading() -> str:
    """What each task's data cost beside a step of training."""
    found: dict[str, Any] = json.loads((RESULTS / "loading.json").read_text())
    lines = ["| task | a batch | a step | part |", "| --- | ---: | ---: | ---: |"]
    for row in found["found"]:
        cells = [
            row["task"].replace("_", " "),
            f"{row['loading_ms']:.2f} ms",
            f"{row['step_ms']:.1f} ms",
            f"{100 * row['share']:.1f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def translation_trials() -> str:
    """What was tried on Multi30k before its settings were chosen."""
    found: list[dict[str, Any]] = json.loads((RESULTS / "translation_trials.json").read_text())
    heads = "table's rate | of it | rank | anchor | tie | hidden parameters | loss, valid | BLEU"
    lines = [f"| | {heads} |", f"| --- |{' ---: |' * 8}"]
    for row in found:
        share = row["share"]
        name = f"{row['architecture']}, {share['method'] if share else 'dense'}"
        cells = [
            name + ", with positions" * row["positions"],
            f"{row['learning_rate']:g}",
            f"{row['hidden_lr']:g}",
            *(f"{share[key]}" if share else "" for key in ("residual_rank", "anchor", "tie")),
            f"{row['hidden']:,}",
            f"{row['valid_loss']:.3f}",
            f"{row['bleu']:.2f}" + ", fp32" * (row["precision"] == "fp32"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "front": front,
    "default": compared("default"),
    "ways": ways,
    "kept": kept,
    "multi30k-de-en": compared(*MULTI30K["de-en"]),
    "multi30k-en-de": compared(*MULTI30K["en-de"]),
    "translation_trials": translation_trials,
    "wikitext2": compared("wikitext2"),
    "wikitext2-words": rates("wikitext2-words", "wikitext2-words-slow"),
    "multi30k-en-de-long": compared("multi30k-en-de-long"),
    "flickr8k": compared("flickr8k"),
    "glue": systems("matched", "glue"),
    "glue_settings": systems("settings", "glue"),
    "study": quality("study"),
    "long": quality("long"),
    "levers": quality("levers"),
    "calibration": measured("calibration"),
    "coverage": coverage("summary_table"),
    "coverage_exceptions": coverage("exceptions_table"),
    "fairseq": fairseq,
    "loading": loading,
    "heap": measured("heap"),
    "speed": measured("speed"),
    "versions": measured("versions"),
    "large": measured("large"),
    "sharebert_speed": measured("sharebert_speed"),
    "systems_settings": systems("settings"),
    "systems_all": systems("all"),
    "systems_together": systems("together"),
    "systems_elastic": systems("elastic"),
}


def filled(text: str) -> str:
    """A page with its tables as the results say now."""
    return MARKED.sub(lambda hit: f"{hit[1]}\n{TABLES[hit[2]]()}\n\n{hit[3]}", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
