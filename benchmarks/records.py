"""What the scripts here have in common: they measure, print each row, and write one result file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from embshare.tasks.measurement.provenance import read_provenance

__all__ = ["options", "report"]

Record = dict[str, Any]


def options(description: str | None) -> argparse.ArgumentParser:
    """``--out`` writes a result file, ``--table`` prints the table of one instead of measuring."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    return parser


def report(
    given: argparse.Namespace,
    table: Callable[[Sequence[Record]], str],
    measured: Iterable[Record],
) -> None:
    """Do what the options say.

    Args:
        given: what `options` parsed.
        table: results as a table in Markdown.
        measured: the results; a generator, so that nothing is measured where none is asked for.
    """
    if given.table:
        print(table(json.loads(given.table.read_text())["results"]))
        return
    provenance = read_provenance()  # now: this is the code that was imported
    results = []
    for result in measured:
        results.append(result)
        print(table(results[-1:]).splitlines()[-1], flush=True)
    if given.out:
        found = {"results": results, "provenance": provenance.model_dump(mode="json")}
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=2) + "\n")
