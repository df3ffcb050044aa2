"""Make the folders beside this file, with the version that wrote no gains into its files (1f0de1c).

    git worktree add ../earlier 1f0de1c && cd ../earlier
    python ../embshare/tests/integration/earlier/make_folders.py ../embshare/tests/earlier

What each model computes is written too: folders must be read as long as there are any.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

import embshare

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "factor": {"factor": 5},
    "relaxed": {"gain": "channel", "residual_rank": 2},
    "anchor": {"anchor": 2.0},
    "untied": {"gain": "learned", "tie": "none", "column_bias": True, "order": "column"},
}
IDS = torch.arange(12).view(2, 6)


class LM(nn.Module):
    """A table, two layers of one role, and a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(97, 12)
        self.enc = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12))
        self.head = nn.Linear(12, 97)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.enc(self.embed(ids)))
        return found


def bert() -> Any:
    """A BERT of two layers."""
    config = BertConfig(
        vocab_size=101,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    return BertForMaskedLM(config).eval()


def main(folder: Path) -> None:
    """Write all folders."""
    outputs: dict[str, Tensor] = {}
    for name, fields in CONFIGS.items():
        torch.manual_seed(1)
        model = embshare.share_from_embedding(LM(), embshare.ShareConfig(**fields)).eval()
        embshare.save(model, folder / name)
        outputs[name] = model(IDS).detach()
    torch.manual_seed(1)
    shared = embshare.share_from_embedding(bert(), embshare.ShareConfig(**CONFIGS["relaxed"]))
    shared.save_pretrained(folder / "bert")
    outputs["bert"] = shared(IDS).logits.detach()
    safetensors.torch.save_file(outputs, folder / "outputs.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
