"""Outputs, losses and gradients are those that the official code computed, in single precision."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embshare.models.convbert import (
    ConvBertForPreTraining,
    ConvBertForQuestionAnswering,
    ConvBertModel,
    masking,
)
from tests.models.convbert import make_official as official
from tests.models.convbert.examples import config, distance
from tests.models.convbert.reference import Array

NEAR = 1e-5
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
        assert difference < NEAR * scale, name


@pytest.mark.parametrize("case", official.BODIES)
def test_a_body_is_the_official_one(case: str) -> None:
    model = made(ConvBertModel, f"body/{case}", **official.BODIES[case])
    states = model(IDS, MASK, TYPES).last_hidden_state
    assert distance(states, numbers()[f"body/{case}/states"]) < NEAR
    gradients_agree(model, states.pow(3).sum(), f"body/{case}")


def test_answers_are_the_official_ones() -> None:
    model = made(ConvBertForQuestionAnswering, "answers/training", answer_hidden_size=512)
    start, end, none = (
        torch.from_numpy(part).long()
        for part in (official.START, official.END, official.IMPOSSIBLE)
    )
    found = model(IDS, MASK, TYPES, start_positions=start, end_positions=end, is_impossible=none)
    kept = {name: numbers()[f"answers/training/{name}"] for name in ("loss", "start_logits")}
    assert distance(found.loss, kept["loss"]) < NEAR
    assert distance(found.start_logits, kept["start_logits"]) < NEAR
    assert distance(found.end_logits, numbers()["answers/training/end_logits"]) < NEAR
    theirs = numbers()["answers/training/answerable_logit"]
    assert distance(found.impossible_logits, theirs) < NEAR
    gradients_agree(model, found.loss, "answers/training")


def test_the_search_for_answers_is_the_official_one() -> None:
    model = made(ConvBertForQuestionAnswering, "answers/training", answer_hidden_size=512)
    found = model(IDS, MASK, TYPES)
    kept = {name: numbers()[f"answers/search/{name}"] for name in official.ANSWERS["search"]}
    assert np.array_equal(found.starts, kept["start_top_index"])
    best = found.end_logits.log_softmax(-1).topk(3)
    assert distance(best.values, kept["end_top_log_probs"]) < NEAR
    assert np.array_equal(best.indices, kept["end_top_index"])


def test_a_step_of_pretraining_is_the_official_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def uniform(like: Tensor, _: Any) -> Tensor:
        kept = official.UNIFORM if like.dim() == 2 else numbers()["pretraining/noise"]
        return torch.from_numpy(kept)

    monkeypatch.setattr(masking, "_uniform", uniform)
    drawn = torch.from_numpy(official.POSITIONS).long()
    monkeypatch.setattr(torch, "multinomial", lambda *_, **__: drawn)
    model = made(ConvBertForPreTraining, "pretraining", num_groups=2, intermediate_size=64)
    found = model(IDS, MASK, TYPES)
    kept = {
        name.removeprefix("pretraining/"): value
        for name, value in numbers().items()
        if name.count("/") == 1
    }
    assert np.array_equal(found.replaced, kept["disc_labels"])
    assert kept["disc_labels"].sum() > 1
    assert distance(found.generator_logits, kept["generator_logits"]) < NEAR
    assert distance(found.generator_loss, kept["generator_loss"]) < NEAR
    assert distance(found.logits.sigmoid(), kept["disc_probs"]) < NEAR
    assert distance(found.loss, kept["loss"]) < NEAR
    gradients_agree(model, found.loss, "pretraining")
