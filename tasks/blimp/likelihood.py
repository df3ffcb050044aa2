"""How likely a model holds a sentence: from left to right, or each symbol from all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.tasks.text.masked_models import labelled_logits

__all__ = ["log_likelihoods", "pseudo_log_likelihoods"]

IGNORED: Final = -100
LOGITS: Final = 2**23
"""Most logits that are computed at once, and by them most symbols of a batch."""
SYMBOLS: Final = 2**15


@torch.inference_mode()
def log_likelihoods(
    model: nn.Module, sentences: Sequence[Sequence[int]], *, start: int, vocabulary: int
) -> np.ndarray:
    """``log p`` of each sentence in nats: the sum over its symbols, each after those before it.

    Args:
        model: causal, in evaluation mode; takes ``input_ids`` and returns ``logits`` ``[B, T, V]``.
        sentences: symbols without a beginning or an end.
        start: the symbol in whose sight the first one is predicted.
        vocabulary: number of symbols.
    Returns:
        ``[N]`` of float64.
    """
    found = np.zeros(len(sentences))
    lengths = [len(sentence) + 1 for sentence in sentences]
    device = next(model.parameters()).device
    for rows in _batches(lengths, per_symbol=vocabulary):
        ids, labels = _pad([[start, *sentences[row]] for row in rows], device)
        logits = _logits(model(input_ids=ids))[:, :-1]
        nats = F.cross_entropy(
            logits.flatten(0, 1).float(),
            labels[:, 1:].flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        found[rows] = -nats.view(len(rows), -1).double().sum(dim=1).cpu().numpy()
    return found


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
) -> np.ndarray:
    """The sum of ``log p`` of each symbol where it alone is hidden, in nats.

    Args:
        model: masked, in evaluation mode; takes ``input_ids``, ``attention_mask`` and ``labels``.
        sentences: symbols without a beginning or an end.
        begin: stands before each sentence.
        end: stands behind it.
        mask: stands in place of the symbol that is predicted.
        pad: fills rows.
        vocabulary: number of symbols.
    Returns:
        ``[N]`` of float64.
    Source:
        Salazar et al. 2020, Masked Language Model Scoring, section 2.
    """
    found = np.zeros(len(sentences))
    owners = np.repeat(np.arange(len(sentences)), [len(sentence) for sentence in sentences])
    places = np.concatenate([np.arange(len(s)) for s in sentences] or [np.empty(0, dtype=int)])
    lengths = np.array([len(sentence) + 2 for sentence in sentences], dtype=int)[owners]
    device = next(model.parameters()).device
    for rows in _batches(lengths.tolist(), per_symbol=1):
        which, where = owners[rows], torch.from_numpy(places[rows]).to(device) + 1
        whole, real = _pad([[begin, *sentences[index], end] for index in which], device)
        each = torch.arange(len(rows), device=device)
        hidden, labels = whole.clone(), torch.full_like(whole, IGNORED)
        labels[each, where] = whole[each, where]
        hidden[each, where] = mask
        attention = real != IGNORED
        hidden[~attention] = pad
        given = {} if bool(attention.all()) else {"attention_mask": attention.long()}
        for part in each.split(max(1, LOGITS // vocabulary)):
            output = model(
                input_ids=hidden[part],
                labels=labels[part],
                **{k: v[part] for k, v in given.items()},
            )
            logits = labelled_logits(_logits(output), labels[part]).float()
            wanted = whole[part, where[part]]
            log_p = -F.cross_entropy(logits, wanted, reduction="none").double()
            np.add.at(found, which[part.cpu().numpy()], log_p.cpu().numpy())
    return found


def _batches(lengths: Sequence[int], *, per_symbol: int) -> Iterator[np.ndarray]:
    """Numbers of rows of about one length, as many as memory is meant to hold."""
    order = np.argsort(np.asarray(lengths, dtype=int), kind="stable")
    most = max(1, min(SYMBOLS, LOGITS // per_symbol))
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
