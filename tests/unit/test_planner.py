"""What is decided, and what is refused: before anything is touched."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare import ShareConfig
from embshare.errors import (
    AliasedWeightError,
    AlreadySharedError,
    EmbshareError,
    InvalidValueError,
    NoSourceError,
    NothingMatchedError,
    NothingToShareError,
    PlanError,
    SourceTooSmallError,
    UnevenCoverageWarning,
    UnsupportedSourceError,
)
from tests._support.layer_examples import CONFIGS, MODELS, Example


class Model(nn.Module):
    """Two tables, a stack, a norm and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 6)
        self.positions = nn.Embedding(16, 6)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Parameter(torch.randn(6, 6))
        self.conv = nn.Conv1d(6, 6, 3)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("example", MODELS, ids=lambda e: e.name)
def test_columns_are_counted_from_the_right_without_gaps(example: Example, name: str) -> None:
    try:
        plan = embshare.plan_sharing(example.build(), CONFIGS[name])
    except SourceTooSmallError:
        assert CONFIGS[name].method == "eps"
        return
    for index, source in enumerate(plan.sources):
        end = source.width
        for slot in plan.of_source(index):
            assert slot.stop == end and slot.columns == math.ceil(slot.numel / source.rows)
            end = slot.start
        assert plan.unused_columns(index) == end
        assert end == 0 or CONFIGS[name].method == "eps"
    assert embshare.SharePlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("example", MODELS, ids=lambda e: e.name)
def test_planning_changes_nothing_and_needs_no_values(example: Example) -> None:
    torch.manual_seed(0)
    model = example.build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    plan = embshare.plan_sharing(model)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.device("meta"):
        empty = embshare.plan_sharing(example.build())
    assert [s.model_copy(update={"gain": 1.0}) for s in empty.slots] == [
        s.model_copy(update={"gain": 1.0}) for s in plan.slots
    ]


@pytest.mark.parametrize(
    ("tie", "slots"), [("all", 1), ("none", 4), ("sequence:2", 2), ("cycle_rev:3", 3)]
)
def test_ties(tie: str, slots: int) -> None:
    plan = embshare.plan_sharing(Model(), ShareConfig(tie=tie, include=("blocks.*",)))
    assert len(plan.slots) == slots
    assert sorted(plan.weights()) == [f"blocks.{i}.weight" for i in range(4)]


def test_what_stays_dense_is_listed_with_its_reason() -> None:
    plan = embshare.plan_sharing(Model(), ShareConfig(exclude=("conv.*",)))
    reasons = {entry.weight: entry.reason for entry in plan.left_dense}
    assert reasons["conv.weight"] == "excluded by 'conv.*'"
    assert reasons["positions.weight"] == "an embedding looks its rows up"
    assert reasons["mix"] == "not a known layer kind"
    assert "norm.weight" not in reasons, "vectors are not weights"


def test_a_bare_parameter_is_shared_by_name_alone() -> None:
    plan = embshare.plan_sharing(Model(), ShareConfig(include=("*", "mix")))
    assert "mix" in set(plan.weights())
    with pytest.raises(NothingMatchedError, match=r"'m\*' matches no parameter"):
        embshare.plan_sharing(Model(), ShareConfig(include=("*", "m*")))


def test_integer_weights_stay_as_they_are() -> None:
    with pytest.warns(UnevenCoverageWarning, match="torch.int8"):
        plan = embshare.plan_sharing(quantised())
    (left,) = [e for e in plan.left_dense if "blocks" in e.weight]
    assert left.reason == "its elements are torch.int8, not floating"


def test_several_sources() -> None:
    source = {"blocks.[01].*": "positions", "*": "embed.weight"}
    plan = embshare.plan_sharing(Model(), ShareConfig(tie="none", source=source))
    of = {name: plan.sources[slot.material].name for slot in plan.slots for name in slot.weights}
    assert of["blocks.1.weight"] == "positions.weight"
    assert of["blocks.2.weight"] == of["conv.weight"] == "embed.weight"


def test_auto_takes_the_models_own_table_or_else_the_largest() -> None:
    assert embshare.plan_sharing(Model()).sources[0].name == "embed.weight"
    model = Model()
    model.get_input_embeddings = lambda: model.positions  # type: ignore[assignment]
    assert embshare.plan_sharing(model).sources[0].name == "positions.weight"


def test_the_gain_gives_a_layer_the_spread_that_it_had() -> None:
    torch.manual_seed(0)
    model = Model()
    std = model.conv.weight.detach().square().mean().sqrt()
    plan = embshare.plan_sharing(model, ShareConfig(tie="none"))
    slot = next(slot for slot in plan.slots if "conv.weight" in slot.weights)
    assert slot.gain * plan.sources[0].spread == pytest.approx(float(std), rel=1e-5)
    plain = embshare.plan_sharing(model, ShareConfig(gain="none"))
    assert {slot.gain for slot in plain.slots} == {1.0}


def aliased() -> nn.Module:
    """Two parameters over one memory."""
    model = Model()
    memory = torch.randn(2, 6, 6)
    model.blocks[0].weight = nn.Parameter(memory[0])
    model.mix = nn.Parameter(memory.view(12, 6)[3:9])
    return model


def quantised() -> nn.Module:
    """A layer of integers."""
    model = Model()
    model.blocks[0].weight = nn.Parameter(torch.ones(6, 6, dtype=torch.int8), requires_grad=False)
    return model


def zero_table() -> nn.Module:
    model = Model()
    nn.init.zeros_(model.embed.weight)
    return model


