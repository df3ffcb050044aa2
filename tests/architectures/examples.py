"""Architectures that are sound, and some that are not in one way each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tests.architectures.architecture import Architecture

Example = partial(Architecture, library="made here")
IDS = torch.arange(12).view(2, 6)


class Sound(nn.Module):
    """A table, two equal layers, a bare matrix, positions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.positions = nn.Parameter(torch.randn(1, 6, 8))
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.mix = nn.Parameter(torch.randn(8, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids) + self.positions
        for layer in self.layers:
            hidden = hidden + layer(hidden @ self.mix).relu()
        scores: Tensor = self.head(self.norm(hidden))
        return scores


class Forgetful(Sound):
    """Random numbers that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(8), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = super().forward(ids) * (1 + self.get_buffer("noise").sum())
        return scores


class Gated(Sound):
    """Behind a gate that is closed at the start; the table is frozen."""

    opens = True

    def __init__(self) -> None:
        super().__init__()
        self.embed.requires_grad_(False)
        self.behind = nn.Linear(8, 8)
        self.gate = nn.Parameter(torch.zeros(()), requires_grad=self.opens)

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.head(self.norm(self.embed(ids) + self.gate * self.within(ids)))
        return scores

    def within(self, ids: Tensor) -> Tensor:
        """What the gate lets through."""
        hidden: Tensor = self.behind(self.layers[1](self.layers[0](self.embed(ids) @ self.mix)))
        return hidden


class Shut(Gated):
    """Behind a gate that never opens."""

    opens = False


class Constant(Sound):
    """Returns what no weight changes."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * 0


class TwoWays(Sound):
    """One weight is read by layers of two kinds, which lay it out differently."""

    def __init__(self) -> None:
        super().__init__()
        self.turned = nn.Bilinear(1, 1, 1)
        self.turned.weight = nn.Parameter(torch.randn(8, 8))
        self.again = nn.Linear(8, 8)
        self.again.weight = self.turned.weight


def loss(model: nn.Module) -> Tensor:
    scores: Tensor = model(IDS)
    return scores.square().mean()


def broken() -> nn.Module:
    raise OSError("there is no such file")


def infinite(model: nn.Module) -> Tensor:
    return loss(model) / 0


def touchy(model: nn.Module) -> Tensor:
    """The last bit of a weight moves it by a hundredth; shared, it is off by a thousandth."""
    return (1e5 * loss(model)).sin() + 1e-3 * hasattr(model, "embshare_bank")


def other(model: nn.Module) -> Tensor:
    """Of a shared model it is another by more than rounding."""
    return loss(model) + 1e-3 * hasattr(model, "embshare_bank")


def dying(model: nn.Module) -> Tensor:
    os._exit(3)


def hanging(model: nn.Module) -> Tensor:
    time.sleep(60)
    return loss(model)


def noisy(model: nn.Module) -> Tensor:
    print("something that nobody asked for")
    return loss(model)


ALL = (
    Example(name="sound", build=Sound, loss=noisy),
    Example(name="forgetful", build=Forgetful, loss=loss),
    Example(name="gated", build=Gated, loss=loss),
    Example(name="shut", build=Shut, loss=loss),
    Example(name="constant", build=Constant, loss=loss),
    Example(name="two-ways", build=TwoWays, loss=loss),
    Example(name="tableless", build=lambda: nn.Linear(6, 6), loss=loss),
    Example(name="broken", build=broken, loss=loss),
    Example(name="infinite", build=Sound, loss=infinite),
    Example(name="touchy", build=Sound, loss=touchy),
    Example(name="other", build=Sound, loss=other),
    Example(name="absent", build=Sound, loss=loss, skip="needs a package"),
    Example(name="dying", build=Sound, loss=dying),
    Example(name="hanging", build=Sound, loss=hanging),
)
BY_NAME = {example.name: example for example in ALL}


def architectures() -> Iterator[Architecture]:
    """As the module of a library gives them."""
    yield from ALL
