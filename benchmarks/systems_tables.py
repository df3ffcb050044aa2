"""Tables of a study of systems, from its result file."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from small_systems import SYSTEMS

__all__ = [
    "elastic_table",
    "kept_of_glue",
    "matched_table",
    "settings_line",
    "study_table",
    "together_table",
]

Record = Mapping[str, Any]
GLUE: Final = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "qqp": "QQP",
    "stsb": "STS-B",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}
PAIRS: Final = {
    "shared_bert": "bert",
    "taught_shared_bert": "bert",
    "shared_elc_bert": "elc_bert",
    "shared_convbert": "convbert",
}
"""A shared model, and the published one that it was made of."""


def study_table(found: Mapping[str, Any]) -> str:
    """Every model that was pretrained: its size, and what it reached, over its seeds."""
    records: Sequence[Record] = found["records"]
    tasks = [task for task in found["scale"]["tasks"] if _of(records, kind=task)]
    heads = ["width", "stored", "read", "perplexity", "BLiMP", *(GLUE[task] for task in tasks)]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for name in SYSTEMS:
        if pretrained := _of(records, model=name, kind="pretraining"):
            one = pretrained[0]
            sizes = [f"{one['width']}", f"{one['kept']:,}", f"{one['read']:,}"]
            cells = [
                _perplexity(name, pretrained),
                _mean([100 * r["metrics"]["blimp"] for r in _of(records, model=name, kind="blimp")])
                + _mark(name),
                *(_mean(_compared(_of(records, model=name, kind=task))) for task in tasks),
            ]
            lines.append(f"| {_title(name)} | {' | '.join((*sizes, *cells))} |")
    return "\n".join(lines)


def together_table(found: Mapping[str, Any]) -> str:
    """Each system beside itself with sharing, in the same seeds."""
    records: Sequence[Record] = found["records"]
    heads = ["stored", "layers' own", "read", "perplexity", "BLiMP", "mean of GLUE"]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    shown: list[str] = []
    for name, dense in PAIRS.items():
        for each in (dense, name):
            pretrained = _of(records, model=each, kind="pretraining")
            if each in shown or not pretrained:
                continue
            shown.append(each)
            one = pretrained[0]
            blimp = [100 * r["metrics"]["blimp"] for r in _of(records, model=each, kind="blimp")]
            table = found["scale"]["vocabulary"] * one["width"]
            cells = [
                f"{one['kept']:,}",
                f"{one['kept'] - table:,}",
                f"{one['read']:,}",
                _perplexity(each, pretrained),
                _mean(blimp) + _mark(each),
                _mean(_glue_means(records, each, found["scale"]["tasks"])),
            ]
            lines.append(f"| {_title(each)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def matched_table(found: Mapping[str, Any]) -> str:
    """The three architectures of one width: what each way of sharing keeps of the dense model."""
    records: Sequence[Record] = found["records"]
    seeds = len({record["seed"] for record in records})
    tasks = [task for task in found["scale"]["tasks"] if _of(records, kind=task)]
    heads = ["hidden", "perplexity", "BLiMP", *(GLUE[task] for task in tasks), "mean of GLUE"]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for name in SYSTEMS:
        pretrained = _of(records, model=name, kind="pretraining")
        if SYSTEMS[name].group != "matched" or not pretrained:
            continue
        dense = name.partition("_")[0] + "_dense"
        first = _of(records, model=dense, kind="pretraining") or pretrained
        ratio = f" ({first[0]['hidden'] / pretrained[0]['hidden']:.1f} x)" * (name != dense)
        cells = [f"{pretrained[0]['hidden']:,}{ratio}"]
        for kind in ("pretraining", "blimp", *tasks, "mean"):
            mine, its = (_matched(records, each, kind, tasks) for each in (name, dense))
            told = _mean(mine, whole=seeds)
            cells.append(told + _against(mine, its, lower=kind == "pretraining") * (name != dense))
        lines.append(f"| {_title(name)} | {' | '.join(cells)} |")
    return "\n".join(lines) if lines[2:] else ""


def kept_of_glue(
    found: Mapping[str, Any],
) -> Iterator[tuple[str, list[list[float]], list[int]]]:
    """Each matched architecture: the mean of GLUE of each method and seed, and hidden parameters.

    Of both one entry for each method, the dense one first.
    """
    records: Sequence[Record] = found["records"]
    for architecture in ("lstm", "conv", "attention"):
        names = [f"{architecture}_{method}" for method in ("dense", "eps", "veps")]
        means = [_glue_means(records, name, found["scale"]["tasks"]) for name in names]
        hidden = [_of(records, model=name, kind="pretraining")[0]["hidden"] for name in names]
        yield architecture, means, hidden


def _matched(records: Sequence[Record], name: str, kind: str, tasks: Sequence[str]) -> list[float]:
    """A model's numbers of one kind, all but perplexities in percent."""
    if kind == "mean":
        return _glue_means(records, name, tasks)
    unit = 100 if kind == "blimp" else 1
    return [unit * value for value in _compared(_of(records, model=name, kind=kind))]


