"""An encoder-decoder of the matched family, which reads a sentence or a grid of features."""

from __future__ import annotations

from typing import NamedTuple, NotRequired, TypedDict, final

import torch
from torch import Tensor, nn

from embshare.models.matched.backbone import Backbone, BackboneState
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.embedding import (
    IGNORED,
    embed,
    initialise_,
    sequence_loss,
    tie_head_,
)

__all__ = ["MatchedSeq2Seq", "Memory", "Seq2SeqOutput"]


class Memory(NamedTuple):
    """What the decoder reads."""

    hidden: Tensor
    """``[B, S, D]``."""
    mask: Tensor | None
    """``[B, S]``, true at real positions; ``None`` where all are."""


class Seq2SeqOutput(TypedDict):
    """What a forward returns; the transformers ``Trainer`` takes any mapping with these names."""

    logits: Tensor
    """``[B, T, V]``, unnormalised; position ``t`` predicts symbol ``t`` of the target."""
    loss: NotRequired[Tensor]
    """Mean nats per target symbol; there only where labels were given."""


@final
class MatchedSeq2Seq(nn.Module):
    """Encoder over source symbols or features, decoder with attention over what it returns.

    Both sides of a convolutional model are told positions, as in Gehring et al. 2017: its decoder
    would otherwise not know how much it has written, and repeat itself.

    Args:
        config: Of both sides. Source and target have one vocabulary and one table, unless
            ``source_vocab_size`` is given; then ``config.vocab_size`` is the target's.
        feature_width: ``None`` for symbols as source. Otherwise the source is a sequence of
            vectors of this width (an image's grid, row by row, say), and one linear layer brings
            them to the model's width where symbols would be embedded.
        source_vocab_size: ``None`` for one vocabulary. Otherwise the source's symbols have a table
            of their own with so many rows; padding is the same symbol in both.
    Raises:
        ValueError: the source is features and has a vocabulary too, or one without padding.
    """

    def __init__(
        self,
        config: MatchedConfig,
        *,
        feature_width: int | None = None,
        source_vocab_size: int | None = None,
    ) -> None:
        super().__init__()
        self._check_source(config, feature_width, source_vocab_size)
        self.settings = config  # not `config`: the transformers Trainer writes to that
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.source_embedding = (
            None if source_vocab_size is None else nn.Embedding(source_vocab_size, config.width)
        )
        self.bridge = None if feature_width is None else nn.Linear(feature_width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        positions = config.architecture == "conv"
        self.encoder = Backbone(config, causal=False, positions=positions)
        self.decoder = Backbone(config, causal=True, memory=True, positions=positions)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        tie_head_(self.head, self.embedding)
        initialise_(self)

    @staticmethod
    def _check_source(
        config: MatchedConfig, feature_width: int | None, source_vocab_size: int | None
    ) -> None:
        if source_vocab_size is None:
            return
        if feature_width is not None:
            raise ValueError(
                "`feature_width` and `source_vocab_size` exclude each other: features have no "
                "vocabulary."
            )
        if source_vocab_size <= config.pad_token_id:
            raise ValueError(
                f"`source_vocab_size` must be more than the padding symbol {config.pad_token_id}, "
                f"but is {source_vocab_size}."
            )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        features: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
    ) -> Seq2SeqOutput:
        """Encode a source and score a target against it.

        Args:
            input_ids: ``[B, S]``, the source, where it is symbols.
            attention_mask: ``[B, S]``, true at real source positions, which stand on the left.
            labels: ``[B, T]``, the target with its end symbol, -100 where there is none.
            features: ``[B, S, feature_width]``, the source, where it is features.
            decoder_input_ids: ``[B, T]``; by default the labels, moved by one, after the symbol
                ``config.bos_token_id``.
        Raises:
            ValueError: not one source but none or two, of the wrong kind, or no target.
        """
        memory = self.encode(input_ids, attention_mask, features)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("`labels` or `decoder_input_ids` must be given; both are None.")
            decoder_input_ids = self.shift(labels)
        logits, _ = self.decode(decoder_input_ids, memory)
        output: Seq2SeqOutput = {"logits": logits}
        if labels is not None:
            output["loss"] = sequence_loss(logits, labels)
        return output

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Memory:
        """Read a source; arguments and errors as in `forward`."""
        if self.bridge is None:
            if input_ids is None or features is not None:
                raise ValueError("this model reads symbols: give `input_ids`, and no `features`.")
            own = self.source_embedding
            x, mask = embed(self.embedding if own is None else own, input_ids), attention_mask
            if mask is None:
                mask = input_ids.ne(self.settings.pad_token_id)
        else:
            if features is None or input_ids is not None:
                raise ValueError("this model reads features: give `features`, and no `input_ids`.")
            x, mask = self.bridge(features), attention_mask
        hidden, _ = self.encoder(self.dropout(x), mask)
        return Memory(hidden, mask)

    def decode(
        self, decoder_input_ids: Tensor, memory: Memory, state: BackboneState | None = None
    ) -> tuple[Tensor, BackboneState]:
        """Score what follows ``decoder_input_ids`` ``[B, T]``, the next piece of the target.

        Returns:
            Logits ``[B, T, V]``, and the state to go on with.
        """
        x = self.dropout(embed(self.embedding, decoder_input_ids))
        hidden, after = self.decoder(
            x,
            memory=memory.hidden if state is None else None,
            memory_mask=memory.mask,
            state=state,
        )
        return self.head(self.dropout(hidden)), after

    def shift(self, labels: Tensor) -> Tensor:
        """The decoder's inputs ``[B, T]`` for ``labels`` ``[B, T]``: its start symbol first."""
        start = labels.new_full((labels.shape[0], 1), self.settings.bos_token_id)
        before = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, self.settings.pad_token_id)
        return torch.cat((start, before), dim=1)
