"""A sub-network as a separate model: the same numbers, fewer parameters, and files."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    RobertaConfig,
    RobertaModel,
)

import embshare
from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.models.dynabert.heads import AUTO, MODELS
from tests.integration.models.dynabert.examples import (
    KINDS,
    SETTINGS,
    SHARING,
    batch,
    model,
    output,
)

ALL = [(size.width, size.depth) for size in dynabert.sub_networks()]


@pytest.mark.parametrize("sharing", SHARING)
def test_all_twelve_compute_what_the_sized_model_computes(sharing: str) -> None:
    made = model(sharing=sharing)
    dynabert.rewire(made, dynabert.importance(made, [batch()]))
    stored = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    counts = set()
    for width, depth in ALL:
        small = dynabert.extract(made, width=width, depth=depth)
        with dynabert.sized(made, width=width, depth=depth):
            wanted = made(**batch(), output_hidden_states=True)
        found = small(**batch(), output_hidden_states=True)
        assert torch.allclose(found.logits, wanted.logits, atol=1e-5)
        assert len(found.hidden_states) == len(wanted.hidden_states)
        linears = [part for part in small.modules() if isinstance(part, nn.Linear)]
        assert {type(part) for part in linears} == {nn.Linear}
        count = sum(parameter.numel() for parameter in small.parameters())
        assert count == dynabert.count_parameters(made, width=width, depth=depth)
        counts.add(count)
    assert len(counts) == 12
    assert all(torch.equal(tensor, stored[name]) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_is_saved_and_read_by_the_auto_classes(kind: str, tmp_path: Path) -> None:
    made, inputs = model(kind), batch(labels=False)
    small = dynabert.extract(made, width=0.5, depth=0.75)
    assert type(small) is MODELS[type(made)]
    assert isinstance(small, type(made)) and small.config.kept_heads == 2
    assert type(pickle.loads(pickle.dumps(small))) is type(small)
    small.save_pretrained(tmp_path)
    auto = next(a for classes in AUTO.values() for a, c in classes.items() if c is type(small))
    found = getattr(transformers, auto).from_pretrained(tmp_path).eval()
    assert type(found) is type(small)
    assert torch.equal(output(found(**inputs)), output(small(**inputs)))
    assert [n for n, _ in found.named_parameters()] == [n for n, _ in small.named_parameters()]


def test_at_full_width_it_is_a_model_of_transformers(tmp_path: Path) -> None:
    made = dynabert.set_size(model(), width=0.5)
    small = dynabert.extract(made, depth=0.5)
    assert type(small) is BertForSequenceClassification
    assert small.config.num_hidden_layers == 2 and not hasattr(small.config, "dynabert_size")
    small.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(found) is BertForSequenceClassification and len(found.bert.encoder.layer) == 2


def test_without_this_package_a_narrow_folder_is_refused(tmp_path: Path) -> None:
    dynabert.extract(model(), width=0.5).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "embshare-narrow-bert"
    code = f"""
from transformers import AutoModel
try:
    AutoModel.from_pretrained({str(tmp_path)!r})
except ValueError as error:
    print("embshare-narrow-bert" in str(error))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"


def test_it_aliases_nothing() -> None:
    for sharing in ("plain", "tied"):
        made = model(sharing=sharing)
        for width in (1.0, 0.5):
            small = dynabert.extract(made, width=width, depth=0.5)
            ours = {p.untyped_storage().data_ptr() for p in small.parameters()}
            theirs = {p.untyped_storage().data_ptr() for p in made.parameters()}
            assert not ours & theirs
            assert len(ours) == len(list(small.parameters()))


def test_modes_types_and_frozen_parameters_are_kept() -> None:
    made = model().double().train()
    made.bert.embeddings.requires_grad_(False)
    made.bert.encoder.layer[0].attention.self.query.weight.requires_grad_(False)
    small = dynabert.extract(made, width=0.5, depth=0.5)
    assert small.training and {p.dtype for p in small.parameters()} == {torch.float64}
    assert not small.bert.embeddings.word_embeddings.weight.requires_grad
    assert not small.bert.encoder.layer[0].attention.self.query.weight.requires_grad
    assert small.bert.encoder.layer[1].attention.self.query.weight.requires_grad