def _against(values: Sequence[float], dense: Sequence[float], *, lower: bool) -> str:
    """What the mean is of the dense models' mean, where that is above nothing."""
    if not values or not dense or statistics.fmean(dense) <= 0:
        return ""
    part = statistics.fmean(values) / statistics.fmean(dense)
    return f", {100 * (part - 1):+.1f} %" if lower else f", {100 * part:.1f} %"


def elastic_table(found: Mapping[str, Any]) -> str:
    """The twelve sub-networks of each model and task that went through DynaBERT's stages."""
    parts = []
    for record in found["records"]:
        if record["kind"].startswith("elastic-"):
            parts.append(_elastic(record))
    return "\n\n".join(parts)


def _elastic(record: Record) -> str:
    task = GLUE[record["kind"].removeprefix("elastic-")]
    rows = record["more"]["rows"]
    depths = list(dict.fromkeys(row["depth"] for row in rows))
    widths = list(dict.fromkeys(row["width"] for row in rows))
    found = {(row["width"], row["depth"]): row for row in rows}
    lines = [
        f"{_title(record['model'])}, {task}, seed {record['seed']}, {record['steps']} updates in "
        f"all stages; before them {record['more']['before']:.1f}:",
        "",
        f"| width \\ depth | {' | '.join(f'{depth:g}' for depth in depths)} |",
        f"| --- |{' ---: |' * len(depths)}",
    ]
    for width in widths:
        cells = [_sub_network(found[width, depth]) for depth in depths]
        lines.append(f"| {width:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sub_network(row: Mapping[str, Any]) -> str:
    score = next(iter(row["metrics"].values()))
    return (
        f"{score:.1f}, {row['parameters']:,}, {row['latency_ms']:.1f} ms, "
        f"{row['weights_mib'] + row['working_mib']:.1f} MiB"
    )


def settings_line(found: Mapping[str, Any]) -> str:
    """How much training the numbers come from, as a sentence."""
    scale, records = found["scale"], found["records"]
    seeds = sorted({record["seed"] for record in records})
    tokens = scale["steps"] * scale["batch"] * scale["short_length"]
    matched = all(SYSTEMS[record["model"]].group == "matched" for record in records)
    size = f"at most {scale['budget']:,} stored parameters"
    if matched and scale["matched_width"]:
        size = f"width {scale['matched_width']}"
    late = scale["batch"] * scale["short_length"] // scale["length"]
    return (
        f"{len({r['model'] for r in records})} models, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}: {scale['layers']} layers, a table of "
        f"{scale['vocabulary']:,} rows, {size}; {scale['steps']:,} steps of {scale['batch']} x "
        f"{scale['short_length']} tokens, and from {scale['long_from']:.0%} of them on of "
        f"{late} x {scale['length']} ({tokens:,} tokens in all, {scale['mask_share']:.0%} of "
        f"them masked), then {scale['tuning_epochs']:g} epochs over each task's first "
        f"{scale['tuning_rows']:,} rows; BLiMP on {67 * scale['blimp_pairs']:,} pairs."
    )


def _of(records: Iterable[Record], **wanted: object) -> list[Record]:
    return [r for r in records if all(r[name] == value for name, value in wanted.items())]


def _compared(records: Iterable[Record]) -> list[float]:
    return [r["metrics"][r["metric"]] for r in records]


def _glue_means(records: Sequence[Record], name: str, tasks: Sequence[str]) -> list[float]:
    """The mean over tasks, of each seed that has them all."""
    means = []
    for seed in sorted({r["seed"] for r in records}):
        mine = [_compared(_of(records, model=name, seed=seed, kind=task)) for task in tasks]
        if all(mine):
            means.append(statistics.fmean(values[0] for values in mine))
    return means


def _perplexity(name: str, records: Sequence[Record]) -> str:
    return _mean([r["metrics"]["masked_perplexity"] for r in records]) + _mark(name)


def _mark(name: str) -> str:
    return " †" if SYSTEMS[name].replaced else ""


def _mean(values: Sequence[float], *, whole: int = 3) -> str:
    """Mean and standard deviation, and how many there are where it is not the whole; or a dash."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    few = f" (n = {len(values)})" if len(values) < whole else ""
    return f"{statistics.fmean(values):.1f}{spread}{few}"


TITLES: Final = {
    "bert": "BERT",
    "sharebert": "ShareBERT",
    "albert": "ALBERT",
    "elc_bert": "ELC-BERT",
    "ltg_bert": "LTG-BERT",
    "convbert": "ConvBERT",
    "shared_bert": "BERT, shared",
    "shared_elc_bert": "ELC-BERT, shared",
    "shared_convbert": "ConvBERT, shared",
    "taught_shared_bert": "BERT, shared, with a teacher",
    "deep_bert": "BERT, four layers",
    "deep_shared_bert": "BERT, four layers, shared",
    "lstm": "LSTM",
    "eps": "EPS",
    "veps": "VEPS",
}


def _title(name: str) -> str:
    if name in TITLES:
        return TITLES[name]
    return ", ".join(TITLES.get(part, part) for part in name.split("_"))
