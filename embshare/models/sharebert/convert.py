"""Checkpoints of the official code: the same tensors under other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from embshare.errors import CheckpointError
from embshare.models._convert import OFFICIAL, rename, require_fit
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.heads import ShareBertForMaskedLM, ShareBertForSequenceClassification
from embshare.models.sharebert.model import ShareBertModel, ShareBertPreTrainedModel

__all__ = ["convert_official_state_dict"]

COLUMNS: Final = "embshare_bank.sources.0"
BODY: Final = (
    (r"embeddings\.factor_linear_all\.weight", rf"{COLUMNS}.projection"),
    (r"embeddings\.factor_linear_all\.bias", rf"{COLUMNS}.bias"),
    (r"embeddings\.factor_linear\.(\w+)", r"embeddings.word_embeddings.factor.\1"),
    (r"embeddings\.pre_factor_norm\.(\w+)", r"embeddings.word_embeddings.factor.norm_in.\1"),
    (r"embeddings\.pos_factor_norm\.(\w+)", r"embeddings.word_embeddings.factor.norm_out.\1"),
    (r"embeddings\.((word|position|token_type)_embeddings\.weight)", r"embeddings.\1"),
    (r"encoder\.FinalLayerNorm\.(\w+)", r"encoder.norm.\1"),
    (
        r"encoder\.layer\.(\d+)\.block\.self\.(query|key|value)_bias",
        r"encoder.layers.\1.\2.bias",
    ),
    (r"encoder\.layer\.(\d+)\.block\.output\.bias", r"encoder.layers.\1.output.bias"),
    (r"encoder\.layer\.(\d+)\.intermediate\.bias", r"encoder.layers.\1.up.bias"),
    (r"encoder\.layer\.(\d+)\.output\.bias", r"encoder.layers.\1.down.bias"),
    (
        r"encoder\.layer\.(\d+)\.PreAttentionLayerNorm\.(\w+)",
        r"encoder.layers.\1.attention_norm.\2",
    ),
    (
        r"encoder\.layer\.(\d+)\.PostAttentionLayerNorm\.(\w+)",
        r"encoder.layers.\1.feed_forward_norm.\2",
    ),
    (r"pooler\.bias", r"pooler.dense.bias"),
)
HEADS: Final = (
    (r"cls\.predictions\.transform\.dense_act\.(?:dense\.)?(\w+)", r"transform.dense.\1"),
    (r"cls\.predictions\.transform\.LayerNorm\.(\w+)", r"transform.norm.\1"),
    (r"cls\.predictions\.decoder\.(\w+)", r"decoder.\1"),
    (r"cls\.predictions\.bias", r"decoder.bias"),
    (r"classifier\.(\w+)", r"classifier.\1"),
)


def convert_official_state_dict(
    state_dict: Mapping[str, Tensor], config: ShareBertConfig
) -> dict[str, Tensor]:
    """Give the tensors of an official checkpoint the names that they have here.

    Args:
        state_dict: weights of the official encoder, masked language model or classifier; names may
            begin with ``module.``, as wrappers leave them.
        config: configuration of the checkpoint. A post-LN checkpoint has the same names and shapes
            as a pre-LN one: its ``encoder_ln_mode`` is in its ``config.json`` only, and
            `ShareBertConfig` refuses it.
    Returns:
        The same tensors, for a strict ``load_state_dict`` of `ShareBertModel`,
        `ShareBertForMaskedLM` or `ShareBertForSequenceClassification`, whichever it is.
    Raises:
        CheckpointError: a name that this model has no place for, one that is absent, or a shape
            that is not the one of ``config``.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    kind = _kind(names)
    converted = {_convert(name, kind): tensor for name, tensor in names.items()}
    return require_fit(converted, kind, config)


def _kind(names: Mapping[str, Tensor]) -> type[ShareBertPreTrainedModel]:
    if any(name.startswith("cls.") for name in names):
        return ShareBertForMaskedLM
    if any(name.startswith("classifier.") for name in names):
        return ShareBertForSequenceClassification
    return ShareBertModel


def _convert(name: str, kind: type[ShareBertPreTrainedModel]) -> str:
    prefix = "" if kind is ShareBertModel else "bert."
    if name.startswith(prefix) and (ours := rename(name.removeprefix(prefix), BODY)):
        return prefix + ours
    if prefix and (ours := rename(name, HEADS)):
        return ours
    raise CheckpointError(
        path=OFFICIAL,
        finding=f"`{name}` belongs to no {kind.__name__}",
        hint="Convert a pre-LN encoder, masked language model or classifier.",
    )
