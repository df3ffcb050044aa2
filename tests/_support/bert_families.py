"""The three families of BERTs as test models, and a padded batch that all of them take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from embshare.models import convbert, elc_bert, sharebert
from embshare.models._bert import MaskedLM
from embshare.models.elc_bert.config import VARIANTS
from tests.integration.models.convbert import examples
from tests.integration.models.elc_bert import official as elc_bert_official
from tests.integration.models.sharebert import official as sharebert_official

__all__ = ["FAMILIES", "IDS", "MASK", "Case", "Family", "batch_of", "cases", "loss_of", "refused"]

IDS = torch.arange(10, 24).view(2, 7)
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
TYPES = torch.tensor([[0, 1, 1, 1, 1, 1, 1]] * 2)


@dataclass(frozen=True)
class Family:
    """What tells one family from another, as far as transformers sees it."""

    config: Callable[..., Any]
    """Settings of a test's size, without dropout."""
    auto: Mapping[Any, Any]
    """Each class, and the Auto class that loads it; the first has no head."""
    pretraining: Any
    """The class that is pretrained."""
    classifier: Any
    new: frozenset[str]
    """Parameters of a classifier that a pretrained model has not."""
    unread: Mapping[Any, frozenset[str]] = field(default_factory=dict)
    """Parameters that are frozen, since a class stores and does not read them."""
    longest: int | None = None
    """Positions; None where there is no limit."""

    @property
    def body(self) -> Any:
        """The class without a head."""
        return next(iter(self.auto))


HEAD = frozenset({"classifier.weight", "classifier.bias"})
FAMILIES = {
    "sharebert": Family(
        config=sharebert_official.config,
        auto={
            sharebert.ShareBertModel: AutoModel,
            sharebert.ShareBertForMaskedLM: AutoModelForMaskedLM,
            sharebert.ShareBertForSequenceClassification: AutoModelForSequenceClassification,
            sharebert.ShareBertForQuestionAnswering: AutoModelForQuestionAnswering,
        },
        pretraining=sharebert.ShareBertForMaskedLM,
        classifier=sharebert.ShareBertForSequenceClassification,
        new=HEAD,
        unread={
            sharebert.ShareBertForMaskedLM: frozenset({"bert.pooler.dense.bias", "decoder.bias"}),
            sharebert.ShareBertForQuestionAnswering: frozenset({"bert.pooler.dense.bias"}),
        },
        longest=16,
    ),
    "elc_bert": Family(
        config=elc_bert_official.config,
        auto={
            elc_bert.ElcBertModel: AutoModel,
            elc_bert.ElcBertForMaskedLM: AutoModelForMaskedLM,
            elc_bert.ElcBertForSequenceClassification: AutoModelForSequenceClassification,
        },
        pretraining=elc_bert.ElcBertForMaskedLM,
        classifier=elc_bert.ElcBertForSequenceClassification,
        new=HEAD | {"head.dense.weight", "head.dense.bias"},
    ),
    "convbert": Family(
        config=examples.config,
        auto={
            convbert.ConvBertModel: AutoModel,
            convbert.ConvBertForPreTraining: AutoModelForPreTraining,
            convbert.ConvBertForSequenceClassification: AutoModelForSequenceClassification,
            convbert.ConvBertForQuestionAnswering: AutoModelForQuestionAnswering,
        },
        pretraining=convbert.ConvBertForPreTraining,
        classifier=convbert.ConvBertForSequenceClassification,
        new=HEAD,
        longest=12,
    ),
}


@dataclass(frozen=True)
class Case:
    """One class of one family, in one variant."""

    family: Family
    kind: Any
    settings: Mapping[str, Any]
    name: str

    def build(self, **settings: Any) -> Any:
        """A model of a test's size without dropout, always of the same numbers."""
        torch.manual_seed(0)
        return self.kind(self.family.config(**self.settings, **settings))


def cases(choose: Callable[[Family], Any] | None = None, *families: str) -> Iterator[Case]:
    """Every class of every family, ELC-BERT in all its variants.

    Args:
        choose: one class of each family instead.
        families: these alone; none is all.
    """
    for name in families or FAMILIES:
        family = FAMILIES[name]
        variants = [{"variant": v} for v in VARIANTS] if name == "elc_bert" else [{}]
        for kind in family.auto if choose is None else [choose(family)]:
            for settings in variants:
                label = "-".join([kind.__name__, *settings.values()])
                yield Case(family, kind, settings, label)


def batch_of(model: nn.Module) -> dict[str, Any]:
    """A padded batch, with labels where the model's forward takes them."""
    takes = inspect.signature(type(model).forward).parameters
    masked = torch.where(IDS % 3 == 0, IDS, -100)
    given = {
        "input_ids": IDS,
        "attention_mask": MASK,
        "token_type_ids": TYPES,
        "labels": masked if isinstance(model, MaskedLM) else torch.tensor([0, 1]),
        "start_positions": torch.tensor([1, 2]),
        "end_positions": torch.tensor([3, 3]),
        "generator": torch.Generator().manual_seed(3),
    }
    return {name: value for name, value in given.items() if name in takes}


def loss_of(model: nn.Module) -> Tensor:
    """A number that everything moves that the model computes."""
    found = model(**batch_of(model))
    if "loss" in found:
        loss: Tensor = found.loss
        return loss
    states = [found[name] for name in ("last_hidden_state", "pooler_output") if name in found]
    return torch.stack([state.pow(3).sum() for state in states]).sum()


def refused(make: Callable[..., Any], **settings: Any) -> str:
    """What is said of settings that cannot be."""
    import pytest

    from embshare.errors import InvalidValueError

    with pytest.raises(InvalidValueError) as caught:
        make(**settings)
    return str(caught.value)
