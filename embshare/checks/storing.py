"""Looks at what is stored for what: sizes, columns, fits, and whether it can be saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from embshare.checks.findings import Finding, found
from embshare.checks.looks import Rooted
from embshare.errors import EmbshareError, NotSharedError, TableReplacedError
from embshare.freezing import FROZEN
from embshare.plan.values import SharePlan
from embshare.runtime.current_plan import places, plan_now
from embshare.summary import summarize

__all__ = ["grown", "planned", "sizes", "stored"]

POOR: Final = 0.5
"""Relative error of a start by svd: a quarter of the trained weights' energy is lost then."""


def stored(at: Rooted) -> Iterator[Finding]:
    """Can the model be saved as it is, and is all that it stores read?"""
    try:
        plan_now(at.root, at.bank)
    except TableReplacedError:
        return  # reported by a look at tables
    except NotSharedError:
        yield found("not-shared", at.place, "has a bank that no layer reads any more")
        return
    except EmbshareError as error:
        yield found("unsaveable", at.place, f"is none that a plan can say: {error}")
        return
    yield from planned(at.bank.plan, at.place)  # frozen layers are left dense on purpose
    yield from _unread(at)


def planned(plan: SharePlan, place: str) -> Iterator[Finding]:
    """What a plan says by itself, of a living model or a saved one."""
    for number, source in enumerate(plan.sources):
        unused = plan.unused_columns(number)
        if plan.config.method == "veps" and unused:
            text = f"has {unused:,} columns of {source.width:,} that nothing reads"
            yield found("unused-columns", place, text)
    for uneven in plan.uneven():
        yield found("uneven", place, f"is shared unevenly: {uneven}")
    if plan.fit_error is not None and plan.fit_error > POOR:
        worst = max(plan.slots, key=lambda slot: slot.fit_error or 0.0)
        text = (
            f"started at a relative error of {plan.fit_error:.2f} to its trained weights, where 0 "
            f"is exact (`{worst.weights[0]}`: {worst.fit_error or 0.0:.2f})"
        )
        yield found("poor-fit", place, text)


def sizes(at: Rooted) -> Iterator[Finding]:
    """Does sharing make it smaller?"""
    try:
        summary = summarize(at.root)
    except EmbshareError:
        return  # it has no plan, which `stored` and the look at tables tell
    yield from grown(at.place, summary.stored, summary.stored_before)


def grown(place: str, now: int, before: int) -> Iterator[Finding]:
    """A finding where more is stored than without sharing."""
    if now > before:
        text = f"stores {now:,} parameters, and {before:,} without sharing"
        yield found("growth", place, text)


def _unread(at: Rooted) -> Iterator[Finding]:
    """Slots of layers that are gone; those of frozen ones wait for `embshare.unfreeze`."""
    readers = at.bank.readers
    read = {readers[place.reader].slot for place in places(at.root, at.bank)}
    for module in at.root.modules():
        if FROZEN in module.__dict__:
            read |= {readers[number].slot for number in module.__dict__[FROZEN][1].values()}
    gone = [slot for number, slot in enumerate(at.bank.scales.plan.slots) if number not in read]
    if gone:
        columns = sum(slot.columns for slot in gone)
        what = f"{columns:,} columns" if columns else f"{sum(s.numel for s in gone):,} elements"
        text = (
            f"stores {what} of layers that are not shared any more "
            f"(`{gone[0].weights[0]}`{', …' if len(gone) > 1 else ''})"
        )
        yield found("unread", at.place, text)
