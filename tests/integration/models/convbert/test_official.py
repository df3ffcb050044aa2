"""Outputs, losses and gradients are those that the official code computed, in single precision.

No deliberate mistake gets past that.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from embshare.models import _bert
from embshare.models._bert import BertEmbeddings
from embshare.models.convbert import (
    ConvBertForPreTraining,
    ConvBertForQuestionAnswering,
    ConvBertModel,
    attention,
    heads,
    masking,
    pretraining,
)
from embshare.models.convbert import model as building
from embshare.models.convbert.config import ConvBertConfig
from tests.integration.models.convbert import make_official as official
from tests.integration.models.convbert.examples import config, distance

Array = NDArray[Any]
Patch = pytest.MonkeyPatch
NEAR = 1e-6
"""For outputs: the official ones are in single precision, ours here in double."""
NEAR_GRADIENTS = 1e-5
IDS, MASK, TYPES = (
    torch.from_numpy(part).long() for part in (official.IDS, official.MASK, official.TYPES)
)
NAMES = (
    (r"^generator_predictions/output_bias$", "generator_head/bias"),
    (r"^generator_predictions/LayerNorm/", "generator_head/norm/"),
    (r"^generator_predictions/", "generator_head/"),
    (r"^discriminator_predictions/dense/", "discriminator_head/dense/"),
    (r"^discriminator_predictions/dense_1/", "discriminator_head/score/"),
    (r"^dense/", "start/"),
    (r"^qa_hidden/", "end/dense/"),
    (r"^dense_1/", "end/score/"),
    (r"^dense_2/", "impossible/dense/"),
    (r"^dense_3/", "impossible/score/"),
    (r"^generator/encoder/", "generator/"),
    (r"^electra/", "convbert/"),
    (r"embeddings_project/", "encoder/project/"),
    (r"embeddings/LayerNorm/", "embeddings/norm/"),
    (r"_embeddings$", "_embeddings/weight"),
    (r"/layer_(\d+)/", r"/layers/\1/"),
    (r"/attention/output/dense/", "/mixed/"),
    (r"/attention/output/LayerNorm/", "/attention_norm/"),
    (r"/intermediate/(g_)?dense/", "/up/"),
    (r"/output/(g_)?dense/", "/down/"),
    (r"/output/LayerNorm/", "/feed_forward_norm/"),
    (r"/mixed/", "/output/"),
    (r"/attention/self/", "/attention/"),
    (r"/conv_attn_key/bias", "/conv_key/pointwise/bias"),
    (r"/conv_attn_key/(\w+)_kernel", r"/conv_key/\1/weight"),
    (r"/conv_attn_kernel/", "/conv_kernel/"),
    (r"/conv_attn_point/", "/conv_value/"),
    (r"/(kernel|gamma)$", "/weight"),
    (r"/beta$", "/bias"),
)


@functools.cache
def numbers() -> dict[str, Array]:
    """All that was kept."""
    with np.load(Path(__file__).with_name("official.npz")) as kept:
        return dict(kept)


def under(prefix: str) -> dict[str, Tensor]:
    """Tensors of one place, by our names and in our shapes."""
    found = {}
    for name, value in numbers().items():
        if name.startswith(prefix):
            short = name.removeprefix(prefix)
            for theirs, ours in NAMES:
                short = re.sub(theirs, ours, short)
            short = short.removeprefix("convbert/") if prefix.startswith("body") else short
            found[short.replace("/", ".")] = as_ours(name, torch.from_numpy(value).double())
    return found


def as_ours(name: str, value: Tensor) -> Tensor:
    """Kernels are ``[in, out]`` there, ``[groups, in, out]`` and ``[K, in, 1]``."""
    if name.endswith("depthwise_kernel"):
        return value.permute(1, 2, 0)
    if name.endswith("pointwise_kernel"):
        return value[0].T
    if "g_dense/kernel" in name:
        return value.mT.flatten(0, 1)[..., None]
    return value.T if name.endswith("kernel") else value


def made(kind: Any, place: str, **settings: Any) -> Any:
    """A model of the official weights."""
    model = kind(config(**settings)).double()
    weights = under(f"{place}/weight/")
    model.load_state_dict({name: value / official.GRID for name, value in weights.items()})
    return model


def gradients_agree(model: nn.Module, loss: Tensor, place: str) -> None:
    """All of them, as shares of the largest number of each, or of all where it is nothing."""
    loss.backward()
    wanted = under(f"{place}/grad/")
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if parameter.numel() >= 10_000:  # not kept
            continue
        difference = float((parameter.grad - wanted[name]).abs().max())
        scale = max(float(wanted[name].abs().max()), 1e-2 * largest)
        assert difference < NEAR_GRADIENTS * scale, name


def body_apart(case: str) -> float:
    """How far a body's states are from the official ones."""
    model = made(ConvBertModel, f"body/{case}", **official.BODIES[case])
    return distance(model(IDS, MASK, TYPES)[0], numbers()[f"body/{case}/states"])


