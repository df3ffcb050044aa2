"""What ``init="auto"`` comes to: a trained model keeps what it has learned, as far as it can."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from torch import nn

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.integrations import trained_weights
from embshare.plan.inventory import Candidate

__all__ = ["Choice", "choose_init"]


class Choice(NamedTuple):
    """How the new parameters start, and why."""

    init: Literal["random", "svd"]
    reason: str | None
    """``None`` where the config says it itself."""


def choose_init(
    model: nn.Module,
    config: ShareConfig,
    weights: Iterable[Candidate],
    tables: Iterable[nn.Parameter],
    trained: bool | None,
) -> Choice:
    """Decide between a random start and one that is fitted to the weights that the model has.

    Args:
        model: dense.
        config: what to share and how.
        weights: those that will be derived.
        tables: that they will be derived from.
        trained: whether the model is trained; ``None`` asks the packages that load models. More
            than half of the elements of ``weights`` have to be loaded for it to count as trained.
    """
    if config.init != "auto":
        return Choice(config.init, None)
    weights = list(weights)
    known, reason = _provenance(model, weights, trained)
    if not known:
        return Choice("random", reason)
    if obstacle := _obstacle(config, [*(w.parameter for w in weights), *tables]):
        return Choice("random", f"{reason}, but {obstacle}")
    return Choice("svd", reason)


def _provenance(
    model: nn.Module, weights: list[Candidate], trained: bool | None
) -> tuple[bool, str]:
    if trained is not None:
        return trained, f"trained={trained}"
    names = trained_weights(model)
    loaded = [weight for weight in weights if not names.isdisjoint(weight.names)]
    if not loaded:
        return False, "no weight is known to be trained; say trained=True if they are"
    everything = sum(weight.parameter.numel() for weight in weights)
    enough = 2 * sum(weight.parameter.numel() for weight in loaded) > everything
    found = f"{len(loaded)} of {len(weights)} weights were loaded trained"
    return enough, found if enough else f"only {found}; say trained=True to start from all"


def _obstacle(config: ShareConfig, parameters: Iterable[nn.Parameter]) -> str | None:
    """Why a fit is impossible, or ``None``."""
    if any(parameter.device.type == "meta" for parameter in parameters):
        return "weights on meta have no values to fit"
    try:
        ShareConfig(**{**config.model_dump(), "init": "svd"})
    except InvalidValueError as error:
        return "; ".join(error.faults)
    return None
