"""ShareBERT as transformers and the library see it: start, files, training, growth, and undoing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

import embshare
from embshare.models.sharebert import (
    ShareBertConfig,
    ShareBertForMaskedLM,
    ShareBertForQuestionAnswering,
    ShareBertForSequenceClassification,
    ShareBertModel,
    sharebert_plan,
)
from embshare.models.sharebert.model import ShareBertPreTrainedModel
from embshare.runtime.bank import require_bank
from tests.integration.models.sharebert.official import config

AUTO: dict[type[ShareBertPreTrainedModel], Any] = {
    ShareBertModel: AutoModel,
    ShareBertForMaskedLM: AutoModelForMaskedLM,
    ShareBertForSequenceClassification: AutoModelForSequenceClassification,
    ShareBertForQuestionAnswering: AutoModelForQuestionAnswering,
}
IDS = torch.arange(10, 24).view(2, 7)
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
every_class = pytest.mark.parametrize("kind", AUTO)


def built(kind: Callable[[ShareBertConfig], Any], **settings: Any) -> Any:
    """A model of a test's size without dropout."""
    return kind(config(**settings))


def loss_of(model: nn.Module) -> Tensor:
    """Batch with labels for every head."""
    given: dict[str, Tensor] = {"input_ids": IDS, "attention_mask": MASK}
    match model:
        case ShareBertForMaskedLM():
            given["labels"] = torch.where(IDS % 3 == 0, IDS, -100)
        case ShareBertForSequenceClassification():
            given["labels"] = torch.tensor([0, 2])
        case ShareBertForQuestionAnswering():
            given |= {"start_positions": torch.tensor([1, 2])}
            given |= {"end_positions": torch.tensor([3, 3])}
        case _:
            first, second = model(**given, return_dict=False)
            squares: Tensor = first.pow(2).sum() + second.pow(2).sum()
            return squares
    loss: Tensor = model(**given).loss
    return loss


# ---------------------------------------------------------------- the start


def test_the_start_is_the_official_one() -> None:
    model = built(
        ShareBertForMaskedLM,
        vocab_size=3000,
        hidden_size=192,
        intermediate_size=256,
        factor_size=64,
    )
    std = {name: float(p.detach().std()) for name, p in model.named_parameters()}
    for name in (
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.word_embeddings.factor.weight",
        "bert.embeddings.position_embeddings.weight",
        "bert.embshare_bank.sources.0.projection",
        "decoder.weight",
    ):
        assert std[name] == pytest.approx(0.02, rel=0.05), name
    layers = model.bert.encoder.layers
    for name in ("query", "key", "value", "up", "down", "output"):
        first, *others = (layer.get_submodule(name).bias for layer in layers)
        assert float(first.detach().std()) == pytest.approx(1, rel=0.2)
        assert all(torch.equal(first, other) for other in others)
        assert all(first.data_ptr() != other.data_ptr() for other in others)
    assert not torch.equal(layers[0].query.bias, layers[0].key.bias)
    assert std["bert.pooler.dense.bias"] == pytest.approx(1, rel=0.2)
    uniform = 1 / (3 * 192) ** 0.5
    assert std["transform.dense.weight"] == pytest.approx(uniform, rel=0.05)
    assert std["transform.dense.bias"] == pytest.approx(uniform, rel=0.2)
    zeros = ("factor.bias", "sources.0.bias", "decoder.bias", "norm.bias")
    ones = ("norm.weight", "norm_in.weight", "norm_out.weight")
    for name, parameter in model.named_parameters():
        if name.endswith(zeros):
            assert not parameter.any(), name
        if name.endswith(ones):
            assert bool((parameter == 1).all()), name


def test_derived_matrices_start_with_the_published_spread() -> None:
    with torch.no_grad():
        model = built(
            ShareBertModel, vocab_size=3000, hidden_size=192, intermediate_size=256, factor_size=128
        )
        found = float(model.encoder.layers[0].query.weight.std())
    assert found == pytest.approx(0.02 * 0.02 * 128**0.5, rel=0.05)  # 0.00453


# ---------------------------------------------------------------- files


def test_a_head_is_drawn_and_an_encoder_is_not(tmp_path: Path) -> None:
    encoder = built(ShareBertModel)
    with torch.no_grad():
        encoder.encoder.layers[1].query.bias.add_(1)
    encoder.save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    ours, theirs = encoder.state_dict(), model.bert.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    bound = 24**-0.5
    assert 0.9 * bound < float(model.transform.dense.weight.detach().abs().max()) <= bound


