"""Freezing: a weight is frozen, or a warning says it is not; what is frozen stays to the bit."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import (
    FrozenLayerWarning,
    NothingMatchedError,
    NotSharedError,
    PlanMismatchError,
)
from embshare.plan.requirements import FROZEN
from tests._support.habit_models import (
    CONFIGS,
    LM,
    VOCABULARY,
    WIDTH,
    equal,
    out,
    shared,
    train,
    weights,
)

ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


class Classifier(nn.Module):
    """A backbone with a table, and a head."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.bert = nn.Module()
        self.bert.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.bert.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, VOCABULARY))

    def features(self, x: Tensor) -> Tensor:
        """What the backbone computes."""
        found: Tensor = self.bert.get_submodule("embed")(x)
        for layer in self.bert.get_submodule("layers").children():
            found = layer(found).relu()
        return found

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(x))
        return found


def features(model: Any) -> Tensor:
    """Parameters of the backbone."""
    from tests._support.habit_models import IDS

    with torch.no_grad():
        found: Tensor = model.features(IDS)
    return found


def test_layers_frozen_before_stay_dense_and_are_listed() -> None:
    model: Any = LM()
    model.enc.requires_grad_(False)
    plan = embshare.plan_sharing(model)
    assert {e.weight for e in plan.left_dense if e.reason == FROZEN} == {
        "enc.0.weight",
        "enc.2.weight",
    }
    assert FROZEN in str(plan).replace("\n", " ")
    embshare.share_from_embedding(model, plan)
    before = [p.clone() for p in model.enc.parameters()]
    train(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.enc.parameters(), strict=True))


@pytest.mark.parametrize("mode", ["loop", "module", "layers"])
def test_layers_frozen_after_are_warned_of_at_the_next_training_call(mode: str) -> None:
    model = shared()
    if mode == "module":
        model.enc.requires_grad_(False)
    for p in model.enc.parameters() if mode == "loop" else ():
        p.requires_grad = False
    for layer in model.enc if mode == "layers" else ():
        layer.requires_grad_(False)
    with pytest.warns(FrozenLayerWarning, match=r"enc.*embshare\.freeze"):
        train(model)
    with warnings.catch_warnings():  # warned once
        warnings.simplefilter("error")
        train(model)


def test_layers_frozen_during_training_are_warned_of_in_time() -> None:
    model = train(shared(), 5)
    model.enc.requires_grad_(False)
    with pytest.warns(FrozenLayerWarning):
        train(model, 12)


@ALL
def test_freeze_keeps_weights_to_the_bit_while_the_rest_is_trained(config: ShareConfig) -> None:
    model = shared(config)
    before = {n: w for n, w in weights(model).items() if n.startswith("enc.")}
    assert embshare.freeze(model, "enc.*") == ("enc.0.weight", "enc.2.weight")
    bias = model.enc[0].bias.clone()
    train(model)
    for name, weight in before.items():
        assert torch.equal(model.get_parameter(name), weight)
    assert torch.equal(model.enc[0].bias, bias)


def test_a_frozen_backbone_of_a_classifier_does_not_move() -> None:
    model: Any = Classifier()
    for p in model.bert.parameters():
        p.requires_grad = False
    embshare.share_from_embedding(model)
    before = features(model)
    train(model)
    assert torch.equal(features(model), before)


def test_a_backbone_frozen_after_sharing_is_frozen_by_freeze_or_warned_of() -> None:
    model: Any = embshare.share_from_embedding(Classifier())
    other = copy.deepcopy(model)
    for p in other.bert.parameters():
        p.requires_grad = False
    with pytest.warns(FrozenLayerWarning, match="bert"):
        train(other)
    embshare.freeze(model, "bert.layers.*")
    model.bert.embed.requires_grad_(False)
    before = features(model)
    train(model)
    assert torch.equal(features(model), before)


def test_a_bias_less_layer_says_at_once_that_it_has_nothing_to_freeze() -> None:
    model: Any = embshare.share_from_embedding(Classifier(bias=False))
    with pytest.warns(FrozenLayerWarning, match=r"SharedLinear stores nothing.*embshare\.freeze"):
        model.bert.layers[0].requires_grad_(False)
    model.bert.layers[0].requires_grad_(True)
    model.requires_grad_(False)
    model.bert.layers[0].requires_grad_(False)  # nothing moves: nothing to tell


