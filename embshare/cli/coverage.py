"""``embshare coverage``: every architecture of the installed libraries, shared and examined."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from embshare.cli.output import check_target, show, write
from embshare.errors import CheckpointError, InvalidValueError, MissingPackageError

if TYPE_CHECKING:
    from embshare.tasks.coverage import Job, Report, Row
    from embshare.tasks.measurement.provenance import Provenance

__all__ = ["WALKS", "coverage"]

WALKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transformers": "embshare.adapters.huggingface.walk",
        "torchvision": "embshare.adapters.vision.walk",
        "timm": "embshare.adapters.vision.walk",
        "fairseq": "embshare.adapters.fairseq.walk",
    }
)
"""Library -> module with ``specimens``. A module that is not there is a walk that is not there."""

EVERY: Final = 10
"""Rows after which a file is written again: a walk is long, and may be ended."""


def coverage(
    library: Annotated[
        list[str] | None,
        typer.Option(help="transformers, torchvision, timm or fairseq; else all installed."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Glob over names; may be given several times.", metavar="GLOB"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file; rows of others that are in it stay.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier file: exit with 1 where something got worse.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what that JSON file has a row of.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes at a time, of one thread each.")] = 1,
    limit: Annotated[float, typer.Option(help="Seconds for one architecture.")] = 900.0,
) -> None:
    """Share, run, train, save, load and make plain every architecture, and say what came out.

    Each is made tiny where its library lets it be. Architectures that crash or hang cost their own
    row and nothing else.
    """
    from embshare.tasks.coverage import Report

    if jobs < 1 or limit <= 0:
        raise InvalidValueError(what="coverage", faults=["jobs and limit must be above zero"])
    if out is not None:
        check_target(out)
    before = None if against is None else _read(against)
    earlier = Report() if out is None or not out.exists() else _read(out)
    everything = _jobs(library or [])
    earlier = earlier.without_others([(job.library, job.name) for job in everything])
    wanted = _named(everything, only or ["*"])
    if resume:
        done = {(row.library, row.name) for row in earlier.rows()}
        wanted = [job for job in wanted if (job.library, job.name) not in done]
    rows = _walk(wanted, earlier, out, workers=jobs, limit=limit)
    show(_table(rows))
    for row in rows:
        if row.outcome in ("fails", "not run"):
            show(f"{row.library} {row.name}: {row.outcome} ({row.stage}: {row.finding})")
    if before is not None:
        _compare(before, rows)


def _named(jobs: Iterable[Job], globs: Sequence[str]) -> list[Job]:
    """Those of some names.

    Raises:
        InvalidValueError: there is none.
    """
    found = [job for job in jobs if any(fnmatch.fnmatchcase(job.name, glob) for glob in globs)]
    if not found:
        fault = f"no architecture is called {' or '.join(map(repr, globs))}"
        raise InvalidValueError(what="coverage", faults=[fault])
    return found


def _jobs(libraries: Sequence[str]) -> list[Job]:
    """All that can be examined.

    Raises:
        InvalidValueError: a library is unknown.
        MissingPackageError: a library that was asked for is not installed.
    """
    from embshare.tasks.coverage import Job

    if unknown := [name for name in libraries if name not in WALKS]:
        fault = f"`{unknown[0]}`: must be one of {', '.join(WALKS)}"
        raise InvalidValueError(what="coverage", faults=[fault])
    found: list[Job] = []
    for place in dict.fromkeys(WALKS[name] for name in libraries or WALKS):
        if find_spec(place.rpartition(".")[0]) is None:
            continue
        try:
            for specimen in importlib.import_module(place).specimens():
                if not libraries or specimen.library in libraries:
                    found.append(Job(place=place, library=specimen.library, name=specimen.name))
        except MissingPackageError as error:
            if libraries:
                raise
            show(f"Left out: {error}")
    return found


def _walk(
    wanted: Sequence[Job], earlier: Report, out: Path | None, *, workers: int, limit: float
) -> list[Row]:
    from rich.console import Console
    from rich.progress import Progress

    from embshare.tasks.coverage import examine_all
    from embshare.tasks.measurement.provenance import read_provenance

    rows: list[Row] = []
    provenance = read_provenance()
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("examined", total=len(wanted))
        for row in examine_all(wanted, workers=workers, limit=limit):
            rows.append(row)
            bar.update(task, advance=1, description=f"{row.name}: {row.outcome}")
            if out is not None and len(rows) % EVERY == 0:
                _write(out, earlier, provenance, rows)
    if out is not None:
        _write(out, earlier, provenance, rows)
    return rows


def _write(out: Path, earlier: Report, provenance: Provenance, rows: Sequence[Row]) -> None:
    """With the rows of earlier walks that this one has not come by."""
    from embshare.tasks.coverage import Walk

    seconds = round(sum(row.seconds for row in rows), 1)
    walk = Walk(provenance=provenance.model_copy(update={"seconds": seconds}), rows=tuple(rows))
    write(out, earlier.joined(walk).to_json() + "\n")


def _read(path: Path) -> Report:
    from embshare.tasks.coverage import Report

    try:
        return Report.from_json(path.read_bytes())
    except (OSError, InvalidValueError) as error:
        raise CheckpointError(
            path=path, finding=f"no result of a walk ({error})", way_out="Name what --out wrote."
        ) from error


def _table(rows: Iterable[Row]) -> str:
    from rich.table import Table

    from embshare._tables import render
    from embshare.tasks.coverage.summing import totals

    table = Table("library", *COLUMNS, box=None)
    for library, counts in totals(rows).items():
        table.add_row(library, *(f"{counts[name]:,}" for name in COLUMNS))
    return render(table)


COLUMNS: Final = ("examined", "passes", "fails", "not run", "no table", "partly dense")


def _compare(before: Report, rows: Sequence[Row]) -> None:
    """Say what got worse.

    Raises:
        typer.Exit: with 1, where something did.
    """
    from embshare.tasks.coverage import regressions

    worse = regressions(before.rows(), rows)
    for sentence in worse:
        show(f"worse: {sentence}")
    if worse:
        raise typer.Exit(1)
    show("Nothing got worse.")
