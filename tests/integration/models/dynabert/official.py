"""The official code's numbers, read from `official.npz`, and models that are to reproduce them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from embshare.models import dynabert
from tests.integration.models.dynabert.make_official import GRID, HERE, LABELS, OFF, SETTINGS, WORDS


@cache
def arrays() -> dict[str, Any]:
    """Everything in the file; texts as lists of strings."""
    with np.load(HERE / "official.npz") as file:
        found = {name: file[name] for name in file.files}
    return {k: v.tolist() if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in found.items()}


def under(prefix: str) -> dict[str, Any]:
    """The arrays of one folder of the file, by their names in it."""
    found = arrays().items()
    return {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)}


def weights(family: str) -> dict[str, Tensor]:
    """Parameters by their official names, which are transformers'."""
    return {name: whole.double() / GRID for name, whole in under(f"{family}/weight/").items()}


def bert() -> Any:
    """With the official weights, in double precision and evaluation mode."""
    settings: dict[str, Any] = SETTINGS | OFF | {"num_labels": LABELS}
    made = BertForSequenceClassification(BertConfig(**settings)).double()
    made.load_state_dict(weights("bert"))
    made.eval()
    return made


def roberta() -> Any:
    """As `bert`."""
    more: dict[str, Any] = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "num_labels": LABELS}
    made = RobertaForSequenceClassification(RobertaConfig(**(SETTINGS | OFF | more))).double()
    found = weights("roberta").items()  # officially it has a pooler that nothing reads
    made.load_state_dict({name: tensor for name, tensor in found if ".pooler." not in name})
    made.eval()
    return made


def masked_lm() -> Any:
    """The model of the augmentation."""
    small: dict[str, Any] = {
        "vocab_size": 5 + len(WORDS) + 2,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 32,
    }
    made = BertForMaskedLM(BertConfig(**(small | OFF))).double()
    missing = made.load_state_dict(_renamed(weights("augmentation")), strict=False)
    assert not missing.unexpected_keys
    assert {name.split(".")[0] for name in missing.missing_keys} <= {"cls"}  # the tied decoder
    made.tie_weights()
    made.eval()
    return made


def _renamed(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what the official pretraining model has besides words, a pooler for one."""
    gone = ("bert.pooler.", "cls.seq_relationship.", "fit_dense")
    return {name: tensor for name, tensor in found.items() if not name.startswith(gone)}


def batch() -> dict[str, Tensor]:
    """BERT's inputs, with labels."""
    return under("bert/batch/")


def official_importance() -> dynabert.Importance:
    """The importance that BERT was rewired by."""
    return dynabert.Importance(**under("bert/importance/"))


def distance(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest official value."""
    left, right = (torch.as_tensor(side).detach().double() for side in (ours, theirs))
    assert left.shape == right.shape
    return float((left - right).abs().max() / right.abs().max())
