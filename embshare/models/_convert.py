"""Reading checkpoints of other code: other names, the same tensors, and a check of each."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from embshare.errors import CheckpointError
from embshare.runtime.bank import roots_of
from embshare.runtime.loading import bank_name
from embshare.runtime.scales import scales_of

__all__ = ["OFFICIAL", "rename", "require_fit", "require_shapes"]

OFFICIAL: Final = "the official checkpoint"


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    """Rewrite a name by the first pattern that all of it matches; None where there is none."""
    for pattern, ours in rules:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    return None


def require_shapes(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    path: str,
    where: str,
    hint: str,
) -> None:
    """Refuse a name too many, one too few, or another shape.

    Raises:
        CheckpointError: names the first tensor of which that holds.
    """
    for name in sorted(wanted.keys() | found.keys()):
        has = tuple(found[name].shape) if name in found else "absent"
        needs = tuple(wanted[name].shape) if name in wanted else "absent"
        if has != needs:
            finding = f"`{name}` must be {needs} {where}, but is {has}"
            raise CheckpointError(path=path, finding=finding, hint=hint)


def require_fit(
    converted: Mapping[str, Tensor], kind: type[PreTrainedModel], config: PretrainedConfig
) -> dict[str, Tensor]:
    """Refuse tensors that a model of these settings would not load strictly.

    Args:
        converted: converted weights by their names in this library.
        kind: the model, which is built without memory, from a copy of the settings.
        config: the checkpoint's.
    Returns:
        The tensors, and the gains that a shared model's plan has and no official checkpoint.
    Raises:
        CheckpointError: a name too many, one too few, or another shape.
    """
    with torch.device("meta"):
        ours = kind(copy.deepcopy(config))  # a model writes into its own
    converted = dict(converted)
    for path, root, bank in roots_of(ours):
        prefix = f"{path}.{bank_name(root)}" if path else bank_name(root)
        for name, tensor in scales_of(bank.scales.plan).items():
            converted.setdefault(f"{prefix}.{name}", tensor)
    require_shapes(
        converted,
        ours.state_dict(),
        path=OFFICIAL,
        where=f"in {kind.__name__}",
        hint=(
            f"Pass the settings that the checkpoint was trained with to {type(config).__name__}."
        ),
    )
    return converted
