"""Masks in a text filled with what a model predicts; the text around them stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn

from embshare.tasks.pretraining.sparse import labelled_logits
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary

__all__ = ["guess_masks", "write_words"]

IGNORED: Final = -100
ENDS: Final = 2
"""Special symbols of each row: one at its beginning, one at its end."""


@torch.inference_mode()
def guess_masks(
    model: nn.Module, vocabulary: MaskedVocabulary, symbols: Sequence[int], *, length: int
) -> list[int]:
    """The likeliest symbol for each mask symbol, of those that can be written into a line.

    Args:
        model: of hidden words, in evaluation mode.
        vocabulary: of the model.
        symbols: of a text, without a beginning or an end; one that is longer than a row is read in
            parts of a row each, which do not see each other.
        length: of a row, its beginning and end included.
    Returns:
        As many as there are mask symbols, in their order.
    """
    special, device = vocabulary.symbols, next(model.parameters()).device
    begin, end = special["cls_token_id"], special["sep_token_id"]
    fitting = torch.from_numpy(vocabulary.fitting).to(device)
    found: list[int] = []
    for first in range(0, len(symbols), length - ENDS):
        part = symbols[first : first + length - ENDS]
        ids = torch.tensor([[begin, *part, end]], device=device)
        hidden = ids == special["mask_token_id"]
        if hidden.any():
            labels = ids.masked_fill(~hidden, IGNORED)
            output: Any = model(input_ids=ids, labels=labels)
            logits = labelled_logits(output["logits"], labels)[:, : len(fitting)]
            found += logits.masked_fill(~fitting, -torch.inf).argmax(dim=-1).tolist()
    return found


def write_words(text: str, places: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """Write words in the stead of parts of a text.

    Args:
        text: any.
        places: from which character up to which each of the parts stands, in order; white space at
            their ends stays.
        words: one for each part; a blank that a word begins with is left out behind white space and
            at the beginning of the text.
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
