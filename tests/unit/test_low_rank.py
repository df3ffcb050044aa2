"""Low-rank factors and projections against slow, obvious references."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from embshare.start import masked_low_rank, truncated_svd
from embshare.start.low_rank import fit_projection, joint_low_rank, low_rank_for_inputs

SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 2**31)
FLOATS = st.sampled_from([torch.float32, torch.float64])
HALVES = [torch.float16, torch.bfloat16]
check = settings(max_examples=60, deadline=None)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed)).to(dtype)


def uniform(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=seeded(seed))


def best_error(columns: Tensor, rank: int) -> float:
    """Eckart and Young: what the singular values beyond the rank hold."""
    squares = torch.linalg.svdvals(columns.double()).square()
    return float(squares[rank:].sum() / squares.sum())


def error_of(columns: Tensor, fit: Tensor, weights: Tensor | None = None) -> float:
    weights = torch.ones_like(columns) if weights is None else weights.double()
    lost = weights * (columns.double() - fit.double()) ** 2
    return float(lost.sum() / (weights * columns.double() ** 2).sum())


def lstsq_one_by_one(table: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """A weighted least-squares fit of each column on its own; ``(w, f)``."""
    fits = []
    for column, weight in zip(columns.T, weights.T, strict=True):
        root = weight.sqrt()
        scaled = torch.linalg.pinv(table * root[:, None], rtol=1e-10)
        fits.append(scaled @ (column * root))
    return torch.stack(fits)


# ---------------------------------------------------------------- joint_low_rank, unweighted


@check
@given(SIZES, SIZES, st.integers(1, 14), SEEDS, FLOATS)
def test_the_error_is_the_least_there_is(
    v: int, c: int, rank: int, seed: int, dtype: torch.dtype
) -> None:
    columns = normal(v, c, seed=seed, dtype=dtype)
    left, right, error = joint_low_rank(columns, rank)
    assert left.shape == (v, rank) and right.shape == (c, rank) and left.dtype == dtype
    assert error == pytest.approx(best_error(columns, rank), rel=1e-5, abs=1e-12)
    assert error == pytest.approx(error_of(columns, left.double() @ right.double().T), abs=1e-14)


@check
@given(SIZES, SIZES, st.integers(0, 3), SEEDS, FLOATS)
def test_full_rank_gives_the_matrix_back(
    v: int, c: int, extra: int, seed: int, dtype: torch.dtype
) -> None:
    columns = normal(v, c, seed=seed, dtype=dtype)
    left, right, _ = joint_low_rank(columns, min(v, c) + extra)
    atol = 4 * torch.finfo(dtype).eps * float(torch.linalg.matrix_norm(columns.double(), ord=2))
    torch.testing.assert_close(left @ right.T, columns, rtol=0, atol=2 * atol)


def test_full_rank_holds_for_singular_values_across_seven_decades() -> None:
    u, v = torch.linalg.qr(normal(300, 200)).Q, torch.linalg.qr(normal(200, 200, seed=1)).Q
    columns = ((u * torch.logspace(0, -7, 200, dtype=torch.float64)) @ v.T).float()
    left, right, error = joint_low_rank(columns, 200)
    torch.testing.assert_close(left @ right.T, columns, rtol=0, atol=1e-7)
    assert error < 1e-13


@check
@given(st.integers(2, 9), st.integers(2, 9), SEEDS)
def test_no_change_of_the_factors_is_better(v: int, c: int, seed: int) -> None:
    columns, rank = normal(v, c, seed=seed), max(1, min(v, c) // 2)
    left, right, error = joint_low_rank(columns, rank)
    for k, step in enumerate((1e-3, 1e-2, 1e-1, 1.0)):
        other_left = left + step * normal(v, rank, seed=seed + 2 * k + 1)
        other_right = right + step * normal(c, rank, seed=seed + 2 * k + 2)
        assert error <= error_of(columns, other_left @ other_right.T) + 1e-14


def test_the_factors_share_the_singular_values_evenly_and_have_fixed_signs() -> None:
    columns = normal(30, 20, dtype=torch.float32)
    left, right, _ = joint_low_rank(columns, 6)
    values = torch.linalg.svdvals(columns)[:6]
    torch.testing.assert_close(left.norm(dim=0).square(), values)
    torch.testing.assert_close(right.norm(dim=0).square(), values)
    assert (right.gather(0, right.abs().argmax(0, keepdim=True)) > 0).all()
    negated = joint_low_rank(-columns, 6)
    torch.testing.assert_close(negated.right, right)
    torch.testing.assert_close(negated.left, -left)


def test_wide_is_tall_turned_over() -> None:
    columns = normal(9, 30)
    tall, wide = joint_low_rank(columns.T, 4), joint_low_rank(columns, 4)
    assert torch.equal(tall.left, wide.right) and torch.equal(tall.right, wide.left)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["zero", "low rank", "repeated", "two zero columns"])
def test_rank_beyond_the_matrix_keeps_the_product_and_trains(kind: str, dtype: torch.dtype) -> None:
    columns = {
        "zero": torch.zeros(20, 8, dtype=torch.float64),
        "low rank": torch.ones(20, 8, dtype=torch.float64),
        "repeated": normal(20, 4).repeat(1, 2),
        "two zero columns": torch.cat([normal(20, 6), torch.zeros(20, 2).double()], 1),
    }[kind].to(dtype)
    factors = joint_low_rank(columns, 10, generator=seeded(3))
    left, right = (factor.clone().requires_grad_() for factor in factors[:2])
    product = left @ right.T
    torch.testing.assert_close(product, columns, atol=1e-5, rtol=0)
    assert factors.error < 1e-12
    assert (left != 0).any(0).all(), "a column that is zero in the left factor"
    product.backward(normal(20, 8, dtype=dtype))
    assert left.grad is not None and right.grad is not None
    alive = (left.grad.norm(dim=0) > 1e-3) | (right.grad.norm(dim=0) > 1e-3)
    assert alive.all()
    again = joint_low_rank(columns, 10, generator=seeded(3))
    assert torch.equal(again.left, factors.left)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_double_precision_does_not_overflow(scale: float) -> None:
    columns = normal(12, 7) * scale
    left, right, error = joint_low_rank(columns, 3)
    assert error == pytest.approx(best_error(columns / scale, 3))
    assert error_of(columns / scale, (left / scale) @ right.T) == pytest.approx(error)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_comes_back_as_it_was(dtype: torch.dtype) -> None:
    columns = normal(40, 12, dtype=dtype)
    left, right, error = joint_low_rank(columns, 5)
    assert left.dtype == right.dtype == dtype
    assert error == pytest.approx(best_error(columns, 5), rel=1e-3)
    assert error == pytest.approx(error_of(columns, left.double() @ right.double().T))
    assert joint_low_rank(columns, 12).error < torch.finfo(dtype).eps ** 2


def test_the_randomised_decomposition_is_near_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    decay = torch.arange(1, 201, dtype=torch.float64) ** -0.7
    columns = ((normal(300, 200) * decay) @ normal(200, 200, seed=1)).float()
    low = (normal(300, 8) @ normal(8, 200, seed=2)).float()
    monkeypatch.setattr(truncated_svd, "EXACT_SIDE", 16)
    before = torch.get_rng_state()
    first = joint_low_rank(columns, 12, generator=seeded(5))
    assert torch.equal(first.left, joint_low_rank(columns, 12, generator=seeded(5)).left)
    assert not torch.equal(first.left, joint_low_rank(columns, 12, generator=seeded(6)).left)
    assert first.error == pytest.approx(best_error(columns, 12), rel=1e-3)
    assert joint_low_rank(low, 8).error < 1e-12
    assert joint_low_rank(columns, 200).error < 1e-12, "full rank is exact at any size"
    assert torch.equal(before, torch.get_rng_state())


# ---------------------------------------------------------------- known inputs


@check
@given(st.integers(2, 10), st.integers(2, 10), st.integers(1, 4), SEEDS)
def test_products_with_known_inputs_change_least(n: int, m: int, rank: int, seed: int) -> None:
    """No worse than Eckart and Young's answer in the outputs, which is the best there is."""
    weight, inputs = (
        normal(n, m, seed=seed),
        normal(40, m, seed=seed + 1) * uniform(1, m, seed=seed),
    )
    fit = low_rank_for_inputs(weight, rank, inputs.t() @ inputs / len(inputs))
    outputs = inputs @ weight.t()
    reached = inputs @ (fit.left @ fit.right.t()).t()
    assert fit.left.shape == (n, rank) and fit.right.shape == (m, rank)
    assert error_of(outputs, reached) == pytest.approx(best_error(outputs, rank), abs=2e-3)


