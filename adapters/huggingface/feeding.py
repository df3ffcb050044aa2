"""A small batch for any model of transformers, from the names that its ``forward`` asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

__all__ = ["feeds", "score"]

ROWS: Final = 2
LENGTH: Final = 8
"""Symbols of a row."""
LIMIT: Final = 1e4
"""Scores beyond it are those of masks."""

Feed = Mapping[str, Any]


def feeds(model: nn.Module) -> Iterator[Feed]:
    """Batches to try on a model, the simplest first: text, then pictures, then sound.

    A model says with an error what it cannot do without, so what it takes is found by trying.
    """
    asked = inspect.signature(model.forward).parameters
    text: dict[str, Any] = {name: make(model) for name, make in TEXT.items() if name in asked}
    if "use_cache" in asked:  # not every cache can be as short as these models are
        text["use_cache"] = False
    needed = {
        name: make(model)
        for name, make in OTHERS.items()
        if name in asked and asked[name].default is inspect.Parameter.empty
    }
    yield text | needed
    for group in (("pixel_values",), ("input_features",), ("input_values",), tuple(OTHERS)):
        for own in (text, {}):
            more = {name: OTHERS[name](model) for name in group if name in asked}
            if more:
                yield own | needed | more


def score(outputs: object) -> Tensor:
    """One number of everything that a model returned, which no normalisation holds constant."""
    found = list(_floats(outputs))
    if not found:
        raise ValueError("the model returns nothing that could be scored")
    total = torch.zeros(())
    for tensor in found:
        flat = tensor.float().flatten().clamp(-LIMIT, LIMIT)
        total = total + (flat * torch.arange(flat.numel()).mul(1.7).sin()).mean()
    return total


def _floats(outputs: object) -> Iterator[Tensor]:
    """Floating tensors in order; caches of a generation are no mapping and are passed over."""
    match outputs:
        case Tensor() if outputs.is_floating_point() and outputs.numel():
            yield outputs
        case Mapping():
            for name, part in outputs.items():
                if "past" not in name and "cache" not in name:
                    yield from _floats(part)
        case list() | tuple():
            for part in outputs:
                yield from _floats(part)


def _part(model: nn.Module, *names: str) -> Any:
    """The configuration of a part of a model, or of the whole."""
    config: Any = model.config
    for name in names:
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    return config


def _setting(config: Any, *names: str, default: Any) -> Any:
    """The first of some settings that a configuration has."""
    for name in names:
        try:
            found = getattr(config, name, None)
        except Exception:  # each layer has its own
            continue
        if found is not None:
            return found
    return default


def _symbols(model: nn.Module) -> Tensor:
    """Symbols of the upper half of the vocabulary: the special ones are in the lower."""
    getter = getattr(model, "get_input_embeddings", None)
    table = getter() if getter is not None else None
    rows = getattr(table, "num_embeddings", None) or _setting(
        _part(model, "text_config"), "vocab_size", default=32
    )
    half = max(int(rows) // 2, 1)
    ids = half + torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) * 5 % max(int(rows) - half, 1)
    end = _setting(model.config, "eos_token_id", default=None)
    if isinstance(end, int) and 0 <= end < rows:
        ids[:, -1] = end
    if "MultipleChoice" in type(model).__name__:
        return ids.unsqueeze(1).expand(-1, 2, -1).contiguous()
    return ids


def _boxes(model: nn.Module) -> Tensor:
    return torch.ones(*_symbols(model).shape, 4, dtype=torch.long)


def _picture(model: nn.Module) -> Tensor:
    config = _part(model, "vision_config", "encoder", "backbone_config")
    size = _setting(config, "image_size", default=64)
    high, wide = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    channels = _setting(config, "num_channels", "in_channels", "in_chans", default=3)
    return _waves(ROWS, channels if isinstance(channels, int) else 3, int(high), int(wide))


def _waves(*shape: int) -> Tensor:
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float32)
    return numbers.mul(0.37).sin().view(shape)


def _spectrum(model: nn.Module) -> Tensor:
    config = _part(model, "audio_config", "encoder_config", "speech_encoder_config", "encoder")
    bins = _setting(
        config,
        *("num_mel_bins", "input_feat_per_channel", "feature_size", "n_mel_bins", "mel_bins"),
        *("feature_projection_input_dim", "input_dim"),
        default=80,
    )
    limit = _setting(config, "max_source_positions", default=None)
    if limit is not None and not hasattr(config, "input_feat_per_channel"):  # as Whisper has it
        return _waves(ROWS, int(bins), 2 * int(limit))
    return _waves(ROWS, 64, int(bins))


def _mask(model: nn.Module) -> Tensor:
    return torch.ones_like(_symbols(model))


TEXT: Final[Mapping[str, Callable[[nn.Module], Tensor]]] = {
    "input_ids": _symbols,
    "attention_mask": _mask,
    "decoder_input_ids": _symbols,
    "bbox": _boxes,
}
"""Always given."""

OTHERS: Final[Mapping[str, Callable[[nn.Module], Tensor]]] = {
    "pixel_values": _picture,
    "input_features": _spectrum,
    "input_values": lambda model: _waves(ROWS, 4000),
}
"""Given where nothing less will do."""
