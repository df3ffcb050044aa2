"""Modules of transformers that write into their weights, and how they are kept from it."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from embshare.errors import EmbshareWarning

__all__ = ["keep_from_writing"]

RESCALED = "layers_are_rescaled"


def keep_from_writing(model: nn.Module) -> None:
    """Have RWKV compute without dividing weights in place.

    In evaluation it divides the weights of every `rescale_every` blocks, and what the blocks hand
    on, by two, so that half precision does not overflow. What is written into a derived weight is
    lost with the call. Its last norm takes the factor out again, so the model is the same without.
    """
    for module in model.modules():
        every = getattr(getattr(module, "config", None), "rescale_every", 0)
        if not every or not hasattr(module, RESCALED):
            continue
        blocks: Any = module.blocks
        if getattr(module, RESCALED) and len(blocks) > every:
            warnings.warn(
                f"{type(module).__name__} had divided its weights for evaluation, and they were "
                "shared as they were. Share it before its first call in evaluation mode.",
                EmbshareWarning,
                stacklevel=2,
            )
        module.config.rescale_every = 0  # type: ignore[union-attr]
