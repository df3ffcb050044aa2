"""The base of ShareBERT, ELC-BERT and ConvBERT: embeddings, the encoder's forward, and the heads.

Each family adds its layers, how its parameters are initialised, and what its heads compute; what
transformers sees of a model is written here, once. transformers' own generic heads are no base for
it: their classifier scores the last token that is not padding, and they call a body with positions
and a cache that an encoder does not take.

Axis letters: B batch, T positions, H width of the layers, E width of the table, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
)

from embshare.errors import InvalidValueError
from embshare.models._bert_config import BertConfig
from embshare.models.attending import attend
from embshare.models.hub import tuple_on_request

__all__ = [
    "IGNORED",
    "BertEmbeddings",
    "BertModel",
    "BertPreTrainedModel",
    "MaskedLM",
    "QuestionAnswering",
    "SequenceClassification",
    "additive_mask",
    "attend_heads",
    "look_up",
]

IGNORED: Final = -100
"""The label of positions that are not scored, as everywhere in transformers."""
MASKED: Final = -10000.0
"""Added to the scores of padding, as in the first BERT: finite in half precision too."""


# ---------------------------------------------------------------- parts of an encoder


def look_up(table: nn.Module, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """Token embeddings ``[B, T, E]``, looked up or as they are given.

    Raises:
        InvalidValueError: not one of ids and embeddings.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise InvalidValueError(
            what="the input", faults=["give either `input_ids` or `inputs_embeds`"]
        )
    return cast("Tensor", table(input_ids)) if inputs_embeds is None else inputs_embeds


class BertEmbeddings(nn.Module):
    """Tokens, positions and segments, summed, and normed where ``eps`` is given.

    Args:
        config: sizes, and dropout.
        width: width of the tables, ``E``.
        eps: epsilon of the norm; ``None`` is no norm.
    """

    def __init__(self, config: BertConfig, *, width: int, eps: float | None = None) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.norm = None if eps is None else nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """``[B, T]`` to ``[B, T, E]``.

        Args:
            input_ids: ``[B, T]``.
            token_type_ids: ``[B, T]``; None is 0 everywhere.
            inputs_embeds: ``[B, T, E]`` in place of ``input_ids``.
        Raises:
            InvalidValueError: not one of ids and embeddings, or more positions than the model has.
        """
        tokens = look_up(self.word_embeddings, input_ids, inputs_embeds)
        length, longest = tokens.shape[1], self.position_embeddings.num_embeddings
        if length > longest:
            fault = (
                f"it has {length:,} positions, and the model {longest:,}: cut it, or build the "
                f"model with max_position_embeddings={length}"
            )
            raise InvalidValueError(what="the input", faults=[fault])
        positions = self.position_embeddings.weight[:length]
        if token_type_ids is None:
            segments = self.token_type_embeddings.weight[0]
        else:
            segments = self.token_type_embeddings(token_type_ids)
        summed = tokens + positions + segments
        embedded: Tensor = self.dropout(summed if self.norm is None else self.norm(summed))
        return embedded


def additive_mask(attention_mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """``[B, T]``, 1 at tokens and 0 at padding, to ``[B, 1, 1, T]``, which is added to scores."""
    if attention_mask is None:
        return None
    return (1.0 - attention_mask[:, None, None, :].to(dtype)) * MASKED


def attend_heads(
    projected: Iterable[Tensor],
    heads: int,
    mask: Tensor | None,
    *,
    dropout: float,
    scale: float | None = None,
) -> Tensor:
    """Attention of all heads, their values side by side: three ``[B, T, n s]`` to one.

    Args:
        projected: queries, keys and values.
        heads: ``n``, each of width ``s``.
        mask: as `additive_mask` makes it.
        dropout: dropout of attention probabilities.
        scale: factor of the scores; ``None`` is ``s ** -0.5``.
    """
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected)
    seen = attend(query, key, value, mask=mask, dropout=dropout, scale=scale)
    return seen.transpose(1, 2).flatten(2)


# ---------------------------------------------------------------- models


class BertPreTrainedModel(PreTrainedModel):
    """Base of all classes of a family, with what transformers requires."""

    supports_gradient_checkpointing = True

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: parts without parameters of their own are initialised too, and all of it goes
        through `torch.nn.init`, which transformers keeps from touching what was loaded."""
        return False

    def post_init(self) -> None:
        """Initialise the parameters, as every model of transformers does when it is built."""
        super().post_init()  # type: ignore[no-untyped-call]

    def _encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Run the body of a model with a head."""
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        encoded = self.base_model(
            input_ids,
            attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **segments,  # a family without segments takes none
        )
        return cast("BaseModelOutputWithPooling", encoded)


