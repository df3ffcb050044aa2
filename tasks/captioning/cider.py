"""CIDEr-D of many captions at once, as tensor arithmetic; fast enough to be a training signal.

Source:
    Vedantam, Zitnick & Parikh 2015, "CIDEr: Consensus-based Image Description Evaluation",
    equations 1 to 4 and section 7 (the variant D: clipped counts, a Gaussian of the difference in
    length with sigma 6, times ten), as pycocoevalcap computes it: the length is that in pairs of
    words, and the document frequency of what no reference holds is 1.
"""

# Axis letters: N captions, K references of each, T and S words, U distinct n-grams.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from embshare.errors import InvalidValueError

__all__ = ["ORDERS", "Frequencies", "cider_d", "ngram_keys", "pad_references", "pad_rows"]

ORDERS: Final = (1, 2, 3, 4)
SIGMA: Final = 6.0
NONE: Final = -1  # the key of a place where no n-gram stands
MOST_WORDS: Final = math.floor(2 ** (63 / len(ORDERS))) - 1  # so that four of them fit into a key


def pad_rows(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as ``[N, T]`` of int64 with zeros behind, and their lengths."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    width = max(1, *map(len, rows), 1)
    padded = [torch.tensor([*row, 0], dtype=torch.int64) for row in rows]
    return pad_sequence(padded, batch_first=True)[:, :width], lengths


def pad_references(rows: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """References as ``[N, K, S]`` with zeros behind, and lengths ``[N, K]``, -1 where is none."""
    most = max(len(lines) for lines in rows)
    words, lengths = pad_rows([line for lines in rows for line in (*lines, *[()] * most)[:most]])
    counts = torch.tensor([len(lines) for lines in rows])
    missing = torch.arange(most) >= counts[:, None]
    return words.unflatten(0, (-1, most)), lengths.unflatten(0, (-1, most)).masked_fill(missing, -1)


def ngram_keys(words: Tensor, lengths: Tensor, order: int, base: int) -> Tensor:
    """A number for the n-gram that begins at each word, equal where the n-grams are equal.

    Args:
        words: ``[..., T]``, below ``base``.
        lengths: ``[...]``; what stands behind them is padding.
        order: words of an n-gram, 1 to 4.
        base: words that there are, at most `MOST_WORDS`.
    Returns:
        ``[..., T]`` of int64, -1 where no whole n-gram begins.
    """
    size = words.shape[-1]
    key = torch.zeros_like(words)
    behind = F.pad(words, (0, order))
    for step in range(order):
        key = key * base + behind[..., step : step + size]
    place = torch.arange(size, device=words.device)
    return key.masked_fill(place + order > lengths[..., None], NONE)


@dataclass(frozen=True)
class Frequencies:
    """In how many images' references each n-gram stands."""

    keys: tuple[Tensor, ...]
    """For each order the n-grams ``[U]``, ascending."""
    weights: tuple[Tensor, ...]
    """Their inverse document frequency ``log(images / count)``, ``[U]`` of float64."""
    images: int
    base: int
    """Words that there are."""

    @classmethod
    def count(cls, references: Sequence[Sequence[Sequence[int]]], base: int) -> Frequencies:
        """From the references of each image, each a list of word numbers below ``base``.

        Raises:
            InvalidValueError: there are no references, or too many words for a key.
        """
        if not 0 < base <= MOST_WORDS:
            fault = f"there must be at most {MOST_WORDS:,} different words, but are {base:,}"
            raise InvalidValueError(what="CIDEr-D", faults=[fault])
        if not references:
            raise InvalidValueError(what="CIDEr-D", faults=["there are no references"])
        words, lengths = pad_rows([row for rows in references for row in rows])
        image = torch.repeat_interleave(torch.tensor([len(rows) for rows in references]))
        keys, weights = [], []
        for order in ORDERS:
            found = ngram_keys(words, lengths, order, base)
            pairs = torch.stack((image[:, None].expand_as(found), found), dim=-1).view(-1, 2)
            once = torch.unique(pairs[pairs[:, 1] != NONE], dim=0)[:, 1]
            distinct, counts = torch.unique(once, return_counts=True)
            keys.append(distinct)
            weights.append(math.log(len(references)) - counts.double().log())
        return cls(tuple(keys), tuple(weights), len(references), base)

    def weigh(self, keys: Tensor, order: int) -> Tensor:
        """The inverse document frequency of n-grams, of the shape of ``keys``; 0 for -1."""
        known, weights = self.keys[order - 1], self.weights[order - 1]
        unknown = torch.full_like(keys, 0, dtype=torch.float64).fill_(math.log(self.images))
        if len(known):
            place = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
            unknown = torch.where(known[place] == keys, weights[place], unknown)
        return unknown.masked_fill(keys == NONE, 0.0)


def cider_d(
    words: Tensor,
    lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    frequencies: Frequencies,
) -> Tensor:
    """CIDEr-D of each caption, from 0 to 10.

    Args:
        words: of the captions, ``[N, T]``.
        lengths: ``[N]``.
        references: ``[N, K, S]``.
        reference_lengths: ``[N, K]``; -1 where a caption has fewer references than ``K``.
        frequencies: of the references that it is computed against, or of the training set's.
    Returns:
        ``[N]`` of float64.
    """
    missing = reference_lengths < 0
    lengths_of = reference_lengths.clamp(min=0)
    pairs = (lengths - 1).clamp(min=0)[:, None] - (lengths_of - 1).clamp(min=0)
    penalty = torch.exp(-(pairs.double() ** 2) / (2 * SIGMA**2))
    total = torch.zeros_like(penalty)
    for order in ORDERS:
        total = total + _similarity(
            ngram_keys(words, lengths, order, frequencies.base),
            ngram_keys(references, lengths_of, order, frequencies.base),
            frequencies,
            order,
        )
    scored = (total * penalty / len(ORDERS)).masked_fill(missing, 0.0)
    return 10 * scored.sum(dim=1) / (~missing).sum(dim=1).clamp(min=1)


def _similarity(keys: Tensor, others: Tensor, frequencies: Frequencies, order: int) -> Tensor:
    """The clipped cosine of captions ``[N, T]`` and references ``[N, K, S]``: ``[N, K]``.

    Sums over distinct n-grams are sums over places, each divided by how often its n-gram stands.
    """
    weight = frequencies.weigh(keys, order)[:, None]  # [N, 1, T]
    count = _counts(keys, keys)[:, None]
    found = _counts(keys[:, None], others)  # [N, K, T]
    product = (torch.minimum(count, found) * found * weight**2 / count).sum(dim=-1)
    norm = (weight**2 * count).sum(dim=-1).sqrt()
    other = (frequencies.weigh(others, order) ** 2 * _counts(others, others)).sum(dim=-1).sqrt()
    scale = norm * other
    return torch.where(scale > 0, product / scale.clamp(min=1e-300), 0.0)


def _counts(keys: Tensor, among: Tensor) -> Tensor:
    """How often each key ``[..., T]`` stands among others ``[..., S]``."""
    return (keys[..., :, None] == among[..., None, :]).sum(dim=-1).double()
