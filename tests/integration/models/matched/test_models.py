"""The three models of the family: what they return, tie, refuse, and that they learn."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.models.matched import (
    ARCHITECTURES,
    Architecture,
    MatchedClassifier,
    MatchedConfig,
    MatchedLanguageModel,
    MatchedSeq2Seq,
)

VOCAB = 23


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    found: Architecture = request.param
    return found


def config(architecture: Architecture, *, labels: int = 3, dropout: float = 0.0) -> MatchedConfig:
    return MatchedConfig(
        architecture=architecture,
        vocab_size=VOCAB,
        width=32,
        layers=2,
        heads=2,
        labels=labels,
        dropout=dropout,
    )


def tokens(*shape: int) -> Tensor:
    """Random tokens, none of them padding."""
    return torch.randint(2, VOCAB, shape)


def fit(model: nn.Module, steps: int = 60, **inputs: Tensor) -> float:
    """Train on one batch; the last loss, in nats."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = model(**inputs)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_a_new_language_model_starts_near_a_guess(architecture: Architecture) -> None:
    model = MatchedLanguageModel(config(architecture)).eval()
    ids = tokens(8, 30)
    assert model(ids, labels=ids)["loss"].item() < 2 * math.log(VOCAB)


def test_the_head_is_the_table(architecture: Architecture) -> None:
    for model in (
        MatchedLanguageModel(config(architecture)),
        MatchedSeq2Seq(config(architecture)),
    ):
        assert model.head.weight is model.embedding.weight


def test_a_language_model_learns_a_batch_by_heart(architecture: Architecture) -> None:
    ids = tokens(2, 12)
    assert fit(MatchedLanguageModel(config(architecture)), input_ids=ids, labels=ids) < 0.5


def test_padding_is_not_scored(architecture: Architecture) -> None:
    model = MatchedLanguageModel(config(architecture)).eval()
    ids = tokens(2, 8)
    padded = torch.cat((ids, torch.zeros(2, 3, dtype=torch.long)), dim=1)
    output = model(padded, attention_mask=padded.ne(0), labels=padded)
    torch.testing.assert_close(output["loss"], model(ids, labels=ids)["loss"])
    torch.testing.assert_close(output["logits"][:, :8], model(ids)["logits"])


def test_labels_that_are_all_ignored_give_no_loss_and_no_nan(architecture: Architecture) -> None:
    model = MatchedLanguageModel(config(architecture))
    ids = tokens(2, 8)
    loss = model(ids, labels=torch.full_like(ids, -100))["loss"]
    loss.backward()
    assert loss.item() == 0
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight.grad.any()


def test_a_language_model_reads_on_from_its_state(architecture: Architecture) -> None:
    model = MatchedLanguageModel(config(architecture)).eval()
    ids = tokens(2, 9)
    whole = model(ids)
    assert set(whole) == {"logits"}
    first = model(ids[:, :4], keep_state=True)
    second = model(ids[:, 4:], state=first["state"])
    torch.testing.assert_close(
        torch.cat((first["logits"], second["logits"]), dim=1), whole["logits"]
    )


def test_a_classifier_learns_and_ignores_padding(architecture: Architecture) -> None:
    model = MatchedClassifier(config(architecture))
    ids, labels = tokens(6, 10), torch.tensor([0, 1, 2, 0, 1, 2])
    assert fit(model, input_ids=ids, labels=labels) < 0.1
    model.eval()
    padded = torch.cat((ids, torch.zeros(6, 4, dtype=torch.long)), dim=1)
    torch.testing.assert_close(model(padded)["logits"], model(ids)["logits"])


def test_one_label_is_a_regression(architecture: Architecture) -> None:
    model = MatchedClassifier(config(architecture, labels=1))
    assert fit(model, input_ids=tokens(4, 6), labels=torch.tensor([0.0, 1.5, 3.0, 5.0])) < 0.1


def test_an_encoder_decoder_learns_to_copy(architecture: Architecture) -> None:
    ids = tokens(4, 7)
    assert fit(MatchedSeq2Seq(config(architecture)), input_ids=ids, labels=ids) < 0.3


def test_the_source_matters_and_its_padding_does_not(architecture: Architecture) -> None:
    model = MatchedSeq2Seq(config(architecture)).eval()
    source, target = tokens(2, 7), tokens(2, 5)
    padded = torch.cat((source, torch.zeros(2, 3, dtype=torch.long)), dim=1)
    logits = model(source, labels=target)["logits"]
    torch.testing.assert_close(model(padded, labels=target)["logits"], logits)
    assert not torch.allclose(model(tokens(2, 7), labels=target)["logits"], logits)


