"""Replacing: a table, head or block is followed, refused or left out; what is saved is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import (
    DerivedWeightError,
    NotSharedError,
    SourceShrunkError,
    TableReplacedError,
)
from tests._support.habit_models import (
    CONFIGS,
    IDS,
    LM,
    TABLES,
    VOCABULARY,
    WIDTH,
    equal,
    out,
    shared,
    train,
)
from tests._support.layer_examples import IDS as TOKENS
from tests._support.layer_examples import bert, gpt2

ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.mark.parametrize("config", TABLES.values(), ids=TABLES)
def test_a_replaced_table_is_noticed_at_the_next_call_and_when_saved(
    config: ShareConfig, tmp_path: Path
) -> None:
    model = shared(config)
    model.embed = nn.Embedding(VOCABULARY, WIDTH)
    for verb in (out, lambda m: embshare.save(m, tmp_path), train):
        with pytest.raises(TableReplacedError, match=r"`embed\.weight` .*another Embedding now.*"):
            verb(model)
    assert not list(tmp_path.iterdir())


def test_an_embedding_that_no_block_is_made_of_may_be_replaced(tmp_path: Path) -> None:
    model = shared(ShareConfig(method="own"))
    model.embed = nn.Embedding(VOCABULARY, WIDTH)
    train(model)
    embshare.save(model, tmp_path)
    assert equal(embshare.load(tmp_path, LM()), model)


def test_a_table_with_other_values_in_the_same_module_is_followed() -> None:
    model = train(shared())
    new = torch.randn(VOCABULARY, WIDTH)
    before = model.enc[0].weight.clone()
    model.embed.weight = nn.Parameter(new)
    assert not torch.equal(model.enc[0].weight, before)
    other = shared()
    other.load_state_dict(model.state_dict())
    assert equal(other, model)


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(method="eps")], ids=str)
def test_a_table_of_another_width_is_refused_at_the_next_call(config: ShareConfig) -> None:
    model = shared(config)
    model.embed.weight = nn.Parameter(torch.randn(VOCABULARY, WIDTH + 4))
    with pytest.raises(TableReplacedError, match=r"`embed\.weight`.*rows of 16 numbers, not 12"):
        out(model)


def test_a_factorised_table_takes_only_what_it_stores() -> None:
    model = shared(ShareConfig(factor=5))
    model.embed.weight = nn.Parameter(torch.randn(VOCABULARY, 5))
    out(model)
    with pytest.raises(DerivedWeightError, match=r"stored \[V, F\].*materialize"):
        model.embed.weight = nn.Parameter(torch.randn(VOCABULARY, WIDTH))


def test_a_smaller_vocabulary_is_refused_and_a_larger_one_is_followed() -> None:
    model = shared()
    before = model.enc[0].weight.clone()
    model.embed.weight = nn.Parameter(
        torch.cat([model.embed.weight.detach(), torch.randn(3, WIDTH)])
    )
    assert torch.equal(model.enc[0].weight, before)
    model.embed.weight = nn.Parameter(torch.randn(VOCABULARY - 1, WIDTH))
    with pytest.raises(SourceShrunkError, match=r"at least 97 rows.*has 96"):
        out(model)


@ALL
def test_a_head_for_other_classes_is_saved_and_loaded(config: ShareConfig, tmp_path: Path) -> None:
    model = shared(config)
    model.head = nn.Linear(WIDTH, 4)
    train_classes(model)
    embshare.save(model, tmp_path)

    def build() -> Any:
        made: Any = LM()
        made.head = nn.Linear(WIDTH, 4)
        return made

    assert equal(embshare.load(tmp_path, build), model)
    plain = embshare.materialize(model)
    assert equal(plain, model) and plain.head is not model.head


def train_classes(model: Any) -> None:
    """One step of a classifier."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.cross_entropy(model(IDS).mean(1), torch.tensor([1, 2])).backward()
    optimizer.step()


@ALL
def test_a_pruned_block_is_gone_from_the_file(config: ShareConfig, tmp_path: Path) -> None:
    """Layers dropped from a list, as depth pruning does."""

    class Stack(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, WIDTH)
            self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.embed(x)
            for block in self.blocks:
                found = found + block(found)
            return found

    model: Any = embshare.share_from_embedding(
        Stack(5), config.model_copy(update={"tie": "cycle:2"})
    )
    wanted = [model.blocks[i].weight.clone() for i in (0, 2, 4)]
    del model.blocks[1], model.blocks[2]
    assert all(torch.equal(b.weight, w) for b, w in zip(model.blocks, wanted, strict=True))
    embshare.save(model, tmp_path)
    loaded = embshare.load(tmp_path, Stack(3))
    assert equal(loaded, model)
    assert equal(embshare.materialize(loaded), model)


def test_a_layer_that_surgery_made_an_identity_is_gone_from_the_file(tmp_path: Path) -> None:
    model = shared()
    model.enc[2] = nn.Identity()
    embshare.save(model, tmp_path)

    def build() -> Any:
        made: Any = LM()
        made.enc[2] = nn.Identity()
        return made

    assert equal(embshare.load(tmp_path, build), model)
    assert embshare.summarize(model).layers


