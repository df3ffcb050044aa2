"""`ElcBertConfig`: the settings of an ELC-BERT or LTG-BERT, and the table of its variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

from embshare.models._bert_config import BertConfig

__all__ = ["SPAN", "VARIANTS", "ElcBertConfig", "Variant"]

SPAN: Final = 512
"""Distance that buckets cover in a longer sequence, where a variant fixes it."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Residual connections of a layer, with ``x`` a mixture of earlier outputs, ``a = attend(x)``.

    ``out = a + feed(fed)``: nothing else of ``x`` reaches the output.
    """

    mixes: bool = True
    """``x`` is a learned mixture of all earlier outputs; without, the last one as it is."""
    last_first: bool = False
    """A mixture starts with a logit of 1 for the last output; without, with equal parts."""
    residual: bool = False
    """``a = x + attend(x)``, as everywhere else."""
    feeds_sum: bool = False
    """``fed = x + a``; without, ``a``."""
    normed: bool = False
    """A norm without parameters follows every layer."""
    mixes_output: bool = False
    """The model returns one more mixture, of the embeddings and all layers."""
    stretches: bool = False
    """A longer sequence than the table's spreads the buckets over its own length; without, 512."""


VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType(
    {
        "base": Variant(last_first=True, stretches=True),
        "zero": Variant(feeds_sum=True),
        "normalized": Variant(feeds_sum=True, normed=True, stretches=True),
        "weighted_output": Variant(feeds_sum=True, mixes_output=True),
        "ltg": Variant(mixes=False, residual=True),
    }
)
"""The official code's five models, by the name that `ElcBertConfig` takes."""


class ElcBertConfig(BertConfig):
    """Settings of an ELC-BERT; the defaults are those of the published base model.

    Args:
        variant: ``base``, ``zero``, ``normalized`` or ``weighted_output``, as the official files
            are called, or ``ltg``: the LTG-BERT that all of them change.
        vocab_size: rows of the embedding table, which the prediction head reads too.
        hidden_size: the width ``H``.
        intermediate_size: the inner width ``I`` of the feed-forward part, after its gate.
        num_attention_heads: a divisor of ``hidden_size``.
        num_hidden_layers: the depth ``L``.
        max_position_embeddings: the distance ``M`` that buckets cover. A longer sequence
            is read too.
        position_bucket_size: buckets ``C`` on either side; an even number.
        layer_norm_eps: epsilon of every norm.
        hidden_dropout_prob: after embeddings and feed-forward part, and in heads.
        attention_probs_dropout_prob: dropout of relative positions, probabilities and attention's
            output.
        pad_token_id: padding token; the model itself reads padding from ``attention_mask``.
        **kwargs: as every configuration of transformers takes, ``num_labels`` for one.
    Raises:
        InvalidValueError: an unknown variant, a size below 1, heads that do not divide the width,
            an odd number of buckets, or a prediction head that is not tied.
    """

    model_type = "elc_bert"
    sizes: ClassVar = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "max_position_embeddings",
        "position_bucket_size",
    )

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
        self.check()

    def _faults_of_sizes(self) -> Iterator[str]:
        yield from super()._faults_of_sizes()
        if not self.layer_norm_eps > 0:
            yield f"`layer_norm_eps` must be above 0, but is {self.layer_norm_eps!r}"

    def _faults_of_relations(self) -> Iterator[str]:
        yield from super()._faults_of_relations()
        buckets, longest = self.position_bucket_size, self.max_position_embeddings
        if buckets % 2:
            yield f"`position_bucket_size` must be even, but is {buckets}"
        elif buckets // 2 + 1 >= min(longest, SPAN):
            yield (
                f"`position_bucket_size` must be at most {2 * min(longest, SPAN) - 4}, but is "
                f"{buckets}: `max_position_embeddings` = {longest} leave the far buckets no "
                "distance"
            )

    def _faults_of_variants(self) -> Iterator[str]:
        if self.variant not in VARIANTS:
            known = ", ".join(map(repr, VARIANTS))
            yield f"`variant` must be one of {known}, but is {self.variant!r}"
        if not self.tie_word_embeddings:
            yield "`tie_word_embeddings` must be True: the head reads the embedding table"
