"""``embshare eval`` and ``embshare predict``: evaluate and use a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console

from embshare._value import Record
from embshare.cli.options import option, read_value
from embshare.cli.output import check_target, make_folder, metric_table, write
from embshare.errors import InvalidValueError
from embshare.tasks.packages import TRAINING, check_packages

__all__ = ["evaluate_run", "predict_lines"]

Run = Annotated[Path, typer.Argument(help="Folder that `embshare train` wrote.")]


class _Scores(Record):
    """Content of the file of ``--out``."""

    run: Path
    metrics: dict[str, float]


def evaluate_run(
    run: Run,
    data: Annotated[Path | None, option("Folder of other data in the same layout.")] = None,
    set_: Annotated[
        list[str] | None,
        option("NAME=VALUE, a task setting that replaces the trained one. Repeatable.", "--set"),
    ] = None,
    blimp: Annotated[
        Path | None,
        option("Folder of BLiMP's files: evaluate a language model on their pairs instead."),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(help="Maximum number of pairs per BLiMP paradigm.", min=1, show_default=False),
    ] = None,
    out: Annotated[Path | None, option("JSON file for the metrics.")] = None,
    samples: Annotated[Path | None, option("New folder for samples and prediction files.")] = None,
) -> None:
    """Evaluate a trained model again: on other data, or with other settings."""
    check_packages(TRAINING, extra="hf")
    from embshare.tasks.blimp import blimp_scores
    from embshare.tasks.heap import keep_freed_memory
    from embshare.tasks.runs.loading import evaluate, load_run

    changes = _changes(set_ or [])
    if data is not None:
        changes["data"] = data
    if blimp is not None and (changes or samples):
        fault = "`--blimp`: takes the place of --data, --set and --samples: leave those out"
        raise InvalidValueError(what="eval", faults=[fault])
    if blimp is None and most is not None:
        fault = "`--most`: limits BLiMP's pairs: name their folder with --blimp"
        raise InvalidValueError(what="eval", faults=[fault])
    if out is not None:
        check_target(out, new=True)
    if samples is not None:
        make_folder(samples)
    keep_freed_memory()
    if blimp is not None:
        found = load_run(run)
        result = blimp_scores(found.model, found.processor, blimp, most=most)
    else:
        result = evaluate(run, changes, samples=samples)
    if out is not None:
        write(out, _Scores(run=run, metrics=result).to_json() + "\n")
    Console().print(metric_table(result, ""))


def _changes(given: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` with the value as YAML reads it."""
    pairs = [entry.partition("=") for entry in given]
    if wrong := [
        entry for entry, (name, sign, _) in zip(given, pairs, strict=True) if not (name and sign)
    ]:
        fault = f"`--set`: must be NAME=VALUE, but is {wrong[0]!r}"
        raise InvalidValueError(what="settings", faults=[fault])
    return {
        name: read_value(entry, value) for entry, (name, _, value) in zip(given, pairs, strict=True)
    }


def predict_lines(
    run: Run,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Inputs to predict for; without them, each line of standard input is one.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Translate sentences, caption image files, continue texts, or classify rows.

    One line of output for each input, in order. The sentences of one row are separated by tabs.
    """
    check_packages(TRAINING, extra="hf")
    from embshare.tasks.runs.loading import load_run

    found = load_run(run)
    if isinstance(sys.stdout, TextIOWrapper):  # other systems have other encodings
        sys.stdout.reconfigure(encoding="utf-8")
    for line in found.processor.predict(found.model, inputs or _lines(sys.stdin.buffer)):
        typer.echo(line)


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Lines of text as they come.

    Raises:
        InvalidValueError: one of them is not UTF-8.
    """
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            fault = f"line {number} of the input must be UTF-8, but is {line[:40]!r}"
            raise InvalidValueError(what="predict", faults=[fault]) from error
