"""Least squares and low-rank approximation where some elements are free.

Axis letters: v rows (vocabulary), c columns, f width of the factors.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from embshare.start.truncated_svd import CHUNK_ELEMENTS, balanced_svd, relative_error

__all__ = ["Frame", "complete", "frame_of", "masked_least_squares"]

ROUNDS: Final = 4
"""Times that free elements are filled in and all is fitted again."""
FILL_STEPS: Final = 8
"""Conjugate-gradient steps for the columns that have free elements."""
ENOUGH: Final = 1e-3
"""A round that takes less than this part off the error is the last."""


class Frame(NamedTuple):
    """An orthonormal basis of a table's columns, and the way back to the table's own columns."""

    inward: Tensor
    """``(f, r)``: ``table @ inward`` is orthonormal under the weights of the rows."""
    outward: Tensor
    """``(r, f)``: the pseudo-inverse of ``inward``."""


def frame_of(table: Tensor, row_weights: Tensor | None, floor: float) -> Frame:
    """Find the basis by QR and an SVD of the triangle, which keeps what a Gram matrix loses.

    Args:
        table: ``(v, f)`` in float64.
        row_weights: ``(v,)``, non-negative; ``None`` is 1 for all.
        floor: directions with a singular value below this part of the largest are left out.
    Returns:
        A frame of as many directions as are left, perhaps none.
    """
    scaled = table if row_weights is None else table * row_weights.sqrt()[:, None]
    triangle = torch.linalg.qr(scaled, mode="r").R
    _, values, vh = torch.linalg.svd(triangle, full_matrices=False)
    live = values > floor * values.amax()
    values, vh = values[live], vh[live]
    return Frame(vh.T / values, vh * values[:, None])


def _conjugate_gradients(
    basis: Tensor, columns: Tensor, weights: Tensor, start: Tensor, steps: int, tolerance: float
) -> Tensor:
    """Lower ``sum w (columns - basis x)^2`` column by column, all columns side by side.

    Each step lowers every column's error. Columns that are done are left alone, so that a singular
    system keeps the solution nearest to ``start``.
    """
    found = start.clone()
    slope = basis.T @ (columns - basis @ found).mul_(weights)
    way, size = slope, slope.square().sum(0)
    goal = torch.zeros_like(size)
    if tolerance > 0:
        goal = tolerance**2 * (basis.T @ (columns * weights)).square().sum(0)
    for _ in range(steps):
        busy = size > goal
        if not busy.any():
            break
        bend = basis.T @ (basis @ way).mul_(weights)
        curvature = (way * bend).sum(0)
        busy &= curvature > 0
        stride = torch.where(busy, size / curvature.where(busy, 1), 0)
        found += stride * way
        slope = slope - stride * bend
        now = slope.square().sum(0)
        way = slope + torch.where(busy, now / size.where(busy, 1), 0) * way
        size = torch.where(busy, now, 0)
    return found


def masked_least_squares(
    table: Tensor,
    columns: Tensor,
    known: Tensor,
    *,
    start: Tensor | None,
    steps: int,
    tolerance: float,
) -> Tensor:
    """Fit the known elements of each column by the table's columns.

    A direct solution needs ``2 v c f^2`` operations, hours for a BERT at ``f = 768``; conjugate
    gradients need ``4 v c f`` a step, and few steps in the frame of how much is known of each row.

    Args:
        table: ``(v, f)`` in float64.
        columns: ``(v, c)``, any floating type.
        known: ``(v, c)``, boolean.
        start: ``(c, f)`` in float64, a first guess that the result is never worse than.
        steps: the most steps taken.
        tolerance: a column is done when its gradient is this part of the one at zero.
    Returns:
        ``(c, f)`` in float64. Among equally good solutions one near ``start``, or near zero.
    """
    floor = max(table.shape) * torch.finfo(torch.float64).eps
    frame = frame_of(table, known.sum(1, dtype=torch.float64) / known.shape[1], floor)
    basis = table @ frame.inward
    width = max(1, CHUNK_ELEMENTS // columns.shape[0])
    guess = columns.new_zeros(columns.shape[1], table.shape[1], dtype=torch.float64)
    guess = guess if start is None else start
    found = [
        _conjugate_gradients(
            basis,
            part.to(torch.float64),
            mask.to(torch.float64),
            frame.outward @ first.T,
            steps,
            tolerance,
        )
        for part, mask, first in zip(
            columns.split(width, 1), known.split(width, 1), guess.split(width), strict=True
        )
    ]
    return (frame.inward @ torch.cat(found, 1)).T


def complete(
    columns: Tensor, known: Tensor, rank: int, generator: torch.Generator, *, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """Approximate the known elements; the others may become anything.

    Each round fits the columns that have free elements by the left factor on their known ones,
    fills the free ones in with the fit, and decomposes again: the imputation of Srebro & Jaakkola
    (2003, section 4) with a better filling. The error on the known elements never rises.

    Args:
        columns: ``(v, c)``, any floating type; free elements must be finite, their values are
            the first filling.
        known: ``(v, c)`` bool.
        rank: at least 1.
        generator: of `balanced_svd`.
        rounds: the most rounds; fewer if one gains less than `ENOUGH`.
    Returns:
        As `balanced_svd`, and the relative squared errors of the known elements, of the first
        decomposition and after each round. If all is known, that decomposition is the answer.
    """
    left, right = balanced_svd(columns, rank, generator)
    holes = (~known).any(0).nonzero().flatten()
    errors = [relative_error(columns, left, right, known)]
    filled, mask = columns.clone() if len(holes) else columns, known[:, holes]
    for _ in range(rounds if len(holes) and left.shape[1] else 0):
        part = filled[:, holes]
        fit = masked_least_squares(
            left, part, mask, start=right[holes], steps=FILL_STEPS, tolerance=0.0
        )
        filled[:, holes] = torch.where(mask, part, (left @ fit.T).to(part.dtype))
        new_left, new_right = balanced_svd(filled, rank, generator)
        error = relative_error(columns, new_left, new_right, known)
        if not error < errors[-1]:
            break
        left, right, gain = new_left, new_right, 1 - error / errors[-1]
        errors.append(error)
        if gain < ENOUGH:
            break
    return left, right, tuple(errors)
