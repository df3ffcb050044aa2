"""Captions from a trained model: the best of a beam."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from embshare.caching import cached
from embshare.tasks.captioning.captioner import Captioner
from embshare.tasks.captioning.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary
from embshare.tasks.decoding import Beam, SequenceScorer, beam_search, greedy_search

__all__ = ["banned_symbols", "write_captions"]


def banned_symbols(vocabulary: Vocabulary, rows: int) -> list[int]:
    """What never stands in a caption: special symbols but the end, and rows without a word."""
    specials = [symbol for symbol in range(len(SPECIALS)) if symbol in (PAD, BOS, UNK)]
    return [*specials, *range(len(vocabulary), rows)]


@torch.inference_mode()
def write_captions(
    model: Captioner,
    batches: Iterator[Mapping[str, Tensor]],
    vocabulary: Vocabulary,
    *,
    beam: Beam,
    most_words: int,
) -> Iterator[str]:
    """One caption for each picture, in order.

    Args:
        model: left on its device, in evaluation mode; a shared one derives its weights once.
        batches: ``pixels`` or ``features``, as the model reads them.
        vocabulary: that it was trained with.
        beam: how to search; of width 1, the likeliest word each time.
        most_words: of a caption.
    """
    model.eval()
    device = model.text.embedding.weight.device
    scorer = SequenceScorer(
        model.text, banned=banned_symbols(vocabulary, model.text.settings.vocab_size)
    )
    with cached(model):
        for batch in batches:
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            state = scorer.start(model.encode(**moved))
            limits = [most_words + 1] * len(state.memory.hidden)
            found: Sequence[Sequence[int]]
            if beam.width == 1:
                found = greedy_search(
                    scorer, state, limits=limits, first=BOS, end=EOS, device=device
                )
            else:
                best = beam_search(
                    scorer, state, limits=limits, first=BOS, end=EOS, beam=beam, device=device
                )
                found = [hypotheses[0].symbols for hypotheses in best]
            yield from (vocabulary.decode(symbols) for symbols in found)
