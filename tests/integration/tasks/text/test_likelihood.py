"""Log-likelihoods of sentences: by hand, by definition, and as they have always been."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.models.matched import MatchedConfig, MatchedLanguageModel, MatchedMaskedLanguageModel
from embshare.tasks.text.likelihood import causal_log_likelihoods, pseudo_log_likelihoods
from tests.integration.tasks.text.unigram import Unigram


def test_likelihoods_are_sums_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weights = torch.randn(9)
    log_p = weights.log_softmax(0).double().numpy()
    sentences = [[3, 1], [2], [8, 8, 0, 5, 4], [1, 7, 7], []]
    wanted = [sum(log_p[i] for i in sentence) for sentence in sentences]
    for most in (2**15, 4):
        monkeypatch.setattr("embshare.tasks.text.likelihood.TOKENS", most)
        causal = causal_log_likelihoods(Unigram(weights), sentences, start=0, vocabulary=9)
        assert causal.tolist() == pytest.approx(wanted, rel=1e-5)
        for logits in (2**23, 18):
            monkeypatch.setattr("embshare.tasks.text.likelihood.LOGITS", logits)
            masked = pseudo_log_likelihoods(
                Unigram(weights), sentences, begin=1, end=2, mask=3, pad=0, vocabulary=9
            )
            assert masked.tolist() == pytest.approx(wanted, rel=1e-5)


SIZES: dict[str, Any] = {"vocab_size": 40, "width": 16, "layers": 2, "heads": 2}


@pytest.mark.parametrize("architecture", ["lstm", "conv", "attention"])
def test_a_causal_model_is_asked_from_left_to_right(architecture: Any) -> None:
    model = MatchedLanguageModel(MatchedConfig(architecture=architecture, **SIZES)).eval()
    sentences = [[5, 6, 7], [9, 9, 10, 11, 12, 13], [8]]
    found = causal_log_likelihoods(model, sentences, start=2, vocabulary=40)
    for value, sentence in zip(found, sentences, strict=True):
        log_p = model(torch.tensor([[2, *sentence]]))["logits"].log_softmax(-1)[0]
        wanted = sum(float(log_p[t, token].detach()) for t, token in enumerate(sentence))
        assert value == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("architecture", ["lstm", "conv", "attention"])
def test_a_masked_model_is_asked_for_each_token(architecture: Any) -> None:
    model = MatchedMaskedLanguageModel(MatchedConfig(architecture=architecture, **SIZES)).eval()
    embshare.share_from_embedding(model, embshare.ShareConfig(tie="all"))
    sentences = [[5, 6, 7], [9, 9, 10, 11, 12, 13], [8]]
    found = pseudo_log_likelihoods(model, sentences, begin=2, end=3, mask=4, pad=0, vocabulary=40)
    for value, sentence in zip(found, sentences, strict=True):
        total = 0.0
        for place, token in enumerate(sentence):
            ids = torch.tensor([[2, *sentence, 3]])
            ids[0, place + 1] = 4
            log_p = model(ids)["logits"].log_softmax(-1)
            total += float(log_p[0, place + 1, token].detach())
        assert value == pytest.approx(total, rel=1e-4)


FIXED = [[5, 6, 7], [9, 9, 10, 11, 12, 13], [8], [30, 22, 22, 5, 17]]
BEFORE = {
    "lstm": (
        [-15.965322494506836, -24.268778800964355, -3.155571460723877, -19.07106113433838],
        [-13.862207412719727, -29.01830220222473, -3.5194461345672607, -20.302979469299316],
    ),
    "conv": (
        [-12.835129976272583, -30.757870197296143, -4.512909889221191, -23.353834867477417],
        [-12.84397006034851, -30.92805767059326, -4.61906099319458, -23.52511477470398],
    ),
    "attention": (
        [-12.319457530975342, -28.568653345108032, -4.219335556030273, -21.985744953155518],
        [-12.433435678482056, -28.833895921707153, -4.279191493988037, -21.973132610321045],
    ),
}
"""Causal and masked scores of the sentences above, as published results were computed."""


@torch.no_grad()
def fixed(model: nn.Module) -> nn.Module:
    """Give a model weights that are the same with every version of torch."""
    for number, parameter in enumerate(model.parameters(), start=1):
        waves = torch.sin(number + 0.7 * torch.arange(parameter.numel()))
        parameter.copy_(0.5 * waves.view_as(parameter))
    return model.eval()


@pytest.mark.parametrize("architecture", BEFORE)
def test_scores_are_what_they_were(architecture: Any) -> None:
    causal, masked = BEFORE[architecture]
    config = MatchedConfig(architecture=architecture, **SIZES)
    model = fixed(MatchedLanguageModel(config))
    found = causal_log_likelihoods(model, FIXED, start=2, vocabulary=40)
    assert found.tolist() == pytest.approx(causal, rel=1e-5)
    found = pseudo_log_likelihoods(
        fixed(MatchedMaskedLanguageModel(config)),
        FIXED,
        begin=2,
        end=3,
        mask=4,
        pad=0,
        vocabulary=40,
    )
    assert found.tolist() == pytest.approx(masked, rel=1e-5)


def test_the_same_tokens_have_the_same_score_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embshare.tasks.text.likelihood.TOKENS", 1)  # a batch for each row
    model = fixed(MatchedLanguageModel(MatchedConfig(architecture="lstm", **SIZES)))
    found = causal_log_likelihoods(model, [*FIXED, *FIXED], start=2, vocabulary=40)
    assert found[:4].tolist() == found[4:].tolist() and len(set(found.tolist())) == 4
