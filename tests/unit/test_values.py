"""The plan as a value: Figure 1 of the paper, JSON, and what it refuses."""

from __future__ import annotations

import pytest
from torch import nn

import embshare
from embshare.errors import InvalidValueError, SourceTooSmallError

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


class Figure1(nn.Module):
    """A table of 10 x 8 and layers of 16 and 25 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(5, 5, bias=False)


def test_figure_1_of_the_paper() -> None:
    plan = embshare.plan_sharing(Figure1(), embshare.ShareConfig(method="eps"))
    first, second = plan.slots
    assert (first.columns, first.delta, first.start, first.stop) == (2, 4, 6, 8)
    assert (second.columns, second.delta, second.start, second.stop) == (3, 5, 3, 6)
    assert plan.unused_columns() == 3


def test_a_plan_survives_json() -> None:
    plan = embshare.plan_sharing(Figure1(), embshare.ShareConfig(tie="cycle:2", gain="channel"))
    assert embshare.SharePlan.from_json(plan.to_json()) == plan


def change(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('"start": 3', '"start": 4', "overlap at column 6"),
        ('"start": 3', '"start": 7', "must end by column 8, but ends at 10"),
        ('"delta": 4', '"gain": -1.0, "delta": 4', "greater than 0"),
        ('"delta": 4', '"delta": 3', "delta = columns"),
        ('"numel": 16', '"numel": 17', "product of `shape`"),
        ('"method"', '"methods"', "is no field here"),
        ('"rows": 10', '"rows": 0', "greater than or equal to 1"),
        ('"stored_dim": 8', '"stored_dim": 9', "must have stored_dim 8"),
        ('"width": 8', '"width": 9', "must have width 8: EPS reads the table"),
        ('"residual_rank": 0', '"residual_rank": 2147483648', "less than 2147483648"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(old: str, new: str, finding: str) -> None:
    plan = embshare.plan_sharing(Figure1(), embshare.ShareConfig(method="eps"))
    with pytest.raises(InvalidValueError, match=finding):
        embshare.SharePlan.from_json(change(plan.to_json(), old, new))


def test_a_fault_deep_inside_is_named_by_its_whole_place() -> None:
    plan = embshare.plan_sharing(Figure1(), embshare.ShareConfig(method="eps"))
    text = change(plan.to_json(), '"numel": 16', '"numel": -16')
    with pytest.raises(InvalidValueError, match="is not valid") as caught:
        embshare.SharePlan.from_json(text)
    (fault,) = caught.value.faults
    assert caught.value.what == "SharePlan"
    assert fault.startswith("`slots.0.numel`: ") and fault.endswith("but is -16")


def test_a_table_too_small_for_eps_says_how_many_columns_are_needed() -> None:
    model = Figure1()
    model.second = nn.Linear(9, 9, bias=False)
    with pytest.raises(SourceTooSmallError, match="must have 11 columns") as caught:
        embshare.plan_sharing(model, embshare.ShareConfig(method="eps"))
    assert (caught.value.source, caught.value.needs, caught.value.has) == ("embed.weight", 11, 8)
