"""Saved as one class of a family, loaded as another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertModel,
    GPT2ForSequenceClassification,
    T5EncoderModel,
)

import embshare
from embshare import ShareConfig
from embshare.errors import CheckpointError
from embshare.runtime.bank import bank_of
from tests._support.huggingface_families import FAMILIES, IDS, bert, gpt2, logits, t5

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

CONFIGS = {
    "plain": ShareConfig(),
    "factor": ShareConfig(factor=4, tie="none"),
    "own": ShareConfig(method="own", tie="none", gain="channel"),
    "relaxed": ShareConfig(gain="learned"),
}
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def weights(model: Any) -> set[str]:
    bank = bank_of(model)
    assert bank
    return set(bank.plan.weights())


@torch.no_grad()
def hidden(model: Any) -> torch.Tensor:
    out: torch.Tensor = model.eval()(input_ids=IDS).last_hidden_state
    return out


@EACH
def test_a_headless_model_of_a_headed_folder(config: ShareConfig, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert(), config)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is BertModel
    assert torch.equal(hidden(loaded), hidden(model.bert))
    assert set(report["missing_keys"]) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert not any("embshare" in key for key in report["unexpected_keys"])
    assert all(name.startswith("encoder.") for name in weights(loaded))
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(hidden(AutoModel.from_pretrained(tmp_path / "again")), hidden(loaded))


@EACH
def test_another_head(config: ShareConfig, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert(), config)
    model.save_pretrained(tmp_path)
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    assert torch.equal(hidden(tuned.bert), hidden(model.bert))
    assert weights(tuned) == {name for name in weights(model) if name.startswith("bert.encoder")}
    labels = torch.tensor([0, 1])
    torch.optim.SGD(tuned.parameters(), lr=0.1).zero_grad()
    tuned(input_ids=IDS, labels=labels).loss.backward()
    tuned.save_pretrained(tmp_path / "tuned")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned")
    assert torch.equal(logits(again), logits(tuned))


@EACH
def test_a_headed_model_of_a_headless_folder(config: ShareConfig, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert().bert, config)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(hidden(loaded.bert), hidden(model))
    table = loaded.bert.embeddings.word_embeddings._parameters["weight"]
    assert loaded.cls.predictions.decoder._parameters["weight"] is table
    assert bool(torch.isfinite(logits(loaded)).all())


def test_families_without_a_name_for_their_base(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(t5())
    model.save_pretrained(tmp_path)
    assert torch.equal(hidden(T5EncoderModel.from_pretrained(tmp_path)), hidden(model.encoder))
    other = embshare.share_from_embedding(gpt2())
    other.save_pretrained(tmp_path / "gpt2")
    loaded = GPT2ForSequenceClassification.from_pretrained(tmp_path / "gpt2", pad_token_id=0)
    assert torch.equal(hidden(loaded.transformer), hidden(other.transformer))


def relaxed(model: Any) -> Any:
    """Shared with gains and residuals that differ from weight to weight."""
    embshare.share_from_embedding(model, ShareConfig(gain="channel", residual_rank=2))
    bank = bank_of(model)
    assert bank
    with torch.no_grad():
        for parameter in bank.relaxations.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    return model


def test_learned_gains_go_with_their_weights(tmp_path: Path) -> None:
    model = relaxed(bert())
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert torch.equal(hidden(loaded), hidden(model.bert))
    assert set(report["missing_keys"]) == {"pooler.dense.weight", "pooler.dense.bias"}
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(hidden(AutoModel.from_pretrained(tmp_path / "again")), hidden(loaded))


def test_learned_gains_behind_those_that_are_gone(tmp_path: Path) -> None:
    model = relaxed(t5())
    model.save_pretrained(tmp_path)
    assert torch.equal(hidden(T5EncoderModel.from_pretrained(tmp_path)), hidden(model.encoder))
    causal = relaxed(FAMILIES["bert-decoder"]())
    causal.save_pretrained(tmp_path / "decoder")
    plain = {"is_decoder": False, "add_cross_attention": False}
    loaded = AutoModel.from_pretrained(tmp_path / "decoder", **plain)
    kept = [name for name in weights(causal) if name.startswith("bert.") and "cross" not in name]
    assert len(weights(loaded)) == len(kept)
    bank, theirs = bank_of(loaded), bank_of(causal)
    assert bank and theirs
    for index, reader in enumerate(bank.readers):
        layer, leaf = reader.places[0]
        name = next(path for path, module in loaded.named_modules() if module is layer)
        wanted = getattr(causal.bert.get_submodule(name), leaf)
        found = getattr(layer, leaf)  # among fewer rows: equal but for rounding
        assert torch.allclose(found, wanted, rtol=1e-5), index


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    embshare.share_from_embedding(bert()).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="plan does not fit this GPT2"):
        GPT2ForSequenceClassification.from_pretrained(tmp_path, config=gpt2_config(tmp_path))


def gpt2_config(folder: Path) -> Any:
    """GPT-2's, with the plan of a BERT in it."""
    config = gpt2().config
    config.quantization_config = AutoConfig.from_pretrained(folder).quantization_config
    return config