def answering() -> ConvBertForQuestionAnswering:
    """The heads of SQuAD with the official weights."""
    model: ConvBertForQuestionAnswering = made(
        ConvBertForQuestionAnswering, "answers/training", answer_hidden_size=512
    )
    return model


def answer(model: ConvBertForQuestionAnswering) -> Any:
    """What they give after the true starts."""
    truth = (official.START, official.END, official.IMPOSSIBLE)
    start, end, none = (torch.from_numpy(part).long() for part in truth)
    return model(IDS, MASK, TYPES, start_positions=start, end_positions=end, is_impossible=none)


def answers_apart(found: Any = None) -> float:
    """How far scores of answers, and their loss, are from the official ones."""
    found = answer(answering()) if found is None else found
    names = {name: name for name in ("loss", "start_logits", "end_logits")}
    names |= {"impossible_logits": "answerable_logit"}
    kept = {ours: numbers()[f"answers/training/{theirs}"] for ours, theirs in names.items()}
    return max(distance(found[name], theirs) for name, theirs in kept.items())


def step(patch: Patch) -> tuple[ConvBertForPreTraining, Any]:
    """A step of pretraining with the official draws."""

    def uniform(like: Tensor, _: Any) -> Tensor:
        kept = official.UNIFORM if like.dim() == 2 else numbers()["pretraining/noise"]
        return torch.from_numpy(kept)

    patch.setattr(masking, "_uniform", uniform)
    drawn = torch.from_numpy(official.POSITIONS).long()
    patch.setattr(torch, "multinomial", lambda *_, **__: drawn)
    model = made(ConvBertForPreTraining, "pretraining", num_groups=2, intermediate_size=64)
    return model, model(IDS, MASK, TYPES)


def step_apart(found: Any = None) -> float:
    """How far a step is from the official one."""
    if found is None:
        with pytest.MonkeyPatch.context() as patch:
            _, found = step(patch)
    kept = {
        "replaced": "disc_labels",
        "generator_logits": "generator_logits",
        "generator_loss": "generator_loss",
        "loss": "loss",
    }
    apart = [distance(found[ours], numbers()[f"pretraining/{kept[ours]}"]) for ours in kept]
    probabilities = distance(found.logits.sigmoid(), numbers()["pretraining/disc_probs"])
    return max(probabilities, *apart)


@pytest.mark.parametrize("case", official.BODIES)
def test_a_body_is_the_official_one(case: str) -> None:
    assert body_apart(case) < NEAR
    model = made(ConvBertModel, f"body/{case}", **official.BODIES[case])
    gradients_agree(model, model(IDS, MASK, TYPES)[0].pow(3).sum(), f"body/{case}")


def test_answers_are_the_official_ones() -> None:
    model = answering()
    found = answer(model)
    assert answers_apart(found) < NEAR
    gradients_agree(model, found.loss, "answers/training")


def test_the_search_for_answers_is_the_official_one() -> None:
    found = answering()(IDS, MASK, TYPES)
    kept = {name: numbers()[f"answers/search/{name}"] for name in official.ANSWERS["search"]}
    assert np.array_equal(found.starts, kept["start_top_index"])
    best = found.end_logits.log_softmax(-1).topk(3)
    assert distance(best.values, kept["end_top_log_probs"]) < NEAR
    assert np.array_equal(best.indices, kept["end_top_index"])


def test_a_step_of_pretraining_is_the_official_one(monkeypatch: Patch) -> None:
    model, found = step(monkeypatch)
    assert np.array_equal(found.replaced, numbers()["pretraining/disc_labels"])
    assert numbers()["pretraining/disc_labels"].sum() > 1
    assert step_apart(found) < NEAR
    gradients_agree(model, found.loss, "pretraining")


def test_a_mean_has_the_official_epsilon() -> None:
    losses, weights = torch.tensor([3.0, 5.0, 7.0]).double(), torch.tensor([1, 0, 1])
    mean = pretraining.mean_of(losses, weights)
    assert float(mean) == pytest.approx(10 / (2 + 1e-6), rel=1e-12)


