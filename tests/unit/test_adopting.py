"""`adopt_plan`: another start's gains are taken over, and nothing else."""

from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.adopting import adopt_plan
from embshare.errors import NotSharedError, PlanMismatchError
from embshare.runtime.bank import require_bank


def model() -> nn.Sequential:
    return nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, 8))


def shared(seed: int, **fields: Any) -> nn.Sequential:
    torch.manual_seed(seed)
    return embshare.share_from_embedding(model(), embshare.ShareConfig(**fields))


@pytest.mark.parametrize("fields", [{}, {"gain": "channel"}, {"anchor": 2.0}, {"factor": 4}])
def test_with_its_plan_weights_compute_what_they_did(fields: dict[str, Any]) -> None:
    first, second = shared(0, **fields), shared(1, **fields)
    ids = torch.arange(5)
    second(ids)  # so that it has derived weights with its own gains
    weights = {n: t for n, t in first.state_dict().items() if ".scales." not in n}
    scales = {n: t.clone() for n, t in second.state_dict().items() if ".scales." in n}
    second.load_state_dict(weights | scales)
    assert not torch.equal(first(ids), second(ids))
    adopt_plan(second, require_bank(first).plan)
    assert torch.equal(first(ids), second(ids))
    assert require_bank(second).plan == require_bank(first).plan


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tie": "none"}, r"`config.tie` must be 'none', but is 'all'"),
        ({"factor": 4}, r"`config.factor` must be 4, but is None"),
    ],
)
def test_any_other_difference_is_named(fields: dict[str, Any], place: str) -> None:
    target = shared(0)
    plan = require_bank(target).plan
    with pytest.raises(PlanMismatchError, match=place):
        adopt_plan(target, require_bank(shared(0, **fields)).plan)
    moved = plan.slots[0].model_copy(update={"start": plan.slots[0].start + 1})
    with pytest.raises(PlanMismatchError, match=r"`slots\[0\].start` must be"):
        adopt_plan(target, plan.model_copy(update={"slots": (moved, *plan.slots[1:])}))
    with pytest.raises(PlanMismatchError, match="`slots` must be 1 in number, but is 2 in number"):
        adopt_plan(target, plan.model_copy(update={"slots": plan.slots[:1]}))
    assert require_bank(target).plan is plan


def test_a_dense_model_has_none_to_replace() -> None:
    with pytest.raises(NotSharedError):
        adopt_plan(model(), require_bank(shared(0)).plan)
