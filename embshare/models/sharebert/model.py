"""`ShareBertModel`: the plain BERT, shared by its plan as soon as it is built."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from embshare.integrations import detach
from embshare.models.hub import tuple_on_request
from embshare.models.sharebert.config import ShareBertConfig, check
from embshare.models.sharebert.plain import (
    ShareBertEmbeddings,
    ShareBertEncoder,
    ShareBertPooler,
)
from embshare.models.sharebert.pretrained import ShareBertPreTrainedModel
from embshare.models.sharebert.sharing import sharebert_plan
from embshare.runtime.factorized import as_stored
from embshare.sharing import share_from_embedding

__all__ = ["ShareBertModel"]


class ShareBertModel(ShareBertPreTrainedModel):
    """Embeddings, encoder and pooler, whose matrices are derived from the word embeddings.

    The plain model is built and shared without memory; what is stored afterwards is allocated.

    Args:
        config: `source_rows` is set to ``vocab_size`` where it is None.
    Raises:
        InvalidValueError: the settings were changed to what cannot be built.
    Source:
        Hu, Cavicchioli & Capotondi, ShareBERT: Embeddings Are Capable of Learning Hidden Layers,
        AAAI 2024.
    """

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        check(config)
        config.source_rows = config.source_rows or config.vocab_size
        device = torch.get_default_device()
        with torch.device("meta"):
            self.embeddings = ShareBertEmbeddings(config, rows=config.vocab_size)
            self.encoder = ShareBertEncoder(config)
            self.pooler = ShareBertPooler(config)
            share_from_embedding(self, sharebert_plan(config), start=False)
            detach(self)  # its class shares by itself: its folders need no plan
        as_stored(self.embeddings.word_embeddings)
        self.to_empty(device=device)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The factorised table."""
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
            inputs_embeds: ``[B, T, H]`` in place of the looked-up words.
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
            pooler_output=self.pooler(states[-1]),
            hidden_states=states if wanted else None,
        )
