"""Repeated blocks that are not shared alike."""

from __future__ import annotations

import warnings

import pytest
from torch import nn

import embshare
from embshare import ShareConfig
from embshare.errors import UnevenCoverageWarning
from embshare.runtime.bank import require_bank


class Model(nn.Module):
    """Three blocks of two layers, and a head of a block's size."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(8, 16), "down": nn.Linear(16, 8)}) for _ in range(3)
        )
        self.head = nn.Linear(8, 16)


@pytest.mark.parametrize(
    "config",
    [
        ShareConfig(),
        ShareConfig(exclude=("head.*",)),
        ShareConfig(exclude=("*.up.*",)),
        ShareConfig(include=("blocks.*",)),
    ],
    ids=["all", "but-head", "but-up", "blocks"],
)
def test_even_plans_say_nothing(config: ShareConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = embshare.plan_sharing(Model(), config)
    assert not plan.uneven() and "uneven" not in str(plan)


def test_an_uneven_role_is_warned_of_and_is_in_the_plan() -> None:
    config = ShareConfig(exclude=("blocks.1.up.*",))
    text = (
        "`blocks.*.up.weight` is shared in 2 of 3 blocks and stays dense in the others "
        "(`blocks.1.up.weight`: excluded by 'blocks.1.up.*')"
    )
    with pytest.warns(UnevenCoverageWarning) as given:
        plan = embshare.plan_sharing(Model(), config)
    assert given[0].filename == __file__
    assert str(given[0].message).startswith(f"{text}. Let `include` and `exclude` name the weight")
    assert f"uneven: {text}" in " ".join(str(plan).split())
    assert str(embshare.SharePlan.from_json(plan.to_json())) == str(plan)


def test_several_roles_make_one_warning() -> None:
    config = ShareConfig(include=("blocks.0.*", "head.*"))
    with pytest.warns(UnevenCoverageWarning, match="1 of 3 blocks .* and 1 more role") as given:
        plan = require_bank(embshare.share_from_embedding(Model(), config)).plan
    assert len(given) == 1 and given[0].filename == __file__
    assert [(u.pattern, u.shared, len(u.dense)) for u in plan.uneven()] == [
        ("blocks.*.up.weight", 1, 2),
        ("blocks.*.down.weight", 1, 2),
    ]


def test_a_table_is_no_block_whatever_its_name_and_size() -> None:
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 50))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embshare.plan_sharing(model, ShareConfig(method="own")).uneven() == ()
