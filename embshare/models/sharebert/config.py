"""`ShareBertConfig`: the settings of a ShareBERT, and what they have to satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from embshare.models._bert_config import BertConfig
from embshare.plan.slots import columns_needed

__all__ = ["ShareBertConfig"]


class ShareBertConfig(BertConfig):
    """Settings of a ShareBERT; the defaults are those of the published small model.

    Args:
        vocab_size: rows of the embedding table. The official script rounds it up to 30,528.
        hidden_size: the width ``H`` of the layers, and the columns of ``S = E P + b``.
        intermediate_size: the inner width ``I`` of the feed-forward part.
        num_attention_heads: a divisor of ``hidden_size``.
        num_hidden_layers: all of them read the same six matrices.
        factor_size: the width ``F`` in which the embedding table is stored.
        max_position_embeddings: the longest sequence.
        type_vocab_size: segments (token types).
        hidden_dropout_prob: after embeddings, attention and feed-forward part, and in classifiers.
        attention_probs_dropout_prob: dropout of attention probabilities.
        initializer_range: standard deviation of tables and projections at the start.
        sparse_mask_prediction: the published models score masked positions alone while they train,
            and leave the head's bias out. False scores all positions, with the bias.
        source_rows: rows that weights are read from. None is all of them, and becomes their number
            when a model is built: a vocabulary that grows later leaves every weight as it is.
        pad_token_id: padding token; the model itself reads padding from ``attention_mask``.
        **kwargs: as every configuration of transformers takes, ``num_labels`` for one.
    Raises:
        InvalidValueError: a size below 1, heads that do not divide the width, slots that need more
            columns than there are, or a variant of the official code that is not this model.
    """

    model_type = "sharebert"
    sizes: ClassVar = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "factor_size",
        "max_position_embeddings",
        "type_vocab_size",
    )
    published: ClassVar = {
        "encoder_ln_mode": ("pre-ln",),
        "layernorm_embedding": (False,),
        "layer_norm_type": ("pytorch", "apex"),
        "useLN": (True,),
        "hidden_act": ("gelu",),
        "tie_word_embeddings": (False,),
    }

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 2048,
        intermediate_size: int = 4096,
        num_attention_heads: int = 16,
        num_hidden_layers: int = 12,
        factor_size: int = 128,
        max_position_embeddings: int = 128,
        type_vocab_size: int = 2,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        initializer_range: float = 0.02,
        sparse_mask_prediction: bool = True,
        source_rows: int | None = None,
        pad_token_id: int | None = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_attention_heads = num_attention_heads
        self.num_hidden_layers = num_hidden_layers
        self.factor_size = factor_size
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.initializer_range = initializer_range
        self.sparse_mask_prediction = sparse_mask_prediction
        self.source_rows = source_rows
        super().__init__(**({"tie_word_embeddings": False} | kwargs))
        self.pad_token_id = pad_token_id
        self.check()

    def _faults_of_relations(self) -> Iterator[str]:
        yield from super()._faults_of_relations()
        hidden, rows = self.hidden_size, self.source_rows
        if self.factor_size > hidden:
            yield (
                f"`factor_size` must be at most `hidden_size` = {hidden}, but is {self.factor_size}"
            )
        if rows is not None and not 1 <= rows <= self.vocab_size:
            yield (
                f"`source_rows` must be from 1 to `vocab_size` = {self.vocab_size:,}, but is "
                f"{rows:,}: a vocabulary may grow, not shrink (None reads all rows of a new model)"
            )
        elif (needs := self._columns_used()) > hidden:
            yield (
                f"the seven matrices need {needs:,} columns of the {hidden:,} that `hidden_size` "
                f"gives: a `vocab_size` of {5 * hidden + 2 * self.intermediate_size:,} "
                f"(5 hidden_size + 2 intermediate_size) or a little more is enough"
            )

    def _columns_used(self) -> int:
        """``5 ceil(H H / V) + 2 ceil(H I / V)``: query, key, value, output, pooler; up, down."""
        hidden, rows = self.hidden_size, self.source_rows or self.vocab_size
        square = columns_needed(hidden * hidden, rows)
        return 5 * square + 2 * columns_needed(hidden * self.intermediate_size, rows)
