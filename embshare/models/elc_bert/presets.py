"""The two published sizes, for either amount of text; each comes in every variant."""

from __future__ import annotations

from embshare.models.elc_bert.config import ElcBertConfig

__all__ = ["base", "small"]


def base(variant: str = "base") -> ElcBertConfig:
    """98,229,838 parameters with the prediction head (LTG-BERT 98,229,760).

    Raises:
        InvalidValueError: an unknown variant.
    """
    return ElcBertConfig(variant)


def small(variant: str = "base") -> ElcBertConfig:
    """23,799,630 parameters with the prediction head (LTG-BERT 23,799,552).

    Raises:
        InvalidValueError: an unknown variant.
    """
    return ElcBertConfig(
        variant,
        vocab_size=6144,
        hidden_size=384,
        intermediate_size=1024,
        num_attention_heads=6,
    )
