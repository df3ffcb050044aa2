"""Heads that score labelled positions only."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.models.elc_bert import ElcBertConfig, ElcBertForMaskedLM
from embshare.models.sharebert import ShareBertConfig, ShareBertForMaskedLM
from embshare.tasks.pretraining.masked_models import labelled_logits, score_labelled_only
from embshare.tasks.pretraining.metrics import sums_per_row, to_metrics

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
}


def models() -> dict[str, nn.Module]:
    import transformers as hf

    torch.manual_seed(0)
    return {
        "bert": hf.BertForMaskedLM(hf.BertConfig(**SMALL)),
        "albert": hf.AlbertForMaskedLM(hf.AlbertConfig(embedding_size=8, **SMALL)),
        "roberta": hf.RobertaForMaskedLM(hf.RobertaConfig(**SMALL)),
        "distilbert": hf.DistilBertForMaskedLM(
            hf.DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=1, n_heads=2)
        ),
        "electra": hf.ElectraForMaskedLM(hf.ElectraConfig(embedding_size=8, **SMALL)),
        "convbert": hf.ConvBertForMaskedLM(hf.ConvBertConfig(embedding_size=16, **SMALL)),
        "sharebert": ShareBertForMaskedLM(
            ShareBertConfig(**{**SMALL, "vocab_size": 300}, factor_size=4)
        ),
        "elc": ElcBertForMaskedLM(ElcBertConfig(**SMALL, position_bucket_size=8)),
    }


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (3, 9), generator=generator)
    labels = torch.where(torch.rand(3, 9, generator=generator) < 0.3, ids, -100)
    return ids, labels


NAMES = "bert albert roberta distilbert electra convbert sharebert elc".split()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_and_gradients_stay_what_they_are(name: str) -> None:
    model = models()[name].eval()
    plain, (ids, labels) = copy.deepcopy(model), batch()
    assert score_labelled_only(model)
    whole, part = (m(input_ids=ids, labels=labels) for m in (plain, model))
    whole.loss.backward()
    part.loss.backward()
    torch.testing.assert_close(part.loss, whole.loss)
    assert part.logits.shape == (1, int((labels != -100).sum()), part.logits.shape[-1])
    torch.testing.assert_close(
        labelled_logits(part.logits, labels), labelled_logits(whole.logits, labels)
    )
    gradients = {n: p.grad for n, p in plain.named_parameters()}
    for parameter_name, parameter in model.named_parameters():
        if (wanted := gradients[parameter_name]) is not None:
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-6)
    unlabelled = model(input_ids=ids).logits
    assert unlabelled.shape[:2] == ids.shape


class Encoder(nn.Module):
    """Words alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.table(input_ids),)


class Averaging(nn.Module):
    """A head that looks at all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.base_model, self.decoder = Encoder(), nn.Linear(8, 50)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        (hidden,) = self.base_model(input_ids)
        logits = self.decoder(hidden + 5 * hidden.mean(dim=1, keepdim=True))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return SimpleNamespace(loss=loss, logits=logits)


def test_a_model_whose_loss_would_change_is_left_alone() -> None:
    model, (ids, labels) = Averaging(), batch()
    before = model(ids, labels=labels)
    assert not score_labelled_only(model)
    after = model(ids, labels=labels)
    assert torch.equal(before.loss, after.loss)
    assert after.logits.shape == (3, 9, 50)
    assert not score_labelled_only(nn.Linear(2, 2))


def test_a_treated_model_is_shared_copied_and_pickled() -> None:
    model = models()["bert"]
    score_labelled_only(model)
    embshare.share_from_embedding(model, embshare.ShareConfig(tie="all"))
    ids, labels = batch()
    model.eval()
    loss = model(input_ids=ids, labels=labels).loss
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(input_ids=ids, labels=labels).loss, loss)


def test_sums_are_the_same_from_all_logits_and_from_the_labelled_ones() -> None:
    _, labels = batch()
    labels[1] = -100  # a row without any
    logits = torch.randn(3, 9, 50)
    whole = sums_per_row(logits, labels)
    part = sums_per_row(logits[labels != -100], labels)
    assert torch.equal(whole, part)
    assert torch.equal(whole, sums_per_row(logits[labels != -100][None], labels))
    logp = logits.log_softmax(-1)
    for row in range(3):
        places = [t for t in range(9) if labels[row, t] != -100]
        nats = -sum(float(logp[row, t, labels[row, t]]) for t in places)
        hits = sum(int(logits[row, t].argmax() == labels[row, t]) for t in places)
        assert whole[row].tolist() == pytest.approx([nats, hits, len(places)])


def test_metrics_are_divided_once() -> None:
    sums = torch.tensor([[3.0, 1, 2], [0.0, 0, 0], [1.0, 1, 2]])
    found = to_metrics(sums.numpy())
    assert found["masked_perplexity"] == pytest.approx(torch.tensor(1.0).exp().item())
    assert found["masked_accuracy"] == 0.5
    assert found["masked_tokens"] == 4
    assert to_metrics(torch.tensor([[1e9, 0.0, 1.0]]).numpy())["masked_perplexity"] == float("inf")
