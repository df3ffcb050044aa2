"""Geometry of an embedding table, as functions of tensors: isotropy, neighbours, norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["isotropy", "mean_cosine", "neighbours_kept", "norms_against_frequency"]

CHUNK = 256  # tokens whose similarity to all others is in memory at once


def isotropy(table: Tensor) -> float:
    """Measure how evenly rows point in all directions, by their partition function.

    ``min_c Z(c) / max_c Z(c)`` with ``Z(c) = sum_i exp(c . w_i)`` over the eigenvectors ``c`` of
    ``W^T W``, both ways round: equation 6 of Mu and Viswanath, All-but-the-Top, ICLR 2018. It is 1
    for rows that point everywhere alike, and near 0 where most point into one direction.

    Args:
        table: ``[V, D]``, finite.
    Returns:
        From 0 to 1.
    """
    rows = table.detach().double()
    _, directions = torch.linalg.eigh(rows.T @ rows)  # in the columns
    along = rows @ directions
    logs = torch.logsumexp(torch.cat((along, -along), dim=1), dim=0)
    return float((logs.min() - logs.max()).exp())


def mean_cosine(table: Tensor) -> float:
    """Average the cosine of all pairs of two different rows; rows of zeros are left out.

    0 for rows that point everywhere alike, 1 where all point the same way; NaN for fewer than two.

    Args:
        table: ``[V, D]``.
    """
    rows = table.detach().double()
    rows = rows[rows.norm(dim=1) > 0]
    count = len(rows)
    if count < 2:
        return float("nan")
    total = F.normalize(rows, dim=1).sum(dim=0)
    return float((total @ total - count) / (count * (count - 1)))


def neighbours_kept(before: Tensor, after: Tensor, tokens: Tensor, *, k: int = 10) -> float:
    """Share of the nearest neighbours of some tokens that are the same in two tables.

    Neighbours are the ``k`` other rows of largest cosine, among all rows of the same table.

    Args:
        before: ``[V, D]``.
        after: ``[V, D']``: the same tokens, perhaps in another width.
        tokens: ``[N]``, indices of rows.
        k: Number of neighbours; fewer where a table has fewer other rows.
    Returns:
        From 0 to 1; two random tables keep about ``k / V``.
    """
    k = min(k, len(before) - 1)
    if not k or not len(tokens):
        return float("nan")
    kept = 0
    for chunk in tokens.split(CHUNK):
        one, other = (_neighbours(table, chunk, k) for table in (before, after))
        kept += int((one[:, :, None] == other[:, None, :]).sum())
    return kept / (len(tokens) * k)


def _neighbours(table: Tensor, tokens: Tensor, k: int) -> Tensor:
    """Indices ``[N, k]`` of the nearest rows to some, themselves left out."""
    unit = F.normalize(table.detach().float(), dim=1)
    cosines = unit[tokens] @ unit.T
    cosines[torch.arange(len(tokens)), tokens] = -torch.inf
    return cosines.topk(k, dim=1).indices


def norms_against_frequency(table: Tensor, frequency: Tensor) -> float:
    """Rank correlation (Spearman) of the rows' norms with how frequent their tokens are.

    Args:
        table: ``[V, D]``.
        frequency: ``[V]``, counts, or anything that rises with them.
    Returns:
        From -1 to 1; NaN where all norms, or all frequencies, are equal.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    norms = table.detach().double().norm(dim=1)
    ranks = [torch.from_numpy(rankdata(each.numpy())) for each in (norms, frequency.double())]
    one, other = (rank - rank.mean() for rank in ranks)
    return float(one @ other / (one.norm() * other.norm()))
