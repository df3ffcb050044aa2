"""Going on with a text, symbol by symbol: the likeliest one each time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from embshare.caching import cached
from embshare.models.matched import MatchedLanguageModel
from embshare.tasks.language_modelling.vocabulary import Vocabulary

__all__ = ["continue_text", "likeliest"]


def continue_text(
    model: nn.Module, vocabulary: Vocabulary, text: str, *, seen: int, most: int
) -> str:
    """A text and the likeliest symbols after it, to the end of a line or ``most`` symbols.

    What is given stays as it is, also where the vocabulary does not know a part of it.

    Args:
        model: a causal language model, of the matched family or of transformers.
        vocabulary: that it was trained with.
        text: what it goes on with; may be empty.
        seen: symbols before a position that a model of transformers may look at.
        most: symbols that are added.
    """
    prompt = vocabulary.encode_part(text)
    start = torch.tensor([vocabulary.start], dtype=prompt.dtype)
    added: list[int] = []
    for symbol in islice(likeliest(model, torch.cat((start, prompt)).long(), seen=seen), most):
        if symbol == vocabulary.start or vocabulary.ends_line(symbol):
            break
        added.append(symbol)
    after = _after(vocabulary, prompt, torch.tensor(added, dtype=prompt.dtype))
    return text + (after.lstrip(" ") if text[-1:].isspace() and not vocabulary.lossless else after)


def _after(vocabulary: Vocabulary, prompt: Tensor, added: Tensor) -> str:
    """The text of symbols that follow others: alone it would lack the space before it."""
    before, whole = vocabulary.decode(prompt), vocabulary.decode(torch.cat((prompt, added)))
    return whole[len(before) :] if whole.startswith(before) else vocabulary.decode(added)


@torch.inference_mode()
def likeliest(model: nn.Module, prompt: Tensor, *, seen: int) -> Iterator[int]:
    """The likeliest symbol after a prompt ``[T]``, then after that, without end."""
    model.eval()
    device = next(model.parameters()).device
    ids = prompt.to(device)[None]
    with cached(model):
        if isinstance(model, MatchedLanguageModel):
            state = None
            while True:
                output = model(ids, state=state, keep_state=True)
                state, ids = output["state"], output["logits"][:, -1:].argmax(dim=-1)
                yield int(ids)
        while True:
            logits = model(input_ids=ids[:, -seen:]).logits
            ids = torch.cat((ids, logits[:, -1:].argmax(dim=-1)), dim=1)
            yield int(ids[0, -1])
