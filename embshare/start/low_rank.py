"""Start a shared model from trained weights: low-rank factors and projections.

Pure functions of tensors. A shared model stores a table ``T`` and computes its weights as columns
``T P^T``; here are the ``T`` and ``P`` that come nearest to columns that are given.

Axis letters: v rows (vocabulary), c columns, w columns of weight material, f factor (rank).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from embshare.start.masked_low_rank import complete, frame_of, masked_least_squares
from embshare.start.truncated_svd import balanced_svd, padded, relative_error

__all__ = ["LowRank", "ProjectionFit", "fit_projection", "joint_low_rank", "low_rank_for_inputs"]

FIT_STEPS: Final = 200
"""The most conjugate-gradient steps of a masked projection; 10 to 40 are usual."""
FIT_TOLERANCE: Final = 1e-9
"""Where they stop: the gradient as a part of the one at zero. The error is its square away."""
RIDGE: Final = 1e-4
"""What directions count that no calibration input has, as a part of the mean over directions."""


class LowRank(NamedTuple):
    """Two factors of a matrix, ``left @ right.T``."""

    left: Tensor
    """``(v, f)``: the table."""
    right: Tensor
    """``(c, f)``: the projections, one row for each column."""
    error: float
    """Relative squared error of these factors, as rounded, in what the fit counted."""


class ProjectionFit(NamedTuple):
    """Columns read out of a fixed table, ``table @ projection.T + bias``."""

    projection: Tensor
    """``(w, f)``."""
    bias: Tensor | None
    """``(w,)``, or ``None`` if none was asked for."""
    error: float
    """Relative squared error of projection and bias, as rounded, in what the fit counted."""


@torch.no_grad()
def joint_low_rank(
    columns: Tensor,
    rank: int,
    *,
    known: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LowRank:
    """Approximate a matrix by the product of two narrow ones, best in the least-squares sense.

    The truncated singular value decomposition (Eckart & Young 1936) in float64, exact up to 4,096
    columns or rows and randomised beyond (Halko et al. 2011). With free elements it is repeated
    on a filled matrix (Srebro & Jaakkola 2003), which lowers the error, to a local optimum at best.

    The singular values ``S`` are shared evenly: ``left = U sqrt(S)`` and ``right = V sqrt(S)``, so
    that the same column of either factor has the same norm and neither trains faster than the
    other. The columns go by falling singular value. Signs are fixed; directions of equal singular
    values are as LAPACK returns them, the same in each run on one machine.

    Where the matrix has fewer directions than ``rank``, the remaining columns of ``right`` are
    zero and those of ``left`` random, with the deviation of its other columns: the product is
    unchanged and all of it can train (a column that is zero in both factors never gets a gradient).

    Args:
        columns: ``(v, c)``, any floating type; for a joint start ``[alpha * E | S]``.
        rank: width of the factors, at least 1; at ``min(v, c)`` the product is ``columns`` to
            rounding.
        known: ``(v, c)`` bool, ``False`` for elements that nothing reads. Their values are never
            looked at.
        generator: of the randomised decomposition and the random columns; ``None`` is one with
            seed 0. The global state is never used.
    Returns:
        Factors of the type and on the device of ``columns``, without gradient, and their error.
    Raises:
        ValueError: a shape, type or value is not as said above, or a tensor is on the meta device.
    """
    _check_rank(rank)
    columns = _checked(columns, known)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    unit = _unit(columns)
    work = columns if unit == 1.0 else columns / unit
    if known is None:
        left, right = balanced_svd(work, rank, generator)
    else:
        left, right, _ = complete(work, known, rank, generator)
    left, right = padded(left, right, rank, generator)
    left, right = ((factor * unit**0.5).to(columns.dtype) for factor in (left, right))
    error = relative_error(work, left / unit**0.5, right / unit**0.5, known)
    return LowRank(left, right, error)


@torch.no_grad()
def low_rank_for_inputs(weight: Tensor, rank: int, moment: Tensor) -> LowRank:
    """Approximate a weight so that its products with known inputs change least.

    The mean of ``|(W - L R^T) x|^2`` is the squared error of ``W C`` for any root ``C C^T`` of the
    inputs' second moment, here Cholesky's; so a truncated SVD of ``W C`` is the best there is (Wang
    et al. 2024, SVD-LLM).

    Args:
        weight: ``(n, m)``, any floating type.
        rank: as of `joint_low_rank`.
        moment: ``(m, m)``, the mean of ``x x^T``.
    Returns:
        Factors of the weight's type, and the relative squared error of the products.
    """
    wide = moment.to(torch.float64)
    ridge = RIDGE * wide.diagonal().mean()
    if not ridge > 0:  # no input was other than zero
        return joint_low_rank(weight, rank)
    root = torch.linalg.cholesky(wide + ridge * torch.eye(len(wide)).to(wide))
    single = torch.promote_types(weight.dtype, torch.float32)  # enough for a start, and quicker
    low = joint_low_rank((weight.to(torch.float64) @ root).to(single), rank)
    right = torch.linalg.solve_triangular(
        root, low.right.t().to(torch.float64), upper=False, left=False
    )
    return LowRank(low.left.to(weight.dtype), right.t().to(weight.dtype), low.error)


@torch.no_grad()
def fit_projection(
    table: Tensor,
    columns: Tensor,
    *,
    known: Tensor | None = None,
    bias: bool = False,
) -> ProjectionFit:
    """Fit columns by a table that stays as it is: the least-squares ``projection`` and ``bias``.

    In float64 by QR. Directions of the table weaker than the rounding of its dtype are left
    out, so that a table of lower rank gives the smallest projection instead of a huge one.
    Columns with elements that nothing reads are solved by conjugate gradients.

    Args:
        table: ``(v, f)``, any floating type.
        columns: ``(v, w)``, any floating type.
        known: ``(v, w)`` bool, ``False`` for elements that nothing reads. Their values are never
            looked at.
        bias: also fit a number for each column that is added to all of its elements.
    Returns:
        Projection and bias of the type and on the device of ``table``, without gradient, and
        their error.
    Raises:
        ValueError: a shape, type or value is not as said above, or a tensor is on the meta device.
    """
    _check_matrix("table", table)
    _check_finite("table", table)
    columns = _checked(columns, known)
    if table.shape[0] != columns.shape[0]:
        raise ValueError(
            f"`table` and `columns` must have the same number of rows, "
            f"but have {table.shape[0]:,} and {columns.shape[0]:,}."
        )
    wide = table.detach().to(torch.float64)
    one = float(wide.square().mean().sqrt()) or 1.0  # as large as the table's own columns
    if bias:
        wide = torch.cat([wide, wide.new_full((len(wide), 1), one)], 1)
    floor = max(torch.finfo(table.dtype).eps, max(wide.shape) * torch.finfo(torch.float64).eps)
    found = _solve(wide, columns, known, floor)
    if not bias:
        projection = found.to(table.dtype)
        return ProjectionFit(projection, None, relative_error(columns, table, projection, known))
    projection, offset = found[:, :-1].to(table.dtype), (found[:, -1] * one).to(table.dtype)
    wide[:, -1] = 1.0
    rounded = torch.cat([projection, offset[:, None]], 1)
    return ProjectionFit(projection, offset, relative_error(columns, wide, rounded, known))


def _solve(table: Tensor, columns: Tensor, known: Tensor | None, floor: float) -> Tensor:
    """Fit by a float64 table: directly where all elements of a column are read, or none."""
    frame = frame_of(table, None, floor)
    basis = table @ frame.inward
    found = table.new_zeros(columns.shape[1], table.shape[1])
    even = torch.ones(columns.shape[1], dtype=torch.bool, device=columns.device)
    if known is not None:
        even = known.amin(0) == known.amax(0)
    for part in even.nonzero().flatten().split(256):
        found[part] = (frame.inward @ (basis.T @ columns[:, part].to(torch.float64))).T
    if known is not None and not even.all():
        uneven = (~even).nonzero().flatten()
        narrow = masked_least_squares(
            basis,
            columns[:, uneven],
            known[:, uneven],
            start=None,
            steps=FIT_STEPS,
            tolerance=FIT_TOLERANCE,
        )
        found[uneven] = narrow @ frame.inward.T
    return found


def _unit(columns: Tensor) -> float:
    """What to divide float64 by so that squares neither overflow nor vanish; 1 for other types."""
    if columns.dtype != torch.float64:
        return 1.0
    return float(columns.abs().amax()) or 1.0


def _checked(columns: Tensor, known: Tensor | None) -> Tensor:
    """Columns with zeros where they are free."""
    _check_matrix("columns", columns)
    columns = columns.detach()
    if known is not None:
        _check_like("known", known, columns)
        if known.dtype != torch.bool:
            raise ValueError(f"`known` must be a bool tensor, but is {known.dtype}.")
        columns = columns.where(known, 0)
    _check_finite("columns", columns)
    return columns


def _check_rank(rank: int) -> None:
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, but is {rank}.")


def _check_matrix(name: str, tensor: Tensor) -> None:
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(f"`{name}` must be a matrix with elements, but is {tuple(tensor.shape)}.")
    if not tensor.is_floating_point():
        raise ValueError(f"`{name}` must be of a floating type, but is {tensor.dtype}.")
    if tensor.is_meta:
        raise ValueError(
            f"`{name}` is on the meta device and has no values. Load the weights first, or start "
            f'with init="random".'
        )


def _check_like(name: str, tensor: Tensor, columns: Tensor) -> None:
    if tensor.shape != columns.shape:
        raise ValueError(
            f"`{name}` must have the shape of `columns`, {tuple(columns.shape)}, "
            f"but has {tuple(tensor.shape)}."
        )
    if tensor.device != columns.device:
        raise ValueError(
            f"`{name}` must be on the device of `columns`, {columns.device}, "
            f"but is on {tensor.device}."
        )


def _check_finite(name: str, tensor: Tensor) -> None:
    least, most = torch.aminmax(tensor)
    if not bool(torch.isfinite(least) & torch.isfinite(most)):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"`{name}` must be finite, but {bad:,} of its {tensor.numel():,} elements are not. "
            f"Elements that nothing reads can be named as such with `known`."
        )
