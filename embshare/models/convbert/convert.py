"""State dicts of transformers' own ConvBERT: the same tensors under other names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from embshare.errors import CheckpointError
from embshare.models._convert import require_shapes
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.model import ConvBertModel

__all__ = ["from_transformers_state_dict", "to_transformers_state_dict"]

PLACE: Final = "transformers' ConvBERT"
PREFIX: Final = "convbert."
BUFFERS: Final = ("embeddings.position_ids", "embeddings.token_type_ids")
NAMES: Final = (  # in this order: a later one may undo what an earlier one wrote
    ("embeddings.norm.", "embeddings.LayerNorm."),
    ("encoder.project.", "embeddings_project."),
    ("encoder.layers.", "encoder.layer."),
    (".output.", ".attention.output.dense."),
    (".attention_norm.", ".attention.output.LayerNorm."),
    (".up.", ".intermediate.dense."),
    (".down.", ".output.dense."),
    (".feed_forward_norm.", ".output.LayerNorm."),
    (".attention.conv_key.pointwise.bias", ".attention.self.key_conv_attn_layer.bias"),
    (".attention.conv_key.", ".attention.self.key_conv_attn_layer."),
    (".attention.conv_kernel.", ".attention.self.conv_kernel_layer."),
    (".attention.conv_value.", ".attention.self.conv_out_layer."),
    (".attention.query.", ".attention.self.query."),
    (".attention.key.", ".attention.self.key."),
    (".attention.value.", ".attention.self.value."),
)


def from_transformers_state_dict(
    state_dict: Mapping[str, Tensor], config: ConvBertConfig
) -> dict[str, Tensor]:
    """Give the tensors of transformers' ConvBERT the names and shapes that they have here.

    Args:
        state_dict: weights of ``ConvBertModel`` or of a model with a head, which is left out.
        config: configuration of the checkpoint.
    Returns:
        The same values, for a strict ``load_state_dict`` of `ConvBertModel`.
    Raises:
        CheckpointError: a name that this model has no place for, one that is absent, a shape that
            is not the one of ``config``, or settings by which transformers has another model.
    """
    ours = _shapes(config)
    if any(name.startswith(PREFIX) for name in state_dict):
        state_dict = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in state_dict.items()
            if name.startswith(PREFIX)
        }
    wanted = {_theirs(name): _to_theirs(name, tensor, config) for name, tensor in ours.items()}
    require_shapes(
        {name: tensor for name, tensor in state_dict.items() if name not in BUFFERS},
        wanted,
        path=PLACE,
        where="for these settings",
        hint="Pass the settings that the checkpoint was trained with.",
    )
    return {
        name: _to_ours(name, state_dict[_theirs(name)], config).reshape(tensor.shape)
        for name, tensor in ours.items()
    }


def to_transformers_state_dict(model: ConvBertModel) -> dict[str, Tensor]:
    """The state dict of a transformers ``ConvBertModel`` that computes the same.

    Args:
        model: plain: call `embshare.materialize` first where it is shared.
    Raises:
        CheckpointError: transformers has another model of these settings, or ``model`` is shared.
    """
    wanted, found = _shapes(model.config), model.state_dict()
    if wanted.keys() != found.keys():
        raise CheckpointError(
            path="the model",
            finding="its parameters are not those of a plain ConvBertModel",
            hint="Pass the body (`model.convbert`), materialized where it was shared.",
        )
    return {_theirs(name): _to_theirs(name, tensor, model.config) for name, tensor in found.items()}


def _shapes(config: ConvBertConfig) -> dict[str, Tensor]:
    """Our tensors without memory.

    Raises:
        CheckpointError: transformers has another model of these settings.
    """
    if config.num_attention_heads != 2 * config.mixed_heads:
        raise CheckpointError(
            path=PLACE,
            finding=(
                f"{config.num_attention_heads} heads must be reduced by 2 to be the same there, "
                f"but {config.mixed_heads} are left"
            ),
            hint="It halves widths where the official code does not; keep the model here.",
        )
    with torch.device("meta"):
        ours: dict[str, Tensor] = ConvBertModel(config).state_dict()
    return ours


def _theirs(name: str) -> str:
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def _grouped(name: str, config: ConvBertConfig) -> bool:
    return config.num_groups > 1 and name.endswith((".up.weight", ".down.weight"))


def _to_theirs(name: str, tensor: Tensor, config: ConvBertConfig) -> Tensor:
    if _grouped(name, config):  # [out, in / groups, 1] to [groups, in / groups, out / groups]
        return tensor[..., 0].reshape(config.num_groups, -1, tensor.shape[1]).mT.contiguous()
    return tensor.unsqueeze(-1) if ".pointwise." in name else tensor


def _to_ours(name: str, tensor: Tensor, config: ConvBertConfig) -> Tensor:
    return tensor.mT if _grouped(name, config) else tensor