def test_a_linear_that_a_quantiser_replaced_computes_on_its_own(tmp_path: Path) -> None:
    class Int8Linear(nn.Module):
        """Weights in int8, as bitsandbytes and others replace a Linear."""

        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            scale = layer.weight.detach().abs().amax() / 127
            self.register_buffer("q", (layer.weight.detach() / scale).round().to(torch.int8))
            self.register_buffer("scale", scale)
            self.bias = layer.bias

        def forward(self, x: Tensor) -> Tensor:
            q, scale = self.get_buffer("q"), self.get_buffer("scale")
            return nn.functional.linear(x, q.to(x.dtype) * scale, self.bias)

    model = shared()
    wanted = out(model)
    model.enc[0] = Int8Linear(model.enc[0])
    torch.testing.assert_close(out(model), wanted, atol=0.05, rtol=0.1)
    embshare.save(model, tmp_path)

    def build() -> Any:
        made: Any = LM()
        made.enc[0] = Int8Linear(made.enc[0])
        return made

    assert equal(embshare.load(tmp_path, build), model)


def test_a_part_that_was_replaced_whole_is_saved_as_it_is(tmp_path: Path) -> None:
    model = shared()
    model.enc = nn.Sequential(nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH))
    embshare.save(model, tmp_path)

    def build() -> Any:
        made: Any = LM()
        made.enc = nn.Sequential(nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH))
        return made

    assert equal(embshare.load(tmp_path, build), model)


def test_a_model_whose_every_layer_was_replaced_is_no_shared_one(tmp_path: Path) -> None:
    model = shared()
    model.enc, model.head = nn.Sequential(nn.Linear(WIDTH, WIDTH)), nn.Linear(WIDTH, 4)
    with pytest.raises(NotSharedError, match="derived weight was replaced"):
        embshare.save(model, tmp_path)


def test_a_layer_of_another_shared_model_brings_its_table_along(tmp_path: Path) -> None:
    """Stitching: blocks of two models in one."""
    model, other = shared(), shared(seed=1)
    model.enc[2] = other.enc[2]
    assert torch.equal(model.enc[2].weight, other.enc[2].weight)
    before = out(model)
    with torch.no_grad():
        other.embed.weight.mul_(2)
    assert not torch.equal(out(model), before)


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=5)], ids=str)
@pytest.mark.parametrize("build", [bert, gpt2])
def test_a_vocabulary_of_transformers_is_resized(config: ShareConfig, build: Any) -> None:
    model = embshare.share_from_embedding(build(), config).eval()
    before = model(TOKENS).logits
    model.resize_token_embeddings(VOCABULARY + 8, mean_resizing=False)
    assert torch.equal(model(TOKENS).logits[..., :VOCABULARY], before)
    assert model.get_output_embeddings().weight.shape[0] == VOCABULARY + 8


@pytest.mark.parametrize("build", [bert, gpt2])
def test_set_input_embeddings_is_noticed_at_the_next_call(build: Any) -> None:
    model = embshare.share_from_embedding(build()).eval()
    model.set_input_embeddings(nn.Embedding(VOCABULARY, WIDTH))
    with pytest.raises(TableReplacedError, match=r"another Embedding now.*nn\.Parameter\(new\)"):
        model(TOKENS)


def test_timms_reset_classifier_leaves_a_model_that_is_saved_and_loaded(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")

    def build() -> Any:
        return timm.create_model(
            "vit_tiny_patch16_224",
            img_size=32,
            patch_size=8,
            embed_dim=24,
            depth=2,
            num_heads=2,
            num_classes=10,
        ).eval()

    config = ShareConfig(source="patch_embed.proj.weight", tie="all", exclude=("head.weight",))
    model = build()
    with pytest.warns(embshare.errors.GrowthWarning):
        embshare.share_from_embedding(model, config)
    model.reset_classifier(3)
    embshare.save(model, tmp_path)
    fresh = build()
    fresh.reset_classifier(3)
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(embshare.load(tmp_path, fresh)(image), model(image))


def test_a_table_that_is_moved_under_a_wrapper_is_still_the_table() -> None:
    class Scaled(nn.Module):
        def __init__(self, table: nn.Embedding) -> None:
            super().__init__()
            self.table = table

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.table(x)
            return found

    model = shared()
    wanted = out(model)
    model.embed = Scaled(model.embed)
    assert torch.equal(out(model), wanted)


def test_an_assigned_derived_weight_is_refused() -> None:
    model = shared()
    with pytest.raises(DerivedWeightError, match=r"`weight` .*derived.*materialize"):
        model.enc[0].weight = nn.Parameter(torch.zeros(WIDTH, WIDTH))
    with pytest.raises(DerivedWeightError, match="materialize"):
        model.enc[0].register_parameter("weight", nn.Parameter(torch.zeros(WIDTH, WIDTH)))
    with pytest.raises((AttributeError, DerivedWeightError)):
        del model.enc[0].weight
