"""`ElcBertModel`: embeddings and encoder, in which every layer reads all earlier outputs."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from embshare.models.elc_bert.config import SPAN, ElcBertConfig, check
from embshare.models.elc_bert.layers import ElcBertEmbeddings, ElcBertLayer, Mixture
from embshare.models.elc_bert.positions import bucket_indices
from embshare.models.elc_bert.pretrained import ElcBertPreTrainedModel
from embshare.models.elc_bert.variants import VARIANTS
from embshare.models.hub import tuple_on_request

__all__ = ["ElcBertEncoder", "ElcBertModel"]


class ElcBertEncoder(nn.Module):
    """The layers, and the mixtures that they read: ``mixtures[n]`` of outputs 0 to ``n``.

    Output 0 is the embedded words; LTG-BERT has no mixtures.
    """

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__()
        self.config = config
        self.variant = VARIANTS[config.variant]
        depth = config.num_hidden_layers
        self.layers = nn.ModuleList(ElcBertLayer(config, depth=n) for n in range(depth))
        number = (depth + self.variant.mixes_output) if self.variant.mixes else 0
        first = self.variant.last_first
        self.mixtures = nn.ModuleList(Mixture(n + 1, last_first=first) for n in range(number))

    def forward(
        self, x: Tensor, relative: Tensor, attention_mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """``x`` ``[B, T, H]``, every layer's output, and the last mixture where there is one.

        Args:
            x: embedded words.
            relative: normed relative positions ``[R, H]``.
            attention_mask: ``[B, T]``, 1 at words and 0 at padding; None is 1 everywhere.
        """
        buckets = self._buckets(x)
        padding = None if attention_mask is None else attention_mask[:, None, None, :] == 0
        states = [x]
        for number, layer in enumerate(self.layers):
            x = self.mixtures[number](states) if self.variant.mixes else states[-1]
            states.append(layer(x, relative, buckets, padding))
        if self.variant.mixes_output:
            states.append(self.mixtures[-1](states))
        return tuple(states)

    def _buckets(self, x: Tensor) -> Tensor:
        length, span = x.shape[1], self.config.max_position_embeddings
        if length > span:
            span = length if self.variant.stretches else SPAN
        return bucket_indices(
            length, buckets=self.config.position_bucket_size, span=span, device=x.device
        )


class ElcBertModel(ElcBertPreTrainedModel):
    """An encoder of one of the five `variants`, of ordinary layers; it has no pooler.

    Args:
        config: which variant, and its sizes.
    Raises:
        InvalidValueError: the settings were changed to what cannot be built.
    Source:
        Charpentier & Samuel, Not all layers are equally as important: Every Layer Counts BERT,
        BabyLM 2023; Samuel et al., Trained on 100 million words and still in shape: BERT meets
        British National Corpus, Findings of EACL 2023.
    """

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__(config)
        check(config)
        self.embeddings = ElcBertEmbeddings(config)
        self.encoder = ElcBertEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding table."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another module in its place, as transformers does when a vocabulary grows."""
        self.embeddings.add_module("word_embeddings", value)

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Encode a batch, of any length.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: ``[B, T]``, 1 at words and 0 at padding; None is 1 everywhere.
            inputs_embeds: ``[B, T, H]`` in place of the looked-up words, before their norm.
            output_hidden_states: return the embedded words and every layer's output, and what is
                mixed of them at the end where the variant does that.
        Returns:
            ``last_hidden_state`` ``[B, T, H]``.
        Raises:
            InvalidValueError: not one of ids and embeddings.
        """
        embedded, relative = self.embeddings(input_ids, inputs_embeds)
        states = self.encoder(embedded, relative, attention_mask)
        wanted = output_hidden_states
        if wanted is None:
            wanted = self.config.output_hidden_states
        return BaseModelOutput(
            last_hidden_state=states[-1], hidden_states=states if wanted else None
        )