# ---------------------------------------------------------------- deliberate mistakes

Mistake = Callable[[Patch], object]
MISTAKES: dict[str, tuple[Mistake, Callable[[], float]]] = {}


def mistake(seen_by: Callable[[], float]) -> Callable[[Mistake], Mistake]:
    """List a mistake by its function's name, and what shows it."""

    def listed(make: Mistake) -> Mistake:
        MISTAKES[make.__name__] = make, seen_by
        return make

    return listed


def plain() -> float:
    """How far the plain body is off."""
    return body_apart("plain")


def convolution(patch: Patch, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """The dynamic convolution is given other values and kernels ``[B, T, N, S]``, ``[.., K]``."""
    right = attention.dynamic_convolution
    patch.setattr(attention, "dynamic_convolution", lambda v, k: right(*change(v, k)))


@mistake(plain)
def kernels_that_are_flipped(patch: Patch) -> None:
    convolution(patch, lambda v, k: (v, k.flip(-1)))


@mistake(plain)
def kernels_without_softmax(patch: Patch) -> None:
    convolution(patch, lambda v, k: (v, k.log()))


@mistake(plain)
def kernels_that_run_ahead(patch: Patch) -> None:
    convolution(patch, lambda v, k: (v, k.roll(1, -1)))


@mistake(plain)
def padding_that_the_convolution_does_not_see(patch: Patch) -> None:
    convolution(patch, lambda v, k: (v * MASK[:, :, None, None], k))


@mistake(plain)
def padding_that_attention_sees(patch: Patch) -> None:
    patch.setattr(_bert, "MASKED", 0.0)


@mistake(plain)
def a_span_key_without_the_query(patch: Patch) -> None:
    def forward(self: attention.MixedAttention, x: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.attend(self.query(x), x, mask)
        kernels = self.conv_kernel(self.conv_key(x)).unflatten(-1, (self.heads, -1))
        values = self.conv_value(x).unflatten(-1, (self.heads, -1))
        mixed = attention.dynamic_convolution(values, kernels.softmax(-1))
        return torch.cat([attended, mixed.flatten(2)], -1)

    patch.setattr(attention.MixedAttention, "forward", forward)


@mistake(plain)
def a_query_that_is_scaled_before_the_convolution(patch: Patch) -> None:
    right = attention.SeparableConv.forward
    patch.setattr(attention.SeparableConv, "forward", lambda self, x: right(self, x) / 2)


@mistake(plain)
def a_bias_between_the_two_convolutions(patch: Patch) -> None:
    def forward(self: attention.SeparableConv, x: Tensor) -> Tensor:
        deep = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return F.linear(deep + self.pointwise.bias[0], self.pointwise.weight)

    patch.setattr(attention.SeparableConv, "forward", forward)


@mistake(plain)
def convolving_heads_first(patch: Patch) -> None:
    right = attention.MixedAttention.forward

    def forward(self: attention.MixedAttention, x: Tensor, mask: Tensor | None) -> Tensor:
        return torch.cat(right(self, x, mask).chunk(2, -1)[::-1], -1)

    patch.setattr(attention.MixedAttention, "forward", forward)


@mistake(plain)
def scores_of_the_unreduced_width(patch: Patch) -> None:
    right = F.scaled_dot_product_attention

    def scaled(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, **_: Any) -> Tensor:
        return right(query, key, value, attn_mask, scale=(2 * query.shape[-1]) ** -0.5)

    patch.setattr(F, "scaled_dot_product_attention", scaled)


@mistake(plain)
def the_tanh_of_gelu(patch: Patch) -> None:
    right = F.gelu
    patch.setattr(F, "gelu", lambda x: right(x, approximate="tanh"))


@mistake(plain)
def norms_of_another_epsilon(patch: Patch) -> None:
    right = F.layer_norm
    patch.setattr(F, "layer_norm", lambda x, s, w=None, b=None, eps=0.0: right(x, s, w, b, 1e-5))


@mistake(plain)
def norms_before_the_layers(patch: Patch) -> None:
    def forward(self: building.ConvBertLayer, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.output(self.attention(self.attention_norm(x), mask))
        mixed: Tensor = x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))
        return mixed

    patch.setattr(building.ConvBertLayer, "forward", forward)


@mistake(plain)
def a_projection_that_is_normed(patch: Patch) -> None:
    right = building.GlorotLinear.forward
    patch.setattr(
        building.GlorotLinear, "forward", lambda self, x: F.layer_norm(right(self, x), (16,))
    )


@mistake(plain)
def a_norm_of_words_alone(patch: Patch) -> None:
    def forward(self: BertEmbeddings, ids: Tensor, types: Tensor, _: None) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        elsewhere: Tensor = places + self.token_type_embeddings(types)
        assert self.norm is not None
        return torch.add(elsewhere, self.norm(self.word_embeddings(ids)))

    patch.setattr(BertEmbeddings, "forward", forward)


@mistake(lambda: body_apart("two groups"))
def groups_that_are_shuffled(patch: Patch) -> None:
    right = building.GroupedLinear.forward

    def forward(self: building.GroupedLinear, x: Tensor) -> Tensor:
        return right(self, x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2))

    patch.setattr(building.GroupedLinear, "forward", forward)


