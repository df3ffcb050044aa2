"""Accuracy on BLiMP, for whatever a run has trained."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from embshare.caching import cached
from embshare.errors import EmbshareError
from embshare.tasks.blimp.likelihood import log_likelihoods, pseudo_log_likelihoods
from embshare.tasks.blimp.pairs import Pair, read_pairs
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.probing import read_a_row
from embshare.tasks.task import Processor
from embshare.tasks.text.masked_models import as_masked_model
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["BlimpScores", "NotALanguageModelError", "blimp_scores", "score_pairs"]

Likelihoods: TypeAlias = Callable[[Sequence[str]], np.ndarray]

TREEBANK: Final = re.compile(r"(?<=\w)(n't|'\w+)|([.,?!;:])")
"""As the Penn Treebank has it: ``is n't``."""
WIKITEXT: Final = re.compile(r"(?<=\w)('\w+)|([.,?!;:])")
"""As WikiText has it: ``isn 't``."""


class NotALanguageModelError(EmbshareError, ValueError):
    """A run's model does not tell how likely a sentence is."""

    def __init__(self, *, kind: str) -> None:
        super().__init__(
            f"BLiMP needs a model that was trained by language_modelling or pretraining, but was "
            f"given {kind}. Name the run of such a model."
        )
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class BlimpScores:
    """Shares of pairs in which the grammatical sentence is the likelier one, from 0 to 1."""

    paradigms: dict[str, float]
    """Of each of 67, by its name."""
    phenomena: dict[str, float]
    """The mean over the paradigms of each of 12, by its name."""
    pairs: int
    """How many were scored."""

    @property
    def mean(self) -> float:
        """Over paradigms, which is the published number."""
        return float(np.mean(list(self.paradigms.values())))

    def metrics(self) -> dict[str, float]:
        """``blimp``, the mean; ``blimp_pairs``; ``blimp/PHENOMENON``; ``blimp/paradigm/NAME``."""
        found = {"blimp": self.mean, "blimp_pairs": float(self.pairs)}
        found |= {f"blimp/{name}": value for name, value in self.phenomena.items()}
        found |= {f"blimp/paradigm/{name}": value for name, value in self.paradigms.items()}
        return found


def blimp_scores(
    model: nn.Module,
    processor: Processor,
    folder: Path,
    *,
    most: int | None = None,
) -> dict[str, float]:
    """Score a model on BLiMP.

    A causal model is asked for the likelihood of each sentence, a masked one for the sum over its
    symbols of each one's likelihood where it alone is hidden. Equal likelihoods are a wrong answer,
    as in the published scores; seven of the pairs are two times the same sentence.

    Args:
        model: dense or shared; left in evaluation mode, on its device.
        processor: that the model was trained with.
        folder: of the published files.
        most: pairs of each paradigm; ``None`` is all, one thousand.
    Returns:
        What `BlimpScores.metrics` names.
    Raises:
        BlimpDataError: the folder does not hold the files, or they are not as published.
        InvalidValueError: ``most`` is below 1.
        NotALanguageModelError: the processor is of another task.
        ModelNotForTaskError: the model cannot read the longest sentence.
    Source:
        Warstadt et al. 2020, BLiMP, TACL 8.
    """
    likelihoods = _likelihoods(model, processor)
    pairs = read_pairs(folder, most=most)
    model.eval()
    with cached(model):
        return score_pairs(pairs, likelihoods).metrics()


