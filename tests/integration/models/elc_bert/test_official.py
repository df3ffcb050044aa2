"""Outputs, losses and gradients are those of the official code, and no mistake gets past that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.errors import CheckpointError
from embshare.models.elc_bert import (
    ElcBertConfig,
    ElcBertForMaskedLM,
    convert_official_state_dict,
    heads,
)
from embshare.models.elc_bert import model as encoding
from embshare.models.elc_bert.config import VARIANTS
from embshare.models.elc_bert.positions import bucket_indices
from tests.integration.models.elc_bert.official import (
    batch,
    config,
    distance,
    gradients,
    model,
    outputs_apart,
    state_dict,
    under,
)

NEAR = 1e-6  # some arrays are kept in single precision
CPU = torch.device("cpu")


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_losses_are_the_official_ones(variant: str) -> None:
    assert outputs_apart(variant) < NEAR


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_the_official_ones(variant: str) -> None:
    made = model(variant)
    loss = made(**batch()).loss
    assert distance(loss, under(f"{variant}/")["loss"]) < NEAR
    loss.backward()
    official = convert_official_state_dict(gradients(variant), config(variant))
    largest = max(float(gradient.abs().max()) for gradient in official.values())
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        if float(official[name].abs().max()) < 1e-12 * largest:  # the only output's weight is 1
            assert name == "bert.encoder.mixtures.0.logits"
            assert float(parameter.grad.abs().max()) < 1e-12 * largest
        else:
            assert distance(parameter.grad, official[name]) < NEAR, name


# ---------------------------------------------------------------- deliberate mistakes

Patch = pytest.MonkeyPatch
MISTAKES: dict[str, Callable[[Patch], object]] = {}


def mistake(make: Callable[[Patch], object]) -> Callable[[Patch], object]:
    """List a mistake by its function's name."""
    MISTAKES[make.__name__] = make
    return make


def varied(patch: Patch, **changes: bool) -> None:
    """The base variant does something else."""
    table = dict(VARIANTS) | {"base": replace(VARIANTS["base"], **changes)}
    patch.setattr(encoding, "VARIANTS", table)


def scores_changed(patch: Patch, change: Callable[[Tensor, Tensor | None], Tensor]) -> None:
    """Probabilities come from other scores."""
    attend = encoding._attend
    patch.setattr(encoding, "_attend", lambda scores, mask: attend(change(scores, mask), mask))


def buckets_changed(patch: Patch, change: Callable[[Tensor], Tensor]) -> None:
    """Other rows of the table of relative positions are read."""
    patch.setattr(
        encoding, "bucket_indices", lambda length, **rest: change(bucket_indices(length, **rest))
    )