@pytest.mark.filterwarnings("ignore::embshare.errors.UnevenCoverageWarning")
@pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")
@pytest.mark.parametrize(
    "order", ["freeze-share-train", "share-freeze-train", "share-train-freeze"]
)
@ALL
def test_each_order_of_freezing_sharing_and_training(order: str, config: ShareConfig) -> None:
    model: Any = LM()
    wanted = {**config.model_dump(), "exclude": ("head.weight",) * (config.method == "eps")}
    config = ShareConfig(**wanted)
    for step in order.split("-"):
        if step == "share":
            embshare.share_from_embedding(model, config)
        elif step == "train":
            train(model)
        elif model.__dict__.get("_embshare_root") is None:
            model.enc[0].requires_grad_(False)
        else:
            embshare.freeze(model, "enc.0.*")
    before = [p.clone() for p in model.enc[0].parameters()]
    other = model.enc[2].weight.clone()
    assert len(before) == 2
    train(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.enc[0].parameters(), strict=True))
    assert not torch.equal(model.enc[2].weight, other)


class Recurrent(nn.Module):
    """A table, an LSTM and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.rnn = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.rnn(self.embed(x))[0])
        return found


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_weight_of_an_lstm_is_frozen_and_its_neighbours_are_not(when: str) -> None:
    model: Any = Recurrent()
    if when == "before":
        for name, p in model.named_parameters():
            p.requires_grad = "weight_hh" not in name
    embshare.share_from_embedding(model)
    if when == "after":
        assert embshare.freeze(model, "*weight_hh*") == ("rnn.weight_hh_l0", "rnn.weight_hh_l1")
    kept, moved = model.rnn.weight_hh_l1.clone(), model.rnn.weight_ih_l1.clone()
    train(model)
    assert torch.equal(model.rnn.weight_hh_l1, kept)
    assert not torch.equal(model.rnn.weight_ih_l1, moved)
    assert len(model.rnn._flat_weights) == 8
    plain = embshare.materialize(model)
    assert not plain.rnn.weight_hh_l1.requires_grad and plain.rnn.weight_ih_l1.requires_grad
    assert equal(plain, model)


@ALL
def test_frozen_weights_are_saved_loaded_made_plain_and_unfrozen(
    config: ShareConfig, tmp_path: Path
) -> None:
    model = shared(config)
    embshare.freeze(model, "enc.0.*")
    train(model)
    embshare.save(model, tmp_path)
    loaded: Any = embshare.load(tmp_path, LM())
    assert equal(loaded, model)
    plain = embshare.materialize(model)
    assert equal(plain, model) and not plain.enc[0].weight.requires_grad
    assert plain.enc[2].weight.requires_grad
    assert embshare.unfreeze(model, "enc.0.*") == ("enc.0.weight",)
    before = model.enc[0].weight.clone()
    train(model)
    assert not torch.equal(model.enc[0].weight, before)


def test_linear_probing_then_fine_tuning() -> None:
    model: Any = embshare.share_from_embedding(Classifier())
    embshare.freeze(model, "bert.*")
    model.bert.embed.requires_grad_(False)
    before = features(model)
    train(model)
    assert torch.equal(features(model), before)
    embshare.unfreeze(model, "bert.*")
    model.bert.embed.requires_grad_(True)
    assert all(p.requires_grad for p in model.parameters())
    train(model)
    assert not torch.equal(features(model), before)


def test_a_state_dict_of_a_partly_frozen_model_comes_back() -> None:
    first, second = shared(), shared(seed=1)
    for model in (first, second):
        embshare.freeze(model, "enc.0.*")
    train(first)
    second.load_state_dict(first.state_dict())
    assert equal(first, second)


def test_biases_without_gradients_alone_are_no_frozen_layer() -> None:
    """BitFit the other way round: only biases of a head are frozen, and no warning is due."""
    model = shared()
    for name, p in model.named_parameters():
        p.requires_grad = name != "head.bias"
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        warnings.simplefilter("ignore", FrozenLayerWarning)
        train(model)


def test_a_model_frozen_as_a_whole_does_not_move() -> None:
    model = shared()
    model.requires_grad_(False)
    head: Any = nn.Linear(VOCABULARY, 3)
    before = out(model)
    optimizer = torch.optim.SGD([*head.parameters(), *model.parameters()], lr=0.1)
    head(model(torch.arange(4)[None])).sum().backward()
    optimizer.step()
    assert torch.equal(out(model), before)


def test_a_frozen_table_alone_trains_projections_and_biases() -> None:
    model: Any = LM()
    model.embed.requires_grad_(False)
    embshare.share_from_embedding(model)
    table, first = model.embed.weight.clone(), model.enc[0].weight.clone()
    train(model)
    assert torch.equal(model.embed.weight, table)
    assert not torch.equal(model.enc[0].weight, first)


def test_a_plan_made_before_freezing_is_refused() -> None:
    model: Any = LM()
    plan = embshare.plan_sharing(model)
    model.enc.requires_grad_(False)
    with pytest.raises(PlanMismatchError, match=r"enc\.0\.weight.*frozen.*plan_sharing"):
        embshare.share_from_embedding(model, plan)


def test_patterns_that_name_nothing_are_refused() -> None:
    model = shared()
    with pytest.raises(NothingMatchedError, match=r"`freeze` pattern 'encoder\.\*'"):
        embshare.freeze(model, "encoder.*")
    with pytest.raises(NothingMatchedError, match=r"`unfreeze` pattern 'enc\.\*'"):
        embshare.unfreeze(model, "enc.*")


@ALL
def test_freezing_everything_and_back(config: ShareConfig, tmp_path: Path) -> None:
    model = shared(config)
    before, names = out(model), {name for name, _ in model.named_parameters()}
    frozen = embshare.freeze(model)
    assert len(frozen) == len(set(frozen)) > 1
    assert equal(embshare.materialize(model), model)
    assert not any(name.startswith("embed") for name in frozen)
    for verb in (embshare.summarize, lambda model: embshare.save(model, tmp_path / "gone")):
        with pytest.raises(NotSharedError, match=r"LM was shared, but .* since\. .*unfreeze"):
            verb(model)
    assert not (tmp_path / "gone").exists()
    assert embshare.unfreeze(model) == frozen
    assert torch.equal(out(model), before)
    assert {name for name, _ in model.named_parameters()} == names
    embshare.save(model, tmp_path / "back")


def test_freezing_twice_and_copies_of_frozen_models() -> None:
    model = shared()
    embshare.freeze(model, "enc.0.*")
    embshare.freeze(model, "enc.*")
    twin = copy.deepcopy(model)
    embshare.unfreeze(twin, "*")
    train(twin)
    assert not torch.equal(twin.enc[0].weight, model.enc[0].weight)
    assert not model.enc[0].weight.requires_grad


def test_gradual_unfreezing_layer_by_layer() -> None:
    """ULMFiT: the last layer first."""
    model: Any = embshare.share_from_embedding(Classifier())
    embshare.freeze(model, "bert.layers.*")
    for number in (1, 0):
        embshare.unfreeze(model, f"bert.layers.{number}.*")
        kept = model.bert.layers[0].weight.clone()
        moved = model.bert.layers[1].weight.clone()
        train(model)
        assert torch.equal(model.bert.layers[0].weight, kept) == (number == 1)
        assert not torch.equal(model.bert.layers[1].weight, moved)


@ALL
@pytest.mark.parametrize("gone", ["frozen", "replaced"])
def test_a_checkpoint_of_a_partly_frozen_model_is_loaded_into_that_model(
    gone: str, config: ShareConfig, tmp_path: Path
) -> None:
    model = shared(config)
    if gone == "frozen":
        embshare.freeze(model, "enc.0.weight")
    else:
        model.enc[0] = nn.Linear(WIDTH, WIDTH)
    train(model)
    embshare.save(model, tmp_path)
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = copy.deepcopy(model)
    train(model)
    with torch.no_grad():
        other.embshare_bank.scales.gains.mul_(2.0)
    for target in (model, other):
        embshare.load(tmp_path, target)
        found = target.state_dict()
        assert found.keys() == saved.keys()
        for name, tensor in found.items():
            own = ".relaxations.0." in name or name.endswith(".gains")  # what is gone stays
            assert own or torch.equal(tensor, saved[name]), name
    assert equal(model, other)
    if gone == "frozen":
        assert embshare.unfreeze(model, "enc.0.weight") == ("enc.0.weight",)
