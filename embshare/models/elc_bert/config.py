"""`ElcBertConfig`: the settings of an ELC-BERT or LTG-BERT, and what they have to satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from transformers import PretrainedConfig

from embshare.errors import InvalidValueError
from embshare.models.elc_bert.variants import VARIANTS
from embshare.models.sizes import size_faults

__all__ = ["SPAN", "ElcBertConfig", "check"]

SIZES: Final = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "max_position_embeddings",
    "position_bucket_size",
)
SPAN: Final = 512
"""The distance over which buckets are spread in a longer sequence, where a variant fixes it."""

SHARES: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob")


class ElcBertConfig(PretrainedConfig):
    """Settings of an ELC-BERT; the defaults are those of the published base model.

    Args:
        variant: ``base``, ``zero``, ``normalized`` or ``weighted_output``, as the official files
            are called, or ``ltg``: the LTG-BERT that all of them change.
        vocab_size: rows of the embedding table, which the prediction head reads too.
        hidden_size: the width ``H``.
        intermediate_size: the inner width ``I`` of the feed-forward part, after its gate.
        num_attention_heads: a divisor of ``hidden_size``.
        num_hidden_layers: the depth ``L``.
        max_position_embeddings: the distance ``M`` over which buckets are spread. A longer sequence
            is read too.
        position_bucket_size: buckets ``C`` on either side; an even number.
        layer_norm_eps: of every norm.
        hidden_dropout_prob: after embeddings and feed-forward part, and in heads.
        attention_probs_dropout_prob: of relative positions, probabilities and attention's output.
        pad_token_id: of the tokenizer; the model itself reads padding from ``attention_mask``.
        **kwargs: as every configuration of transformers takes, ``num_labels`` for one.
    Raises:
        InvalidValueError: an unknown variant, a size below 1, heads that do not divide the width,
            an odd number of buckets, or a prediction head that is not tied.
    """

    model_type = "elc_bert"

    def __init__(
        self,
        variant: str = "base",
        vocab_size: int = 16384,
        hidden_size: int = 768,
        intermediate_size: int = 2048,
        num_attention_heads: int = 12,
        num_hidden_layers: int = 12,
        max_position_embeddings: int = 512,
        position_bucket_size: int = 32,
        layer_norm_eps: float = 1e-7,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        pad_token_id: int | None = 3,
        **kwargs: Any,
    ) -> None:
        self.variant = variant
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_attention_heads = num_attention_heads
        self.num_hidden_layers = num_hidden_layers
        self.max_position_embeddings = max_position_embeddings
        self.position_bucket_size = position_bucket_size
        self.layer_norm_eps = layer_norm_eps
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        super().__init__(**({"tie_word_embeddings": True} | kwargs))
        self.pad_token_id = pad_token_id
        check(self)


def check(config: ElcBertConfig) -> None:
    """Refuse settings that no model can be built from, all faults at once.

    Raises:
        InvalidValueError: as `ElcBertConfig` says.
    """
    faults = list(_sizes(config)) or list(_relations(config))
    if config.variant not in VARIANTS:
        known = ", ".join(map(repr, VARIANTS))
        faults.append(f"`variant` must be one of {known}, but is {config.variant!r}")
    if not config.tie_word_embeddings:
        faults.append("`tie_word_embeddings` must be True: the head reads the embedding table")
    if faults:
        raise InvalidValueError(what=type(config).__name__, faults=faults)


def _sizes(config: ElcBertConfig) -> Iterator[str]:
    yield from size_faults(config, sizes=SIZES, shares=SHARES)
    if not config.layer_norm_eps > 0:
        yield f"`layer_norm_eps` must be above 0, but is {config.layer_norm_eps!r}"


def _relations(config: ElcBertConfig) -> Iterator[str]:
    hidden, heads = config.hidden_size, config.num_attention_heads
    buckets, longest = config.position_bucket_size, config.max_position_embeddings
    if hidden % heads:
        yield (
            f"`hidden_size` must be a multiple of `num_attention_heads` = {heads}, but is {hidden}"
        )
    if buckets % 2:
        yield f"`position_bucket_size` must be even, but is {buckets}"
    elif buckets // 2 + 1 >= min(longest, SPAN):
        yield (
            f"`position_bucket_size` must be at most {2 * min(longest, SPAN) - 4}, but is "
            f"{buckets}: `max_position_embeddings` = {longest} leave the far buckets no distance"
        )
