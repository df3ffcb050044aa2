"""Accuracy on BLiMP, for every language model that a run has trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from embshare.caching import cached
from embshare.errors import InvalidValueError
from embshare.tasks.blimp.data import Pair, read_pairs
from embshare.tasks.task import Processor
from embshare.tasks.text.likelihood import SentenceScorer, Values

__all__ = ["blimp_scores", "score_pairs"]


def blimp_scores(
    model: nn.Module, processor: Processor, folder: Path, *, most: int | None = None
) -> dict[str, float]:
    """Score a model on BLiMP.

    Causal models score a sentence by its log-likelihood, masked ones by its pseudo-log-likelihood:
    the sum over its tokens, each masked alone. Equal scores are a wrong answer, as in the published
    scores; in seven pairs both sentences are the same.

    Args:
        model: dense or shared; left in evaluation mode, on its device.
        processor: the processor that the model was trained with.
        folder: of the published files.
        most: maximum number of pairs of each paradigm; ``None`` is all, one thousand.
    Returns:
        As `score_pairs`.
    Raises:
        DataError: the folder does not hold the files, or they are not as published.
        InvalidValueError: ``most`` is below 1, or the processor is of another task.
        ModelNotForTaskError: the model cannot read the longest sentence.
    Source:
        Warstadt et al. 2020, BLiMP, TACL 8.
    """
    if not isinstance(processor, SentenceScorer):
        needs = "be that of a run of language_modelling or pretraining"
        fault = f"`processor` must {needs}, but is {type(processor).__name__}: name such a run"
        raise InvalidValueError(what="BLiMP", faults=[fault])
    pairs = read_pairs(folder, most=most)
    model.eval()
    with cached(model):
        return score_pairs(pairs, partial(processor.log_likelihoods, model))


def score_pairs(
    pairs: Sequence[Pair], score: Callable[[Sequence[str]], Values]
) -> dict[str, float]:
    """Compute the share of pairs in which the grammatical sentence is the likelier one.

    Args:
        pairs: of any paradigms.
        score: from sentences, all different, to numbers ``[N]``; the larger the likelier.
    Returns:
        From 0 to 1: ``blimp``, the mean over paradigms, which is the published number;
        ``blimp/PHENOMENON``, means over the paradigms of each; ``blimp/paradigm/NAME``. And
        ``blimp_pairs``, the number of pairs.
    """
    sentences = list(dict.fromkeys(text for pair in pairs for text in (pair.good, pair.bad)))
    values = dict(zip(sentences, score(sentences).tolist(), strict=True))
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for pair in pairs:
        right[pair.paradigm].append(values[pair.good] > values[pair.bad])
    paradigms = {name: float(np.mean(found)) for name, found in right.items()}
    grouped: defaultdict[str, list[float]] = defaultdict(list)
    for paradigm, phenomenon in {pair.paradigm: pair.phenomenon for pair in pairs}.items():
        grouped[phenomenon].append(paradigms[paradigm])
    return {
        "blimp": float(np.mean(list(paradigms.values()))),
        "blimp_pairs": float(len(pairs)),
        **{f"blimp/{name}": float(np.mean(found)) for name, found in grouped.items()},
        **{f"blimp/paradigm/{name}": value for name, value in paradigms.items()},
    }
