"""The result as tables for the documentation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tests.architectures.results import Report, Row

__all__ = ["KINDS", "exceptions_table", "kind_of", "summary_table"]

OTHERS: Final = "others"
KINDS: Final = (
    # Kind of a class of transformers, and the end of its name. The first that fits.
    ("causal language models", r"ForCausalLM|LMHeadModel|ModelWithLMHead"),
    ("masked language models", r"ForMaskedLM"),
    ("pretraining", r"ForPreTraining|ForNextSentencePrediction"),
    ("text classification, multiple choice", r"ForSequenceClassification|ForMultipleChoice"),
    ("token classification", r"ForTokenClassification"),
    ("question answering", r"ForQuestionAnswering(Simple)?"),
    ("sequence to sequence, images or sound to text", r"ForConditionalGeneration|To\w*Text\w*"),
    ("speech", r"ForCTC|ForRNNT|ForTDT|ForXVector|For\w*Audio\w*|\w*ToSpeech|\w*HifiGan"),
    ("images", r"For\w*(Image|Object|Keypoint|Segmentation)\w*|\w*Backbone"),
    ("bare models", r"\w*(Model|Encoder|Decoder)"),
)
_NUMBER: Final = re.compile(r"\d+")


def kind_of(row: Row) -> str:
    """What an architecture is for, as its name says."""
    if row.library == "fairseq":
        is_language_model = re.search(r"_lm(_|$)|gpt2|dummy", row.name)
        return "language models" if is_language_model else "translation"
    if row.library == "transformers":
        found = (kind for kind, end in KINDS if re.search(rf"({end})$", row.name))
        return next(found, OTHERS)
    return "one of each module" if row.library == "timm" else "classifiers"


def summary_table(report: Report) -> str:
    """One line for each library and kind, and one for all."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in report.rows():
        groups[f"{row.library} {_version(report, row.library)}", kind_of(row)].append(row)
    last = {kind: number for number, (kind, _) in enumerate(KINDS)}
    keys = sorted(groups, key=lambda key: (key[0], last.get(key[1], len(KINDS)), key[1]))
    lines = [
        "| library | kind | checked | no table | not run | fail | pass | of all with a table "
        "| less than 95 % derived |",
        f"| --- | --- |{' ---: |' * 7}",
        *(_line(*key, groups[key]) for key in keys),
        _line("all", "", report.rows()),
    ]
    return "\n".join(lines)


def _line(library: str, kind: str, rows: Sequence[Row]) -> str:
    counts = {
        outcome: sum(row.outcome == outcome for row in rows)
        for outcome in ("no table", "not run", "fails", "passes")
    }
    reading = len(rows) - counts["no table"]
    cells = [
        library,
        kind,
        *(f"{count:,}" for count in (len(rows), *counts.values())),
        f"{counts['passes'] / reading:.1%} of {reading:,}" if reading else "",
        f"{sum(row.partly_dense for row in rows):,}",
    ]
    return f"| {' | '.join(cells)} |"


def _version(report: Report, library: str) -> str:
    for run in reversed(report.runs):
        if any(row.library == library for row in run.rows):
            found = run.provenance.packages
            return found.get(library) or found.get(f"{library}-fixed", "")
    return ""


def exceptions_table(report: Report) -> str:
    """What does not pass, and what passes partly dense; equal findings in one line."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in report.rows():
        if row.outcome in ("fails", "not run"):
            groups[row.library, row.outcome, _alike(row.finding)].append(row.name)
        elif row.partly_dense:
            groups[row.library, f"{row.share:.0%} derived", _dense(row)].append(row.name)
    lines = ["| library | architecture | outcome | reason |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {library} | {', '.join(names)} | {outcome} | {_cell(finding)} |"
        for (library, outcome, finding), names in groups.items()
    ]
    return "\n".join(lines if groups else ["Nothing: all that can be run pass."])


def _alike(finding: str) -> str:
    """Sizes differ among architectures that fail for one reason."""
    return _NUMBER.sub("…", finding) if "parameters are too many" in finding else finding


def _dense(row: Row) -> str:
    """The reasons, and how many weights each keeps dense."""
    return "; ".join(f"{len(kept.weights)} kinds of weights: {kept.reason}" for kept in row.dense)


def _cell(text: str) -> str:
    short = text if len(text) <= 160 else f"{text[:160]}…"
    return f"`{short.replace('|', '/').replace('`', chr(39))}`" if short else ""
