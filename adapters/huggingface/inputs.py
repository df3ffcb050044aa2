"""A small batch for any model of transformers, from the names that its ``forward`` asks for."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.adapters.small import LENGTH, ROWS, waves

__all__ = ["batches"]


def batches(model: nn.Module) -> Iterator[Mapping[str, Any]]:
    """Batches to try on a model, the simplest first: text, then images, then sound.

    A model says with an error what it cannot do without, so what it takes is found by trying.
    """
    asked = inspect.signature(model.forward).parameters
    text: dict[str, Any] = {name: make(model) for name, make in TEXT.items() if name in asked}
    if not {"input_ids", "decoder_input_ids"} & text.keys():  # a mask of tokens masks no sound
        text.pop("attention_mask", None)
    if "use_cache" in asked:  # not every cache can be as short as these models are
        text["use_cache"] = False
    needed: dict[str, Any] = {
        name: make(model)
        for name, make in OTHERS.items()
        if name in asked and asked[name].default is inspect.Parameter.empty
    }
    yield text | needed
    seen: list[set[str]] = []
    for group in GROUPS:
        more = {name: OTHERS[name](model) for name in group if name in asked}
        if not more or set(more) in seen:
            continue
        seen.append(set(more))
        yield text | needed | more
        yield needed | more
        if "decoder_input_ids" in text:  # masks are as long as what they mask
            yield {"decoder_input_ids": text["decoder_input_ids"]} | needed | more
        if "input_ids" in text and (marks := _placeholders(model)) is not None:
            yield text | needed | more | {"input_ids": marks}
        if "input_features" in more:
            turned = {"input_features": more["input_features"].transpose(1, 2).contiguous()}
            yield text | needed | more | turned
            if "decoder_input_ids" in text:
                yield {"decoder_input_ids": text["decoder_input_ids"]} | needed | more | turned
        if "pixel_values" in more:  # a row may have several
            several = {"pixel_values": more["pixel_values"].unsqueeze(1)}
            if "image_attention_mask" in asked:
                several["image_attention_mask"] = torch.ones(ROWS, LENGTH, 1, dtype=torch.long)
            yield text | needed | more | several


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


def _tokens(model: nn.Module) -> Tensor:
    """Token ids of the upper half of the vocabulary: the special ones are in the lower."""
    getter = getattr(model, "get_input_embeddings", None)
    table = None
    with contextlib.suppress(NotImplementedError, AttributeError):
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
    return torch.ones(*_tokens(model).shape, 4, dtype=torch.long)


def _image(model: nn.Module) -> Tensor:
    if "spatial_shapes" in inspect.signature(model.forward).parameters:  # patches in a row
        return waves(ROWS, 4, 16 * 16 * 3)
    config = _part(model, "vision_config", "encoder", "backbone_config")
    size = _setting(config, "image_size", default=64)
    high, wide = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    channels = _setting(config, "num_channels", "in_channels", "in_chans", default=3)
    return waves(ROWS, channels if isinstance(channels, int) else 3, int(high), int(wide))


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
        return waves(ROWS, int(bins), 2 * int(limit))
    return waves(ROWS, 64, int(bins))


def _mask(model: nn.Module) -> Tensor:
    return torch.ones_like(_tokens(model))


def _placeholders(model: nn.Module) -> Tensor | None:
    """Placeholder tokens for the parts of an image."""
    token = _setting(model.config, "image_token_id", "video_token_id", default=None)
    return None if token is None else torch.full((ROWS, LENGTH), int(token))


def _targets(model: nn.Module) -> Tensor:
    part = _part(model, "decoder", "decoder_config")
    books = _setting(part, "num_codebooks", "num_channels", default=None)
    if part is model.config or isinstance(part, nn.Module):
        books = None
    if books is None:
        return _tokens(model)
    return torch.ones(ROWS * int(books), LENGTH, dtype=torch.long)  # a row for each codebook


def _visual(model: nn.Module) -> Tensor:
    return waves(ROWS, 4, int(_setting(model.config, "visual_feat_dim", default=64)))


def _flat_patches(model: nn.Module) -> Tensor:
    """A patch's row and column, and its pixels."""
    patches = waves(ROWS, 4, 16 * 16 * 3 + 2)
    patches[..., :2] = 1
    return patches


TEXT: Final[Mapping[str, Callable[[nn.Module], Tensor]]] = {
    "input_ids": _tokens,
    "attention_mask": _mask,
    "decoder_input_ids": _targets,
    "bbox": _boxes,
}
"""Always given."""

OTHERS: Final[Mapping[str, Callable[[nn.Module], Tensor]]] = {
    "pixel_values": _image,
    "input_features": _spectrum,
    "input_values": lambda model: waves(ROWS, 4000),
    "qformer_input_ids": _tokens,
    "visual_feats": _visual,
    "visual_pos": lambda model: waves(ROWS, 4, 4),
    "flattened_patches": _flat_patches,
    "pixel_attention_mask": lambda model: torch.ones(ROWS, 4, dtype=torch.long),
    "spatial_shapes": lambda model: torch.full((ROWS, 2), 2),
    "pixel_values_videos": lambda model: _image(model).unsqueeze(1),
    "image_embeds_position_mask": lambda model: torch.ones(ROWS, LENGTH, dtype=torch.bool),
    "decoder_input_values": lambda model: waves(ROWS, LENGTH, int(_part(model).num_mel_bins)),
}
"""Given where nothing less will do."""

GROUPS: Final = (
    ("pixel_values", "pixel_attention_mask", "spatial_shapes"),
    ("pixel_values_videos",),
    ("input_features",),
    ("input_values",),
    ("visual_feats", "visual_pos"),
    ("flattened_patches",),
    ("pixel_values", "image_embeds_position_mask"),
    ("decoder_input_values",),
    ("pixel_values", "qformer_input_ids"),
)
"""Inputs that are given together."""
