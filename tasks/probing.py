"""What a model can read is tried once, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature

import torch
from torch import Tensor, nn

from embshare.errors import EmbshareError
from embshare.tasks.building import ModelNotForTaskError, is_matched
from embshare.tasks.text.rows import Pad
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["check_kinds", "read_a_row", "read_longest"]


def read_longest(
    name: str, model: nn.Module, tokenizer: TextTokenizer, length: int, *, kinds: bool
) -> None:
    """Let a model of transformers read the longest row of its task; matched ones read any.

    Args:
        name: of the model.
        model: of that name.
        tokenizer: of the task.
        length: symbols.
        kinds: with ``token_type_ids``, 1 from the middle on.
    Raises:
        ModelNotForTaskError: the model cannot read it.
    """
    if is_matched(name):
        return
    special = set(tokenizer.fast.all_special_ids)  # some models give padding no position
    symbol = next((i for i in range(len(tokenizer)) if i not in special), tokenizer.start)
    row: dict[str, list[int]] = {"input_ids": [symbol] * length}
    if kinds:
        first = length // 2
        row["token_type_ids"] = [0] * first + [1] * (length - first)
    read_a_row(name, model, Pad(tokenizer.pad)([row]))


def check_kinds(name: str, model: nn.Module) -> None:
    """Find a model that cannot be told of which sentence a symbol is, ``token_type_ids``.

    Args:
        name: of the model, for the error.
        model: matched, or of transformers.
    Raises:
        ModelNotForTaskError: its forward does not take them, or it knows no second kind.
    """
    known = getattr(getattr(model, "config", None), "type_vocab_size", 2)
    if known < 2 or "token_type_ids" not in signature(model.forward).parameters:
        raise ModelNotForTaskError(
            model=name,
            finding="it cannot be told which of two sentences a symbol is of",
            way_out="Set token_types to false (--no-token-types).",
        )


def read_a_row(name: str, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Let a model read a row: one that is too long is found here, not after some hundred steps.

    Torch's random state, and whether the model is in training, stay as they were.

    Args:
        name: of the model, for the error.
        model: what is asked.
        inputs: of the row, ``[1, T]`` each, with ``input_ids``.
    Raises:
        ModelNotForTaskError: the model cannot read it.
    """
    training, device = model.training, next(model.parameters()).device
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()(**{part: tensor.to(device) for part, tensor in inputs.items()})
    except (EmbshareError, RuntimeError, IndexError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        length = inputs["input_ids"].shape[1]
        raise ModelNotForTaskError(
            model=name,
            finding=f"it does not read a row of {length} symbols ({lines[0].rstrip('. ')})",
            way_out="Lower `length`, or build the model with more positions.",
        ) from error
    finally:
        model.train(training)