def test_even_inputs_change_nothing() -> None:
    weight = normal(20, 8)
    low = joint_low_rank(weight, 3)
    even = low_rank_for_inputs(weight, 3, 2 * torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(even.left @ even.right.t(), low.left @ low.right.t())


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_inputs_of_few_directions_or_none(dtype: torch.dtype) -> None:
    weight, inputs = normal(20, 8, dtype=dtype), normal(30, 2) @ normal(2, 8, seed=1)
    fit = low_rank_for_inputs(weight, 2, inputs.t() @ inputs)
    assert fit.left.dtype == fit.right.dtype == dtype
    outputs = inputs @ weight.double().t()
    reached = inputs @ (fit.left.double() @ fit.right.double().t()).t()
    assert error_of(outputs, reached) < 1e-3, "two directions are all that they have"
    none = low_rank_for_inputs(weight, 2, torch.zeros(8, 8))
    assert torch.equal(none.left, joint_low_rank(weight, 2).left)


# ---------------------------------------------------------------- free elements


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_free_elements_of_a_low_rank_matrix_are_filled_in(dtype: torch.dtype) -> None:
    whole = (normal(60, 4) @ normal(4, 20, seed=1)).to(dtype)
    known = torch.ones(60, 20, dtype=torch.bool)
    known[25:, 3], known[40:, 9], known[10:, 19] = False, False, False
    columns = whole.masked_fill(~known, float("nan"))
    fit = joint_low_rank(columns, 4, known=known)
    assert fit.left.dtype == dtype
    assert fit.error < max(1e-6, torch.finfo(dtype).eps ** 2)
    other = joint_low_rank(whole.masked_fill(~known, 77.0), 4, known=known)
    assert torch.equal(other.left, fit.left), "a free element was looked at"


@check
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 5), SEEDS)
def test_the_error_of_what_is_known_never_rises(v: int, c: int, rank: int, seed: int) -> None:
    columns, known = normal(v, c, seed=seed), uniform(v, c, seed=seed) > 0.2
    zeroed = columns.where(known, 0)
    left, right, errors = masked_low_rank.complete(zeroed, known, rank, seeded(0), rounds=8)
    assert list(errors) == sorted(errors, reverse=True)
    if known.any():
        assert errors[-1] == pytest.approx(error_of(zeroed, left @ right.T, known), abs=1e-14)