def head_width(case: str) -> Callable[[], float]:
    """How far a case is off; a model of other shapes is infinitely far."""

    def apart() -> float:
        try:
            return body_apart(case)
        except (AssertionError, RuntimeError):
            return float("inf")

    return apart


@mistake(head_width("a quarter of the heads"))
def heads_of_half_their_reduced_width(patch: Patch) -> None:
    """What transformers does."""
    patch.setattr(
        ConvBertConfig,
        "head_size",
        property(lambda self: self.hidden_size // self.mixed_heads // 2),
    )


@mistake(head_width("one head"))
def half_of_a_single_head(patch: Patch) -> None:
    patch.setattr(
        ConvBertConfig,
        "head_size",
        property(lambda self: self.hidden_size // self.mixed_heads // 2),
    )


@mistake(step_apart)
def updates_of_the_first_position(patch: Patch) -> None:
    right = masking.replace_words

    def wrong(ids: Tensor, words: Tensor, positions: Tensor) -> Tensor:
        out = right(ids, words, positions)
        out[positions.eq(0).any(-1), 0] = 3
        return out

    patch.setattr(masking, "replace_words", wrong)


@mistake(step_apart)
def the_last_of_several_words(patch: Patch) -> None:
    def wrong(ids: Tensor, words: Tensor, positions: Tensor) -> Tensor:
        out = ids.scatter(1, positions, words)
        out[:, 0] = ids[:, 0]
        return out

    patch.setattr(pretraining, "replace_words", wrong)


@mistake(step_apart)
def a_discriminator_that_sees_masks(patch: Patch) -> None:
    right, seen = masking.replace_words, []

    def masked(*given: Any) -> masking.Masked:
        seen.append(masking.mask_words(*given))
        return seen[-1]

    patch.setattr(pretraining, "mask_words", masked)
    patch.setattr(
        pretraining,
        "replace_words",
        lambda ids, words, at: right(seen[-1].input_ids, words * 0 + 3, at),
    )


@mistake(step_apart)
def random_words_in_place_of_masks(patch: Patch) -> None:
    right = masking.mask_words

    def wrong(ids: Tensor, *rest: Any) -> masking.Masked:
        found = right(ids, *rest)
        other = torch.where(found.input_ids == 3, 20, found.input_ids)
        return masking.Masked(other, found.positions, found.words, found.scored)

    patch.setattr(pretraining, "mask_words", wrong)


@mistake(step_apart)
def every_predicted_word_hidden(patch: Patch) -> None:
    patch.setattr(official, "UNIFORM", official.UNIFORM * 0.5)


@mistake(step_apart)
def the_best_word_in_place_of_a_drawn_one(patch: Patch) -> None:
    patch.setattr(pretraining, "draw_words", lambda logits, _: logits.argmax(-1))


@mistake(step_apart)
def losses_of_padding(patch: Patch) -> None:
    patch.setattr(pretraining, "mean_of", lambda losses, _: losses.mean())


@mistake(step_apart)
def equal_weights_of_both_losses(patch: Patch) -> None:
    right = ConvBertForPreTraining.__init__

    def start(self: ConvBertForPreTraining, settings: ConvBertConfig) -> None:
        settings.discriminator_weight = 1.0
        right(self, settings)

    patch.setattr(ConvBertForPreTraining, "__init__", start)


@mistake(answers_apart)
def answers_outside_of_the_passage(patch: Patch) -> None:
    patch.setattr(heads, "OUTSIDE", 0.0)


@mistake(answers_apart)
def answerability_at_full_weight(patch: Patch) -> None:
    patch.setattr(heads, "IMPOSSIBLE_WEIGHT", 1.0)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_deliberate_mistake_does_not_pass(name: str, monkeypatch: Patch) -> None:
    make, apart = MISTAKES[name]
    make(monkeypatch)
    assert apart() > 10 * NEAR
