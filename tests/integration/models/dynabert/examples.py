"""Tiny models of every kind that can be made smaller, and what they read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

import embshare

SETTINGS: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
}
KINDS: dict[str, Any] = {
    "BertModel": (BertModel, BertConfig),
    "BertForMaskedLM": (BertForMaskedLM, BertConfig),
    "BertForSequenceClassification": (BertForSequenceClassification, BertConfig),
    "BertForQuestionAnswering": (BertForQuestionAnswering, BertConfig),
    "RobertaForSequenceClassification": (RobertaForSequenceClassification, RobertaConfig),
    "RobertaForTokenClassification": (RobertaForTokenClassification, RobertaConfig),
}
SHARING: dict[str, embshare.ShareConfig | None] = {
    "plain": None,
    "tied": embshare.ShareConfig(),
    "untied": embshare.ShareConfig(tie="none"),
    "cycle": embshare.ShareConfig(tie="cycle:2"),
    "eps": embshare.ShareConfig(method="eps", include=("*.intermediate.dense.weight",)),
    "factor": embshare.ShareConfig(factor=8, residual_rank=2),
    "channel": embshare.ShareConfig(gain="channel"),
}


def model(kind: str = "BertForSequenceClassification", sharing: str = "plain") -> Any:
    """A new model in evaluation mode; the same one each time."""
    torch.manual_seed(1)
    made, config = KINDS[kind]
    labels = 2 if kind.endswith("QuestionAnswering") else 3
    found = made(config(**SETTINGS, num_labels=labels)).eval()
    for name, parameter in found.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    wanted = SHARING[sharing]
    return found if wanted is None else embshare.share_from_embedding(found, wanted)


def batch(labels: bool = True) -> dict[str, Tensor]:
    """Three sentences, one of them padded."""
    ids = torch.randint(2, 40, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found = {"input_ids": ids, "attention_mask": mask}
    return found | {"labels": torch.tensor([0, 2, 1])} if labels else found


def output(found: Any) -> Tensor:
    """What a model says, whatever head it has."""
    for name in ("logits", "start_logits", "last_hidden_state"):
        if name in found:
            tensor: Tensor = found[name]
            return tensor
    raise AssertionError(f"no output among {list(found)}")
