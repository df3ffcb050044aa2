"""One projection, one cut, one concatenation back: against loops over elements."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from embshare import Slot
from embshare.blocks.layout import layout_of
from embshare.ops.derive import derive
from embshare.plan.slots import columns_needed
from tests._support.reference import reference_signs, reference_weight


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Some slots side by side, in any order, with gaps, of a table with rows to spare."""
    rows = draw(st.integers(2, 23))
    shapes = draw(
        st.lists(
            st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple), min_size=1, max_size=4
        )
    )
    start, slots = 0, []
    for number, shape in enumerate(shapes):
        numel = math.prod(shape)
        columns = columns_needed(numel, rows)
        start += draw(st.integers(0, 2))
        slots.append(
            Slot(
                weights=(f"layer{number}.weight",),
                start=start,
                columns=columns,
                numel=numel,
                shape=shape,
                transposed=len(shape) == 2 and draw(st.booleans()),
                gain=draw(st.sampled_from([1.0, 0.3, 7.0])),
                delta=columns * rows - numel,
            )
        )
        start += columns
    return {
        "rows": rows,
        "slots": draw(st.permutations(slots)),
        "width": start + draw(st.integers(0, 2)),
        "order": draw(st.sampled_from(["row", "column"])),
        "stored": draw(st.integers(1, 5)),
        "extra": draw(st.integers(0, 3)),
        "kind": draw(st.sampled_from(["eps", "veps", "bias"])),
        "anchor": draw(st.sampled_from([0.0, 1.5])),
    }


def inputs_of(case: dict[str, Any]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Table, projection and bias in double precision, with gradients."""
    torch.manual_seed(0)
    width, eps = case["width"], case["kind"] == "eps"
    stored = width if eps else case["stored"]
    table = torch.randn(case["rows"] + case["extra"], stored, dtype=torch.float64)
    projection = None if eps else torch.randn(width, stored, dtype=torch.float64)
    bias = torch.randn(width, dtype=torch.float64) if case["kind"] == "bias" else None
    for tensor in (table, projection, bias):
        if tensor is not None:
            tensor.requires_grad_()
    return table, projection, bias


def reference(case: dict[str, Any], inputs: tuple[Tensor, Tensor | None, Tensor | None]) -> Any:
    """All columns, then element by element."""
    table, projection, bias = inputs
    columns = table[: case["rows"]]
    if case["anchor"]:
        columns = columns + case["anchor"] * reference_signs(*columns.shape)
    if projection is not None:
        columns = columns @ projection.t()
    if bias is not None:
        columns = columns + bias
    return [reference_weight(s, columns, case["rows"], case["order"]) for s in case["slots"]]


@given(case=cases())
def test_weights_and_gradients_are_those_of_the_definition(case: dict[str, Any]) -> None:
    inputs = inputs_of(case)
    given_inputs = [tensor for tensor in inputs if tensor is not None]
    layout = layout_of(case["slots"], case["rows"], case["order"], anchor=case["anchor"])
    found, wanted = derive(layout, *inputs), reference(case, inputs)
    slopes = [torch.randn_like(weight) for weight in found]
    for weight, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(weight, expected)
    for pick in ([True] * len(found), [n % 2 == 0 for n in range(len(found))]):
        kept = [i for i, keep in enumerate(pick) if keep]
        grads = [
            torch.autograd.grad(
                [side[i] for i in kept],
                given_inputs,
                [slopes[i] for i in kept],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for side in (found, wanted)
        ]
        for ours, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(ours, theirs)


@given(case=cases())
def test_functional_transforms_see_the_same_rule(case: dict[str, Any]) -> None:
    inputs = inputs_of(case)
    layout = layout_of(case["slots"], case["rows"], case["order"], anchor=case["anchor"])
    table, *rest = (None if tensor is None else tensor.detach() for tensor in inputs)
    assert table is not None

    def total(value: Tensor) -> Tensor:
        return torch.stack([w.square().sum() for w in derive(layout, value, *rest)]).sum()

    (ours,) = torch.autograd.grad(total(t := table.clone().requires_grad_()), t)
    torch.testing.assert_close(torch.func.grad(total)(table), ours)


@pytest.mark.parametrize("anchor", [0.0, 2.0])
@pytest.mark.parametrize("kind", ["eps", "veps", "bias"])
def test_second_derivatives(kind: str, anchor: float) -> None:
    slots = [
        Slot(weights=("a",), start=0, columns=2, numel=9, shape=(3, 3), delta=1, transposed=True),
        Slot(weights=("b",), start=3, columns=1, numel=4, shape=(2, 2), delta=1, gain=2.0),
    ]
    case = {"rows": 5, "slots": slots, "width": 4, "order": "row", "stored": 3, "extra": 1}
    inputs = [t for t in inputs_of(case | {"kind": kind}) if t is not None]
    layout = layout_of(slots, 5, "row", anchor=anchor)

    def weights(*tensors: Tensor) -> tuple[Tensor, ...]:
        padded = [*tensors, None, None][:3]
        return derive(layout, *padded)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(weights, inputs)
    assert torch.autograd.gradgradcheck(weights, inputs)


def test_a_source_changed_before_its_backward_is_refused() -> None:
    slot = Slot(weights=("a",), start=0, columns=1, numel=4, shape=(2, 2), delta=0)
    table, projection = torch.randn(4, 3, requires_grad=True), torch.randn(1, 3, requires_grad=True)
    (weight,) = derive(layout_of([slot], 4, "row"), table, projection, None)
    with torch.no_grad():
        table.add_(1)
    with pytest.raises(RuntimeError, match=r"modified in place between forward and backward"):
        weight.sum().backward()


def test_unused_columns_are_not_computed() -> None:
    slots = [
        Slot(weights=("a",), start=0, columns=1, numel=4, shape=(2, 2), delta=0),
        Slot(weights=("b",), start=5, columns=1, numel=4, shape=(2, 2), delta=0),
    ]
    assert layout_of(slots, 4, "row").width == 2
    assert layout_of(slots[:1], 4, "row").columns == slice(0, 1)
