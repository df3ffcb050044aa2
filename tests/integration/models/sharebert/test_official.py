"""Outputs, losses and gradients are those of the official code, and no mistake gets past that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare import SharePlan
from embshare.blocks.columns import Columns
from embshare.errors import CheckpointError
from embshare.models import _bert
from embshare.models._bert import BertEmbeddings
from embshare.models.sharebert import (
    ShareBertModel,
    convert_official_state_dict,
    sharebert_plan,
)
from embshare.models.sharebert import model as building
from tests.integration.models.sharebert.official import (
    KINDS,
    arrays,
    batch,
    config,
    distance,
    labels,
    model,
    outputs_apart,
    state_dict,
    under,
)

NEAR = 1e-6  # some arrays are kept in single precision


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_losses_are_the_official_ones(kind: str) -> None:
    assert outputs_apart(kind, model(kind)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_official_ones(kind: str) -> None:
    made = model(kind)
    loss = made(**batch(), labels=labels(kind)).loss
    assert distance(loss, arrays()[f"{kind}/loss"]) < NEAR
    loss.backward()
    official = convert_names(kind, under(f"{kind}/grad/"))
    largest = max(float(gradient.abs().max()) for gradient in official.values())
    for name, parameter in made.named_parameters():
        if name not in official:  # officially without a gradient
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        if name.endswith("key.bias"):  # zero but for rounding: it moves all scores of a row alike
            assert float(parameter.grad.abs().max()) < 1e-12 * largest
        else:
            assert distance(parameter.grad, official.pop(name)) < NEAR, name
    assert all(name.endswith("key.bias") for name in official)


def convert_names(kind: str, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients under our names: converted in place of the weights that they are of."""
    order = list(state_dict(kind))
    marks = {
        name: torch.full(tensor.shape, order.index(name))
        for name, tensor in state_dict(kind).items()
    }
    ours = convert_official_state_dict(marks, config())
    return {
        name: gradients[order[int(mark.flatten()[0])]]
        for name, mark in ours.items()
        if ".scales." not in name and order[int(mark.flatten()[0])] in gradients
    }


# ---------------------------------------------------------------- deliberate mistakes

Patch = pytest.MonkeyPatch
MISTAKES: dict[str, Callable[[Patch], object]] = {}


def mistake(make: Callable[[Patch], object]) -> Callable[[Patch], object]:
    """List a mistake by its function's name."""
    MISTAKES[make.__name__] = make
    return make


