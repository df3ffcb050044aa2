"""The small language model that most habits are tried on, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.runtime.bank import banks_of
from embshare.runtime.current_plan import places

VOCABULARY, WIDTH = 97, 12
IDS = torch.arange(12).view(2, 6)

CONFIGS = {
    "veps": ShareConfig(),
    "eps": ShareConfig(method="eps"),
    "untied": ShareConfig(tie="none", column_bias=True, order="column"),
    "factor": ShareConfig(factor=5),
    "relaxed": ShareConfig(gain="channel", residual_rank=2),
    "anchor": ShareConfig(anchor=2.0),
    "own": ShareConfig(method="own"),
    "own-channel": ShareConfig(method="own", gain="channel"),
}
TABLES = {name: config for name, config in CONFIGS.items() if config.reads_table}
"""Those whose blocks are columns of the embedding."""


class LM(nn.Module):
    """A table, two layers of one role, and a head."""

    def __init__(self, width: int = WIDTH, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width, **options)
        self.enc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.enc(self.embed(x)))
        return found


def shared(config: ShareConfig | None = None, seed: int = 0, **options: Any) -> Any:
    """A shared `LM`. Another seed is another start, with other gains.

    EPS has no columns for a head of 97 outputs at this width, which stays dense.
    """
    torch.manual_seed(seed)
    if config is not None and config.method == "eps":
        config = config.model_copy(update={"exclude": ("head.weight",)})
    return embshare.share_from_embedding(LM(**options), config)


def train(model: Any, steps: int = 3, optimizer: torch.optim.Optimizer | None = None) -> Any:
    """Some steps of language modelling on `IDS`; returns the model."""
    optimizer = optimizer or torch.optim.AdamW(trainable(model), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    return model


def loss(model: Callable[[Tensor], Tensor]) -> Tensor:
    """Cross-entropy of predicting each token itself."""
    logits = model(IDS)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS.flatten())


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that ask for a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


@torch.no_grad()
def out(model: Any) -> Tensor:
    """Logits of `IDS`."""
    found: Tensor = model(IDS)
    return found


@torch.no_grad()
def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every derived weight by its name, as plain clones."""
    found: dict[str, Tensor] = {}
    for bank in banks_of(model):
        for place in places(model, bank):
            found[place.name] = getattr(place.layer, place.leaf).clone()
    return found


def equal(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models compute the same, to the last bit."""
    return torch.equal(out(first), out(second))
