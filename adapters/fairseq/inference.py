"""Generation: derived weights are kept for a whole batch, and weight norms can be removed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from torch import nn

from embshare.caching import cached
from embshare.materialize import materialize
from embshare.runtime.bank import bank_of

__all__ = ["GenerationMaker", "keeping", "make_generation_plain"]


def keeping(generate: Callable[..., Any]) -> Callable[..., Any]:
    """A generator's ``generate(self, models, sample, …)`` inside `embshare.cached`.

    fairseq's generators call ``decoder.forward`` and not the decoder, so without this each layer
    would derive its weights for each token.
    """

    @functools.wraps(generate)
    def run(self: Any, models: Iterable[nn.Module], *args: Any, **kwargs: Any) -> Any:
        models = list(models or ())
        inner = getattr(self, "model", None)  # an ensemble, whose models are what runs
        everyone = dict.fromkeys([*models, *getattr(inner, "models", ())])
        with ExitStack() as stack:
            for model in everyone:
                stack.enter_context(cached(model))
            return generate(self, models, *args, **kwargs)

    return run


class GenerationMaker:
    """A model's own ``make_generation_fast_``, which removes weight norms.

    A norm's weight belongs to one layer alone, and its direction cannot be taken from a layer that
    derives it. So a model with derived directions is materialized: it is not trained or saved any
    more, and the weights in memory are those that a dense model of fairseq has then.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def __func__(self) -> Any:
        """fairseq compares it, to call a model's own function once."""
        kind: Any = type(self.model)
        return kind.make_generation_fast_

    def __call__(self, **kwargs: Any) -> None:
        bank = bank_of(self.model)
        directions = () if bank is None else bank.plan.weights()
        if any(name.rpartition(".")[2] == "weight_v" for name in directions):
            materialize(self.model, inplace=True)
        self.__func__(self.model, **kwargs)


def make_generation_plain(model: nn.Module) -> None:
    """Let ``model.make_generation_fast_()`` work where weight norms are derived."""
    if hasattr(type(model), "make_generation_fast_"):
        model.__dict__["make_generation_fast_"] = GenerationMaker(model)
