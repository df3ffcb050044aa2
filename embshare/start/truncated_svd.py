"""Truncated singular value decomposition of tall float matrices, in row chunks.

Axis letters: v rows (vocabulary), c columns, f rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

__all__ = ["CHUNK_ELEMENTS", "balanced_svd", "padded", "relative_error", "row_chunks"]

EXACT_SIDE: Final = 4096
"""Up to this length of the shorter side the decomposition is exact (seconds, 128 MiB)."""
CHUNK_ELEMENTS: Final = 1 << 22
"""Elements that are converted to float64 at a time (32 MiB)."""
POWER_STEPS: Final = 6
"""Subspace iterations of the randomised decomposition."""
NEGLIGIBLE: Final = 1e-9
"""Singular values below this part of the largest are lost in the rounding of float32 factors."""


def row_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Iterate over the rows of several tensors together, a few as float64 at a time.

    Args:
        tensors: each ``(v, any)``, of any type.
    Yields:
        The same rows of each, in float64; a view where a tensor is float64 already.
    """
    rows = max(1, CHUNK_ELEMENTS // max(1, max(tensor.shape[1] for tensor in tensors)))
    for parts in zip(*(tensor.split(rows) for tensor in tensors), strict=True):
        yield tuple(part.to(torch.float64) for part in parts)


def relative_error(
    columns: Tensor, left: Tensor, right: Tensor, weights: Tensor | None = None
) -> float:
    """Squared error of ``left @ right.T`` as a part of the squared size of ``columns``.

    Args:
        columns: ``(v, c)``.
        left: ``(v, f)``.
        right: ``(c, f)``.
        weights: ``(v, c)``, non-negative or boolean: what each squared element counts.
    Returns:
        ``sum w (columns - left right^T)^2 / sum w columns^2``; 0 where both sums are 0.
    """
    lost = torch.zeros((), dtype=torch.float64, device=columns.device)
    size = torch.zeros_like(lost)
    factor = right.to(torch.float64).T
    for part, rows, *rest in row_chunks(columns, left, *([] if weights is None else [weights])):
        weight = rest[0] if rest else torch.ones((), dtype=part.dtype, device=part.device)
        size += (part.square() * weight).sum()
        lost += ((part - rows @ factor).square_() * weight).sum()
    if lost == 0:
        return 0.0
    return float(lost / size)


def _gram(columns: Tensor) -> Tensor:
    side = columns.shape[1]
    total = torch.zeros(side, side, dtype=torch.float64, device=columns.device)
    for (part,) in row_chunks(columns):
        total.addmm_(part.T, part)
    return total


def _gram_times(columns: Tensor, basis: Tensor) -> Tensor:
    total = torch.zeros_like(basis)
    for (part,) in row_chunks(columns):
        total.addmm_(part.T, part @ basis)
    return total


def _times(columns: Tensor, basis: Tensor) -> Tensor:
    return torch.cat([part @ basis for (part,) in row_chunks(columns)])


def _exact_basis(columns: Tensor, rank: int) -> Tensor:
    """The first ``rank`` right singular vectors, ``(c, rank)`` in float64.

    For float32 the eigenvectors of the Gram matrix in float64: what squaring loses lies at 1e-8
    of the largest singular value, below the rounding of the input. For float64 QR, then an SVD.
    """
    if columns.dtype == torch.float64:
        triangle = torch.linalg.qr(columns, mode="r").R
        right: Tensor = torch.linalg.svd(triangle, full_matrices=False).Vh[:rank].T
        return right
    found: Tensor = torch.linalg.eigh(_gram(columns)).eigenvectors[:, -rank:].flip(1)
    return found


def _random_basis(columns: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    """Approximate `_exact_basis` by subspace iteration (Halko et al. 2011, algorithm 4.4)."""
    side = columns.shape[1]
    width = min(side, rank + max(16, rank // 4))
    start = torch.randn(
        side, width, dtype=torch.float64, generator=generator, device=generator.device
    )
    basis = torch.linalg.qr(start.to(columns.device)).Q
    for _ in range(POWER_STEPS):
        basis = torch.linalg.qr(_gram_times(columns, basis)).Q
    inner = basis.T @ _gram_times(columns, basis)
    turned: Tensor = basis @ torch.linalg.eigh(inner).eigenvectors[:, -rank:].flip(1)
    return turned


def _split_evenly(scaled: Tensor, basis: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Share the singular values between ``scaled = U S`` and the orthonormal ``basis = V``."""
    values = torch.linalg.vector_norm(scaled, dim=0)
    floor = NEGLIGIBLE
    if dtype == torch.float64:
        floor = max(scaled.shape[0], basis.shape[0]) * torch.finfo(torch.float64).eps
    live = values > floor * values.amax()
    scaled, basis, roots = scaled[:, live], basis[:, live], values[live].sqrt()
    peaks = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    return scaled.mul_(peaks / roots), basis * (peaks * roots)


def balanced_svd(columns: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The best approximation of at most the given rank (Eckart & Young 1936).

    Exact where the shorter side is at most `EXACT_SIDE` or the rank a quarter of it or more, else
    randomised (Halko et al. 2011). The product projects ``columns`` on an orthonormal basis, so at
    full rank it is ``columns`` to rounding, whatever the accuracy of the singular values.

    Args:
        columns: ``(v, c)``, finite, any floating type.
        rank: at least 1.
        generator: of the randomised start; untouched by the exact decomposition.
    Returns:
        ``left = U sqrt(S)`` ``(v, r)`` and ``right = V sqrt(S)`` ``(c, r)`` in float64, by falling
        singular value, without negligible ones: ``r`` may be less than ``rank``, even 0. The
        entry of largest magnitude in each singular vector of the shorter side is positive.
    """
    if columns.shape[0] < columns.shape[1]:
        right, left = balanced_svd(columns.T, rank, generator)
        return left, right
    side = columns.shape[1]
    rank = min(rank, side)
    if side <= EXACT_SIDE or 4 * rank >= side:
        basis = _exact_basis(columns, rank)
    else:
        basis = _random_basis(columns, rank, generator)
    return _split_evenly(_times(columns, basis), basis, columns.dtype)


def padded(
    left: Tensor, right: Tensor, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Widen two factors to ``rank`` columns without changing their product.

    A column that is zero in both factors would never train: each one's gradient is a multiple of
    the other. So the new columns of ``left`` are random and those of ``right`` are zero; the right
    ones train from the first step and the left ones from the second.

    Args:
        left: ``(v, r)``.
        right: ``(c, r)``.
        rank: at least ``r``.
        generator: of the random columns.
    Returns:
        ``(v, rank)`` and ``(c, rank)``. The new columns of ``left`` have the root mean square of
        its old ones, or ``v ** -0.5`` if there are none.
    """
    (rows, have), missing = left.shape, rank - left.shape[1]
    if missing == 0:
        return left, right
    std = float(left.square().mean().sqrt()) if have else rows**-0.5
    noise = torch.randn(
        rows, missing, dtype=left.dtype, generator=generator, device=generator.device
    )
    nothing = right.new_zeros(right.shape[0], missing)
    return torch.cat([left, noise.to(left.device) * std], 1), torch.cat([right, nothing], 1)
