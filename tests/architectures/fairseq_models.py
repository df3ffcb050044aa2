"""Every text architecture that fairseq registers, made tiny.

What is not set here stays as the architecture has it: where norms stand, what is tied, which kind
of convolution or softmax it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.adapters.fairseq.building import architectures as registered
from embshare.adapters.fairseq.building import build_arch, dictionary
from embshare.adapters.fairseq.inputs import PAD, TOKENS, batch, noisy
from embshare.adapters.fairseq.kinds import FAIRSEQ_RULES
from embshare.adapters.fairseq.sources import plan_fairseq
from embshare.config import ShareConfig
from tests.architectures.architecture import Architecture

__all__ = ["architectures", "loss_of", "settings", "tiny"]

_LENGTH: Final = 64
_QUIET: Final = dict.fromkeys(
    "dropout attention_dropout activation_dropout relu_dropout input_dropout weight_dropout "
    "encoder_dropout_in encoder_dropout_out decoder_dropout_in decoder_dropout_out "
    "adaptive_softmax_dropout resid_dropout embed_dropout pooler_dropout "
    "encoder_layerdrop decoder_layerdrop".split(),
    0.0,
)
_LIMITS: Final = {
    "max_source_positions": _LENGTH,
    "max_target_positions": _LENGTH,
    "tokens_per_sample": _LENGTH,
    "max_positions": _LENGTH,
    "criterion": "cross_entropy",
    "label_smoothing": 0.1,
    "tpu": False,
    "no_seed_provided": False,
}
_ATTENTION: Final = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "embed_dim": 32,
        "ffn_embed_dim": 64,
        "layers": 2,
        "attention_heads": 4,
        "input_dim": 32,
        "output_dim": 32,
        "conv_dim": 32,
        "kernel_size_list": [3, 5],
    }.items()
}
_LSTM: Final = {
    "encoder_embed_dim": 32,
    "encoder_hidden_size": 32,
    "encoder_layers": 2,
    "decoder_embed_dim": 32,
    "decoder_hidden_size": 32,
    "decoder_layers": 2,
    "decoder_out_embed_dim": 32,
}
_CONV: Final = {
    "encoder_embed_dim": 32,
    "encoder_layers": "[(32, 3)] * 2",
    "decoder_embed_dim": 32,
    "decoder_layers": "[(32, 3)] * 2",
    "decoder_out_embed_dim": 32,
}
_GPT2: Final = {"embed_dim": 32, "num_attention_heads": 4, "num_layers": 2}
_FAMILIES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "lstm": _LSTM,
        "lstm_lm": _LSTM,
        "fconv": _CONV,
        "fconv_lm": _CONV,
        "fconv_self_att": {**_CONV, "decoder_attention": "True", "self_attention": "True"},
        "hf_gpt2": _GPT2,
        "dummy_model": {"embed_dim": 32, "num_layers": 2},
    }
)


def settings(model: str) -> dict[str, Any]:
    """Tiny settings of a model type; transformers and their kin where it is not in the table."""
    return {**_QUIET, **_LIMITS, **_FAMILIES.get(model, _ATTENTION)}


def tiny(arch: str, own: Mapping[str, Any]) -> nn.Module:
    """A dense model of an architecture with these settings and a tiny vocabulary."""
    return build_arch(arch, own, dictionary(TOKENS))


def architectures() -> Iterator[Architecture]:
    """Each with the sources that its layers should read and fairseq's layer kinds.

    Raises:
        MissingPackageError: fairseq is not installed.
    """
    for arch, model in registered().items():
        yield _architecture(arch, model)


def _architecture(arch: str, model: str) -> Architecture:
    def build() -> nn.Module:
        return tiny(arch, settings(model))

    source: str | Mapping[str, str] = "auto"
    skip: str | None = None
    try:
        made = build()
        loss_of(made).backward()
        source = plan_fairseq(made, ShareConfig(), FAIRSEQ_RULES).config.source
    except Exception as error:  # whatever the library's own code says
        skip = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Architecture(
        library="fairseq",
        name=arch,
        build=build,
        loss=loss_of,
        source=source,
        rules=FAIRSEQ_RULES,
        skip=skip,
    )


def loss_of(model: nn.Module) -> Tensor:
    """Cross entropy of a fixed small batch, whatever kind of model this is."""
    models = import_module("fairseq.models")
    source, lengths, before, target = batch()
    if isinstance(model, models.FairseqMultiModel):
        pairs: Any = model.models
        runs = [_scored(pair, pair(source, lengths, before), target) for pair in pairs.values()]
        return torch.stack(runs).sum()
    if isinstance(model, models.FairseqLanguageModel):
        return _scored(model, model(before), target)
    if (step := _refining(model)) is not None:
        return step(source, lengths, before, target)
    return _scored(model, model(source, lengths, before), target)


def _refining(model: nn.Module) -> Callable[..., Tensor] | None:
    """Non-autoregressive models return what their own criterion would score."""
    nat = import_module("fairseq.models.nat").FairseqNATModel
    if not isinstance(model, nat):
        return None

    def step(source: Tensor, lengths: Tensor, _: Tensor, target: Tensor) -> Tensor:
        torch.manual_seed(0)  # some draw what they mask
        outputs = model(source, lengths, *noisy(target))
        return torch.stack([_part(part) for part in outputs.values()]).sum()

    return step


def _part(part: Mapping[str, Any]) -> Tensor:
    if "loss" in part:
        loss: Tensor = part["loss"]
        return loss
    out, wanted, mask = part["out"], part["tgt"], part.get("mask")
    if mask is not None:
        out, wanted = out[mask], wanted[mask]
    scores = F.log_softmax(out, dim=-1)
    if wanted.dim() == scores.dim():
        return F.kl_div(scores, wanted.to(scores), reduction="batchmean")
    return F.nll_loss(scores, wanted)


def _scored(model: Any, output: Any, target: Tensor) -> Tensor:
    adaptive = getattr(model.decoder, "adaptive_softmax", None)
    if adaptive is None:
        scores = model.get_normalized_probs(output, log_probs=True, sample={"target": target})
        return F.nll_loss(scores.flatten(0, 1), target.flatten(), ignore_index=PAD)
    logits, targets = adaptive(output[0], target)
    pairs = zip(logits, targets, strict=True)
    losses = [F.cross_entropy(x, y, ignore_index=PAD) for x, y in pairs if x is not None]
    return torch.stack(losses).sum()