def test_decoding_step_by_step_is_decoding_at_once(architecture: Architecture) -> None:
    model = MatchedSeq2Seq(config(architecture)).eval()
    source, target = tokens(2, 7), tokens(2, 5)
    memory, state, steps = model.encode(source), None, []
    for column in torch.split(model.shift(target), 1, dim=1):
        logits, state = model.decode(column, memory, state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(source, labels=target)["logits"])


def test_a_convolutional_encoder_decoder_knows_how_far_it_has_come() -> None:
    """Without positions, a repeated word looks the same to its kernels everywhere."""
    model = MatchedSeq2Seq(config("conv")).eval()
    same = torch.full((1, 60), 7)
    memory = model.encode(same)
    assert not torch.allclose(memory.hidden[0, 25], memory.hidden[0, 35], atol=1e-3)
    memory = memory._replace(hidden=torch.zeros_like(memory.hidden))
    logits, _ = model.decode(same, memory)
    assert not torch.allclose(logits[0, 25], logits[0, 35], atol=1e-3)


def test_a_grid_of_features_can_be_the_source(architecture: Architecture) -> None:
    model = MatchedSeq2Seq(config(architecture), feature_width=10)
    target = tokens(3, 5)
    assert fit(model, features=torch.randn(3, 9, 10), labels=target) < 0.5


def test_a_source_can_have_a_table_of_its_own(architecture: Architecture) -> None:
    model = MatchedSeq2Seq(config(architecture), source_vocab_size=90)
    assert model.source_embedding is not None
    assert model.source_embedding.weight.shape == (90, 32)
    assert model.head.weight is model.embedding.weight
    source, target = torch.randint(60, 90, (4, 7)), tokens(4, 7)
    assert fit(model, input_ids=source, labels=target) < 0.3
    logits = model.eval()(source, labels=target)["logits"]
    padded = torch.cat((source, torch.zeros(4, 2, dtype=torch.long)), dim=1)
    torch.testing.assert_close(model(padded, labels=target)["logits"], logits)


def test_the_targets_table_is_the_one_that_is_shared(architecture: Architecture) -> None:
    model = MatchedSeq2Seq(config(architecture), source_vocab_size=VOCAB)
    assert [s.name for s in embshare.plan_sharing(model).sources] == ["embedding.weight"]
    both = embshare.ShareConfig(
        source={"encoder.*": "source_embedding", "decoder.*": "embedding"}, method="veps"
    )
    embshare.share_from_embedding(model, both)
    ids = tokens(4, 7)
    assert fit(model, input_ids=ids, labels=ids) < 0.5


def test_a_source_vocabulary_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^`feature_width` and `source_vocab_size` exclude"):
        MatchedSeq2Seq(config("conv"), feature_width=3, source_vocab_size=5)
    with pytest.raises(ValueError, match=r"^`source_vocab_size` must be more than the padding"):
        MatchedSeq2Seq(config("conv"), source_vocab_size=0)


def test_ignored_labels_are_shifted_as_padding(architecture: Architecture) -> None:
    model = MatchedSeq2Seq(config(architecture))
    labels = torch.tensor([[5, 6, -100, -100]])
    assert model.shift(labels).tolist() == [[1, 5, 6, 0]]


@pytest.mark.parametrize(
    ("feature_width", "inputs", "message"),
    [
        (None, {"features": torch.randn(1, 2, 4)}, "this model reads tokens: give `input_ids`"),
        (4, {"input_ids": torch.ones(1, 2).long()}, "this model reads features: give `features`"),
        (None, {"input_ids": torch.ones(1, 2).long()}, "`labels` or `decoder_input_ids` must be"),
    ],
)
def test_a_source_of_the_wrong_kind_is_refused(
    feature_width: int | None, inputs: dict[str, Any], message: str
) -> None:
    model = MatchedSeq2Seq(config("lstm"), feature_width=feature_width)
    with pytest.raises(ValueError, match=f"^{message}"):
        model(**inputs)


def test_every_parameter_of_every_model_is_trained(architecture: Architecture) -> None:
    ids = tokens(4, 7)
    models: list[tuple[nn.Module, dict[str, Tensor]]] = [
        (MatchedLanguageModel(config(architecture)), {"input_ids": ids, "labels": ids}),
        (MatchedClassifier(config(architecture)), {"input_ids": ids, "labels": ids[:, 0] % 3}),
        (MatchedSeq2Seq(config(architecture)), {"input_ids": ids, "labels": ids}),
    ]
    for model, inputs in models:
        model(**inputs)["loss"].backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())
