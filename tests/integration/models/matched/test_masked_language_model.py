"""The masked language model of the family."""

from __future__ import annotations

import pytest
import torch

import embshare
from embshare.models.matched import (
    ARCHITECTURES,
    Architecture,
    MatchedClassifier,
    MatchedConfig,
    MatchedMaskedLanguageModel,
)


def config(architecture: Architecture) -> MatchedConfig:
    return MatchedConfig(
        architecture=architecture, vocab_size=60, width=16, layers=2, heads=2, dropout=0.0
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 60, (3, 11), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[0, 9], labels[2, 5] = 7, 8, 9
    return ids, labels


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shared", [False, True])
def test_labelled_positions_are_scored_alone(architecture: Architecture, shared: bool) -> None:
    model = MatchedMaskedLanguageModel(config(architecture)).eval()
    if shared:
        embshare.share_from_embedding(model, embshare.ShareConfig(tie="all", anchor=2.0))
    ids, labels = batch()
    whole, part = model(ids)["logits"], model(ids, labels=labels)
    assert whole.shape == (3, 11, 60)
    torch.testing.assert_close(part["logits"], whole[labels != -100])
    wanted = torch.nn.functional.cross_entropy(whole.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(part["loss"], wanted)
    part["loss"].backward()
    assert model.embedding.weight.grad is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_sides_are_seen_and_padding_is_not(architecture: Architecture) -> None:
    model = MatchedMaskedLanguageModel(config(architecture)).eval()
    ids, labels = batch()
    before = model(ids, labels=labels)["logits"][0]
    for place in (1, 3):  # before and behind position 2
        other = ids.clone()
        other[0, place] = (other[0, place] + 1) % 55 + 5
        assert not torch.allclose(model(other, labels=labels)["logits"][0], before)
    padded = torch.cat((ids, torch.zeros(3, 4, dtype=torch.long)), dim=1)
    mask = torch.arange(15).expand(3, -1) < 11
    behind = torch.cat((labels, torch.full((3, 4), -100)), dim=1)
    found = model(padded, attention_mask=mask, labels=behind)["logits"][0]
    torch.testing.assert_close(found, before)


def test_without_a_label_the_loss_is_zero() -> None:
    ids, labels = batch()
    loss = MatchedMaskedLanguageModel(config("conv"))(ids, labels=torch.full_like(labels, -100))
    assert loss["loss"] == 0 and loss["logits"].shape == (0, 60)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_goes_on_with_what_was_pretrained(architecture: Architecture) -> None:
    pretrained = MatchedMaskedLanguageModel(config(architecture))
    classifier = MatchedClassifier(config(architecture))
    classifier.embedding.load_state_dict(pretrained.embedding.state_dict())
    classifier.backbone.load_state_dict(pretrained.backbone.state_dict())