def halves_swapped(patch: Patch, kind: type[nn.Module], attribute: str) -> None:
    """The two halves that a matrix makes change places."""
    make = kind.__init__

    def init(self: Any, *args: Any, **named: Any) -> None:
        make(self, *args, **named)
        getattr(self, attribute).register_forward_hook(
            lambda _, __, out: out.roll(out.shape[-1] // 2, -1)
        )

    patch.setattr(kind, "__init__", init)


@mistake
def the_root_of_the_head_width(patch: Patch) -> None:
    scores_changed(patch, lambda scores, _: scores * 3**0.5)


@mistake
def padding_that_is_seen(patch: Patch) -> None:
    attend = encoding._attend
    patch.setattr(encoding, "_attend", lambda scores, mask: attend(scores, None))


@mistake
def padding_that_sees_padding(patch: Patch) -> None:
    def attend(scores: Tensor, mask: Tensor | None) -> Tensor:
        assert mask is None or mask.dtype is torch.bool
        return (scores if mask is None else scores.masked_fill(mask, -10000.0)).softmax(-1)

    patch.setattr(encoding, "_attend", attend)


@mistake
def true_at_words(patch: Patch) -> None:
    attend = encoding._attend
    patch.setattr(encoding, "_attend", lambda s, mask: attend(s, None if mask is None else ~mask))


@mistake
def keys_before_queries(patch: Patch) -> None:
    halves_swapped(patch, encoding.ElcBertAttention, "query_key")


@mistake
def the_gate_before_the_value(patch: Patch) -> None:
    halves_swapped(patch, encoding.ElcBertFeedForward, "up")


@mistake
def distances_of_the_other_sign(patch: Patch) -> None:
    buckets_changed(patch, lambda buckets: buckets.mT)


@mistake
def distances_without_buckets(patch: Patch) -> None:
    def change(buckets: Tensor) -> Tensor:
        places = torch.arange(len(buckets))
        return (places[:, None] - places + 7).clamp(0, 14)

    buckets_changed(patch, change)


@mistake
def no_table_norm(patch: Patch) -> None:
    def forward(self: Any, ids: Tensor, words: Tensor | None) -> Any:
        return self.word_norm(self.word_embeddings(ids)), self.relative

    patch.setattr(encoding.ElcBertEmbeddings, "forward", forward)


@mistake
def words_without_norm(patch: Patch) -> None:
    def forward(self: Any, ids: Tensor, words: Tensor | None) -> Any:
        return self.word_embeddings(ids), self.relative_norm(self.relative)

    patch.setattr(encoding.ElcBertEmbeddings, "forward", forward)


@mistake
def the_exact_gelu_in_the_gate(patch: Patch) -> None:
    gelu = F.gelu
    patch.setattr(F, "gelu", lambda x, approximate="none": gelu(x))


@mistake
def the_tanh_of_gelu_in_the_head(patch: Patch) -> None:
    gelu = F.gelu
    patch.setattr(F, "gelu", lambda x, approximate="none": gelu(x, approximate="tanh"))


@mistake
def no_norm_in_the_feed_forward_part(patch: Patch) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        value, gate = self.up(self.norm_in(x)).chunk(2, dim=-1)
        return self.down(value * F.gelu(gate, approximate="tanh"))

    patch.setattr(encoding.ElcBertFeedForward, "forward", forward)


@mistake
def no_second_norm_in_the_head(patch: Patch) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        return F.gelu(self.dense(self.norm_in(x)))

    patch.setattr(heads.PredictionHead, "forward", forward)


@mistake
def norms_of_another_epsilon(patch: Patch) -> None:
    norm = F.layer_norm
    patch.setattr(F, "layer_norm", lambda x, s, w=None, b=None, eps=0.0: norm(x, s, w, b, 1e-3))


@mistake
def a_residual(patch: Patch) -> None:
    varied(patch, residual=True)


@mistake
def the_sum_into_the_feed_forward_part(patch: Patch) -> None:
    varied(patch, feeds_sum=True)


@mistake
def a_norm_after_every_layer(patch: Patch) -> None:
    varied(patch, normed=True)


@mistake
def no_stretching_for_a_long_sentence(patch: Patch) -> None:
    varied(patch, stretches=False)


@mistake
def logits_taken_as_weights(patch: Patch) -> None:
    patch.setattr(encoding.Mixture, "weights", lambda self: self.logits)


@mistake
def the_last_output_alone(patch: Patch) -> None:
    patch.setattr(encoding.Mixture, "forward", lambda self, states: states[-1])


@mistake
def the_words_left_out(patch: Patch) -> None:
    mix = encoding.Mixture.forward
    patch.setattr(
        encoding.Mixture,
        "forward",
        lambda self, states: mix(self, [states[-1] if len(states) > 1 else states[0], *states[1:]]),
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_deliberate_mistake_does_not_pass(name: str, monkeypatch: Patch) -> None:
    MISTAKES[name](monkeypatch)
    assert outputs_apart("base") > 10 * NEAR


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        ("zero", {"feeds_sum": False}),
        ("zero", {"stretches": True}),
        ("zero", {"normed": True}),
        ("normalized", {"normed": False}),
        ("normalized", {"feeds_sum": False}),
        ("normalized", {"stretches": False}),
        ("weighted_output", {"feeds_sum": False}),
        ("weighted_output", {"stretches": True}),
        ("ltg", {"residual": False}),
        ("ltg", {"feeds_sum": True}),
        ("ltg", {"stretches": True}),
    ],
)
def test_a_variant_that_does_something_else_does_not_pass(
    variant: str, change: dict[str, bool], monkeypatch: Patch
) -> None:
    table = dict(VARIANTS) | {variant: replace(VARIANTS[variant], **change)}
    monkeypatch.setattr(encoding, "VARIANTS", table)
    assert outputs_apart(variant) > 10 * NEAR


def test_an_output_that_is_not_mixed_does_not_pass(monkeypatch: Patch) -> None:
    encode = encoding.ElcBertEncoder.forward
    monkeypatch.setattr(
        encoding.ElcBertEncoder, "forward", lambda *given: (*encode(*given), encode(*given)[-2])
    )
    assert outputs_apart("weighted_output") > 10 * NEAR


# ---------------------------------------------------------------- buckets


