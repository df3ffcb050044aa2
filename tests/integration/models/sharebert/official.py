"""The official code's numbers, read from `official.npz`, and models that are to reproduce them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embshare.models.sharebert import (
    ShareBertConfig,
    ShareBertForMaskedLM,
    ShareBertForSequenceClassification,
    convert_official_state_dict,
)
from tests.integration.models.sharebert.make_official import GRID, HERE, LABELS, SETTINGS

Model = ShareBertForMaskedLM | ShareBertForSequenceClassification
KINDS: dict[str, type[Model]] = {
    "mlm": ShareBertForMaskedLM,
    "classifier": ShareBertForSequenceClassification,
}


@cache
def arrays() -> dict[str, Tensor]:
    """Everything in the file."""
    with np.load(HERE / "official.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def under(prefix: str) -> dict[str, Tensor]:
    """The arrays of one folder of the file, by their names in it."""
    found = arrays().items()
    return {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)}


def state_dict(kind: str) -> dict[str, Tensor]:
    """The official state dict of ``mlm`` or ``classifier``."""
    return {name: whole.double() / GRID for name, whole in under(f"{kind}/weight/").items()}


def config(**settings: Any) -> ShareBertConfig:
    """The settings of the official run."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return ShareBertConfig(**(SETTINGS | off | {"num_labels": LABELS} | settings))


def batch() -> dict[str, Tensor]:
    """Its inputs."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: arrays()[f"batch/{name}"] for name in names}


def labels(kind: str) -> Tensor:
    """Its labels, with -100 where it has -1."""
    if kind == "classifier":
        return arrays()["batch/labels"]
    found = arrays()["batch/word_labels"]
    return found.masked_fill(found == -1, -100)


def model(kind: str, **settings: Any) -> Model:
    """One of ours with the official weights, in double precision and training mode."""
    wanted = config(**settings)
    made = KINDS[kind](wanted).double()
    made.load_state_dict(convert_official_state_dict(state_dict(kind), wanted))
    made.train()
    return made


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest official value."""
    assert ours.shape == theirs.shape
    apart = (ours.detach() - theirs.detach()).abs().max()
    return float(apart / theirs.detach().abs().max())


def outputs_apart(kind: str, made: Model) -> float:
    """The worst distance of any output of a model from the official one."""
    encoded, found = made.bert(**batch()), made.train(False)(**batch(), labels=labels(kind))
    pairs = [
        (found.logits, arrays()[f"{kind}/logits"]),
        (found.loss, arrays()[f"{kind}/loss"]),
    ]
    if kind == "mlm":
        pairs.append((encoded.last_hidden_state, arrays()["encoder/sequence"]))
        pairs.append((encoded.pooler_output, arrays()["encoder/pooled"]))
    return max(distance(*pair) for pair in pairs)
