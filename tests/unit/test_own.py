"""Blocks that are parameters: ordinary tied layers, to the last bit, by the one mechanism."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import (
    InvalidValueError,
    NothingToShareError,
    PlanMismatchError,
    StateMismatchError,
)
from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.ops.checksum import Checksum
from embshare.plan.tying import slot_numbers
from embshare.runtime.bank import require_bank

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

IDS = torch.arange(24).view(3, 8) % 20
OWN = ShareConfig(method="own")
TIES = ("none", "all", "sequence:2", "cycle:2", "cycle:3", "cycle_rev:2")


def language_model(architecture: Architecture, layers: int = 3, seed: int = 0) -> Any:
    """A tiny language model."""
    torch.manual_seed(seed)
    return MatchedLanguageModel(
        MatchedConfig(
            architecture=architecture, vocab_size=20, width=16, layers=layers, dropout=0.0
        )
    )


class Stack(nn.Module):
    """Layers without any table."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(layers))
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        found: Tensor = self.out(x)
        return found


def shared(model: nn.Module, config: ShareConfig | embshare.SharePlan = OWN) -> Any:
    """A model, shared."""
    return embshare.share_from_embedding(model, config)


def tied_by_hand(model: nn.Module, tie: str) -> nn.Module:
    """What one does without a library: one parameter in the place of several."""
    names = [n for n, p in model.named_parameters() if p.dim() >= 2 and "embed" not in n]
    roles: dict[str, list[str]] = {}
    for name in names:
        role = ".".join("*" if part.isdigit() else part for part in name.split("."))
        roles.setdefault(role, []).append(name)
    for group in roles.values():
        first: dict[int, nn.Parameter] = {}
        for name, number in zip(group, slot_numbers(tie, len(group)), strict=True):
            owner, _, leaf = name.rpartition(".")
            module = model.get_submodule(owner)
            setattr(module, leaf, first.setdefault(number, getattr(module, leaf)))
    return model


def optimizer_of(model: nn.Module, kind: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    kwargs: dict[str, Any] = {"lr": 0.02}
    return kind(model.parameters(), **kwargs)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("tie", ["all", "cycle:2"])
@pytest.mark.parametrize("architecture", ["lstm", "conv", "attention"])
def test_equals_layers_that_are_tied_by_hand_to_the_last_bit(
    architecture: Architecture, tie: str, kind: type[torch.optim.Optimizer]
) -> None:
    hand = tied_by_hand(language_model(architecture), tie)
    ours = shared(language_model(architecture), ShareConfig(method="own", tie=tie))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in hand.parameters())
    optimizers = optimizer_of(hand, kind), optimizer_of(ours, kind)
    names = {slot.weights[0]: n for n, slot in enumerate(require_bank(ours).plan.slots)}
    for _ in range(4):
        results = [model(input_ids=IDS, labels=IDS) for model in (hand, ours)]
        assert torch.equal(results[0]["loss"], results[1]["loss"])
        assert torch.equal(results[0]["logits"], results[1]["logits"])
        for result, optimizer in zip(results, optimizers, strict=True):
            optimizer.zero_grad()
            result["loss"].backward()
        mine = dict(ours.named_parameters())
        for name, parameter in hand.named_parameters():
            block = f"embshare_bank.blocks.{names[name]}" if name in names else name
            assert torch.equal(parameter.grad, mine[block].grad), name  # type: ignore[arg-type]
            assert torch.equal(parameter, mine[block]), name
        for optimizer in optimizers:
            optimizer.step()
    plain = embshare.materialize(ours)
    found = dict(plain.named_parameters(remove_duplicate=False))
    for name, wanted in hand.named_parameters(remove_duplicate=False):
        assert torch.equal(found[name], wanted), name


@given(
    tie=st.sampled_from(("none", "all"))
    | st.builds(
        "{}:{}".format, st.sampled_from(("sequence", "cycle", "cycle_rev")), st.integers(1, 7)
    ),
    layers=st.integers(1, 7),
    init=st.sampled_from(("random", "svd")),
)
@settings(max_examples=40, deadline=None)
def test_any_tie_stores_one_parameter_for_a_slot(tie: str, layers: int, init: Any) -> None:
    torch.manual_seed(0)
    dense: Any = Stack(layers)
    ours = shared(copy.deepcopy(dense), ShareConfig(method="own", tie=tie, init=init))
    numbers = slot_numbers(tie, layers)
    stored = dict(ours.named_parameters())
    assert sum(n.startswith("embshare_bank.blocks.") for n in stored) == len(set(numbers)) + 1
    for layer, number in enumerate(numbers):
        group = [dense.layers[i].weight for i, n in enumerate(numbers) if n == number]
        wanted = group[0] if init == "random" else torch.stack(group).mean(0)
        torch.testing.assert_close(ours.layers[layer].weight.detach(), wanted.detach())
    summary = embshare.summarize(ours)
    assert summary.stored == sum(p.numel() for p in stored.values()) <= summary.stored_before
    assert summary.hidden_stored == 25 * len(set(numbers)) + 10
    assert summary.derive_macs == 0 and summary.unused_columns == ()


