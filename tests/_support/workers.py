"""A model that is sent to other processes, and what they do with it; importable and light."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests._support.layer_examples import IDS, VOCABULARY, WIDTH


class LM(nn.Module):
    """A table, two layers and a head; the layer without bias stores nothing at all."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.enc = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=False)
        )
        self.head = nn.Linear(WIDTH, VOCABULARY)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.enc(self.embed(ids)))
        return found


class Scores(torch.utils.data.Dataset[Tensor]):
    """Computed by the workers of a DataLoader."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return 4

    @torch.no_grad()
    def __getitem__(self, _: int) -> Tensor:
        found: Tensor = self.model(IDS)
        return found


def answer(model: nn.Module, answers: Any) -> None:
    """Send back what the model computes here, and which parameters it has."""
    torch.set_num_threads(1)
    names = [name for name, _ in model.named_parameters()]
    answers.put((model(IDS).detach().numpy(), names))  # by value: memory may end with a process


def answer_next(models: Any, answers: Any) -> None:
    """Take the model from a queue."""
    answer(models.get(), answers)


@torch.no_grad()
def change(model: nn.Module, answers: Any) -> None:
    """Write into memory that the processes share."""
    torch.set_num_threads(1)
    for parameter in model.parameters():
        parameter.add_(0.125)
    answer(model, answers)
