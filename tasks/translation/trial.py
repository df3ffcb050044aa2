"""Try a model of transformers on two pairs before training."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.translation.rows import Collate, PairRows, SmoothedLoss
from embshare.tasks.translation.subwords import Subwords

__all__ = ["try_pairs"]

# Of other lengths than each other: some models read the source again in place of what is written,
# which is seen by the scores not being as many as the labels.
SOURCE: Final = ("a", "a b c")
TARGET: Final = ("a b c d e", "a b")


def try_pairs(name: str, model: nn.Module, subwords: Subwords, *, smoothing: float) -> None:
    """Compute a model's loss on two pairs, of which one is padded, as in training and validation.

    Torch's random state and the model's training mode are left as they were.

    Args:
        name: name of the model, for the error.
        model: model to try.
        subwords: tokenizers of the task.
        smoothing: label smoothing of the training loss.
    Raises:
        ModelNotForTaskError: the model returns no loss.
    """
    rows = PairRows(subwords.encode_source(SOURCE), subwords.encode_target(TARGET))
    device, training = next(model.parameters()).device, model.training
    batch = {k: v.to(device) for k, v in Collate(subwords.pad)([rows[0], rows[1]]).items()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()(**batch)["loss"].item()
            if smoothing:
                SmoothedLoss(smoothing)(model, batch, 1)
    except Exception as error:  # what models raise has no class of its own
        first = next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")
        raise ModelNotForTaskError(
            model=name,
            finding=f"it gives no loss for a sentence and its translation ({first})",
            way_out="Name another model that `AutoModelForSeq2SeqLM` reads, or lstm, conv or "
            "attention.",
        ) from error
    finally:
        model.train(training)