def test_with_nothing_free_the_answer_is_the_exact_one() -> None:
    columns = normal(20, 10)
    plain = joint_low_rank(columns, 3)
    asked = joint_low_rank(columns, 3, known=torch.ones(20, 10, dtype=torch.bool))
    assert torch.equal(plain.left, asked.left) and torch.equal(plain.right, asked.right)


# ---------------------------------------------------------------- fit_projection


@check
@given(SIZES, SIZES, SIZES, SEEDS, st.booleans())
def test_a_projection_is_the_least_squares_one(
    v: int, f: int, w: int, seed: int, bias: bool
) -> None:
    table, columns = normal(v, f, seed=seed), normal(v, w, seed=seed + 1)
    fit = fit_projection(table, columns, bias=bias)
    assert fit.projection.shape == (w, f) and (fit.bias is not None) == bias
    wide = torch.cat([table, torch.ones(v, 1).double()], 1) if bias else table
    best = wide @ lstsq_one_by_one(wide, columns, torch.ones_like(columns)).T
    reached = table @ fit.projection.T + (0 if fit.bias is None else fit.bias)
    torch.testing.assert_close(reached, best, atol=1e-7, rtol=0)
    assert fit.error == pytest.approx(error_of(columns, reached), abs=1e-12)


@check
@given(SIZES, st.integers(1, 6), SIZES, SEEDS, st.booleans())
def test_a_masked_projection_is_as_good_as_one_column_at_a_time(
    v: int, f: int, w: int, seed: int, bias: bool
) -> None:
    table, columns = normal(v, f, seed=seed), normal(v, w, seed=seed + 1)
    known = uniform(v, w, seed=seed + 1) > 0.2
    wide = torch.cat([table, torch.ones(v, 1).double()], 1) if bias else table
    best = error_of(columns, wide @ lstsq_one_by_one(wide, columns, known.double()).T, known)
    fit = fit_projection(table, columns.masked_fill(~known, float("inf")), known=known, bias=bias)
    if known.any():
        assert fit.error == pytest.approx(best, abs=1e-9)
    assert fit.projection.isfinite().all()