def score_pairs(
    pairs: Sequence[Pair], likelihoods: Callable[[Sequence[str]], np.ndarray]
) -> BlimpScores:
    """Compare the sentences of each pair.

    Args:
        pairs: of any paradigms.
        likelihoods: from sentences, all different, to numbers ``[N]``; the larger the likelier.
    """
    sentences = list(dict.fromkeys(text for pair in pairs for text in (pair.good, pair.bad)))
    values = dict(zip(sentences, likelihoods(sentences).tolist(), strict=True))
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for pair in pairs:
        right[pair.paradigm].append(values[pair.good] > values[pair.bad])
    paradigms = {name: float(np.mean(found)) for name, found in right.items()}
    of: defaultdict[str, list[float]] = defaultdict(list)
    for paradigm, phenomenon in {pair.paradigm: pair.phenomenon for pair in pairs}.items():
        of[phenomenon].append(paradigms[paradigm])
    phenomena = {name: float(np.mean(found)) for name, found in of.items()}
    return BlimpScores(paradigms=paradigms, phenomena=phenomena, pairs=len(pairs))


def _likelihoods(model: nn.Module, processor: Any) -> Likelihoods:
    masked = getattr(processor, "masked", None)
    if masked is None:
        raise NotALanguageModelError(kind=type(processor).__name__)
    tokenizer: TextTokenizer = processor.tokenizer
    return _pseudo(model, tokenizer) if masked else _causal(model, tokenizer)


def _causal(model: nn.Module, tokenizer: TextTokenizer) -> Likelihoods:
    start = tokenizer.text_start
    assert start is not None, "language_modelling refuses a tokenizer without one"

    def encode(sentences: Sequence[str]) -> list[list[int]]:
        if tokenizer.word_level:
            apart = _how_endings_stand(tokenizer)
            sentences = [apart.sub(r" \1\2", sentence) for sentence in sentences]
        return [tokenizer.encode_prompt(sentence).tolist() for sentence in sentences]

    def probe(sentence: Sequence[int]) -> None:
        ids = torch.tensor([[start, *sentence]])
        _check_reads(model, {"input_ids": ids})

    score = partial(log_likelihoods, model, start=start, vocabulary=len(tokenizer))
    return partial(_each_once, encode, probe, score)


def _pseudo(model: nn.Module, tokenizer: TextTokenizer) -> Likelihoods:
    symbols, masked = tokenizer.special_ids, as_masked_model(model)

    def probe(sentence: Sequence[int]) -> None:
        ids = torch.tensor([[symbols["cls_token_id"], *sentence, symbols["sep_token_id"]]])
        _check_reads(masked, {"input_ids": ids, "labels": ids})

    score = partial(
        pseudo_log_likelihoods,
        masked,
        begin=symbols["cls_token_id"],
        end=symbols["sep_token_id"],
        mask=symbols["mask_token_id"],
        pad=symbols["pad_token_id"],
        vocabulary=len(tokenizer),
    )
    encode = partial(tokenizer.ids, reads_special=False)
    return partial(_each_once, encode, probe, score)


def _check_reads(model: nn.Module, row: Mapping[str, Tensor]) -> None:
    name = type(model).__name__
    try:
        read_a_row(name, model.eval(), row)  # it leaves a model as it was, in training or not
    except ModelNotForTaskError as error:
        way_out = "Score a model with more positions."
        raise ModelNotForTaskError(model=name, finding=error.finding, way_out=way_out) from error


def _each_once(
    encode: Callable[[Sequence[str]], list[list[int]]],
    probe: Callable[[Sequence[int]], None],
    score: Callable[[Sequence[Sequence[int]]], np.ndarray],
    sentences: Sequence[str],
) -> np.ndarray:
    """Sentences of the same symbols have the same number: two batches may round differently."""
    ids = [tuple(found) for found in encode(sentences)]
    different = list(dict.fromkeys(ids))
    probe(max(different, key=len))
    values = dict(zip(different, score(different).tolist(), strict=True))
    return np.array([values[found] for found in ids])


def _how_endings_stand(tokenizer: TextTokenizer) -> re.Pattern[str]:
    """Before what its text has a space: the more frequent of two words has the lower number."""
    rarest, ids = len(tokenizer), tokenizer.fast.get_vocab()
    treebank, wikitext = (ids.get(word, rarest) for word in ("n't", "'t"))
    return WIKITEXT if wikitext < treebank else TREEBANK
