"""What the campaigns mutate and kill: small models, shared in every way, and what they save."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig

__all__ = ["CONFIGS", "PRETRAINED", "Saved", "TwoTables", "folders", "pretrained", "seeded"]

IDS: Final = torch.arange(12).view(2, 6)


class TwoTables(nn.Module):
    """Two embeddings, one of them tied to a head; layers of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.positions = nn.Embedding(24, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(8, 40, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids) + self.positions(ids % 24)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        found: Tensor = self.head(self.norm(self.rnn(hidden)[0]))
        return found


CONFIGS: Final[Mapping[str, ShareConfig]] = {
    "eps": ShareConfig(method="eps", include=("layers.*",)),
    "veps": ShareConfig(tie="none"),
    "wider": ShareConfig(width=48, column_bias=True, order="column"),
    "factor": ShareConfig(factor=4, factor_norm=True),
    "residual": ShareConfig(residual_rank=2, gain="channel"),
    "learned": ShareConfig(gain="learned", factor=5, tie="none"),
    "anchor": ShareConfig(anchor=2.0),
    "sources": ShareConfig(source={"rnn.*": "positions.weight", "*": "embed.weight"}),
    "sources, eps": ShareConfig(
        method="eps",
        source={"layers.0.*": "positions.weight", "*": "embed.weight"},
        include=("layers.*",),
        gain="none",
    ),
}


@dataclass(frozen=True)
class Saved:
    """A folder in memory, and another save of the same kind to take sections from."""

    build: Callable[[], nn.Module]
    files: Mapping[str, bytes]
    other: Mapping[str, bytes]

    def write(self, folder: Path, changed: Mapping[str, bytes]) -> None:
        """Write the folder with some files changed."""
        for name, data in self.files.items():
            (folder / name).write_bytes(changed.get(name, data))


def seeded(build: Callable[[], nn.Module], config: ShareConfig, seed: int) -> nn.Module:
    """A shared model whose buffers and gains have values of their own too."""
    torch.manual_seed(seed)
    model = embshare.share_from_embedding(build(), config)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and not name.endswith("scales.layout"):
                tensor.add_(torch.rand_like(tensor), alpha=0.01)
    return model.eval()


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def folders(work: Path) -> dict[str, Saved]:
    """What `embshare.save` writes, for each config."""
    found = {}
    for name, config in CONFIGS.items():
        saves = []
        for seed in (0, 1):
            folder = embshare.save(seeded(TwoTables, config, seed), work / f"{name}-{seed}")
            saves.append(_read(folder))
        found[name] = Saved(TwoTables, *saves)
    return found


def _bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=61,
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=20,
            max_position_embeddings=16,
        )
    )


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=61, n_positions=16, n_embd=12, n_layer=2, n_head=2, n_inner=20)
    )


PRETRAINED: Final[Mapping[str, tuple[Callable[[], Any], ShareConfig, dict[str, Any]]]] = {
    "bert": (_bert, ShareConfig(), {}),
    "bert, factor": (_bert, ShareConfig(factor=6, gain="learned"), {}),
    "gpt2": (_gpt2, ShareConfig(anchor=2.0, residual_rank=2), {}),
    "gpt2, parts": (_gpt2, ShareConfig(tie="none", gain="channel"), {"max_shard_size": "5KB"}),
}
"""Model of transformers, config, options of `save_pretrained`."""


def pretrained(work: Path) -> dict[str, Saved]:
    """What `save_pretrained` of shared models writes."""
    found = {}
    for name, (build, config, options) in PRETRAINED.items():
        saves = []
        for seed in (0, 1):
            model: Any = seeded(build, config, seed)
            model.save_pretrained(work / f"{name}-{seed}", **options)
            saves.append(_read(work / f"{name}-{seed}"))
        found[name] = Saved(build, *saves)
    return found
