"""`check`: one architecture verified, as a row of the result."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from torch import nn

import embshare
from embshare.adapters.verify import Step, Verification, verify
from embshare.plan.inventory import LOOKED_UP, UNKNOWN
from embshare.plan.slots import LeftDense
from embshare.plan.tying import pattern_of
from embshare.plan.values import SharePlan
from tests.architectures.architecture import Architecture
from tests.architectures.results import Kept, Outcome, Row

__all__ = ["check"]

ITS_OWN: Final = frozenset({"build", "run dense", "train dense"})
"""Steps at which a dense model fails, sharing apart."""


def check(architecture: Architecture) -> Row:
    """Verify an architecture untied up to a training step, and with all ties to the end.

    Returns:
        What came out; no error of the architecture or of sharing leaves this function.
    """
    begun = time.perf_counter()
    row = Row(library=architecture.library, name=architecture.name, outcome="not run")
    if architecture.skip is not None:
        return row.model_copy(update={"stage": "build", "finding": architecture.skip})
    for tie in ("none", "all"):
        verified = _verify(architecture, tie)
        if (failed := verified.failed) is not None:
            break
    if failed is not None and failed.name == "plan" and _outcome(failed) == "fails":
        failed = _own_fault(architecture) or failed
    found = {} if verified.plan is None or failed else _counted(verified.plan)
    return Row(
        library=architecture.library,
        name=architecture.name,
        outcome=_outcome(failed),
        stage="" if failed is None else failed.name,
        finding="" if failed is None else failed.finding,
        parameters=verified.parameters,
        notes=verified.notes,
        seconds=round(time.perf_counter() - begun, 2),
        **found,
    )


def _verify(architecture: Architecture, tie: str) -> Verification:
    def planner(model: nn.Module, config: embshare.ShareConfig) -> SharePlan:
        include = ("*", *embshare.bare_weights(model, rules=architecture.rules))
        whole = config.model_copy(update={"include": include})
        return embshare.plan_sharing(model, whole, rules=architecture.rules)

    source = (
        architecture.source if isinstance(architecture.source, str) else {**architecture.source}
    )
    config = embshare.ShareConfig(source=source, tie=tie)
    until = "train" if tie == "none" else "materialize"
    return verify(architecture.build, config, loss=architecture.loss, planner=planner, until=until)


def _own_fault(architecture: Architecture) -> Step | None:
    """Why the dense model does not run: its own faults come before those of planning."""
    try:
        architecture.loss(architecture.build().eval()).backward()
    except Exception as error:  # whatever the library's code does
        finding = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        return Step(name="run dense", outcome="failed", finding=finding)
    return None


def _outcome(failed: Step | None) -> Outcome:
    if failed is None:
        return "passes"
    if failed.name == "plan" and failed.finding.startswith("NoSourceError"):
        return "no table"
    return "not run" if failed.name in ITS_OWN else "fails"


def _counted(plan: SharePlan) -> dict[str, Any]:
    """What is derived, what is not, and why."""
    tables = [entry for entry in plan.left_dense if entry.reason in (LOOKED_UP, UNKNOWN)]
    dense = [entry for entry in plan.left_dense if entry.reason not in (LOOKED_UP, UNKNOWN)]
    derived = sum(slot.numel * len(slot.weights) for slot in plan.slots)
    return {
        "source": tuple(source.name for source in plan.sources),
        "derived": derived,
        "hidden": derived + sum(entry.numel for entry in dense),
        "dense": tuple(_kept(dense)),
        "tables": tuple(_kept(tables)),
    }


def _kept(entries: Iterable[LeftDense]) -> Iterator[Kept]:
    groups: dict[str, list[LeftDense]] = defaultdict(list)
    for entry in entries:
        groups[entry.reason].append(entry)
    for reason, group in groups.items():
        names = dict.fromkeys(pattern_of(entry.weight) for entry in group)
        elements = sum(entry.numel for entry in group)
        yield Kept(reason=reason, weights=tuple(names), elements=elements)
