"""Run the official ELC-BERT and LTG-BERT code once and keep its numbers; see `README.md`.

    python -m tests.integration.models.elc_bert.make_official ELC LTG

ELC is a clone of github.com/ltgoslo/elc-bert, LTG one of github.com/ltgoslo/ltg-bert. Nothing of
them is copied here: their models are built with the settings below, all variants are filled with
the same random numbers, and asked for outputs and gradients.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "max_position_embeddings": 12,
    "position_bucket_size": 8,
    "layer_norm_eps": 1e-7,
}
LENGTHS, LONG, SEED = (10, 7, 4, 0), 20, 0
"""Words of each sentence, the last one nothing but padding; and of one that is too long."""
GRID = 1024
"""Weights are multiples of 1 / GRID, stored as integers."""
ELC = {name: f"models/model_elc_bert_{name}.py" for name in ("base", "zero", "normalized")}
ELC["weighted_output"] = "models/model_elc_bert_weighted_output.py"
LTG = "babylm/train/model.py"


def official_model(file: Path) -> nn.Module:
    """The official `Bert` of one file, in double precision."""
    spec = importlib.util.spec_from_file_location("official_model", file)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    made: nn.Module = module.Bert(SimpleNamespace(**(SETTINGS | off))).double().eval()
    return made


@torch.no_grad()
def fill(model: nn.Module, stored: dict[str, np.ndarray], generator: torch.Generator) -> None:
    """Random weights on the grid, around 1 for the gains of norms, drawn once for all variants."""
    for name, parameter in model.named_parameters():
        if name not in stored:
            drawn = torch.randn(parameter.shape, generator=generator) * 0.5
            drawn += float("norm" in name and name.endswith("weight"))
            stored[name] = (drawn * GRID).round().to(torch.int16).numpy()
        parameter.copy_(torch.from_numpy(stored[name]).double() / GRID)


def batch(generator: torch.Generator) -> dict[str, Tensor]:
    """Padded sentences with some words to predict, batch-major, and one long sentence."""
    words, longest = SETTINGS["vocab_size"], max(LENGTHS)
    ids = torch.randint(words, (len(LENGTHS), longest), generator=generator)
    mask = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).long()
    chosen = (torch.rand(ids.shape, generator=generator) < 0.4) & mask.bool()
    labels = torch.randint(words, ids.shape, generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": torch.where(chosen, labels, -100),
        "long_ids": torch.randint(words, (1, LONG), generator=generator),
    }


def last_hidden(model: Any, ids: Tensor, padding: Tensor) -> Tensor:
    """What the prediction head is given, batch-major."""
    states = model.get_contextualized(ids.t(), padding)
    last: Tensor = states[-1] if isinstance(states, list) else states
    return last.detach().transpose(0, 1)


def numbers(model: Any, data: dict[str, Tensor]) -> dict[str, Any]:
    """Outputs of one variant, batch-major, and its loss's gradients."""
    ids, padding = data["input_ids"], data["attention_mask"] == 0
    labels = data["labels"].t()
    loss = F.cross_entropy(model(ids.t(), padding, labels), labels[labels != -100])
    loss.backward()
    found = {
        "hidden": last_hidden(model, ids, padding),
        "logits": model(ids.t(), padding).detach().float().transpose(0, 1),
        "loss": loss.detach(),
    }
    for name, parameter in model.named_parameters():
        found[f"grad/{name}"] = parameter.grad.float()
    long = data["long_ids"]  # last: the model keeps the table that it builds for it
    found["long"] = last_hidden(model, long, torch.zeros_like(long, dtype=torch.bool))
    return found


def main(elc: Path, ltg: Path) -> None:
    """Write `official.npz`."""
    generator = torch.Generator().manual_seed(SEED)
    data = batch(generator)
    arrays: dict[str, Any] = {f"batch/{name}": tensor for name, tensor in data.items()}
    stored: dict[str, np.ndarray] = {}
    files = {variant: elc / path for variant, path in ELC.items()} | {"ltg": ltg / LTG}
    for variant, file in files.items():
        model = official_model(file)
        fill(model, stored, generator)
        found = numbers(model, data)
        arrays |= {f"{variant}/{name}": array for name, array in found.items()}
    arrays |= {f"weight/{name}": whole for name, whole in stored.items()}
    kept: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(HERE / "official.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
