"""Carrying a plan out: all or nothing, once, and reproducibly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import (
    AlreadySharedError,
    DerivedWeightError,
    InvalidValueError,
    NotSharedError,
    PlanMismatchError,
    SourceShrunkError,
)
from embshare.runtime.bank import bank_of, require_bank
from tests._support.layer_examples import IDS, MODELS, Example
from tests.conformance.cases import derived


def encoder() -> Any:
    """torch's Transformer encoder with a tied head."""
    torch.manual_seed(0)
    return MODELS[-1].build()


def test_sharing_again_is_idempotent_or_refused() -> None:
    model = embshare.share_from_embedding(encoder(), ShareConfig(tie="none"))
    before = derived(model)
    assert embshare.share_from_embedding(model, ShareConfig(tie="none")) is model
    assert embshare.share_from_embedding(model, require_bank(model).plan) is model
    other = embshare.share_from_embedding(model, ShareConfig(tie="none"), inplace=False)
    assert other is not model
    assert all(torch.equal(a, b) for a, b in zip(derived(other), before, strict=True))
    with pytest.raises(AlreadySharedError, match=r"Encoder is already shared by another plan"):
        embshare.share_from_embedding(model, ShareConfig())


def test_a_copy_leaves_the_model_dense() -> None:
    model = encoder()
    wanted, state = model(IDS), copy.deepcopy(model.state_dict())
    shared = embshare.share_from_embedding(model, inplace=False)
    assert bank_of(model) is None and bank_of(shared) is not None
    assert torch.equal(model(IDS), wanted)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("example", MODELS, ids=lambda e: e.name)
def test_a_generator_decides_the_start(example: Example) -> None:
    found: list[list[Tensor]] = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = example.build()
        torch.manual_seed(len(found))  # the global state does not matter
        generator = torch.Generator().manual_seed(seed)
        config = ShareConfig(factor=5, residual_rank=1)
        embshare.share_from_embedding(model, config, generator=generator)
        found.append(derived(model))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(found[0], found[2], strict=True))


def test_the_start_has_the_standard_deviation_that_the_model_had() -> None:
    torch.manual_seed(0)
    model: Any = nn.ModuleDict({"embed": nn.Embedding(3000, 64), "layer": nn.Linear(64, 256)})
    for config in (ShareConfig(), ShareConfig(factor=16), ShareConfig(anchor=4.0)):
        shared = embshare.share_from_embedding(model, config, inplace=False)
        (weight,) = derived(shared)
        assert float(weight.detach().std()) == pytest.approx(
            float(model["layer"].weight.detach().std()), rel=0.1
        )
        table = shared["embed"].weight
        assert float(table.detach().std()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("change", "layer", "needs", "finding"),
    [
        ({"weights": ("encoder.layers.9.linear1.weight",)}, 9, "a parameter", "absent"),
        ({"shape": (12, 24)}, 0, "of shape (12, 24)", "of shape (24, 12)"),
    ],
)
def test_a_plan_of_a_different_model_is_refused(
    change: dict[str, object], layer: int, needs: str, finding: str
) -> None:
    model = encoder()
    plan = embshare.plan_sharing(model, ShareConfig(tie="none"))
    (at,) = [i for i, s in enumerate(plan.slots) if "encoder.layers.0.linear1.weight" in s.weights]
    slots = list(plan.slots)
    slots[at] = slots[at].model_copy(update=change)
    with pytest.raises(PlanMismatchError, match="does not fit this model") as caught:
        embshare.share_from_embedding(model, plan.model_copy(update={"slots": tuple(slots)}))
    assert caught.value.place == f"encoder.layers.{layer}.linear1.weight"
    assert (caught.value.needs, caught.value.finding) == (needs, finding)
    assert bank_of(model) is None


