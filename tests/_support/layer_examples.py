"""The one table of how to build each thing that the suite asks its questions of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from embshare import ShareConfig
from embshare.plan.layer_rules import RULES, LayerRule, Rules

VOCABULARY, WIDTH = 97, 12
IDS = torch.arange(12).view(2, 6) * 7 % VOCABULARY


@dataclass(frozen=True)
class Example:
    """A model, its input, and how to share it."""

    name: str
    build: Callable[[], nn.Module]
    inputs: dict[str, Any] = field(default_factory=lambda: {"ids": IDS})
    include: tuple[str, ...] = ("*",)
    rules: Rules = field(default_factory=lambda: RULES)
    kind: object = None
    """The key of `RULES` that it stands for."""


class Around(nn.Module):
    """A table, one layer used by `use`, and a head tied to the table."""

    def __init__(self, layer: nn.Module, use: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = layer
        self.use = use
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        found: Tensor = self.head(hidden + fit(self.use(self.layer, hidden), hidden))
        return found


def fit(value: Tensor, like: Tensor) -> Tensor:
    """Any output as ``[b, t, WIDTH]``."""
    flat = value.reshape(like.shape[0], -1)
    size = like[0].numel()
    flat = flat.repeat(1, -(-size // flat.shape[1]))[:, :size]
    return torch.tanh(flat.reshape(like.shape))


def plain(layer: nn.Module, hidden: Tensor) -> Tensor:
    """``layer(hidden)``."""
    found: Tensor = layer(hidden)
    return found


def twice(layer: nn.Module, hidden: Tensor) -> Tensor:
    """A bilinear layer."""
    found: Tensor = layer(hidden, hidden)
    return found


def channels(dimensions: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """A convolution over ``dimensions`` axes, the width being the channels."""

    def use(layer: nn.Module, hidden: Tensor) -> Tensor:
        signal = hidden.transpose(1, 2)
        for _ in range(dimensions - 1):
            signal = signal.unsqueeze(-1).expand(*signal.shape, 3)
        found: Tensor = layer(signal)
        return found

    return use


def first(layer: nn.Module, hidden: Tensor) -> Tensor:
    """A recurrent layer's outputs."""
    found: Tensor = layer(hidden)[0]
    return found


def packed(layer: nn.Module, hidden: Tensor) -> Tensor:
    """A recurrent layer over a packed sequence."""
    lengths = torch.tensor([hidden.shape[1], hidden.shape[1] - 2])[: hidden.shape[0]]
    given = pack_padded_sequence(hidden, lengths, batch_first=True)
    found: Tensor = pad_packed_sequence(layer(given)[0], batch_first=True)[0]
    return found


def cell(layer: nn.Module, hidden: Tensor) -> Tensor:
    """A cell, step by step."""
    state, steps = None, []
    for step in hidden.unbind(1):
        state = layer(step, state)
        steps.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(steps, 1)


