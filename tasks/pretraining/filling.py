"""Fill the masks of a text with what a model predicts; the rest of the text stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn

from embshare.tasks.pretraining.masked_models import labelled_logits
from embshare.tasks.pretraining.token_properties import TokenProperties

__all__ = ["guess_masks", "write_words"]

IGNORED: Final = -100
ENDS: Final = 2
"""Number of special tokens of a row: one at its beginning, one at its end."""


@torch.inference_mode()
def guess_masks(
    model: nn.Module, properties: TokenProperties, tokens: Sequence[int], *, length: int
) -> list[int]:
    """The most probable token for each mask, of those that can be written into a line.

    Args:
        model: masked language model, in evaluation mode.
        properties: properties of its tokens.
        tokens: tokens of a text, without special ones at its ends. A longer text is read in
            contiguous rows, each on its own.
        length: sequence length, with the special tokens at both ends.
    Returns:
        A token for each mask, in their order.
    """
    special, device = properties.tokenizer.special_ids, next(model.parameters()).device
    begin, end = special["cls_token_id"], special["sep_token_id"]
    fitting = torch.from_numpy(properties.fitting).to(device)
    found: list[int] = []
    for first in range(0, len(tokens), length - ENDS):
        part = tokens[first : first + length - ENDS]
        ids = torch.tensor([[begin, *part, end]], device=device)
        masked = ids == special["mask_token_id"]
        if masked.any():
            labels = ids.masked_fill(~masked, IGNORED)
            output: Any = model(input_ids=ids, labels=labels)
            logits = labelled_logits(output["logits"], labels)[:, : len(fitting)]
            found += logits.masked_fill(~fitting, -torch.inf).argmax(dim=-1).tolist()
    return found


def write_words(text: str, places: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """Replace parts of a text by words.

    Args:
        text: any text.
        places: first character of each part, and the one after its last, in order; white space at
            the ends of a part stays.
        words: one for each part; the space that a word begins with is left out after white space
            and at the beginning of the text.
    """
    made, done = [""], 0
    for (begin, end), word in zip(places, words, strict=True):
        part = text[begin:end]
        begin, end = end - len(part.lstrip()), begin + len(part.rstrip())
        made.append(text[done:begin])
        before = "".join(made[-2:])
        made.append(word if before[-1:].strip() else word.removeprefix(" "))
        done = end
    return "".join([*made, text[done:]])
