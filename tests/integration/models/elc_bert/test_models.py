"""ELC-BERT as transformers sees it: start, files, training, growth and heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

from embshare.models.elc_bert import (
    ElcBertConfig,
    ElcBertForMaskedLM,
    ElcBertForSequenceClassification,
    ElcBertModel,
)
from embshare.models.elc_bert.config import VARIANTS
from embshare.models.elc_bert.model import ElcBertPreTrainedModel
from tests.integration.models.elc_bert.official import config

AUTO: dict[type[ElcBertPreTrainedModel], Any] = {
    ElcBertModel: AutoModel,
    ElcBertForMaskedLM: AutoModelForMaskedLM,
    ElcBertForSequenceClassification: AutoModelForSequenceClassification,
}
IDS = torch.arange(10, 24).view(2, 7)
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
every_class = pytest.mark.parametrize("kind", AUTO)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def built(kind: Callable[[ElcBertConfig], Any], variant: str = "base", **settings: Any) -> Any:
    """A model of a test's size without dropout."""
    return kind(config(variant, **settings))


# ---------------------------------------------------------------- the start


def test_matrices_start_from_the_cut_distribution() -> None:
    sizes: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 256, "vocab_size": 2000}
    model = built(ElcBertForMaskedLM, position_bucket_size=16, **sizes)
    std = math.sqrt(2 / (5 * 192))
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        scale = 1.0
        if "feed_forward" in name:
            scale = math.sqrt(1 / (2 * (1 + int(name.split(".")[3]))))
        drawn = parameter.detach() / (std * scale)
        assert float(drawn.std()) == pytest.approx(0.8796, rel=0.05), name
        assert 1.9 < float(drawn.abs().max()) <= 2.0001, name


def test_vectors_start_as_officially() -> None:
    model = built(ElcBertForMaskedLM)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        if "norm" in name and name.endswith("weight"):
            assert bool((parameter == 1).all()), name
    assert [mixture.logits.tolist() for mixture in model.bert.encoder.mixtures] == [
        [1.0],
        [0.0, 1.0],
        [0.0, 0.0, 1.0],
    ]
    zero = built(ElcBertForMaskedLM, "weighted_output").bert.encoder.mixtures
    assert [mixture.logits.tolist() for mixture in zero] == [[0.0] * n for n in range(1, 5)]


# ---------------------------------------------------------------- files


def test_a_grown_vocabulary_keeps_the_head_tied(tmp_path: Path) -> None:
    model = built(ElcBertForMaskedLM).eval()
    before = model(IDS).logits
    model.resize_token_embeddings(44)
    assert model.config.vocab_size == 44
    assert model.decoder.weight is model.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(model(IDS).logits[..., :40], before)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert loaded.decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    assert torch.equal(loaded(IDS + 20).logits, model(IDS + 20).logits)


# ---------------------------------------------------------------- training


def test_dropout_is_where_it_is_officially() -> None:
    rates: dict[str, Any] = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2}
    model = built(ElcBertForMaskedLM, num_hidden_layers=2, **rates).train()
    found: list[tuple[float, tuple[int, ...]]] = []
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(
                lambda made, given, _: found.append((made.p, tuple(given[0].shape)))
            )
    model(IDS)
    layer = [(0.2, (15, 12)), (0.2, (2, 3, 7, 7)), (0.2, (2, 7, 12)), (0.1, (2, 7, 12))]
    assert found == [(0.1, (2, 7, 12)), *layer, *layer, (0.1, (2, 7, 12))]


# ---------------------------------------------------------------- heads and inputs


def test_a_long_sentence_leaves_nothing_behind() -> None:
    model = built(ElcBertModel).eval()
    before = model(IDS).last_hidden_state
    assert model(torch.zeros(1, 30, dtype=torch.long)).last_hidden_state.isfinite().all()
    assert torch.equal(model(IDS).last_hidden_state, before)


def test_a_mixed_output_starts_as_the_mean_of_all() -> None:
    states = built(ElcBertModel, "weighted_output").eval()(IDS, output_hidden_states=True)[1]
    torch.testing.assert_close(states[-1], sum(states[:-1]) / 4)
