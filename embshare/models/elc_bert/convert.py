"""Checkpoints of the official code: the same tensors under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from embshare.errors import CheckpointError
from embshare.models._convert import OFFICIAL, rename, require_fit
from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.heads import ElcBertForMaskedLM
from embshare.models.elc_bert.positions import bucket_indices

__all__ = ["convert_official_state_dict"]

LAYER: Final = r"transformer\.layers\.(\d+)"
NAMES: Final = (
    (r"embedding\.word_embedding\.weight", "bert.embeddings.word_embeddings.weight"),
    (r"embedding\.relative_embedding", "bert.embeddings.relative"),
    (r"embedding\.relative_layer_norm\.(\w+)", r"bert.embeddings.relative_norm.\1"),
    (rf"{LAYER}\.attention\.in_proj_qk\.(\w+)", r"bert.encoder.layers.\1.attention.query_key.\2"),
    (rf"{LAYER}\.attention\.in_proj_v\.(\w+)", r"bert.encoder.layers.\1.attention.value.\2"),
    (rf"{LAYER}\.attention\.out_proj\.(\w+)", r"bert.encoder.layers.\1.attention.output.\2"),
    (
        rf"{LAYER}\.attention\.post_layer_norm\.(\w+)",
        r"bert.encoder.layers.\1.attention.norm_out.\2",
    ),
    (rf"{LAYER}\.mlp\.mlp\.1\.weight", r"bert.encoder.layers.\1.feed_forward.up.weight"),
    (rf"{LAYER}\.mlp\.mlp\.4\.weight", r"bert.encoder.layers.\1.feed_forward.down.weight"),
    (rf"{LAYER}\.prev_layer_weights", r"bert.encoder.mixtures.\1.logits"),
    (r"classifier\.nonlinearity\.1\.(\w+)", r"transform.dense.\1"),
    (r"classifier\.nonlinearity\.5\.(\w+)", r"decoder.\1"),
)
BUCKETS: Final = rf"{LAYER}\.attention\.position_indices"
TABLES: Final = ("decoder.weight", "bert.embeddings.word_embeddings.weight")


def convert_official_state_dict(
    state_dict: Mapping[str, Tensor], config: ElcBertConfig
) -> dict[str, Tensor]:
    """Give the tensors of an official checkpoint the names that they have here.

    Args:
        state_dict: weights of the official model, the ``"model"`` of a file; names may begin with
            ``module.``, as wrappers leave them. The tables of buckets are checked and left out:
            they are computed here.
        config: configuration of the checkpoint. The variants ``base``, ``zero`` and ``normalized``
            have equal names and shapes, and nothing in a checkpoint shows which it is.
    Returns:
        The same tensors, for a strict ``load_state_dict`` of `ElcBertForMaskedLM`.
    Raises:
        CheckpointError: a name that this variant has no place for, one that is absent, a shape or a
            table of buckets that is not the one of ``config``, or a head that is not tied.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    tables = {name: names.pop(name) for name in list(names) if re.fullmatch(BUCKETS, name)}
    converted = {_convert(name, config): tensor for name, tensor in names.items()}
    require_fit(converted, ElcBertForMaskedLM, config)
    _check_buckets(tables, config)
    decoder, table = (converted[name] for name in TABLES)
    if not torch.equal(decoder, table):
        raise CheckpointError(
            path=OFFICIAL,
            finding="`classifier.nonlinearity.5.weight` is not the embedding table",
            hint="Convert a model whose prediction head is tied to its table.",
        )
    return converted


def _convert(name: str, config: ElcBertConfig) -> str:
    if name == "transformer.prev_layer_weights":
        return f"bert.encoder.mixtures.{config.num_hidden_layers}.logits"
    if ours := rename(name, NAMES):
        return ours
    raise CheckpointError(
        path=OFFICIAL,
        finding=f"`{name}` belongs to no ElcBertForMaskedLM",
        hint="Convert an ELC-BERT or LTG-BERT without a head for next sentences.",
    )


def _check_buckets(tables: Mapping[str, Tensor], config: ElcBertConfig) -> None:
    """Check the distance that buckets cover, which nothing else in a checkpoint shows."""
    length = config.max_position_embeddings
    ours = bucket_indices(
        length, buckets=config.position_bucket_size, span=length, device=torch.device("cpu")
    )
    for name, table in tables.items():
        if not torch.equal(table.cpu(), ours):
            raise CheckpointError(
                path=OFFICIAL,
                finding=f"`{name}` must be the table of {length} positions, but is another "
                f"{list(table.shape)}",
                hint="Pass the checkpoint's `max_position_embeddings` to ElcBertConfig.",
            )
