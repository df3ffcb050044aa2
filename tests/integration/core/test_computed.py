"""Tables that are pruned, parametrized or normed after sharing; and torch.ao on shared layers."""

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import embshare
from embshare import ShareConfig
from embshare.errors import CheckpointError, DerivedWeightError, StaleCacheWarning

V, D = 97, 12
IDS = torch.arange(12).view(2, 6)

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")


class LM(nn.Module):
    """A table, two layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.enc = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D))
        self.head = nn.Linear(D, V)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.enc(self.embed(ids)))
        return found


class Double(nn.Module):
    """A parametrization."""

    def forward(self, table: Tensor) -> Tensor:
        return 2 * table


def pruned(model: LM) -> None:
    prune.l1_unstructured(model.embed, "weight", 0.5)


def pruned_twice(model: LM) -> None:
    prune.l1_unstructured(model.embed, "weight", 0.3)
    prune.random_unstructured(model.embed, "weight", 0.2)


def parametrized(model: LM) -> None:
    parametrize.register_parametrization(model.embed, "weight", Double())


def normed(model: LM) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.embed)  # type: ignore[deprecated,unused-ignore]


def spectral(model: LM) -> None:
    nn.utils.spectral_norm(model.embed)


WAYS = (pruned, pruned_twice, parametrized, normed, spectral)


def table_of(model: LM) -> Tensor:
    """The table as the embedding looks it up."""
    table: Tensor = model.embed(torch.arange(V))
    return table


def shared(method: str = "veps", seed: int = 0) -> Any:
    """A shared model."""
    torch.manual_seed(seed)
    config = ShareConfig(method=method, include=("enc.*",))  # type: ignore[arg-type]
    return embshare.share_from_embedding(LM(), config)


def step(model: LM, optimizer: torch.optim.Optimizer) -> float:
    """One step of training."""
    optimizer.zero_grad()
    loss = model(IDS).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["veps", "eps"])
def test_a_computed_table_trains(way: Callable[[LM], None], method: str) -> None:
    model = shared(method)
    way(model)
    before = [p.detach().clone() for p in model.embed.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = [step(model, optimizer) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    after = list(model.embed.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["veps", "eps"])
def test_weights_are_derived_from_what_is_looked_up(way: Callable[[LM], None], method: str) -> None:
    model = shared(method)
    way(model)
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    model.eval()  # the older spectral norm takes a step of its iteration in each call of training
    table = table_of(model).detach()
    plain = shared(method)  # of equal gains: of the same seed
    with torch.no_grad():
        plain.embed.weight.copy_(table)
        for name, parameter in model.named_parameters():
            if not name.startswith("embed."):
                plain.get_parameter(name).copy_(parameter)
    assert torch.equal(model.enc[0].weight, plain.enc[0].weight)
    assert torch.equal(model(IDS), plain(IDS))
    dense = embshare.materialize(model)
    assert torch.equal(dense(IDS), model(IDS))
    assert type(dense.enc[0]) is nn.Linear


def test_gradients_reach_a_pruned_table_through_its_mask() -> None:
    model = shared()
    pruned(model)
    model.enc[0].weight.square().sum().backward()
    gradient = model.embed.weight_orig.grad
    assert gradient is not None
    assert gradient.any()
    assert not gradient[model.embed.weight_mask == 0].any()


def changes(model: LM) -> Iterator[Tensor]:
    """The tensors that decide a table."""
    yield from model.embed.parameters()
    yield from (b for b in model.embed.buffers() if b.is_floating_point())


@pytest.mark.parametrize("way", [pruned, parametrized, normed])
def test_a_computed_table_that_changes_is_noticed_while_weights_are_kept(
    way: Callable[[LM], None],
) -> None:
    model = shared()
    way(model)
    for number, _ in enumerate(list(changes(model))):
        with embshare.cached(model), torch.no_grad():
            first = model(IDS)
            tensor = list(changes(model))[number]
            tensor.mul_(1.5)
            with pytest.warns(StaleCacheWarning):
                second = model(IDS)
        with torch.no_grad():
            assert torch.equal(second, model(IDS))
        assert not torch.equal(first, second)


@pytest.mark.parametrize("way", WAYS)
def test_a_computed_table_is_kept_while_it_is_the_same(way: Callable[[LM], None]) -> None:
    model = shared()
    way(model)
    model.eval()
    bank = model.embshare_bank
    with embshare.cached(model), torch.no_grad():
        model(IDS)
        before = bank.evaluations
        assert torch.equal(model(IDS), model(IDS))
        assert bank.evaluations == before


@pytest.mark.parametrize(("way", "word"), [(pruned, "prune.remove"), (parametrized, "parametriz")])
def test_a_model_with_a_computed_table_is_not_saved(
    way: Callable[[LM], None], word: str, tmp_path: Path
) -> None:
    model = shared()
    way(model)
    with pytest.raises(CheckpointError, match=word) as caught:
        embshare.save(model, tmp_path / "x")
    assert caught.value.path == "embed.weight"
    assert not (tmp_path / "x").exists()
    assert embshare.summarize(model).stored  # looking is no saving


def test_a_pruned_table_that_is_made_a_parameter_again_is_saved(tmp_path: Path) -> None:
    model = shared()
    pruned(model)
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = model(IDS)
    prune.remove(model.embed, "weight")
    assert torch.equal(model(IDS), before)
    embshare.save(model, tmp_path)
    assert torch.equal(embshare.load(tmp_path, LM)(IDS), before)


def test_save_pretrained_refuses_a_pruned_table(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests._support.layer_examples import bert

    model: Any = embshare.share_from_embedding(bert())
    prune.l1_unstructured(model.bert.embeddings.word_embeddings, "weight", 0.5)
    with pytest.raises(CheckpointError, match="pruned"):
        model.save_pretrained(tmp_path / "x")


def test_halving_a_pruned_table_halves_its_weights() -> None:
    model = shared()
    pruned(model)
    model.to(torch.bfloat16)
    assert model.enc[0].weight.dtype is torch.bfloat16
    assert model(IDS).dtype is torch.bfloat16


def test_a_state_dict_goes_from_one_pruned_model_to_another() -> None:
    first, second = shared(), shared(seed=1)
    pruned(first)
    pruned(second)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(IDS), first(IDS))


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kinds", [{nn.Linear}, None])
def test_torch_ao_is_refused(kinds: set[type] | None) -> None:
    model = shared()
    before = model(IDS)
    with pytest.raises(DerivedWeightError, match="materialize"):
        torch.ao.quantization.quantize_dynamic(model, kinds)
    assert torch.equal(model(IDS), before)
    assert not any("qconfig" in module.__dict__ for module in model.modules())
    dense = embshare.materialize(model)
    quantised = torch.ao.quantization.quantize_dynamic(dense, kinds)
    assert type(quantised.enc[0]) is not nn.Linear


def test_copies_of_a_pruned_model_follow_their_own_table() -> None:
    model = shared()
    pruned(model)
    with torch.no_grad():
        model(IDS)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.embed.weight_orig.mul_(3)
        assert not torch.equal(twin(IDS), model(IDS))
        assert not torch.equal(twin.enc[0].weight, model.enc[0].weight)
