"""Copies: one of the whole model is a model; one of a part reads the original's table and says so.

No copy has a bank that no model registers: nobody would train such a table, or save it.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import CheckpointError, DerivedWeightError, PartCopyWarning
from embshare.runtime.bank import bank_of
from tests._support.habit_models import (
    CONFIGS,
    IDS,
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
HIDDEN = torch.ones(2, WIDTH)


@ALL
def test_a_copy_of_the_whole_is_trained_on_its_own(config: ShareConfig) -> None:
    model = shared(config)
    twin = copy.deepcopy(model)
    before = out(model)
    train(twin)
    assert torch.equal(out(model), before) and not equal(twin, model)
    assert bank_of(twin) is not bank_of(model)


def test_a_copied_part_follows_the_original_and_says_so() -> None:
    model = shared()
    target = copy.deepcopy(model.enc)
    with pytest.warns(PartCopyWarning, match=r"reads the original's table.*Copy the whole model"):
        assert torch.equal(target(HIDDEN), model.enc(HIDDEN))
    train(model)
    with torch.no_grad():  # BYOL's target network: what it stores itself is its own
        for kept, new in zip(target.parameters(), model.enc.parameters(), strict=True):
            kept.lerp_(new, 0.1)
    assert torch.equal(target[0].weight, model.enc[0].weight)
    assert not torch.equal(target[0].bias, model.enc[0].bias)
    assert bank_of(target) is bank_of(model)


def test_a_target_network_of_the_whole_model_has_an_average_of_its_own() -> None:
    model = shared()
    target = copy.deepcopy(model)
    train(model)
    with torch.no_grad():
        for kept, new in zip(target.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 0.5)
    assert not torch.equal(target.enc[0].weight, model.enc[0].weight)


def test_a_materialized_part_is_a_target_network_too() -> None:
    model = shared()
    target = embshare.materialize(model.enc)
    before = target(HIDDEN)
    train(model)
    assert torch.equal(target(HIDDEN), before)
    assert type(target[0]) is nn.Linear and target[0].weight.requires_grad


@pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning")
def test_a_layer_appended_as_a_copy_is_saved_and_loaded(tmp_path: Path) -> None:
    model = shared()
    model.enc.append(copy.deepcopy(model.enc[0]))
    train(model)
    embshare.save(model, tmp_path)
    deeper = LM()
    deeper.enc.append(nn.Linear(WIDTH, WIDTH))
    assert equal(embshare.load(tmp_path, deeper), model)


@pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning")
def test_a_copy_of_a_model_with_an_appended_copy_reads_its_own_table() -> None:
    model = shared()
    model.enc.append(copy.deepcopy(model.enc[0]))
    twin = copy.deepcopy(model)
    before = out(model)
    train(twin)
    assert torch.equal(twin.enc[3].weight, twin.enc[0].weight)
    assert not torch.equal(twin.enc[3].weight, model.enc[0].weight)
    assert torch.equal(out(model), before)
    for part in twin.modules():
        assert bank_of(part) in (None, bank_of(twin))


@pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning")
def test_an_appended_copy_with_a_residual_of_its_own_is_refused_when_saved(tmp_path: Path) -> None:
    model = shared(ShareConfig(residual_rank=2))
    model.enc.append(copy.deepcopy(model.enc[0]))
    with pytest.raises(CheckpointError, match=r"`enc\.\d\.weight`: shares its .*materialize"):
        embshare.save(model, tmp_path)


class Deep(nn.Module):
    """A table and torch's encoder, which copies the layer that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 24, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(self.embed(x))
        return found


@pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning")
def test_torchs_encoder_of_copies_of_a_shared_layer_reads_the_layers_table() -> None:
    model = embshare.share_from_embedding(Deep())
    stack = nn.TransformerEncoder(model.layer, 3, enable_nested_tensor=False)
    for layer in stack.layers:
        assert torch.equal(layer.linear1.weight, model.layer.linear1.weight)
    train_all = [*model.parameters(), *stack.parameters()]
    optimizer = torch.optim.SGD(train_all, lr=0.1)
    stack(model.embed(IDS)).square().mean().backward()
    optimizer.step()
    assert torch.equal(stack.layers[2].linear1.weight, model.layer.linear1.weight)
    assert bank_of(stack) is bank_of(model)


@pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning")
def test_clones_of_a_layer_read_one_table() -> None:
    model = shared()
    clones = nn.ModuleList([copy.deepcopy(model.enc[0]) for _ in range(3)])
    loss = sum(clone(HIDDEN).square().mean() for clone in clones)
    assert isinstance(loss, Tensor)
    loss.backward()
    assert model.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("way", [copy.copy, lambda m: m])
def test_a_shallow_copy_reads_the_same_table(way: Any) -> None:
    model = shared()
    twin = way(model)
    train(model)
    assert equal(twin, model)
    layer = way(model.enc[0])
    assert torch.equal(layer.weight, model.enc[0].weight)
    assert torch.equal(layer(HIDDEN), model.enc[0](HIDDEN))


@pytest.mark.parametrize("part", ["enc", "enc.0", "head"])
def test_a_part_that_was_pickled_alone_says_what_is_missing(part: str) -> None:
    found = pickle.loads(pickle.dumps(shared().get_submodule(part)))
    with pytest.raises(DerivedWeightError, match=r"a part .* without .*table.*materialize\(part\)"):
        found(HIDDEN)
    file = io.BytesIO()
    torch.save(embshare.materialize(shared().get_submodule(part)), file)
    plain = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert torch.equal(plain(HIDDEN), shared().get_submodule(part)(HIDDEN))


def test_student_and_teacher_in_one_dict_are_two_models() -> None:
    student = shared()
    both = nn.ModuleDict({"student": student, "teacher": copy.deepcopy(student)})
    before = out(both["teacher"])
    train(both["student"])
    assert torch.equal(out(both["teacher"]), before) and not equal(both["student"], both["teacher"])
    twin = copy.deepcopy(both)
    train(twin["teacher"])
    assert torch.equal(out(both["teacher"]), before)
    assert equal(twin["student"], both["student"])


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), embshare.materialize]
)
def test_a_dict_of_a_model_behind_its_copy_is_copied_as_two_models(way: Any) -> None:
    student = shared()
    teacher = copy.deepcopy(student)
    train(student)
    both = nn.ModuleDict({"teacher": teacher, "student": student})
    twin = way(both)
    assert equal(twin["teacher"], teacher) and equal(twin["student"], student)
    assert not equal(twin["teacher"], twin["student"])


def test_the_copied_table_of_a_sequential_model_is_a_table_alone() -> None:
    model: Any = nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 50))
    embshare.share_from_embedding(model)
    table = copy.deepcopy(model[0])  # hosts the bank, since a Sequential runs its children
    assert torch.equal(table(IDS), model[0](IDS))
    before = out(model)
    with torch.no_grad():
        table.weight.zero_()
    assert torch.equal(out(model), before)
    twin = copy.deepcopy(model)
    assert equal(twin, model)


def test_parts_copied_at_once_read_one_bank() -> None:
    model = shared()
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        enc, head = copy.deepcopy((model.enc, model.head))
        enc(HIDDEN), head(HIDDEN), enc(HIDDEN)
    assert len([w for w in given if w.category is PartCopyWarning]) == 1
    both = nn.ModuleList([model.enc, model.embed])
    twins: Any = copy.deepcopy(both)
    with pytest.warns(PartCopyWarning):
        assert torch.equal(twins[0](HIDDEN), model.enc(HIDDEN))


def test_a_copy_of_a_part_outlives_its_model() -> None:
    model = shared()
    wanted = model.enc(HIDDEN)
    part = copy.deepcopy(model.enc)
    del model
    with pytest.warns(PartCopyWarning):
        assert torch.equal(part(HIDDEN), wanted)


def test_a_copy_made_inside_of_cached_keeps_nothing() -> None:
    model = shared()
    with embshare.cached(model):
        out(model)
        twin = copy.deepcopy(model)
    train(twin)
    assert not equal(twin, model)
    assert not twin.embshare_bank.cache.keeper.blocks


def test_a_copy_made_in_a_forward_hook_reads_its_own_table() -> None:
    model, copies = shared(), list[Any]()
    handle = model.enc.register_forward_hook(lambda *_: copies.append(copy.deepcopy(model)))
    wanted = out(model)
    handle.remove()
    (twin,) = copies
    assert torch.equal(out(twin), wanted)
    train(twin)
    assert not torch.equal(out(twin), wanted) and torch.equal(out(model), wanted)
    assert set(weights(twin)) == set(weights(model))
