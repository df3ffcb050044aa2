"""Signs that nothing stores: what they are, and that they are as good as random ones."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from embshare.ops.anchor import _KNOWN, anchored, signs
from tests._support.reference import reference_signs

CPU = torch.device("cpu")


@given(rows=st.integers(1, 20), width=st.integers(1, 9), by=st.sampled_from([0.5, 3.0]))
def test_it_adds_the_signs_of_the_definition(rows: int, width: int, by: float) -> None:
    table = torch.randn(rows, width, dtype=torch.float64)
    wanted = table + by * reference_signs(rows, width)
    torch.testing.assert_close(anchored(table, by), wanted, rtol=0, atol=1e-12)


def test_rows_do_not_depend_on_how_many_there_are() -> None:
    table = torch.randn(50, 8)
    torch.testing.assert_close(anchored(table, 2.0)[:30], anchored(table[:30], 2.0), rtol=0, atol=0)


def test_the_gradient_is_the_tables() -> None:
    table = torch.randn(7, 3, requires_grad=True)
    slope = torch.randn(7, 3)
    (found,) = torch.autograd.grad(anchored(table, 2.0), table, slope)
    torch.testing.assert_close(found, slope)


def test_nothing_pretended_is_remembered() -> None:
    """Signs are computed once for a device, and not by whoever only works out shapes."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    _KNOWN.clear()
    with FakeTensorMode():
        fake = anchored(torch.zeros(9, 4), 2.0)
    assert fake.shape == (9, 4) and not _KNOWN
    with torch.inference_mode():
        first = anchored(torch.zeros(9, 4), 2.0)
    table = torch.zeros(9, 4, requires_grad=True)
    assert torch.equal(anchored(table, 2.0), first)
    (anchored(table, 2.0) ** 2).sum().backward()  # also where they were first asked for in vain
    with FakeTensorMode():
        assert anchored(torch.zeros(30, 4), 2.0).shape == (30, 4)
    assert len(_KNOWN[CPU]) == 12
    assert torch.equal(anchored(torch.zeros(30, 4), 2.0)[:9], first)


def test_half_a_million_signs_are_balanced_and_do_not_resemble_each_other() -> None:
    count = 2**19
    found = signs(count, device=CPU).double()
    assert abs(float(found.mean())) < 4 / math.sqrt(count)
    spectrum = torch.fft.rfft(found, n=2 * count).abs().square()
    lags = torch.fft.irfft(spectrum)[1 : count // 2] / count
    # The largest of 2^18 such correlations is expected below 5.1 deviations.
    assert float(lags.abs().max()) < 6 / math.sqrt(count)


def test_the_matrix_has_full_rank_and_no_dominant_direction() -> None:
    rows, width = 4000, 192
    table = anchored(torch.zeros(rows, width), 1.0)
    values = torch.linalg.svdvals(table)
    # Marchenko and Pastur: independent signs have all singular values between these two.
    low, high = math.sqrt(rows) - math.sqrt(width), math.sqrt(rows) + math.sqrt(width)
    assert float(values.min()) > 0.9 * low
    assert float(values.max()) < 1.1 * high