def test_a_model_without_any_table_is_shared_saved_and_loaded(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = shared(Stack())
    assert require_bank(model).plan.sources == ()
    x = torch.randn(3, 5)
    embshare.save(model, tmp_path)
    again = embshare.load(tmp_path, Stack())
    assert torch.equal(again(x), model(x))
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True)
    )
    with torch.device("meta"):
        empty = Stack()
    assert torch.equal(embshare.load(tmp_path, empty)(x), model(x))
    plain = embshare.materialize(model)
    assert torch.equal(plain(x), model(x))
    assert type(plain.layers[0]) is nn.Linear and "embshare_bank" not in dict(plain.named_modules())


def test_a_sequential_gives_the_bank_to_its_first_layer() -> None:
    model = shared(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    assert model(torch.ones(1, 4)).shape == (1, 4)
    assert "0.embshare_bank.blocks.0" in model.state_dict()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"source": "embed"}, "`source`"),
        ({"order": "column"}, "`order`"),
        ({"width": 8}, "`width`"),
        ({"column_bias": True}, "`column_bias`"),
        ({"anchor": 2.0}, "`anchor`"),
        ({"factor": 8}, "`factor`"),
        ({"factor": 8, "factor_norm": True, "anchor": 1.0}, "`anchor`, `factor`, `factor_norm`"),
    ],
)
def test_settings_of_a_table_are_one_error(said: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        ShareConfig(method="own", **said)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{named} would say how a table is read")


def test_settings_that_belong_to_own_are_taken() -> None:
    config = ShareConfig(
        method="own", tie="cycle:2", gain="channel", residual_rank=2, init="svd", exclude=("out.*",)
    )
    plan = embshare.plan_sharing(Stack(), config)
    assert [slot.source for slot in plan.slots] == [None, None]
    assert [entry.weight for entry in plan.left_dense] == ["out.weight"]
    assert embshare.SharePlan.from_json(plan.to_json()) == plan
    assert "source" not in str(plan).replace("`source", "") and "stored" in str(plan)


@pytest.mark.parametrize(
    ("field", "value"), [("source", 0), ("columns", 1), ("start", 3), ("transposed", True)]
)
def test_a_plan_that_mixes_tables_and_parameters_is_refused(field: str, value: object) -> None:
    plan = embshare.plan_sharing(Stack(), OWN)
    fields = plan.model_dump()
    fields["slots"][0][field] = value
    with pytest.raises(InvalidValueError):
        embshare.SharePlan(**fields)


def test_nothing_to_share_says_so_without_a_table() -> None:
    with pytest.raises(NothingToShareError):
        embshare.plan_sharing(nn.LayerNorm(3), OWN)


def test_plans_of_tables_have_the_text_that_they_had() -> None:
    plan = embshare.plan_sharing(language_model("conv"), ShareConfig())
    slot = plan.model_dump(mode="json")["slots"][0]
    assert list(slot) == [
        *("weights", "source", "start", "columns", "numel", "shape"),
        *("transposed", "channel", "gain", "delta"),
    ]
    assert slot["source"] == 0


# ------------------------------------------------------------------ cost


@pytest.fixture
def checksums(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Checksums that are made meanwhile."""
    made: list[object] = []
    begin = Checksum.__init__

    def counted(self: Checksum, memory: Any) -> None:
        made.append(self)
        begin(self, memory)

    monkeypatch.setattr(Checksum, "__init__", counted)
    return made


def test_a_layer_is_given_the_parameter_itself(checksums: list[object]) -> None:
    model = shared(language_model("attention"))
    bank = require_bank(model)
    seen: list[Tensor] = []
    reader = bank.readers[0]
    layer, name = reader.places[0]
    layer.register_forward_pre_hook(lambda *_: seen.append(getattr(layer, name)))
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            model(input_ids=IDS)
    with torch.no_grad(), embshare.cached(model):
        model(input_ids=IDS)
    block = wanted_block(model, 0)
    assert all(weight is block for weight in seen) and len(seen) == 3
    assert bank.evaluations == 0 and not checksums and bank.cache.keeper.kept is None


def test_autocast_casts_a_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shared(language_model("attention"))
    hand = tied_by_hand(language_model("attention"), "all")
    with torch.autocast("cpu", torch.bfloat16):
        pair = [m(input_ids=IDS, labels=IDS)["loss"] for m in (model, hand)]
        layers = [layer for layer, _ in require_bank(model).readers[0].places]
        assert layers[0].weight.dtype is torch.bfloat16
    assert torch.equal(*pair)


# ------------------------------------------------------------------ life


WRITES: tuple[Callable[[Any], object], ...] = (
    lambda layer: nn.init.zeros_(layer.weight),
    lambda layer: layer.weight.data.clamp_(0, 0),
    lambda layer: layer.reset_parameters(),
)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_from_outside_is_refused_as_for_any_method(
    write: Callable[[Any], object],
) -> None:
    model = shared(Stack())
    with pytest.raises(embshare.errors.DerivedWeightError):
        write(model.layers[1])


def test_freeze_save_and_load_what_is_left(tmp_path: Any) -> None:
    torch.manual_seed(0)
    config = ShareConfig(method="own", tie="cycle:2", gain="channel")
    model = shared(Stack(), config)
    frozen = embshare.freeze(model, "layers.0.*", "layers.2.*")
    assert frozen == ("layers.0.weight", "layers.2.weight")
    x = torch.randn(2, 5)
    wanted = model(x)
    embshare.save(model, tmp_path)
    fresh = embshare.load(tmp_path, Stack())
    assert torch.equal(fresh(x), wanted)
    assert sorted(n for n in fresh.state_dict() if ".blocks." in n) == [
        "embshare_bank.blocks.0",
        "embshare_bank.blocks.1",
    ]
    twin = shared(Stack(), config)
    embshare.freeze(twin, "layers.0.*", "layers.2.*")
    assert torch.equal(embshare.load(tmp_path, twin)(x), wanted)
    embshare.unfreeze(model, "layers.0.*")
    assert torch.equal(model.layers[0].weight, wanted_block(model, 0))


def wanted_block(model: Any, number: int) -> Tensor:
    block: Tensor = model.get_parameter(f"embshare_bank.blocks.{number}")
    return block


@pytest.mark.filterwarnings("ignore::embshare.errors.UnevenCoverageWarning")
def test_a_frozen_layer_stays_dense_beside_trained_ones() -> None:
    model: Any = Stack()
    model.layers[1].weight.requires_grad_(False)
    plan = embshare.plan_sharing(model, OWN, trained=False)
    (left,) = plan.left_dense
    assert left.weight == "layers.1.weight" and "frozen" in left.reason
    everything = Stack()
    for layer in everything.layers:
        layer.requires_grad_(False)
    still = shared(everything)
    trained = [n for n, p in still.named_parameters() if "blocks" in n and p.requires_grad]
    assert trained == ["embshare_bank.blocks.1"], "the block of the output layer"
    whole = embshare.plan_sharing(Stack(), OWN)
    with pytest.raises(PlanMismatchError, match="trained as others of its slot"):
        shared(model, whole)


def test_copies_pickles_and_states_have_blocks_of_their_own() -> None:
    torch.manual_seed(0)
    model = shared(Stack())
    x = torch.randn(2, 5)
    wanted = model(x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.data.mul_(2)
        assert not torch.equal(twin(x), wanted) and torch.equal(model(x), wanted)
    other = shared(Stack())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), wanted)
    untied = shared(Stack(), ShareConfig(method="own", tie="none"))
    with pytest.raises(StateMismatchError):
        untied.load_state_dict(model.state_dict())


def test_layers_of_another_dtype_keep_it() -> None:
    model = Stack()
    model.out.double()
    mixed = shared(model)
    bank = require_bank(mixed)
    assert not bank.mixed
    assert mixed.out.weight.dtype is torch.float64
    assert mixed.layers[0].weight.dtype is torch.float32
    mixed.half()
    assert {p.dtype for p in mixed.parameters()} == {torch.float16}
    assert mixed.out.weight.dtype is torch.float16


def test_a_trained_model_starts_from_the_mean_and_ties_stay_ties() -> None:
    torch.manual_seed(0)
    config = ShareConfig(method="own", init="svd")
    model = shared(Stack(), config)
    assert require_bank(model).plan.fit_error is not None
    again = shared(embshare.materialize(model), config)
    assert require_bank(again).plan.fit_error == 0.0
    for one, other in zip(model.layers, again.layers, strict=True):
        assert torch.equal(one.weight, other.weight)
    exact = ShareConfig(method="own", residual_rank=2, init="svd")
    near = shared(Stack(), exact)
    assert (require_bank(near).plan.fit_error or 0) < (require_bank(model).plan.fit_error or 0)
    whole = ShareConfig(method="own", tie="none", init="svd")
    assert require_bank(shared(Stack(), whole)).plan.fit_error == 0.0


def test_blocks_are_matrices_of_layers_to_an_optimizer() -> None:
    model = shared(language_model("conv"))
    groups = {g["name"]: g for g in embshare.parameter_groups(model, lr=1.0, hidden_lr=0.1)}
    hidden = set(groups["hidden"]["params"])
    assert hidden == set(model.embshare_bank.blocks.parameters())
    assert groups["hidden"]["lr"] == pytest.approx(0.1) and groups["hidden"]["weight_decay"] > 0
    assert set(groups["table"]["params"]) == {model.embedding.weight}


def test_a_vmapped_ensemble_and_a_functional_call() -> None:
    models = [shared(Stack(), OWN) for _ in range(3)]
    x = torch.randn(2, 5)
    parameters, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def call(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(base, (p, b), (x,))
        return found

    found = torch.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x)
    for one, model in zip(found, models, strict=True):
        torch.testing.assert_close(one, model(x))
