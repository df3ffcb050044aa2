"""ELC-BERT as transformers sees it: start, files, training, growth and heads."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from embshare.errors import InvalidValueError
from embshare.models.elc_bert import (
    ElcBertConfig,
    ElcBertForMaskedLM,
    ElcBertForSequenceClassification,
    ElcBertModel,
)
from embshare.models.elc_bert.pretrained import ElcBertPreTrainedModel
from embshare.models.elc_bert.variants import VARIANTS
from tests.models.elc_bert.official import config

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


def loss_of(model: nn.Module) -> Tensor:
    """Of a batch that every head has labels for."""
    given: dict[str, Tensor] = {"input_ids": IDS, "attention_mask": MASK}
    match model:
        case ElcBertForMaskedLM():
            given["labels"] = torch.where(IDS % 3 == 0, IDS, -100)
        case ElcBertForSequenceClassification():
            given["labels"] = torch.tensor([0, 2])
        case _:
            squares: Tensor = model(**given).last_hidden_state.pow(3).sum()
            return squares
    loss: Tensor = model(**given).loss
    return loss


# ---------------------------------------------------------------- the start


def test_matrices_start_from_the_cut_distribution() -> None:
    sizes: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 256, "vocab_size": 2000}
    model = built(ElcBertForMaskedLM, position_bucket_size=16, **sizes)
    spread = math.sqrt(2 / (5 * 192))
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        scale = 1.0
        if "feed_forward" in name:
            scale = math.sqrt(1 / (2 * (1 + int(name.split(".")[3]))))
        drawn = parameter.detach() / (spread * scale)
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


def test_the_seed_decides() -> None:
    first, again, other = (built_after_seed(seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def built_after_seed(seed: int) -> list[Tensor]:
    """Every parameter of a model."""
    torch.manual_seed(seed)
    return list(built(ElcBertForMaskedLM).parameters())


# ---------------------------------------------------------------- files


@every_variant
@every_class
def test_a_saved_model_is_loaded_by_its_auto_class(
    kind: type[ElcBertPreTrainedModel], variant: str, tmp_path: Path
) -> None:
    model = built(kind, variant).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is ElcBertConfig
    loaded, told = AUTO[kind].from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is kind
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given, got = (dict(m.named_parameters()) for m in (model, loaded))
    assert given.keys() == got.keys()
    assert all(torch.equal(given[name], got[name]) for name in given)
    for ours, theirs in zip(
        model(IDS, return_dict=False), loaded(IDS, return_dict=False), strict=True
    ):
        assert torch.equal(ours, theirs)
    stored = sum(p.numel() * 4 for p in given.values())
    assert (tmp_path / "model.safetensors").stat().st_size < stored + 10_000


def test_a_pretrained_encoder_gets_a_new_head(tmp_path: Path) -> None:
    pretrained = built(ElcBertForMaskedLM)
    with torch.no_grad():
        for parameter in pretrained.parameters():
            parameter.add_(0.5)
    pretrained.save_pretrained(tmp_path)
    model, told = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, output_loading_info=True
    )
    new = {f"{part}.{name}" for part in ("head.dense", "classifier") for name in ("weight", "bias")}
    assert set(told["missing_keys"]) == new
    ours, theirs = pretrained.bert.state_dict(), model.bert.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert 0 < float(model.head.dense.weight.detach().abs().max()) < 2 * math.sqrt(2 / 60) + 1e-6


def test_it_loads_in_half_precision(tmp_path: Path) -> None:
    model = built(ElcBertForMaskedLM).eval()
    model.save_pretrained(tmp_path)
    half = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    logits = half(IDS, attention_mask=MASK).logits
    assert logits.dtype == torch.bfloat16
    exact = model(IDS, attention_mask=MASK).logits
    assert float((logits - exact).detach().abs().max()) < 0.1 * float(exact.detach().abs().max())


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


@every_variant
@every_class
def test_everything_gets_a_gradient(kind: type[ElcBertPreTrainedModel], variant: str) -> None:
    model = built(kind, variant).train()
    loss_of(model).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("reentrant", [False, True])
@every_variant
def test_gradient_checkpointing_changes_nothing(reentrant: bool, variant: str) -> None:
    model = built(ElcBertForSequenceClassification, variant).double().train()
    loss_of(model).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    enable = "activation_checkpointing_enable"  # of an older transformers: gradient_…
    enable = enable if hasattr(model, enable) else "gradient_checkpointing_enable"
    getattr(model, enable)({"use_reentrant": reentrant})
    assert model.bert.encoder.layers[0].gradient_checkpointing
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_the_trainer_takes_it_as_its_own(tmp_path: Path) -> None:
    model = built(ElcBertForSequenceClassification)
    rows = [
        {"input_ids": IDS[i % 2], "attention_mask": MASK[i % 2], "labels": i % 2} for i in range(8)
    ]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=20,
        learning_rate=0.02,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_steps=20,
        logging_strategy="no",
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-20")
    assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)


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


def test_it_compiles_without_graph_breaks() -> None:
    model = built(ElcBertForSequenceClassification).double().train()
    loss_of(model).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled(IDS, attention_mask=MASK, labels=torch.tensor([0, 2])).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


# ---------------------------------------------------------------- heads and inputs


def test_labelled_positions_alone_are_scored_in_training() -> None:
    model = built(ElcBertForMaskedLM).train()
    labels = torch.where(IDS % 3 == 0, IDS, -100)
    training, every = model(IDS, labels=labels), model(IDS).logits
    torch.testing.assert_close(training.logits, every[labels != -100])
    expected = F.cross_entropy(every.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(training.loss, expected)
    found = model.eval()(IDS, labels=labels)
    assert found.logits.shape == (2, 7, 40)
    torch.testing.assert_close(found.loss, expected)


def test_one_label_is_regression_and_several_may_hold_at_once() -> None:
    one = built(ElcBertForSequenceClassification, num_labels=1)
    numbers = torch.tensor([0.5, -2.0])
    found = one(IDS, labels=numbers)
    torch.testing.assert_close(found.loss, F.mse_loss(found.logits[:, 0], numbers))
    many = built(ElcBertForSequenceClassification, problem_type="multi_label_classification")
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    found = many(IDS, labels=truth)
    torch.testing.assert_close(found.loss, F.binary_cross_entropy_with_logits(found.logits, truth))


@every_variant
def test_padding_changes_nothing(variant: str) -> None:
    model = built(ElcBertModel, variant).eval()
    short = model(IDS[1:, :4]).last_hidden_state
    padded = model(IDS[1:], attention_mask=MASK[1:]).last_hidden_state[:, :4]
    torch.testing.assert_close(short, padded)
    boolean = model(IDS, attention_mask=MASK.bool()).last_hidden_state
    assert torch.equal(boolean, model(IDS, attention_mask=MASK).last_hidden_state)


def test_words_may_be_given_as_vectors_and_states_asked_for() -> None:
    model = built(ElcBertForMaskedLM, "weighted_output").eval()
    words = model.get_input_embeddings()(IDS)
    found = model(inputs_embeds=words, output_hidden_states=True)
    assert torch.equal(found.logits, model(IDS).logits)
    assert [tuple(state.shape) for state in found.hidden_states] == [(2, 7, 12)] * 5
    assert torch.equal(found.hidden_states[-1], model.bert(IDS).last_hidden_state)
    torch.testing.assert_close(found.hidden_states[-1], sum(found.hidden_states[:-1]) / 4)
    assert model(IDS).hidden_states is None


def test_a_long_sentence_leaves_nothing_behind() -> None:
    model = built(ElcBertModel).eval()
    before = model(IDS).last_hidden_state
    assert model(torch.zeros(1, 30, dtype=torch.long)).last_hidden_state.isfinite().all()
    assert torch.equal(model(IDS).last_hidden_state, before)


def test_bad_input_is_refused_with_the_way_out() -> None:
    model = built(ElcBertModel)
    for given in ({}, {"input_ids": IDS, "inputs_embeds": torch.zeros(2, 7, 12)}):
        with pytest.raises(InvalidValueError, match="either `input_ids` or `inputs_embeds`"):
            model(**given)


def test_a_copy_reads_its_own_table() -> None:
    model = built(ElcBertForMaskedLM).eval()
    before = model(IDS).logits
    twin = copy.deepcopy(model)
    assert twin.decoder.weight is twin.bert.embeddings.word_embeddings.weight
    with torch.no_grad():
        twin.decoder.weight.normal_()
    assert torch.equal(model(IDS).logits, before)
