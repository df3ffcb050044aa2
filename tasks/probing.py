"""Try the longest input on a model before training."""

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
    """Run a model of transformers on a row of maximum length; matched models read any.

    Args:
        name: name of the model.
        model: model of that name.
        tokenizer: tokenizer of the task.
        length: number of tokens.
        kinds: add ``token_type_ids``, 1 in the second half.
    Raises:
        ModelNotForTaskError: the model fails on it.
    """
    if is_matched(name):
        return
    special = set(tokenizer.fast.all_special_ids)  # padding has no position in some models
    token = next((i for i in range(len(tokenizer)) if i not in special), tokenizer.start)
    row: dict[str, list[int]] = {"input_ids": [token] * length}
    if kinds:
        first = length // 2
        row["token_type_ids"] = [0] * first + [1] * (length - first)
    read_a_row(name, model, Pad(tokenizer.pad)([row]))


def check_kinds(name: str, model: nn.Module) -> None:
    """Check that a model takes ``token_type_ids``, which tell two sentences apart.

    Args:
        name: name of the model, for the error.
        model: matched model, or model of transformers.
    Raises:
        ModelNotForTaskError: its forward does not take them, or it has a single token type.
    """
    known = getattr(getattr(model, "config", None), "type_vocab_size", 2)
    if known < 2 or "token_type_ids" not in signature(model.forward).parameters:
        raise ModelNotForTaskError(
            model=name,
            finding="it cannot tell which of two sentences a token belongs to",
            hint="Set token_types to false (--no-token-types).",
        )


def read_a_row(name: str, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Run a model on one row, so that too few positions are found before training.

    Torch's random state and the model's training mode are left as they were.

    Args:
        name: name of the model, for the error.
        model: model to run.
        inputs: inputs of the row, ``[1, T]`` each, ``input_ids`` among them.
    Raises:
        ModelNotForTaskError: the model fails on it.
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
            finding=f"it does not read a row of {length} tokens ({lines[0].rstrip('. ')})",
            hint="Lower `length`, or build the model with more positions.",
        ) from error
    finally:
        model.train(training)
