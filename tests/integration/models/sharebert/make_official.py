"""Run the official ShareBERT code once and keep its numbers: `official.npz`, see `README.md`.

    python -m tests.integration.models.sharebert.make_official CHECKOUT

CHECKOUT is a clone of github.com/jchenghu/sharebert. Nothing of it is copied here: its classes are
built with the settings below, filled with random numbers, and asked for outputs and gradients.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "factor_size": 8,
    "max_position_embeddings": 16,
}
"""Slots of 2 and 4 columns, each with a rest, in 18 of 24 columns; heads of 6."""
LABELS, BATCH, LENGTH, SEED = 3, 3, 10, 0
GRID = 1024
"""Weights are multiples of 1 / GRID, stored as integers."""
OFFICIAL_ONLY = {
    "useLN": True,
    "encoder_ln_mode": "pre-ln",
    "layer_norm_type": "pytorch",
    "fused_linear_layer": True,
    "sparse_mask_prediction": True,
    "layernorm_embedding": False,
}


def official_module(checkout: Path) -> Any:
    """The official `pretraining.modeling`, with what it imports and does not need stubbed."""
    apex, normalization = types.ModuleType("apex"), types.ModuleType("apex.normalization")
    normalization.FusedLayerNorm = nn.LayerNorm  # type: ignore[attr-defined]
    apex.normalization = normalization  # type: ignore[attr-defined]
    sys.modules |= {"apex": apex, "apex.normalization": normalization}
    sys.path.insert(0, str(checkout))
    found = importlib.import_module("pretraining.modeling")
    found.ShareBertPreTrainedModel.all_tied_weights_keys = {}
    return found


def official_config() -> Any:
    """Their settings on a plain `BertConfig`."""
    from transformers import BertConfig

    config: Any = BertConfig(
        **SETTINGS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        tie_word_embeddings=False,
    )
    config.num_labels = LABELS
    for name, value in OFFICIAL_ONLY.items():
        setattr(config, name, value)
    return config


@torch.no_grad()
def fill(model: nn.Module, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Random weights on the grid, around 1 for the gains of norms; in double precision."""
    stored = {}
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator) * 0.3
        drawn += float("norm" in name.lower() and name.endswith("weight"))
        whole = (drawn * GRID).round().clamp(-(2**15), 2**15 - 1).to(torch.int16)
        parameter.copy_(whole.double() / GRID)
        stored[name] = whole.numpy()
    return stored


def batch(generator: torch.Generator) -> dict[str, Tensor]:
    """A padded batch with two segments, and labels for either task (-1 is not scored)."""
    ids = torch.randint(SETTINGS["vocab_size"], (BATCH, LENGTH), generator=generator)
    lengths = torch.tensor([LENGTH, LENGTH - 3, LENGTH - 6])
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    types_ = (torch.arange(LENGTH) >= lengths[:, None] // 2).long() * mask
    chosen = (torch.rand(ids.shape, generator=generator) < 0.4) & mask.bool()
    words = torch.randint(SETTINGS["vocab_size"], ids.shape, generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types_,
        "word_labels": torch.where(chosen, words, -1),
        "labels": torch.randint(LABELS, (BATCH,), generator=generator),
    }


def gradients(model: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """Gradients of all parameters that have one, in single precision."""
    return {
        f"{prefix}/grad/{name}": parameter.grad.float().numpy()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def main(checkout: Path) -> None:
    """Write `official.npz`."""
    official, config = official_module(checkout), official_config()
    generator = torch.Generator().manual_seed(SEED)
    data = batch(generator)
    arrays: dict[str, Any] = {f"batch/{k}": v.numpy() for k, v in data.items()}
    ids, mask, kinds = (data[k] for k in ("input_ids", "attention_mask", "token_type_ids"))

    mlm = official.ShareBertLMHeadModel(config, None).double().eval()
    arrays |= {f"mlm/weight/{k}": v for k, v in fill(mlm, generator).items()}
    sequence, pooled = mlm.bert(ids, kinds, mask, output_all_encoded_layers=False)
    arrays |= {"encoder/sequence": sequence.detach().numpy(), "encoder/pooled": pooled.detach()}
    arrays["mlm/logits"] = mlm([None, ids, mask, kinds, None]).detach().float().numpy()
    (loss,) = mlm([None, ids, mask, kinds, data["word_labels"]])
    loss.backward()
    arrays |= {"mlm/loss": loss.detach().numpy()} | gradients(mlm, "mlm")

    classifier = official.ShareBertForSequenceClassification(config).double().eval()
    arrays |= {f"classifier/weight/{k}": v for k, v in fill(classifier, generator).items()}
    out = classifier(ids, kinds, mask, labels=data["labels"])
    out.loss.backward()
    arrays |= {"classifier/logits": out.logits.detach(), "classifier/loss": out.loss.detach()}
    arrays |= gradients(classifier, "classifier")
    kept: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(HERE / "official.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
