"""Outputs and gradients are those of the official rule, and no mistake gets past that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.convbert import (
    ConvBertForPreTraining,
    ConvBertForQuestionAnswering,
    ConvBertForSequenceClassification,
    ConvBertModel,
    attention,
    encoder,
    masking,
    pretraining,
    questions,
)
from embshare.models.convbert.config import ConvBertConfig
from tests.models.convbert.examples import (
    CASES,
    IDS,
    MASK,
    NEAR,
    TYPES,
    arrays,
    batch,
    body_apart,
    both_sizes,
    config,
    distance,
    made,
    sizes,
)
from tests.models.convbert.reference import Chance, Weights, answer, body, dense, pretrain, slope

Patch = pytest.MonkeyPatch
START, END, IMPOSSIBLE = torch.tensor([3, 2]), torch.tensor([5, 4]), torch.tensor([0, 1])
QUESTION = {"start_positions": START, "end_positions": END, "is_impossible": IMPOSSIBLE}
TRUTH = (START.numpy(), END.numpy(), IMPOSSIBLE.numpy())


@pytest.mark.parametrize("case", CASES)
def test_states_are_the_official_ones(case: str) -> None:
    assert body_apart(case) < NEAR


def slopes_agree(model: nn.Module, loss: Callable[[Weights], float]) -> None:
    """Every parameter's gradient is the reference's slope along a random way."""
    weights, chance = arrays(model), np.random.default_rng(0)
    found = {name: p.grad for name, p in model.named_parameters()}
    largest = max(float(g.norm()) for g in found.values() if g is not None)
    for name, gradient in found.items():
        way = chance.standard_normal(weights[name].shape)
        assert gradient is not None, name
        ours, theirs = float((gradient.numpy() * way).sum()), slope(loss, weights, name, way)
        assert abs(ours - theirs) < 1e-5 * max(abs(theirs), 1e-3 * largest), name


@pytest.mark.parametrize("case", ["two groups", "a quarter of the heads", "one head"])
def test_gradients_are_the_official_ones(case: str) -> None:
    model = made(ConvBertModel, **CASES[case])
    weigh = np.random.default_rng(1).standard_normal((2, 7, 16))
    (model(IDS, MASK, TYPES).last_hidden_state * torch.from_numpy(weigh)).sum().backward()
    known = sizes(model.config)
    slopes_agree(model, lambda w: float((body(*batch(), w, known) * weigh).sum()))


def test_a_classifier_is_one_layer_on_the_first_position() -> None:
    model = made(ConvBertForSequenceClassification, num_labels=3)
    states = body(*batch(), arrays(model), sizes(model.config), "convbert.")
    expected = dense(states[:, 0], arrays(model), "classifier")
    assert distance(model(IDS, MASK, TYPES).logits, expected) < NEAR


def answer_apart() -> float:
    """How far scores of answers, and their loss, are from the reference's."""
    model = made(ConvBertForQuestionAnswering)
    expected = answer(batch(), TRUTH, arrays(model), sizes(model.config))
    found = model(IDS, MASK, TYPES, **QUESTION)
    known = [distance(found[name], expected[name]) for name in found]
    free = model(IDS, MASK, TYPES)
    wanted = np.stack([expected["every"][b, row] for b, row in enumerate(free.starts)])
    return max(*known, distance(free.end_logits, wanted))


def test_answers_are_the_official_ones() -> None:
    assert answer_apart() < NEAR
    model = made(ConvBertForQuestionAnswering)
    model(IDS, MASK, TYPES, **QUESTION).loss.backward()
    known = sizes(model.config)
    slopes_agree(model, lambda w: float(answer(batch(), TRUTH, w, known)["loss"]))


# ---------------------------------------------------------------- pretraining


def chance_of(settings: ConvBertConfig, seed: int) -> Chance:
    """What a seeded generator draws, in the order in which the model asks."""
    source = torch.Generator().manual_seed(seed)
    allowed = (IDS > 3).double()
    drawn = torch.multinomial(allowed.float(), 4, replacement=True, generator=source)
    wanted = torch.tensor([[3], [2]])  # round(0.4 * 7), round(0.4 * 5)
    scored = torch.arange(4) < wanted
    hidden = torch.rand(2, 4, generator=source) < settings.mask_share
    noise = torch.rand(2, 4, settings.vocab_size, generator=source)
    parts = (drawn * scored, scored, hidden, noise.double())
    return Chance(*(part.numpy() for part in parts))


SEED = 6
"""Draws one position twice, replaces several words, and shows one word that is predicted."""


def pretraining_apart(seed: int = SEED) -> float:
    """How far a step of pretraining is from the reference's."""
    model = made(ConvBertForPreTraining, num_groups=2)
    chance = chance_of(model.config, seed)
    expected = pretrain(batch(), chance, arrays(model), both_sizes(model.config))
    found = model(IDS, MASK, TYPES, generator=torch.Generator().manual_seed(seed))
    if any(found[name].shape != expected[name].shape for name in found if found[name].dim()):
        return float("inf")
    return max(distance(found[name], expected[name]) for name in found)


def test_pretraining_is_the_official_one() -> None:
    for seed in range(12):
        assert pretraining_apart(seed) < NEAR, seed


def test_the_seed_of_the_mistakes_shows_all_that_is_special() -> None:
    chance = chance_of(config(), SEED)
    model = made(ConvBertForPreTraining, num_groups=2)
    found = pretrain(batch(), chance, arrays(model), both_sizes(model.config))
    drawn = [row[row > 0].tolist() for row in chance.positions]
    assert any(len(set(row)) < len(row) for row in drawn), "a position is drawn twice"
    assert found["replaced"].sum() > 1
    assert not chance.hidden[chance.scored].all(), "a predicted word is shown"