def row_of_buckets(span: int, length: int) -> list[int]:
    """The first column: distances 0, 1, 2, …"""
    return bucket_indices(length, buckets=32, span=span, device=CPU)[:, 0].tolist()


def test_near_positions_have_buckets_of_their_own_and_far_ones_share() -> None:
    found = row_of_buckets(512, 512)
    assert found[:18] == [*range(31, 48), 48]
    assert found[17:31] == [48] * 4 + [49] * 5 + [50] * 5
    assert found[511] == max(found) == 62
    table = bucket_indices(512, buckets=32, span=512, device=CPU)
    assert int(table[0, 1]) == 30
    assert torch.equal(table, 62 - table.mT)


def test_distances_from_the_span_on_are_one() -> None:
    found = row_of_buckets(512, 600)
    assert found[:512] == row_of_buckets(512, 512)
    assert set(found[511:]) == {62}
    stretched = row_of_buckets(600, 600)
    assert stretched != found and stretched[599] == 62


# ---------------------------------------------------------------- checkpoints


def refused(official: dict[str, Tensor], variant: str = "base", **settings: Any) -> str:
    """What is said of a checkpoint that cannot be converted."""
    with pytest.raises(CheckpointError) as caught:
        convert_official_state_dict(official, config(variant, **settings))
    return str(caught.value)


def tables(length: int, layers_: int = 3) -> dict[str, Tensor]:
    """The tables that official checkpoints hold in every layer."""
    table = bucket_indices(length, buckets=8, span=length, device=CPU)
    names = (f"transformer.layers.{n}.attention.position_indices" for n in range(layers_))
    return dict.fromkeys(names, table)


def test_wrappers_and_tables_of_buckets_do_no_harm() -> None:
    official = state_dict("base")
    wrapped = {f"module.{name}": tensor for name, tensor in (official | tables(12)).items()}
    expected = convert_official_state_dict(official, config())
    found = convert_official_state_dict(wrapped, config())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_checkpoint_of_another_size_is_refused() -> None:
    assert refused(state_dict("base"), intermediate_size=20) == (
        "`the official checkpoint`: `bert.encoder.layers.0.feed_forward.down.weight` must be "
        "(12, 20) in ElcBertForMaskedLM, but is (12, 16). Pass the settings that the "
        "checkpoint was trained with to ElcBertConfig."
    )
    text = "`bert.embeddings.relative` must be (19, 12)"
    assert text in refused(state_dict("base"), position_bucket_size=10)
    assert "but is absent" in refused(state_dict("base"), num_hidden_layers=4)
    assert "must be absent" in refused(state_dict("base"), num_hidden_layers=2)
    assert refused(state_dict("base") | tables(12), max_position_embeddings=16) == (
        "`the official checkpoint`: `transformer.layers.0.attention.position_indices` must be the "
        "table of 16 positions, but is another [12, 12]. Pass the checkpoint's "
        "`max_position_embeddings` to ElcBertConfig."
    )


def test_a_checkpoint_of_another_variant_is_refused() -> None:
    text = "`bert.encoder.mixtures.0.logits` must be absent"
    assert text in refused(state_dict("base"), "ltg")
    text = "`bert.encoder.mixtures.0.logits` must be (1,)"
    assert text in refused(state_dict("ltg"), "base")
    text = "`bert.encoder.mixtures.3.logits` must be"
    assert f"{text} absent" in refused(state_dict("weighted_output"), "zero")
    assert f"{text} (4,)" in refused(state_dict("zero"), "weighted_output")


def test_other_checkpoints_are_refused() -> None:
    next_sentence = {"next_sentence_classifier.nonlinearity.1.bias": torch.ones(12)}
    assert refused(state_dict("ltg") | next_sentence, "ltg") == (
        "`the official checkpoint`: `next_sentence_classifier.nonlinearity.1.bias` belongs to no "
        "ElcBertForMaskedLM. Convert an ELC-BERT or LTG-BERT without a head for next sentences."
    )
    untied = {"classifier.nonlinearity.5.weight": torch.zeros(40, 12)}
    assert "is not the embedding table" in refused(state_dict("base") | untied)
    assert "but is absent" in refused({})


def test_settings_are_read_and_not_written() -> None:
    settings = ElcBertConfig(**config().to_diff_dict())
    before = settings.to_dict()
    converted = convert_official_state_dict(state_dict("base"), settings)
    assert settings.to_dict() == before
    loaded = ElcBertForMaskedLM(settings).load_state_dict(converted)
    assert not loaded.missing_keys and not loaded.unexpected_keys
