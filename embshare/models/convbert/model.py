"""`ConvBertModel`: embeddings and encoder."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from embshare.models.convbert.config import ConvBertConfig, check
from embshare.models.convbert.encoder import ConvBertEmbeddings, ConvBertEncoder
from embshare.models.convbert.pretrained import ConvBertPreTrainedModel
from embshare.models.hub import tuple_on_request

__all__ = ["ConvBertModel"]


class ConvBertModel(ConvBertPreTrainedModel):
    """Embeddings and encoder. What is pooled is the first position, as it is.

    Raises:
        InvalidValueError: the settings were changed to what cannot be built.
    Source:
        Jiang et al., ConvBERT: Improving BERT with Span-based Dynamic Convolution, NeurIPS 2020.
    """

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        check(config)
        self.embeddings = ConvBertEmbeddings(config)
        self.encoder = ConvBertEncoder(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        """The table."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another module in its place, as transformers does when a vocabulary grows."""
        self.embeddings.add_module("word_embeddings", value)

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
            attention_mask: ``[B, T]``, 1 at words and 0 at padding; None is 1 everywhere.
            token_type_ids: ``[B, T]``; None is 0 everywhere.
            inputs_embeds: ``[B, T, E]`` in place of the looked-up words.
            output_hidden_states: return what every layer is given, and the last one returns.
        Returns:
            ``last_hidden_state`` ``[B, T, H]`` and ``pooler_output`` ``[B, H]``.
        Raises:
            InvalidValueError: not one of ids and embeddings, or too many positions.
        """
        embedded = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        states = self.encoder(embedded, attention_mask)
        wanted = output_hidden_states
        if wanted is None:
            wanted = self.config.output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=states[-1][:, 0],
            hidden_states=states if wanted else None,
        )
