"""ShareBERT: a pre-LN BERT of ordinary layers, and the plan by which it is shared as it is built.

Axis letters: B batch, T positions, H width, A heads.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from embshare.blocks.columns import Columns
from embshare.config import ShareConfig
from embshare.integrations import detach
from embshare.models._bert import (
    BertEmbeddings,
    BertModel,
    BertPreTrainedModel,
    additive_mask,
    attend_heads,
)
from embshare.models.sharebert.config import ShareBertConfig
from embshare.plan.planner import plan_sharing
from embshare.plan.values import SharePlan
from embshare.runtime.current_plan import TRAINED
from embshare.runtime.factorized import FactorMap, as_stored
from embshare.sharing import share_from_embedding

__all__ = [
    "MATRICES",
    "ShareBertEncoder",
    "ShareBertLayer",
    "ShareBertModel",
    "ShareBertPooler",
    "ShareBertPreTrainedModel",
    "share_config",
    "sharebert_plan",
]

MATRICES: Final = ("query", "key", "value", "up", "down", "output")
"""A layer's matrices in the order of the paper's columns, from the right-hand edge."""


class ShareBertLayer(GradientCheckpointingLayer):
    """Attention and feed-forward part, each ``x + dropout(f(norm(x)))``.

    The matrices are declared in the order of `MATRICES`, which is the plan's.
    """

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.scale = (width // self.heads) ** (-2 / 3)
        self.attention_dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, T, H]`` to ``[B, T, H]``; ``mask`` ``[B, 1, 1, T]`` is added to the scores."""
        x = x + self.dropout(self.output(self.attend(self.attention_norm(x), mask)))
        inner = F.gelu(self.up(self.feed_forward_norm(x)))
        mixed: Tensor = x + self.dropout(self.down(inner))
        return mixed

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The heads' values side by side. Scores are divided by ``d ** (2 / 3)``, not its root."""
        projected = (self.query(x), self.key(x), self.value(x))
        dropout = self.attention_dropout if self.training else 0.0
        return attend_heads(projected, self.heads, mask, dropout=dropout, scale=self.scale)


class ShareBertEncoder(nn.Module):
    """The layers, and the norm after the last."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        layers = (ShareBertLayer(config) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, ...]:
        """``x`` ``[B, T, H]``, the output of every layer but the last, and the last one's, normed.

        Args:
            x: embeddings of tokens.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; None is 1 everywhere.
        """
        mask, states = additive_mask(attention_mask, x.dtype), [x]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        states[-1] = self.norm(states[-1])
        return tuple(states)


class ShareBertPooler(nn.Module):
    """A linear map of the first position; no tanh follows."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, H]`` to ``[B, H]``."""
        pooled: Tensor = self.dense(x[:, 0])
        return pooled


# ---------------------------------------------------------------- the plan


def share_config(config: ShareBertConfig) -> ShareConfig:
    """ShareBERT in the words of `embshare.ShareConfig`.

    All layers read one slot for each role, from ``S = E P + b`` ``[V, H]``, whose leftmost columns
    are stored and never read; the table is stored ``[V, F]``, with a LayerNorm on either side of
    its projection to the width of the model.
    """
    return ShareConfig(
        method="veps",
        factor=config.factor_size,
        tie="all",
        source="embeddings.word_embeddings",
        include=("encoder.*", "pooler.*"),
        gain="none",
        width=config.hidden_size,
        column_bias=True,
        factor_norm=True,
    )


def sharebert_plan(config: ShareBertConfig) -> SharePlan:
    """The plan by which every ShareBERT of these settings is shared; allocates no weights.

    From the right-hand edge of the columns there are queries, keys, values, the feed-forward part's
    two matrices, the attention's output and the pooler: the order of the plain model's parameters.

    Raises:
        PlanError: the settings were changed, after they were checked, to what cannot be planned.
    """
    rows = config.source_rows or config.vocab_size
    with torch.device("meta"):
        plain = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {"word_embeddings": nn.Embedding(rows, config.hidden_size)}
                ),
                "encoder": ShareBertEncoder(config),
                "pooler": ShareBertPooler(config),
            }
        )
    return plan_sharing(plain, share_config(config))


# ---------------------------------------------------------------- the model


class ShareBertPreTrainedModel(BertPreTrainedModel):
    """Tables and projections start from N(0, ``initializer_range``), as the official ones do.

    The biases of derived weights start from N(0, 1), those of all layers alike: the official
    encoder copies one layer.
    """

    config_class = ShareBertConfig
    base_model_prefix = "bert"
    _no_split_modules = ["ShareBertLayer"]  # noqa: RUF012
    _supports_sdpa = True

    def unread(self) -> tuple[nn.Module | nn.Parameter, ...]:
        """Parameters that are stored as in the official model but not used; they are frozen."""
        return ()

    def post_init(self) -> None:
        """Initialise the parameters, and freeze what is not read."""
        super().post_init()
        self._freeze()

    def _freeze(self) -> None:
        for part in self.unread():
            part.requires_grad_(False)
            for module in part.modules() if isinstance(part, nn.Module) else ():
                module.__dict__.pop(TRAINED, None)  # not trained on purpose: no warning

    def _init_weights(self, module: nn.Module) -> None:
        if module is self:  # comes last, and after loading too, which makes every tensor anew
            self._freeze()
        std: float = self.config.initializer_range
        match module:
            case ShareBertEncoder():
                _draw_biases(module)
            case ShareBertPooler():
                nn.init.normal_(module.dense.bias)
            case nn.LayerNorm():
                module.reset_parameters()
            case Columns():
                assert module.projection is not None and module.bias is not None
                nn.init.normal_(module.projection, std=std)
                nn.init.zeros_(module.bias)
            case FactorMap() | nn.Linear() | nn.Embedding():
                stored = module._parameters
                if (weight := stored.get("weight")) is not None:  # not a derived one
                    nn.init.normal_(weight, std=std)
                if (bias := stored.get("bias")) is not None:
                    nn.init.zeros_(bias)


@torch.no_grad()
def _draw_biases(encoder: ShareBertEncoder) -> None:
    for name in MATRICES:
        first, *others = (layer.get_submodule(name).bias for layer in encoder.layers)
        assert isinstance(first, nn.Parameter)
        nn.init.normal_(first)
        for bias in others:
            if not getattr(bias, "_is_hf_initialized", False):  # what transformers has loaded
                bias.copy_(first)  # type: ignore[operator]


class ShareBertModel(BertModel, ShareBertPreTrainedModel):
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
        config.source_rows = config.source_rows or config.vocab_size
        device = torch.get_default_device()
        with torch.device("meta"):
            self.embeddings = BertEmbeddings(config, width=config.hidden_size)
            self.encoder = ShareBertEncoder(config)
            self.pooler = ShareBertPooler(config)
            share_from_embedding(self, sharebert_plan(config), start=False)
            detach(self)  # its class shares by itself: its folders need no plan
        as_stored(self.embeddings.word_embeddings)
        self.to_empty(device=device)
        self.post_init()

    def _pool(self, last: Tensor) -> Tensor | None:
        pooled: Tensor = self.pooler(last)
        return pooled