def test_gradients_of_pretraining_are_the_official_ones() -> None:
    model = made(ConvBertForPreTraining, num_groups=2, num_hidden_layers=1)
    chance, known = chance_of(model.config, SEED), both_sizes(model.config)
    model(IDS, MASK, TYPES, generator=torch.Generator().manual_seed(SEED)).loss.backward()
    slopes_agree(model, lambda w: float(pretrain(batch(), chance, w, known)["loss"]))


def test_a_word_that_is_drawn_again_is_not_a_replaced_one(monkeypatch: Patch) -> None:
    chance, model = chance_of(config(), SEED), made(ConvBertForPreTraining)
    words = IDS.gather(1, torch.from_numpy(chance.positions))
    monkeypatch.setattr(pretraining, "draw_words", lambda *_: words)
    found = model(IDS, MASK, TYPES, generator=torch.Generator().manual_seed(SEED))
    assert torch.equal(found.corrupted_ids, IDS)
    assert not found.replaced.any()


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
    patch.setattr(encoder, "MASKED", 0.0)


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
    def forward(self: encoder.ConvBertLayer, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.output(self.attention(self.attention_norm(x), mask))
        mixed: Tensor = x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))
        return mixed

    patch.setattr(encoder.ConvBertLayer, "forward", forward)


@mistake(plain)
def a_projection_that_is_normed(patch: Patch) -> None:
    right = encoder.GlorotLinear.forward
    patch.setattr(
        encoder.GlorotLinear, "forward", lambda self, x: F.layer_norm(right(self, x), (16,))
    )


@mistake(plain)
def a_norm_of_words_alone(patch: Patch) -> None:
    def forward(self: encoder.ConvBertEmbeddings, ids: Tensor, types: Tensor, _: None) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        elsewhere: Tensor = places + self.token_type_embeddings(types)
        return torch.add(elsewhere, self.norm(self.word_embeddings(ids)))

    patch.setattr(encoder.ConvBertEmbeddings, "forward", forward)


@mistake(lambda: body_apart("two groups"))
def groups_that_are_shuffled(patch: Patch) -> None:
    right = encoder.GroupedLinear.forward

    def forward(self: encoder.GroupedLinear, x: Tensor) -> Tensor:
        return right(self, x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2))

    patch.setattr(encoder.GroupedLinear, "forward", forward)


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


@mistake(pretraining_apart)
def updates_of_the_first_position(patch: Patch) -> None:
    right = masking.replace_words

    def wrong(ids: Tensor, words: Tensor, positions: Tensor) -> Tensor:
        out = right(ids, words, positions)
        out[positions.eq(0).any(-1), 0] = 3
        return out

    patch.setattr(masking, "replace_words", wrong)


@mistake(pretraining_apart)
def the_last_of_several_words(patch: Patch) -> None:
    def wrong(ids: Tensor, words: Tensor, positions: Tensor) -> Tensor:
        out = ids.scatter(1, positions, words)
        out[:, 0] = ids[:, 0]
        return out

    patch.setattr(pretraining, "replace_words", wrong)


@mistake(pretraining_apart)
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


@mistake(pretraining_apart)
def random_words_in_place_of_masks(patch: Patch) -> None:
    right = masking.mask_words

    def wrong(ids: Tensor, *rest: Any) -> masking.Masked:
        found = right(ids, *rest)
        other = torch.where(found.input_ids == 3, 20, found.input_ids)
        return masking.Masked(other, found.positions, found.words, found.scored)

    patch.setattr(pretraining, "mask_words", wrong)


@mistake(pretraining_apart)
def every_predicted_word_hidden(patch: Patch) -> None:
    right = masking._uniform
    patch.setattr(
        masking,
        "_uniform",
        lambda like, source: right(like, source) * (like.dtype.is_floating_point or 0.5),
    )


@mistake(pretraining_apart)
def the_best_word_in_place_of_a_drawn_one(patch: Patch) -> None:
    patch.setattr(pretraining, "draw_words", lambda logits, _: logits.argmax(-1))


@mistake(pretraining_apart)
def losses_of_padding(patch: Patch) -> None:
    patch.setattr(pretraining, "mean_of", lambda losses, _: losses.mean())


@mistake(pretraining_apart)
def a_loss_without_the_official_epsilon(patch: Patch) -> None:
    patch.setattr(pretraining, "EPSILON", 0.0)


@mistake(pretraining_apart)
def equal_weights_of_both_losses(patch: Patch) -> None:
    right = ConvBertForPreTraining.__init__

    def start(self: ConvBertForPreTraining, settings: ConvBertConfig) -> None:
        settings.discriminator_weight = 1.0
        right(self, settings)

    patch.setattr(ConvBertForPreTraining, "__init__", start)


@mistake(answer_apart)
def answers_outside_of_the_passage(patch: Patch) -> None:
    patch.setattr(questions, "OUTSIDE", 0.0)


@mistake(answer_apart)
def answerability_at_full_weight(patch: Patch) -> None:
    patch.setattr(questions, "IMPOSSIBLE_WEIGHT", 1.0)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_deliberate_mistake_does_not_pass(name: str, monkeypatch: Patch) -> None:
    make, apart = MISTAKES[name]
    make(monkeypatch)
    assert apart() > 100 * NEAR
