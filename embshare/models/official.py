"""Reading checkpoints of official code: other names, the same tensors, and a check of each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from embshare.errors import CheckpointError
from embshare.runtime.bank import roots_of
from embshare.runtime.loading import bank_name
from embshare.runtime.scales import scales_of

__all__ = ["PLACE", "require_fit"]

PLACE: Final = "the official checkpoint"


def require_fit(
    converted: Mapping[str, Tensor], kind: type[PreTrainedModel], config: PretrainedConfig
) -> dict[str, Tensor]:
    """Refuse tensors that a model of these settings would not load strictly.

    Args:
        converted: by the names that they have here.
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
    wanted = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    for name in sorted(wanted.keys() | converted.keys()):
        has = tuple(converted[name].shape) if name in converted else "absent"
        needs = tuple(wanted[name]) if name in wanted else "absent"
        if has != needs:
            raise CheckpointError(
                path=PLACE,
                finding=f"`{name}` must be {needs} in {kind.__name__}, but is {has}",
                way_out=(
                    "Pass the settings that the checkpoint was trained with to "
                    f"{type(config).__name__}."
                ),
            )
    return converted
