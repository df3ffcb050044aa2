"""Log-likelihoods of sentences: from left to right, or of each token given all others."""

# Axis letters: B rows of a batch, T tokens of the longest one, V of the vocabulary, N sentences.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.probing import read_a_row

__all__ = ["SentenceScorer", "Values", "causal_log_likelihoods", "pseudo_log_likelihoods"]

Values: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
"""One number for each sentence."""

IGNORED: Final = -100
LOGITS: Final = 2**23
"""Maximum number of logits that are computed at once, which bounds the tokens of a batch."""
TOKENS: Final = 2**15
"""Maximum number of tokens of a batch."""


@runtime_checkable
class SentenceScorer(Protocol):
    """A processor whose models are language models."""

    def log_likelihoods(self, model: nn.Module, sentences: Sequence[str]) -> Values:
        """Compute the log-likelihood of each sentence under a model, in nats.

        Args:
            model: of this processor, in evaluation mode.
            sentences: plain text.
        Returns:
            ``[N]``; sentences of the same tokens have the same number.
        Raises:
            ModelNotForTaskError: the model cannot read the longest sentence.
        """
        ...


@torch.inference_mode()
def causal_log_likelihoods(
    model: nn.Module, sentences: Sequence[Sequence[int]], *, start: int, vocabulary: int
) -> Values:
    """Sum ``log p`` of the tokens of each sentence, each given those before it, in nats.

    Args:
        model: causal, in evaluation mode; takes ``input_ids`` and returns ``logits`` ``[B, T, V]``.
        sentences: tokens without a beginning or an end.
        start: the token that the first one is predicted from.
        vocabulary: number of tokens of the vocabulary.
    Returns:
        ``[N]``.
    Raises:
        ModelNotForTaskError: the model cannot read the longest sentence.
    """
    rows, owners = _distinct([(start, *sentence) for sentence in sentences])
    _check_reads(model, torch.tensor([max(rows, key=len)]))
    found, device = np.zeros(len(rows)), next(model.parameters()).device
    for chosen in _batches([len(row) for row in rows], per_token=vocabulary):
        ids, labels = _pad([rows[index] for index in chosen], device)
        logits = _logits(model(input_ids=ids))[:, :-1]
        nats = F.cross_entropy(
            logits.flatten(0, 1).float(),
            labels[:, 1:].flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        found[chosen] = -nats.view(len(chosen), -1).double().sum(dim=1).cpu().numpy()
    return found[owners]


@torch.inference_mode()
def pseudo_log_likelihoods(
    model: nn.Module,
    sentences: Sequence[Sequence[int]],
    *,
    begin: int,
    end: int,
    mask: int,
    pad: int,
    vocabulary: int,
) -> Values:
    """Sum ``log p`` of the tokens of each sentence, each masked alone, in nats.

    Args:
        model: masked, in evaluation mode; takes ``input_ids``, ``labels`` and, where sentences of
            different lengths meet, ``attention_mask``; returns ``logits`` of all positions or of
            the labelled ones.
        sentences: tokens without a beginning or an end.
        begin: the token before each sentence.
        end: the token after it.
        mask: the mask token.
        pad: the padding token.
        vocabulary: number of tokens of the vocabulary.
    Returns:
        ``[N]``.
    Raises:
        ModelNotForTaskError: the model cannot read the longest sentence.
    Source:
        Salazar et al. 2020, Masked Language Model Scoring, section 2.
    """
    rows, owners = _distinct([(begin, *sentence, end) for sentence in sentences])
    longest = torch.tensor([max(rows, key=len)])
    _check_reads(model, longest, labels=longest)
    found, device = np.zeros(len(rows)), next(model.parameters()).device
    lengths = np.array([len(row) for row in rows])
    sources = np.repeat(np.arange(len(rows)), lengths - 2)
    masked = np.concatenate([np.arange(1, length - 1) for length in lengths])
    for chosen in _batches(lengths[sources].tolist(), per_token=1):
        of, where = sources[chosen], torch.from_numpy(masked[chosen]).to(device)
        whole, real = _pad([rows[index] for index in of], device)
        each = torch.arange(len(chosen), device=device)
        ids, labels = whole.clone(), torch.full_like(whole, IGNORED)
        labels[each, where] = whole[each, where]
        ids[each, where] = mask
        attention = real != IGNORED
        ids[~attention] = pad
        given = {"input_ids": ids, "labels": labels}
        if not attention.all():
            given["attention_mask"] = attention.long()
        for part in each.split(max(1, LOGITS // vocabulary)):
            logits = _logits(model(**{name: tensor[part] for name, tensor in given.items()}))
            # A model may score the labelled positions alone: one in each row.
            logits = logits.reshape(len(part), -1, logits.shape[-1]).float()
            at = where[part] if logits.shape[1] > 1 else torch.zeros_like(where[part])
            scores, wanted = logits[torch.arange(len(part)), at], whole[part, where[part]]
            log_p = -F.cross_entropy(scores, wanted, reduction="none").double()
            np.add.at(found, of[part.cpu().numpy()], log_p.cpu().numpy())
    return found[owners]


def _distinct(sentences: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Rows that differ, and the number of each sentence's row.

    Two batches may round differently: sentences of the same tokens must have the same number.
    """
    numbers = {row: number for number, row in enumerate(dict.fromkeys(sentences))}
    return list(numbers), [numbers[row] for row in sentences]


def _check_reads(model: nn.Module, ids: Tensor, *, labels: Tensor | None = None) -> None:
    name = type(model).__name__
    given = {"input_ids": ids} if labels is None else {"input_ids": ids, "labels": labels}
    try:
        read_a_row(name, model.eval(), given)  # leaves a model in the mode that it finds it in
    except ModelNotForTaskError as error:
        hint = "Score a model with more positions."
        raise ModelNotForTaskError(model=name, finding=error.finding, hint=hint) from error


def _batches(lengths: Sequence[int], *, per_token: int) -> Iterator[np.ndarray]:
    """Numbers of rows of about one length, as many as memory is meant to hold."""
    order = np.argsort(np.asarray(lengths, dtype=int), kind="stable")
    most = max(1, min(TOKENS, LOGITS // per_token))
    begin = 0
    while begin < len(order):
        after = begin + 1
        while after < len(order) and (after + 1 - begin) * lengths[order[after]] <= most:
            after += 1
        yield order[begin:after]
        begin = after


def _pad(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows as ``[B, T]``, filled with 0; and as labels, filled with -100."""
    longest = max(len(row) for row in rows)
    filled = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    labels = torch.from_numpy(filled).to(device)
    return labels.clamp(min=0), labels


def _logits(output: Any) -> Tensor:
    logits: Tensor = output["logits"]
    return logits