def integer_table() -> nn.Module:
    """A table of integers."""
    model = Model()
    table = torch.ones(30, 6, dtype=torch.int8)
    model.embed.weight = nn.Parameter(table, requires_grad=False)
    return model


def broken() -> nn.Module:
    """A model that has diverged."""
    model = Model()
    with torch.no_grad():
        model.conv.weight[0, 0, 0] = float("nan")
    return model


def tableless() -> nn.Module:
    """A model without an embedding."""
    return nn.Sequential(nn.Linear(4, 4))


def layerless() -> nn.Module:
    """A model with nothing to share."""
    return nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4))


def shared() -> nn.Module:
    """A model shared already."""
    return embshare.share_from_embedding(Model(), ShareConfig(tie="none"))


BAD: list[tuple[Any, dict[str, object], type[EmbshareError], dict[str, object], str]] = [
    (
        tableless,
        {},
        NoSourceError,
        {"model": "Sequential", "source": "auto", "found": ()},
        "its embeddings: none",
    ),
    (
        Model,
        {"source": "emb"},
        NoSourceError,
        {"source": "emb", "found": ("embed", "positions")},
        "no table `emb`",
    ),
    (
        Model,
        {"source": "conv.bias"},
        UnsupportedSourceError,
        {"source": "conv.bias", "finding": "of shape (6,)"},
        "two or more dimensions",
    ),
    (
        zero_table,
        {},
        UnsupportedSourceError,
        {"source": "embed.weight", "finding": "zero everywhere"},
        "other than zero somewhere",
    ),
    (
        integer_table,
        {},
        UnsupportedSourceError,
        {"source": "embed.weight", "need": "floating", "finding": "torch.int8"},
        "must be floating",
    ),
    (
        Model,
        {"factor": 7},
        UnsupportedSourceError,
        {"source": "embed.weight", "need": "at least factor=7 wide", "finding": "6 wide"},
        "Name another table",
    ),
    (
        Model,
        {"factor": 2, "source": "mix"},
        UnsupportedSourceError,
        {"source": "mix"},
        r"nn\.Embedding's weight",
    ),
    (
        Model,
        {"include": ("blocks.*", "layers.*")},
        NothingMatchedError,
        {"field": "include", "pattern": "layers.*"},
        r"matches no parameter .* `blocks\.0\.weight`",
    ),
    (
        Model,
        {"exclude": ("norms.*",)},
        NothingMatchedError,
        {"field": "exclude", "pattern": "norms.*"},
        "matches no parameter",
    ),
    (
        Model,
        {"source": {"nothing.*": "embed", "*": "embed"}},
        NothingMatchedError,
        {"field": "source", "pattern": "nothing.*"},
        "matches no parameter",
    ),
    (layerless, {}, NothingToShareError, {"model": "the model"}, "LayerRule"),
    (
        Model,
        {"exclude": ("*",)},
        NothingToShareError,
        {"model": "Model"},
        r"excluded by '\*'",
    ),
    (
        Model,
        {"method": "eps", "tie": "none"},
        SourceTooSmallError,
        {"source": "embed.weight", "needs": 12, "has": 6, "method": "eps"},
        "method='veps'.*tie='all'",
    ),
    (
        Model,
        {"width": 3},
        SourceTooSmallError,
        {"source": "embed.weight", "needs": 6, "has": 3},
        "width=None or a width of at least 6",
    ),
    (aliased, {}, AliasedWeightError, {}, r"`blocks\.0\.weight` and `mix`|`mix` and `blocks\.0"),
    (
        quantised,
        {"include": ("*", "blocks.0.weight")},
        PlanError,
        {},
        r"`blocks\.0\.weight` must be floating .* exclude=",
    ),
    (broken, {}, PlanError, {}, "not finite: repair the model"),
    (shared, {}, AlreadySharedError, {"model": "Model"}, "already shared .*materialize"),
]


@pytest.mark.parametrize(
    ("build", "fields", "kind", "wanted", "phrase"),
    BAD,
    ids=[f"{b[0].__name__}-{b[2].__name__}" for b in BAD],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_is_refused_and_the_model_left_as_it_was(
    build: type[nn.Module],
    fields: dict[str, object],
    kind: type[EmbshareError],
    wanted: dict[str, object],
    phrase: str,
) -> None:
    model = build()
    config = ShareConfig(**fields)  # type: ignore[arg-type]
    classes = [type(module) for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for act in (embshare.plan_sharing, embshare.share_from_embedding):
        with pytest.raises(kind, match=phrase) as caught:
            act(model, config)
        assert {name: getattr(caught.value, name) for name in wanted} == wanted
    assert [type(module) for module in model.modules()] == classes
    assert list(model.state_dict()) == list(before)
    assert all(value.equal(before[name]) or value.isnan().any()
               for name, value in model.state_dict().items())  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"method": "vps"}, "'veps' or 'own'"),
        ({"tie": "pairs"}, "'sequence:M'"),
        ({"factor": 0}, "greater than or equal to 1"),
        ({"residual_rank": -1}, "greater than or equal to 0"),
        ({"gain": 2.0}, "'match'"),
        ({"include": ()}, "at least one pattern"),
        ({"source": {}}, "'auto', a name, or a mapping"),
        ({"method": "eps", "width": 4}, "belong to method='veps'"),
        ({"factor_norm": True}, "needs a `factor`"),
        ({"factors": 3}, "`factors`: is no field here; did you mean `factor`"),
    ],
)
def test_a_wrong_setting_is_named(fields: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidValueError, match=text) as caught:
        ShareConfig(**fields)  # type: ignore[arg-type]
    assert caught.value.what == "ShareConfig" and isinstance(caught.value, ValueError)