def test_the_librarys_own_checkpoints_work_too(tmp_path: Path) -> None:
    model = built(ShareBertForSequenceClassification).eval()
    embshare.save(model, tmp_path)
    loaded = embshare.load(tmp_path, built(ShareBertForSequenceClassification)).eval()
    assert torch.equal(model(IDS).logits, loaded(IDS).logits)


# ---------------------------------------------------------------- growth


def test_a_grown_vocabulary_leaves_every_weight_as_it_is(tmp_path: Path) -> None:
    model = built(ShareBertForMaskedLM).eval()
    before, weight = model(IDS).logits, model.bert.encoder.layers[0].query.weight
    model.resize_token_embeddings(310)
    assert (model.config.vocab_size, model.config.source_rows) == (310, 300)
    assert torch.equal(model(IDS).logits[..., :300], before)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    new = IDS + 286
    assert torch.equal(loaded(new).logits, model(new).logits)
    assert torch.equal(loaded.bert.encoder.layers[0].query.weight, weight)
    assert not loaded.decoder.bias.requires_grad and not model.decoder.bias.requires_grad


def test_a_word_that_no_batch_holds_is_material_all_the_same() -> None:
    model = built(ShareBertModel).eval()
    before = model(IDS).pooler_output
    with torch.no_grad():
        model.get_input_embeddings().weight[299 // 2].add_(1)
    assert not torch.allclose(model(IDS).pooler_output, before)


# ---------------------------------------------------------------- training


def test_only_the_columns_that_are_read_get_gradients_in_pretraining() -> None:
    model = built(ShareBertForMaskedLM).train()
    loss_of(model).backward()
    (columns,) = require_bank(model).columns
    assert columns.projection is not None and columns.projection.grad is not None
    moved = columns.projection.grad.abs().sum(1) > 0
    pooler = sharebert_plan(model.config).slots[-1]
    assert moved.tolist() == [False] * pooler.stop + [True] * (24 - pooler.stop)


@every_class
def test_weights_are_projected_once_per_step(kind: type[ShareBertPreTrainedModel]) -> None:
    model = built(kind).train()
    loss_of(model).backward()
    assert require_bank(model).evaluations == 1


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("sparse", [False, True])
def test_masked_words_are_scored_sparsely_where_it_is_asked_for(sparse: bool) -> None:
    model = built(ShareBertForMaskedLM, sparse_mask_prediction=sparse).train()
    with torch.no_grad():
        model.decoder.bias.normal_()
    labels = torch.where(IDS % 3 == 0, IDS, -100)
    training = model(IDS, labels=labels)
    every = model(IDS).logits
    assert training.logits.shape == ((int((labels != -100).sum()), 300) if sparse else (2, 7, 300))
    expected = F.cross_entropy(every.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(training.loss, expected)
    found = model.eval()(IDS, labels=labels)
    assert found.logits.shape == (2, 7, 300)
    torch.testing.assert_close(found.loss, expected)
    assert model.decoder.bias.requires_grad is not sparse


def test_an_answer_has_a_start_and_an_end() -> None:
    model = built(ShareBertForQuestionAnswering)
    start, end = torch.tensor([1, 2]), torch.tensor([3, 3])
    found = model(IDS, start_positions=start, end_positions=end)
    assert found.start_logits.shape == found.end_logits.shape == (2, 7)
    mean = (F.cross_entropy(found.start_logits, start) + F.cross_entropy(found.end_logits, end)) / 2
    torch.testing.assert_close(found.loss, mean)


# ---------------------------------------------------------------- the transform's own promises


def test_it_is_shared_by_its_plan_and_by_nothing_else() -> None:
    model = built(ShareBertForSequenceClassification)
    assert require_bank(model).plan == sharebert_plan(model.config)
    summary = embshare.summarize(model)
    assert summary.stored == sum(p.numel() for p in model.parameters())
    assert summary.unused_columns == (6,)
    assert isinstance(model.bert.encoder.layers[0].query, nn.Linear)


def test_materialized_it_is_a_plain_bert_that_computes_the_same() -> None:
    model = built(ShareBertForMaskedLM).eval()
    plain = embshare.materialize(model)
    assert type(plain.bert.encoder.layers[0].query) is nn.Linear
    assert plain.bert.embeddings.word_embeddings.weight.shape == (300, 24)
    torch.testing.assert_close(plain(IDS).logits, model(IDS).logits)
