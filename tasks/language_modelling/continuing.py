"""Greedy continuation of a text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from embshare.caching import cached
from embshare.models.matched import MatchedLanguageModel
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["continue_text", "greedy_tokens"]


def continue_text(
    model: nn.Module, tokenizer: TextTokenizer, text: str, *, seen: int, most: int
) -> str:
    """A text and its greedy continuation, to the end of a line or ``most`` tokens.

    The text itself stays as it is, also where the vocabulary lacks a part of it.

    Args:
        model: causal language model, of the matched family or of transformers.
        tokenizer: tokenizer that it was trained with.
        text: text to continue; may be empty.
        seen: number of tokens before a position that a model of transformers sees.
        most: maximum number of new tokens.
    """
    prompt, first = tokenizer.encode_prompt(text).tolist(), tokenizer.text_start
    assert first is not None, "a tokenizer without one is refused when it is loaded"
    added: list[int] = []
    for token in islice(greedy_tokens(model, torch.tensor([first, *prompt]), seen=seen), most):
        if token == first or "\n" in tokenizer.decode([token]):
            break
        added.append(token)
    after = _after(tokenizer, prompt, added)
    spaced = text[-1:].isspace() and tokenizer.unknown is not None
    return text + (after.lstrip(" ") if spaced else after)


def _after(tokenizer: TextTokenizer, prompt: list[int], added: list[int]) -> str:
    """The text of tokens that follow others: on their own they would lack the space before them."""
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *added])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(added)


@torch.inference_mode()
def greedy_tokens(model: nn.Module, prompt: Tensor, *, seen: int) -> Iterator[int]:
    """The most probable token after a prompt ``[T]``, then the one after that, without end."""
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
