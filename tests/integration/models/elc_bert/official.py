"""The official code's numbers, read from `official.npz`, and models that are to reproduce them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embshare.models.elc_bert import (
    ElcBertConfig,
    ElcBertForMaskedLM,
    convert_official_state_dict,
)
from tests.integration.models.elc_bert.make_official import GRID, HERE, SETTINGS

TABLES = {  # the parameters under two names, of which the file holds the first
    "classifier.nonlinearity.5.weight": "embedding.word_embedding.weight"
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


def gradients(variant: str) -> dict[str, Tensor]:
    """Weights by official names, the tied table under both names."""
    found = under(f"{variant}/grad/")
    return found | {second: found[first] for second, first in TABLES.items()}


def state_dict(variant: str) -> dict[str, Tensor]:
    """The official state dict of a variant, without the tables of buckets."""
    stored = {name: whole.double() / GRID for name, whole in under("weight/").items()}
    names = under(f"{variant}/grad/")
    return {name: stored[name] for name in names} | {
        second: stored[first] for second, first in TABLES.items()
    }


def config(variant: str = "base", **settings: Any) -> ElcBertConfig:
    """The settings of the official run."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return ElcBertConfig(**(SETTINGS | off | {"variant": variant, "num_labels": 3} | settings))


def batch() -> dict[str, Tensor]:
    """Its inputs, with labels."""
    return {name: arrays()[f"batch/{name}"] for name in ("input_ids", "attention_mask", "labels")}


def model(variant: str) -> ElcBertForMaskedLM:
    """One of ours with the official weights, in double precision and training mode."""
    wanted = config(variant)
    made = ElcBertForMaskedLM(wanted).double()
    made.load_state_dict(convert_official_state_dict(state_dict(variant), wanted))
    made.train()
    return made


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest official value."""
    assert ours.shape == theirs.shape
    apart = (ours.detach() - theirs.detach()).abs().max()
    return float(apart / theirs.detach().abs().max())


def outputs_apart(variant: str) -> float:
    """The worst distance of any output of a new model from the official one."""
    made, official = model(variant).train(False), under(f"{variant}/")
    found = made(**batch(), output_hidden_states=True)
    long = made.bert(arrays()["batch/long_ids"]).last_hidden_state
    return max(
        distance(found.logits, official["logits"]),
        distance(found.loss, official["loss"]),
        distance(found.hidden_states[-1], official["hidden"]),
        distance(long, official["long"]),
    )
