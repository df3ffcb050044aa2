"""`specimens`: every architecture that fairseq registers for translation and language modelling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.adapters.fairseq.kinds import FAIRSEQ_RULES
from embshare.adapters.fairseq.sources import plan_fairseq
from embshare.adapters.fairseq.tiny import SYMBOLS, build_arch, dictionary, settings
from embshare.adapters.packages import need
from embshare.adapters.specimen import Specimen
from embshare.config import ShareConfig

__all__ = ["architectures", "specimens"]

_OTHER: Final = ("speech", "wav2vec", "hubert", "xm_transformer", "dlm", "tts", "tacotron", "ulm")
"""Parts of the modules and names of models that read or write sound."""
_PAD: Final = 1
_END: Final = 2
_UNKNOWN: Final = 3


def architectures() -> dict[str, str]:
    """Architecture -> model type, of all that translate text or model it from left to right.

    Raises:
        MissingPackageError: fairseq is not installed.
    """
    need("fairseq", extra="fairseq")
    models = import_module("fairseq.models")
    kinds = (
        models.FairseqEncoderDecoderModel,
        models.FairseqLanguageModel,
        models.FairseqMultiModel,
    )
    return {
        arch: name
        for arch, name in models.ARCH_MODEL_NAME_REGISTRY.items()
        if issubclass(models.MODEL_REGISTRY[name], kinds)
        and not any(part in f"{models.MODEL_REGISTRY[name].__module__}.{name}" for part in _OTHER)
    }


def specimens() -> Iterator[Specimen]:
    """Each architecture tiny, with the sources that its layers should read and fairseq's kinds."""
    for arch, model in architectures().items():
        yield _specimen(arch, model)


def _specimen(arch: str, model: str) -> Specimen:
    def build() -> nn.Module:
        return build_arch(arch, settings(model), dictionary())

    source: str | Mapping[str, str] = "auto"
    skip: str | None = None
    try:
        made = build()
        loss_of(made).backward()
        source = plan_fairseq(made, ShareConfig(), FAIRSEQ_RULES).config.source
    except Exception as error:  # whatever the library's own code says
        skip = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Specimen(
        library="fairseq",
        name=arch,
        build=build,
        loss=loss_of,
        source=source,
        rules=FAIRSEQ_RULES,
        skip=skip,
    )


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two sentences, one padded: source, lengths, target moved to the right, target."""
    numbers = torch.Generator().manual_seed(0)
    source = torch.randint(4, SYMBOLS, (2, 7), generator=numbers)
    target = torch.randint(4, SYMBOLS, (2, 6), generator=numbers)
    source[1, :2] = _PAD  # fairseq pads sources on the left
    target[1, 4:] = _PAD
    before = torch.cat([torch.full((2, 1), _END), target[:, :-1]], dim=1)
    return source, torch.tensor([7, 5]), before, target


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
        outputs = model(source, lengths, *_noisy(target))
        return torch.stack([_part(part) for part in outputs.values()]).sum()

    return step


def _noisy(target: Tensor) -> tuple[Tensor, Tensor]:
    """What a refining model begins with, one word unknown, and what it should reach."""
    edge = torch.zeros(len(target), 1, dtype=target.dtype)
    wanted = torch.cat([edge, target, edge + _PAD], dim=1)  # begin, words, end
    wanted[torch.arange(len(wanted)), wanted.eq(_PAD).int().argmax(dim=1)] = _END
    given = wanted.clone()
    given[:, 2] = _UNKNOWN
    return given, wanted


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
        return F.nll_loss(scores.flatten(0, 1), target.flatten(), ignore_index=_PAD)
    logits, targets = adaptive(output[0], target)
    pairs = zip(logits, targets, strict=True)
    losses = [F.cross_entropy(x, y, ignore_index=_PAD) for x, y in pairs if x is not None]
    return torch.stack(losses).sum()
