"""`init="svd"`: the shared model that is nearest to the trained weights, in the least-squares sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from embshare.bank import Bank
from embshare.factor import Factorization
from embshare.plan import SharePlan

__all__ = ["Start", "fit"]


@dataclass
class Start:
    def load(self, bank: Bank, factorizations: Sequence[Factorization | None]) -> None: ...


def fit(
    model: nn.Module,
    plan: SharePlan,
    calibration: Sequence[object] | None,
    generator: torch.Generator | None,
) -> Start:
    return Start()