def test_a_plan_of_a_wider_table_is_refused() -> None:
    plan = embshare.plan_sharing(encoder())
    source = plan.sources[0].model_copy(update={"rows": 98})
    with pytest.raises(PlanMismatchError, match="98 or more") as caught:
        embshare.share_from_embedding(encoder(), plan.model_copy(update={"sources": (source,)}))
    assert caught.value.place == "embed.weight"


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(InvalidValueError, match="calibration needs init='svd'"):
        embshare.share_from_embedding(encoder(), calibration=[IDS])
    with pytest.raises(InvalidValueError, match="calibration needs residuals"):
        embshare.share_from_embedding(encoder(), ShareConfig(init="svd"), calibration=[IDS])
    with torch.device("meta"):
        empty = encoder()
    with pytest.raises(InvalidValueError, match="needs real weights"):
        embshare.share_from_embedding(empty, ShareConfig(init="svd"))


def test_a_derived_weight_cannot_be_assigned_and_gives_a_hint() -> None:
    model = embshare.share_from_embedding(encoder())
    layer = model.get_submodule("encoder.layers.0.linear1")
    with pytest.raises(DerivedWeightError, match=r"`weight` of this SharedLinear .*materialize"):
        layer.weight = nn.Parameter(torch.zeros(24, 12))
    with pytest.raises(DerivedWeightError, match="Use DistributedDataParallel"):
        layer._replicate_for_data_parallel()


@pytest.mark.parametrize("function", [embshare.summarize, embshare.materialize])
def test_a_dense_model_and_a_part_are_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(NotSharedError, match="is not shared") as caught:
        function(encoder())
    assert caught.value.model == "Encoder"


def test_a_part_is_not_counted_as_a_model() -> None:
    part = embshare.share_from_embedding(encoder()).get_submodule("encoder")
    with pytest.raises(NotSharedError, match="Call this on the model that"):
        embshare.summarize(part)


def test_frozen_tables_train_the_rest() -> None:
    model = encoder()
    model.get_parameter("embed.weight").requires_grad_(False)
    embshare.share_from_embedding(model)
    model(IDS).square().mean().backward()
    bank = require_bank(model)
    assert model.get_parameter("embed.weight").grad is None
    projection = bank.columns[0].projection
    assert projection is not None and projection.grad is not None
    assert projection.grad.abs().sum() > 0


def test_a_part_called_on_its_own_is_current() -> None:
    model = embshare.share_from_embedding(encoder()).eval()
    part = model.get_submodule("encoder.layers.1")
    hidden = torch.randn(2, 5, 12)
    before = part(hidden)
    bank = require_bank(model)
    bank.evaluations = 0
    part(hidden)
    assert bank.evaluations == 1
    model.get_parameter("embed.weight").data.mul_(1.5)
    assert not torch.equal(part(hidden), before)


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=4), ShareConfig(tie="none")])
def test_a_seven_billion_parameter_model_is_shared_on_meta(config: ShareConfig) -> None:
    with torch.device("meta"):
        model = nn.ModuleDict(
            {
                "embed": nn.Embedding(32_000, 4096),
                "layers": nn.ModuleList(
                    nn.ModuleDict(
                        {
                            **{name: nn.Linear(4096, 4096, bias=False) for name in "qkvo"},
                            "up": nn.Linear(4096, 11_008, bias=False),
                            "gate": nn.Linear(4096, 11_008, bias=False),
                            "down": nn.Linear(11_008, 4096, bias=False),
                        }
                    )
                    for _ in range(32)
                ),
            }
        )
        shared = embshare.share_from_embedding(model, config)
    summary = embshare.summarize(shared)
    assert summary.stored_before > 6.5e9
    assert summary.stored < summary.stored_before / 5
    assert all(parameter.is_meta for parameter in shared.parameters())


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=3)], ids=str)
def test_a_table_that_lost_rows_is_refused(config: ShareConfig) -> None:
    model: Any = embshare.share_from_embedding(encoder(), config)
    table = model.embed._parameters["weight"]
    table.data = table.data[:-1]
    with pytest.raises(SourceShrunkError, match="at least 97 rows") as caught:
        model(IDS)
    assert (caught.value.source, caught.value.needs, caught.value.has) == ("embed.weight", 97, 96)
