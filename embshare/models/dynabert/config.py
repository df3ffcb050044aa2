"""Settings of models of transformers whose attention is narrower than they are."""

from __future__ import annotations

from transformers import BertConfig, RobertaConfig

__all__ = ["NarrowBertConfig", "NarrowRobertaConfig"]


class NarrowBertConfig(BertConfig):
    """A BERT's settings, and how many of its heads there are in each layer."""

    model_type = "embshare-narrow-bert"
    kept_heads: int = 12
    """Heads of each layer, at most ``num_attention_heads``, which still gives a head's width."""


class NarrowRobertaConfig(RobertaConfig):
    """A RoBERTa's settings, and how many of its heads there are in each layer."""

    model_type = "embshare-narrow-roberta"
    kept_heads: int = 12
    """Heads of each layer, at most ``num_attention_heads``, which still gives a head's width."""