def test_a_table_of_lower_rank_gives_the_smallest_projection() -> None:
    table = (normal(50, 3) @ normal(3, 8, seed=1)).float()
    table[:, 5] = 0
    columns = normal(50, 6, seed=2, dtype=torch.float32)
    fit = fit_projection(table, columns)
    best = columns.T.double() @ torch.linalg.pinv(table.double(), rtol=1e-5).T
    torch.testing.assert_close(fit.projection, best.float(), atol=1e-5, rtol=1e-4)
    assert not fit.projection[:, 5].any()
    masked = fit_projection(table, columns, known=uniform(50, 6) > 0.2)
    assert masked.projection.abs().max() < 10 * fit.projection.abs().max()


def test_an_ill_conditioned_table_keeps_what_a_gram_matrix_loses() -> None:
    q = torch.linalg.qr(normal(60, 6)).Q
    table = q * torch.logspace(0, -10, 6, dtype=torch.float64)
    assert fit_projection(table, q).error < 1e-20


@pytest.mark.parametrize("bias", [False, True])
def test_a_zero_table_gives_zero(bias: bool) -> None:
    columns = normal(9, 4)
    fit = fit_projection(torch.zeros(9, 3).double(), columns, bias=bias)
    assert not fit.projection.any()
    if fit.bias is not None:
        torch.testing.assert_close(fit.bias, columns.mean(0))
    assert fit_projection(normal(9, 3), torch.zeros(9, 4), bias=bias).error == 0


@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_precision_projection(dtype: torch.dtype) -> None:
    table, columns = normal(50, 5, dtype=dtype), normal(50, 7, seed=1, dtype=dtype)
    fit = fit_projection(table, columns, bias=True)
    double = fit_projection(table.double(), columns.double(), bias=True)
    assert fit.projection.dtype == dtype and fit.bias is not None and fit.bias.dtype == dtype
    assert fit.error == pytest.approx(double.error, rel=1e-3)


# ---------------------------------------------------------------- what is refused, what is kept


def test_inputs_stay_as_they_are_and_results_carry_no_gradient() -> None:
    columns = normal(12, 6).requires_grad_()
    known = uniform(12, 6) > 0.2
    copies = columns.detach().clone(), known.clone()
    low = joint_low_rank(columns, 3, known=known)
    fit = fit_projection(columns, columns, known=known, bias=True)
    inputs = low_rank_for_inputs(columns, 3, torch.eye(6))
    found = (low.left, low.right, fit.projection, inputs.left, inputs.right)
    assert not any(t.requires_grad for t in found)
    for tensor, copy in zip((columns, known), copies, strict=True):
        assert torch.equal(tensor, copy)


GOOD = torch.ones(3, 2)
REFUSED = [
    (torch.tensor([[1.0, float("nan")]]), {}, r"`columns` .* finite, but 1 of its 2"),
    (GOOD.to("meta"), {}, "`columns` is on the meta device"),
    (GOOD.int(), {}, "`columns` .* floating type"),
    (GOOD[0], {}, "`columns` .* a matrix"),
    (GOOD[:0], {}, "a matrix with elements"),
    (GOOD, {"known": GOOD}, "`known` must be a bool tensor"),
    (GOOD, {"known": GOOD[:2] > 0}, "`known` must have the shape of `columns`"),
]


@pytest.mark.parametrize(("columns", "options", "text"), REFUSED)
def test_what_cannot_be_fitted_is_refused(
    columns: Tensor, options: dict[str, Tensor], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        joint_low_rank(columns, 1, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=text):
        fit_projection(torch.ones(len(columns), 2), columns, **options)  # type: ignore[arg-type]


def test_a_wrong_rank_or_table_is_refused() -> None:
    with pytest.raises(ValueError, match="`rank` must be at least 1"):
        joint_low_rank(GOOD, 0)
    with pytest.raises(ValueError, match="same number of rows"):
        fit_projection(GOOD[:2], GOOD)
    with pytest.raises(ValueError, match="`table` must be finite"):
        fit_projection(GOOD / 0, GOOD)
