from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from embshare.models.attending import SHORT, attend

ROWS, HEADS, POSITIONS, WIDTH = 3, 2, 5, 8
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "allowed": {"mask": torch.arange(POSITIONS).expand(ROWS, 1, POSITIONS, POSITIONS) < 3},
    "added": {"mask": torch.linspace(-1, 1, POSITIONS).expand(ROWS, 1, POSITIONS, POSITIONS)},
    "scale": {"scale": 0.1},
}


def inputs(positions: int = POSITIONS, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, ROWS, HEADS, positions, WIDTH).to(dtype).requires_grad_()


def reference(parts: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    query, key, value = parts.double()
    scores = query @ key.transpose(-1, -2) * options.get("scale", WIDTH**-0.5)
    if options.get("is_causal"):
        future = torch.ones(POSITIONS, POSITIONS, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    mask = options.get("mask")
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    seen: torch.Tensor = scores.softmax(-1) @ value
    return seen


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_it_is_attention(dtype: torch.dtype, options: dict[str, Any]) -> None:
    parts = inputs(dtype=dtype)
    if "mask" in options and options["mask"].dtype != torch.bool:
        options = {**options, "mask": options["mask"].to(dtype)}
    found = attend(*parts, **options)
    assert found.dtype == dtype
    error = (found.double() - reference(parts, options)).abs().max()
    assert error < (1e-6 if dtype.itemsize > 2 else 2e-2)
    found.float().sum().backward()
    assert parts.grad is not None and parts.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_rows_under_autocast_are_computed_in_single_precision(dtype: torch.dtype) -> None:
    parts = inputs(dtype=dtype)
    exact = F.scaled_dot_product_attention(*parts.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(*parts)
    assert found.dtype == dtype
    assert torch.equal(found, exact.to(dtype))


def test_doubles_under_autocast_stay_exact() -> None:
    parts = inputs(dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(*parts)
    assert found.dtype == torch.float64
    assert (found - reference(parts, {})).abs().max() < 1e-12


def test_long_rows_under_autocast_are_computed_in_its_precision() -> None:
    parts = inputs(SHORT)
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(*parts).dtype == torch.bfloat16


def test_dropout_drops() -> None:
    parts = inputs()
    assert not torch.equal(attend(*parts, dropout=0.5), attend(*parts))
