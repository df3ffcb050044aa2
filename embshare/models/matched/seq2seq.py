"""An encoder-decoder of the matched family, for sentences or image features."""

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
    """Encoded source."""

    hidden: Tensor
    """``[B, S, D]``."""
    mask: Tensor | None
    """``[B, S]``, true at real positions; ``None`` where all are."""


class Seq2SeqOutput(TypedDict):
    """Output of a forward; the transformers ``Trainer`` takes any mapping with these names."""

    logits: Tensor
    """``[B, T, V]``, unnormalised; position ``t`` predicts token ``t`` of the target."""
    loss: NotRequired[Tensor]
    """Mean nats per target token; present with labels only."""


@final
class MatchedSeq2Seq(nn.Module):
    """Encoder of source tokens or features, and a decoder with attention over its output.

    A convolutional model has positional encodings in encoder and decoder, as in Gehring et al.
    2017: without them its decoder would repeat itself.

    Args:
        config: configuration of encoder and decoder. Source and target have one vocabulary and
            one table, unless ``source_vocab_size`` is given; then ``config.vocab_size`` is the
            target's.
        feature_width: ``None`` for tokens as source. Otherwise the source is a sequence of
            vectors of this width (an image's grid, row by row, say), and a linear layer maps
            them to the model's width in place of an embedding.
        source_vocab_size: ``None`` for one vocabulary. Otherwise the source has a separate table
            with this number of rows; the padding token is the same in both.
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
                f"`source_vocab_size` must be more than the padding token {config.pad_token_id}, "
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
            input_ids: ``[B, S]``, a source of tokens.
            attention_mask: ``[B, S]``, true at source positions, false at padding on the right.
            labels: ``[B, T]``, the target with its end token, -100 at padding.
            features: ``[B, S, feature_width]``, a source of features.
            decoder_input_ids: ``[B, T]``; by default the labels, shifted by one, after the token
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
                raise ValueError("this model reads tokens: give `input_ids`, and no `features`.")
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
            Logits ``[B, T, V]``, and the state to continue from.
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
        """Shift ``labels`` ``[B, T]`` to the decoder's inputs ``[B, T]``, the start token first."""
        start = labels.new_full((labels.shape[0], 1), self.settings.bos_token_id)
        before = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, self.settings.pad_token_id)
        return torch.cat((start, before), dim=1)