def test_it_trains_on_and_is_extracted_again() -> None:
    small = dynabert.extract(model(), width=0.5)
    small(**batch()).loss.backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    smaller = dynabert.extract(small.eval(), width=0.5, depth=0.5)
    with dynabert.sized(small, width=0.5, depth=0.5):
        assert torch.equal(smaller(**batch()).logits, small(**batch()).logits)
    assert smaller.config.kept_heads == 1 and smaller.config.num_attention_heads == 4
    again = embshare.share_from_embedding(small, embshare.ShareConfig())
    assert torch.isfinite(again(**batch()).loss)


def test_a_narrow_model_can_be_built_anew() -> None:
    config = AutoConfig.for_model("embshare-narrow-bert", **SETTINGS, kept_heads=3)
    made = AutoModelForSequenceClassification.from_config(config)
    query = made.bert.encoder.layer[0].attention.self.query
    assert query.weight.shape == (12, 16)
    assert 0.2 < float(query.weight.detach().std()) < 0.4  # `initializer_range`
    assert torch.equal(query.bias, torch.zeros(12))
    body = AutoModel.from_config(config)
    assert body.pooler is not None


@pytest.mark.parametrize("kept", [0, 5, "2"])
def test_heads_that_cannot_be(kept: Any) -> None:
    config = AutoConfig.for_model("embshare-narrow-roberta", **SETTINGS)
    config.kept_heads = kept
    with pytest.raises(InvalidValueError, match="`kept_heads` must be from 1 to 4, but is"):
        AutoModel.from_config(config)


def test_a_model_that_transformers_has_no_class_for_keeps_its_own() -> None:
    class Tagger(BertForSequenceClassification):
        """Somebody's own."""

    settings: dict[str, Any] = SETTINGS | {"num_labels": 3}
    made: Any = Tagger(BertConfig(**settings))
    made.eval()
    small = dynabert.extract(made, width=0.25, depth=0.5)
    assert type(small) is Tagger
    with dynabert.sized(made, width=0.25, depth=0.5):
        assert torch.equal(small(**batch()).logits, made(**batch()).logits)


def test_the_size_is_checked() -> None:
    with pytest.raises(InvalidValueError, match="whole number of the 4 heads"):
        dynabert.extract(model(), width=0.6)


def test_exact_counts_of_its_parts() -> None:
    def count(part: nn.Module) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    with torch.device("meta"):
        base: Any = BertForSequenceClassification(BertConfig())
    assert count(base.bert.embeddings) == 23_837_184
    assert count(base.bert.pooler) == 590_592 and count(base.classifier) == 1_538
    layers = [dynabert.extract(base, width=w).bert.encoder.layer[0] for w in dynabert.WIDTHS]
    assert [count(layer) for layer in layers] == [7_087_872, 5_317_056, 3_546_240, 1_775_424]
    with torch.device("meta"):
        settings: dict[str, Any] = {"type_vocab_size": 1, "max_position_embeddings": 514}
        other = RobertaModel(RobertaConfig(vocab_size=50265, **settings))
    assert count(other.embeddings) == 39_000_576


@pytest.mark.parametrize("sharing", SHARING)
def test_counts_of_a_shared_model_are_those_of_the_plain_one(sharing: str) -> None:
    wanted = [dynabert.count_parameters(model(), width=w, depth=d) for w, d in ALL]
    made = model(sharing=sharing)
    assert [dynabert.count_parameters(made, width=w, depth=d) for w, d in ALL] == wanted
    with dynabert.sized(made, width=0.5):
        assert dynabert.count_parameters(made) == wanted[0]


def test_operations_of_a_sequence() -> None:
    config: dict[str, Any] = {"num_hidden_layers": 1, "vocab_size": 5}
    with torch.device("meta"):
        made = BertModel(
            BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=4, **config)
        )
    # Four projections, scores and means, two matrices: 2 * (5*4*64 + 2*25*8 + 5*2*32)
    assert dynabert.count_operations(made, positions=5) == 2 * (1280 + 400 + 320)
    assert dynabert.count_operations(made, positions=5, width=0.5) == 2000
    with pytest.raises(InvalidValueError, match="`positions` must be at least 1, but is 0"):
        dynabert.count_operations(made, positions=0)