class BertModel(BertPreTrainedModel):
    """Embeddings and encoder, which a family builds under these names."""

    embeddings: nn.Module
    encoder: nn.Module

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        config.check()  # settings may have been changed since they were made

    def get_input_embeddings(self) -> nn.Module:
        """The embedding table."""
        return cast("nn.Module", self.embeddings.word_embeddings)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another module in its place, as transformers does when a vocabulary grows."""
        self.embeddings.add_module("word_embeddings", value)

    def _states(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        inputs_embeds: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Return the input of the first layer and the output of every layer, ``[B, T, H]`` each."""
        embedded = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        return cast("tuple[Tensor, ...]", self.encoder(embedded, attention_mask))

    def _pool(self, last: Tensor) -> Tensor | None:
        """``[B, T, H]`` to ``[B, H]``; None where a family has nothing of the kind."""
        return last[:, 0]

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Encode a batch.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; None is 1 everywhere.
            token_type_ids: ``[B, T]``; None is 0 everywhere.
            inputs_embeds: ``[B, T, E]`` in place of the looked-up tokens.
            output_hidden_states: return what every layer is given, and the last one returns.
        Returns:
            ``last_hidden_state`` ``[B, T, H]`` and ``pooler_output`` ``[B, H]``.
        Raises:
            InvalidValueError: not one of ids and embeddings, or too many positions.
        """
        states = self._states(input_ids, attention_mask, token_type_ids, inputs_embeds)
        wanted = output_hidden_states
        if wanted is None:
            wanted = self.config.output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=self._pool(states[-1]),
            hidden_states=states if wanted else None,
        )


# ---------------------------------------------------------------- heads


class MaskedLM(BertPreTrainedModel):
    """Predicts masked tokens with ``transform``, then ``decoder``."""

    transform: nn.Module
    decoder: nn.Linear

    def get_output_embeddings(self) -> nn.Module:
        """The decoder."""
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Take another decoder, as transformers gives when a vocabulary grows."""
        self.decoder = new_embeddings

    def _is_sparse(self) -> bool:
        """Whether labelled positions alone are scored in training."""
        return True

    def _decode(self, hidden: Tensor) -> Tensor:
        """``[..., H]`` to ``[..., V]``."""
        return cast("Tensor", self.decoder(self.transform(hidden)))

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Score the vocabulary; other arguments as in the model without a head.

        Args:
            labels: ``[B, T]``, the tokens of masked positions and -100 everywhere else.
        Returns:
            ``logits`` ``[B, T, V]``; in training with labels, where the model scores sparsely,
            ``[M, V]`` of the ``M`` labelled positions alone. ``loss`` is the mean over these.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, inputs_embeds, output_hidden_states
        )
        hidden, loss, wanted = encoded.last_hidden_state, None, labels
        assert hidden is not None
        if labels is not None and self.training and self._is_sparse():
            scored = labels != IGNORED
            hidden, wanted = hidden[scored], labels[scored]
        logits = self._decode(hidden)
        if wanted is not None:
            loss = F.cross_entropy(logits.flatten(0, -2), wanted.flatten(), ignore_index=IGNORED)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


class SequenceClassification(BertPreTrainedModel):
    """A ``classifier`` of sequences; one label is regression."""

    classifier: nn.Linear
    dropout: nn.Module

    def _features(self, encoded: BaseModelOutputWithPooling) -> Tensor:
        """Features to classify, ``[B, H]``."""
        return cast("Tensor", self.dropout(encoded.pooler_output))

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Classify; other arguments as in the model without a head.

        Args:
            labels: ``[B]``, classes, or numbers where there is one label; ``[B, labels]`` of 0 and
                1 where ``config.problem_type`` is ``multi_label_classification``.
        Returns:
            ``logits`` ``[B, labels]``, and ``loss``: cross-entropy, or the squared error of one.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, inputs_embeds, output_hidden_states
        )
        logits, loss = self.classifier(self._features(encoded)), None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states
        )


class QuestionAnswering(BertPreTrainedModel):
    """Extractive question answering by ``qa_outputs``."""

    qa_outputs: nn.Linear

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """Score every position; other arguments as in the model without a head.

        Args:
            start_positions: ``[B]``; one outside of the sequence is not scored.
            end_positions: ``[B]``, given with the former.
        Returns:
            ``start_logits`` and ``end_logits`` ``[B, T]``, and ``loss``, the mean of both.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, inputs_embeds, output_hidden_states
        )
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start, end, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=start, end_logits=end, hidden_states=encoded.hidden_states
        )