def planned(patch: Patch, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Models are shared by a plan whose slots, seven in all, were changed."""

    def wrong(settings: Any) -> SharePlan:
        values = sharebert_plan(settings).model_dump()
        change(values["slots"])
        return SharePlan(**values)

    patch.setattr(building, "sharebert_plan", wrong)


def swap_starts(slots: list[dict[str, Any]], first: int, second: int) -> None:
    """Two slots of one size change places."""
    slots[first]["start"], slots[second]["start"] = slots[second]["start"], slots[first]["start"]


@mistake
def the_root_of_the_head_width(patch: Patch) -> None:
    attention = F.scaled_dot_product_attention
    patch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, scale, **kwargs: attention(*args, **kwargs),
    )


@mistake
def matrices_that_are_out_by_in(patch: Patch) -> None:
    def as_stored(slots: list[dict[str, Any]]) -> None:
        for slot in slots:
            slot["transposed"] = False

    planned(patch, as_stored)


@mistake
def keys_before_queries(patch: Patch) -> None:
    planned(patch, lambda slots: swap_starts(slots, 0, 1))


@mistake
def down_before_up(patch: Patch) -> None:
    planned(patch, lambda slots: swap_starts(slots, 3, 4))


@mistake
def the_pooler_before_the_output(patch: Patch) -> None:
    planned(patch, lambda slots: swap_starts(slots, 5, 6))


@mistake
def columns_from_the_left_edge(patch: Patch) -> None:
    def shift(slots: list[dict[str, Any]]) -> None:
        unused = min(slot["start"] for slot in slots)
        for slot in slots:
            slot["start"] -= unused

    planned(patch, shift)


@mistake
def column_after_column(patch: Patch) -> None:
    def wrong(settings: Any) -> SharePlan:
        values = sharebert_plan(settings).model_dump()
        values["config"]["order"] = "column"
        return SharePlan(**values)

    patch.setattr(building, "sharebert_plan", wrong)


@mistake
def a_gain(patch: Patch) -> None:
    planned(patch, lambda slots: slots[0].update(gain=1.001))


@mistake
def no_column_bias(patch: Patch) -> None:
    inputs = Columns.inputs
    patch.setattr(Columns, "inputs", lambda self: (*inputs(self)[:2], torch.zeros(24).double()))


@mistake
def matrices_of_the_normed_table(patch: Patch) -> None:
    inputs = Columns.inputs

    def normed(self: Columns) -> tuple[Tensor | None, ...]:
        table, *rest = inputs(self)
        return F.layer_norm(table, table.shape[1:]), *rest

    patch.setattr(Columns, "inputs", normed)


@mistake
def the_tanh_of_gelu(patch: Patch) -> None:
    gelu = F.gelu
    patch.setattr(F, "gelu", lambda x: gelu(x, approximate="tanh"))


@mistake
def a_tanh_in_the_pooler(patch: Patch) -> None:
    pool = building.ShareBertPooler.forward
    patch.setattr(building.ShareBertPooler, "forward", lambda self, x: torch.tanh(pool(self, x)))


@mistake
def positions_under_the_norm(patch: Patch) -> None:
    def forward(self: BertEmbeddings, ids: Tensor, kinds: Tensor, _: None) -> Tensor:
        factor: Any = self.word_embeddings.factor
        rows = factor.norm_in(self.word_embeddings.weight[ids])
        wide = F.linear(rows, factor.weight, factor.bias)
        places = self.position_embeddings.weight[: ids.shape[1]]
        normed: Tensor = factor.norm_out(wide + places + self.token_type_embeddings(kinds))
        return normed

    patch.setattr(BertEmbeddings, "forward", forward)


@mistake
def no_last_norm(patch: Patch) -> None:
    encode = building.ShareBertEncoder.forward

    def forward(self: building.ShareBertEncoder, x: Tensor, mask: Tensor | None) -> Any:
        self.norm = nn.Identity()  # type: ignore[assignment]
        return encode(self, x, mask)

    patch.setattr(building.ShareBertEncoder, "forward", forward)


@mistake
def norms_of_another_epsilon(patch: Patch) -> None:
    norm = F.layer_norm
    patch.setattr(F, "layer_norm", lambda x, s, w=None, b=None, eps=0.0: norm(x, s, w, b, 1e-12))


@mistake
def padding_that_is_seen(patch: Patch) -> None:
    patch.setattr(_bert, "MASKED", 0.0)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_deliberate_mistake_does_not_pass(name: str, monkeypatch: Patch) -> None:
    MISTAKES[name](monkeypatch)
    assert outputs_apart("mlm", model("mlm")) > 10 * NEAR


def test_a_bias_that_is_added_to_the_logits_does_not_pass() -> None:
    assert outputs_apart("mlm", model("mlm", sparse_mask_prediction=False)) > 10 * NEAR


# ---------------------------------------------------------------- checkpoints


def test_an_encoder_alone_converts_too() -> None:
    official = {
        name.removeprefix("bert."): tensor
        for name, tensor in state_dict("mlm").items()
        if name.startswith("bert.")
    }
    settings = config()
    converted = convert_official_state_dict(official, settings)
    assert settings.to_dict() == config().to_dict(), "settings are read, not written"
    made = ShareBertModel(settings).double().train(False)
    made.load_state_dict(converted)
    assert distance(made(**batch()).pooler_output, arrays()["encoder/pooled"]) < NEAR


def test_wrapped_and_unfused_checkpoints_convert_to_the_same() -> None:
    official = state_dict("mlm")
    wrapped = {
        "module." + name.replace("dense_act.", "dense_act.dense."): tensor
        for name, tensor in official.items()
    }
    expected = convert_official_state_dict(official, config())
    found = convert_official_state_dict(wrapped, config())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def refused(official: dict[str, Tensor], **settings: Any) -> str:
    """What is said of a checkpoint that cannot be converted."""
    with pytest.raises(CheckpointError) as caught:
        convert_official_state_dict(official, config(**settings))
    return str(caught.value)


def test_a_checkpoint_of_another_size_is_refused() -> None:
    assert refused(state_dict("mlm"), factor_size=12) == (
        "`the official checkpoint`: `bert.embeddings.word_embeddings.factor.norm_in.bias` must be "
        "(12,) in ShareBertForMaskedLM, but is (8,). Pass the settings that the checkpoint was "
        "trained with to ShareBertConfig."
    )
    assert "`bert.encoder.layers.3.attention_norm.bias` must be (24,)" in refused(
        state_dict("classifier"), num_hidden_layers=4
    )
    assert "must be absent" in refused(state_dict("classifier"), num_hidden_layers=2)
    assert "`classifier.bias` must be (2,)" in refused(state_dict("classifier"), num_labels=2)


def test_a_checkpoint_of_another_variant_is_refused() -> None:
    norm = {"bert.embeddings.LayerNorm.weight": torch.ones(24)}
    assert refused(state_dict("mlm") | norm) == (
        "`the official checkpoint`: `bert.embeddings.LayerNorm.weight` belongs to no "
        "ShareBertForMaskedLM. Convert a pre-LN encoder, masked language model or classifier."
    )
    pair = {"cls.seq_relationship.weight": torch.ones(2, 24)}
    assert "belongs to no ShareBertForMaskedLM" in refused(state_dict("mlm") | pair)
    bert = {"encoder.layer.0.attention.self.query.weight": torch.ones(24, 24)}
    assert "belongs to no ShareBertModel" in refused(bert)
    assert "but is absent" in refused({})
