"""Architectures of fairseq by name, in the size that fairseq registers them in."""

from __future__ import annotations

from typing import Final

from torch import nn

from embshare.adapters.errors import ModelNotBuiltError, suggestion
from embshare.adapters.fairseq.kinds import FAIRSEQ_RULES
from embshare.adapters.fairseq.sources import plan_fairseq
from embshare.adapters.fairseq.tiny import build_arch, dictionary
from embshare.adapters.fairseq.walk import architectures
from embshare.config import ShareConfig
from embshare.plan.values import SharePlan

__all__ = ["VOCABULARY", "build_fairseq", "plan_named"]

VOCABULARY: Final = 10_000
"""Symbols of a model that is built without data, on either side."""

_SAID_ELSEWHERE: Final = {
    # What a task or a criterion says in fairseq, at its defaults there.
    "max_source_positions": 1024,
    "max_target_positions": 1024,
    "tokens_per_sample": 1024,
    "criterion": "cross_entropy",
    "label_smoothing": 0.1,
    "no_seed_provided": False,
    "tpu": False,
}


def build_fairseq(name: str) -> nn.Module:
    """A text architecture at its registered size, with random weights and a made-up vocabulary.

    Args:
        name: ``lstm``, as for ``--arch``.
    Raises:
        MissingPackageError: fairseq is not installed.
        ModelNotBuiltError: there is no such architecture for text, or fairseq cannot build it.
    """
    asked, known = f"fairseq:{name}", architectures()
    if name not in known:
        raise ModelNotBuiltError(
            model=asked,
            finding="there is no such architecture for text",
            way_out=suggestion(name, known),
        )
    try:
        return build_arch(name, _SAID_ELSEWHERE, dictionary(VOCABULARY))
    except Exception as error:  # whatever the architecture's own code asks for
        raise ModelNotBuiltError(
            model=asked,
            finding=f"fairseq cannot build it ({type(error).__name__}: {error})",
            way_out="Name another architecture, or a function: `package.module:factory`.",
        ) from error


def plan_named(model: nn.Module, config: ShareConfig, *, trained: bool | None = None) -> SharePlan:
    """`plan_fairseq` with fairseq's layer kinds: what `embshare inspect` shows.

    Raises:
        PlanError: as `embshare.plan_sharing`.
    """
    return plan_fairseq(model, config, FAIRSEQ_RULES, trained=trained)