def attend(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Self-attention."""
    found: Tensor = layer(hidden, hidden, hidden, need_weights=False)[0]
    return found


def split(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Attention whose keys and values have another width."""
    found: Tensor = layer(hidden, hidden[..., :8], hidden[..., :6], need_weights=False)[0]
    return found


class Experts(nn.Module):
    """Fused experts: a bare parameter of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, WIDTH, WIDTH) / WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.einsum("btd,edh->btehd", hidden, self.experts).sum(-1)


class Gated(nn.Module):
    """A layer of the caller's own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(WIDTH, WIDTH) / WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ self.gate


def hf_conv1d() -> nn.Module:
    """transformers' transposed Linear."""
    from transformers.pytorch_utils import Conv1D

    layer: nn.Module = Conv1D(2 * WIDTH, WIDTH)
    return layer


def old_weight_norm() -> nn.Module:
    """The older, hook-based weight norm."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer: nn.Module = torch.nn.utils.weight_norm(nn.Conv1d(WIDTH, WIDTH, 3, padding=1))
        return layer


def around(
    name: str,
    layer: Callable[[], nn.Module],
    use: Callable[[nn.Module, Tensor], Tensor],
    kind: object,
) -> Example:
    """An example of one layer kind."""
    return Example(name, lambda: Around(layer(), use), kind=kind)


W = WIDTH
CONV, TRANSPOSED = nn.modules.conv._ConvNd, nn.modules.conv._ConvTransposeNd
LAYERS = (
    around("linear", lambda: nn.Linear(W, 2 * W), plain, nn.Linear),
    around("bilinear", lambda: nn.Bilinear(W, W, 5), twice, nn.Bilinear),
    around("conv1d", lambda: nn.Conv1d(W, 2 * W, 3, padding=1), channels(1), CONV),
    around("conv1d-grouped", lambda: nn.Conv1d(W, W, 3, groups=3), channels(1), CONV),
    around("conv1d-depthwise", lambda: nn.Conv1d(W, W, 3, groups=W), channels(1), CONV),
    around("conv2d", lambda: nn.Conv2d(W, 7, 3, padding=1), channels(2), CONV),
    around("conv3d", lambda: nn.Conv3d(W, 4, 3, padding=1), channels(3), CONV),
    around("transposed1d", lambda: nn.ConvTranspose1d(W, 8, 3), channels(1), TRANSPOSED),
    around("transposed2d", lambda: nn.ConvTranspose2d(W, 6, 2, groups=2), channels(2), TRANSPOSED),
    around("transposed3d", lambda: nn.ConvTranspose3d(W, 3, 2), channels(3), TRANSPOSED),
    around("lstm", lambda: nn.LSTM(W, 8, batch_first=True), first, nn.RNNBase),
    around(
        "lstm-deep",
        lambda: nn.LSTM(W, 8, 3, batch_first=True, bidirectional=True, proj_size=5),
        first,
        nn.RNNBase,
    ),
    around("lstm-packed", lambda: nn.LSTM(W, 8, 2, batch_first=True), packed, nn.RNNBase),
    around("gru", lambda: nn.GRU(W, W, 2, batch_first=True, bias=False), first, nn.RNNBase),
    around("rnn", lambda: nn.RNN(W, W, 2, batch_first=True, bidirectional=True), first, nn.RNNBase),
    around("lstm-cell", lambda: nn.LSTMCell(W, W), cell, nn.RNNCellBase),
    around("gru-cell", lambda: nn.GRUCell(W, W), cell, nn.RNNCellBase),
    around("rnn-cell", lambda: nn.RNNCell(W, W), cell, nn.RNNCellBase),
    around(
        "attention",
        lambda: nn.MultiheadAttention(W, 3, batch_first=True),
        attend,
        nn.MultiheadAttention,
    ),
    around(
        "attention-split",
        lambda: nn.MultiheadAttention(W, 3, kdim=8, vdim=6, batch_first=True),
        split,
        nn.MultiheadAttention,
    ),
    around("hf-conv1d", hf_conv1d, plain, "transformers.pytorch_utils.Conv1D"),
    around(
        "weight-norm",
        lambda: weight_norm(nn.Linear(W, W)),
        plain,
        torch.nn.utils.parametrize.ParametrizationList,
    ),
    around("old-weight-norm", old_weight_norm, channels(1), CONV),
    Example("experts", lambda: Around(Experts(), plain), include=("layer.experts",)),
    Example(
        "own-kind",
        lambda: Around(Gated(), plain),
        rules={**RULES, Gated: LayerRule(("gate",), channel=1)},
    ),
)


class Recurrent(nn.Module):
    """A language model of stacked recurrent layers."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.rnn = kind(WIDTH, WIDTH, num_layers=2, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.rnn(self.embed(ids))[0])
        return found


class Convolutional(nn.Module):
    """A classifier of residual convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH), nn.ReLU())
            for _ in range(3)
        )
        self.classify = nn.Linear(WIDTH, 4)

    def forward(self, ids: Tensor) -> Tensor:
        signal = self.embed(ids).transpose(1, 2)
        for block in self.blocks:
            signal = signal + block(signal)
        found: Tensor = self.classify(signal.mean(-1))
        return found


class Encoder(nn.Module):
    """torch's own Transformer encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.encoder(self.embed(ids)) @ self.embed.weight.t()
        return found


def bert() -> nn.Module:
    """A tiny BERT with its masked-language-model head."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def gpt2() -> nn.Module:
    """A tiny GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=3,
            n_head=3,
            n_positions=16,
            bos_token_id=1,
            eos_token_id=None,
            pad_token_id=0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
        )
    )


def t5() -> nn.Module:
    """A tiny T5."""
    from transformers import T5Config, T5ForConditionalGeneration

    settings: dict[str, Any] = {"decoder_start_token_id": 0, "eos_token_id": None}
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=4,
            d_ff=2 * WIDTH,
            num_layers=2,
            num_heads=3,
            dropout_rate=0.0,
            **settings,
        )
    )


MODELS = (
    Example("bert", bert, {"input_ids": IDS}),
    Example("gpt2", gpt2, {"input_ids": IDS}),
    Example("t5", t5, {"input_ids": IDS, "labels": IDS}),
    Example("lstm-model", lambda: Recurrent(nn.LSTM)),
    Example("gru-model", lambda: Recurrent(nn.GRU)),
    Example("cnn-model", Convolutional),
    Example("transformer-encoder", Encoder),
)

EXAMPLES = LAYERS + MODELS

CONFIGS = {
    "veps": ShareConfig(),
    "untied": ShareConfig(tie="none", column_bias=True, order="column"),
    "factor": ShareConfig(factor=5),
    "relaxed": ShareConfig(gain="channel", residual_rank=2),
    "anchor": ShareConfig(anchor=2.0),
    "eps": ShareConfig(method="eps", tie="all"),
    "own": ShareConfig(method="own"),
    "own-relaxed": ShareConfig(method="own", gain="channel", residual_rank=1),
}
