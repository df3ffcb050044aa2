"""`check`: what is wrong with, or surprising about, a shared model as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from torch import nn
from torch.optim import Optimizer

from embshare._keys import ROOT
from embshare.checks import storing, tables, training, wiring
from embshare.checks.findings import Finding, Findings, found, seen
from embshare.checks.looks import Rooted
from embshare.errors import InvalidValueError
from embshare.runtime.bank import BankRef, roots_of
from embshare.runtime.shared_layers import SharedLayer

__all__ = ["Finding", "Findings", "check"]


def check(model: nn.Module, optimizer: Optimizer | Iterable[Optimizer] | None = None) -> Findings:
    """Look at a shared model for what is wrong or surprising; nothing is run, derived or changed.

    Each number of tables and projections is read once. What the library refuses or tells by itself
    when it happens is found as well, as far as it can be seen afterwards; the page
    "Troubleshooting" has a list by symptoms.

    Args:
        model: shared, or anything that holds shared models at any depth: `torch.compile`, DDP, a
            PEFT model, a Lightning module, a student beside its teacher. A broken model is
            reported, not refused.
        optimizer: one, or several, whose parameters are compared with what weights are derived
            from.
    Returns:
        A tuple of findings, empty where nothing is wrong; ``print`` shows a table.
    Raises:
        InvalidValueError: ``model`` is no module, or ``optimizer`` none.
    """
    optimizers = _optimizers(model, optimizer)
    place = type(model).__name__
    roots = [Rooted(*rooted) for rooted in roots_of(model)]
    lost = _lost_roots(model)
    if not roots and not lost and not any(isinstance(m, SharedLayer) for m in model.modules()):
        return Findings([found("not-shared", place, "holds no layer whose weights are derived")])
    whole = (
        partial(wiring.references, model, roots),
        partial(training.optimized, model, roots, optimizers),
        partial(training.surroundings, model, roots),
    )
    findings = [*seen(place, whole)]
    for at in roots:
        findings += seen(at.place, [partial(look, at) for look in LOOKS])
    return Findings(dict.fromkeys(findings))


LOOKS = (
    tables.tables,
    tables.ties,
    tables.numbers,
    tables.partly_meta,
    tables.dtypes,
    training.frozen,
    training.sharded,
    wiring.calls,
    wiring.hooks,
    storing.stored,
    storing.sizes,
)
"""At each shared model in the one that is looked at."""


def _lost_roots(model: nn.Module) -> bool:
    """Whether a shared model came without its bank."""
    refs: Sequence[BankRef] = [m.__dict__[ROOT] for m in model.modules() if ROOT in m.__dict__]
    return any(ref.bank is None for ref in refs)


def _optimizers(model: object, optimizer: object) -> list[Optimizer]:
    faults = []
    if not isinstance(model, nn.Module):
        faults.append(f"`model` must be a module, but is {model!r:.80}")
    single = optimizer is None or hasattr(optimizer, "param_groups")
    given = [optimizer] if single else list(optimizer) if isinstance(optimizer, Iterable) else [0]
    given = [one for one in given if one is not None]
    if not all(hasattr(one, "param_groups") for one in given):
        faults.append(f"`optimizer` must be an optimizer, or several, but is {optimizer!r:.80}")
    if faults:
        raise InvalidValueError(what="check", faults=faults)
    return given  # type: ignore[return-value]
