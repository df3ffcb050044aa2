"""Batches of single classes that ask for what no other does, each in one entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.adapters.huggingface.inputs import batches
from embshare.adapters.inputs import LENGTH, ROWS, waves

__all__ = ["feeds"]


def feeds(model: nn.Module) -> Iterator[Mapping[str, Any]]:
    """Batches to try on a model: its own, or those that the adapter makes for any."""
    name = type(model).__name__
    if (own := BATCHES.get(name)) is not None:
        yield own(model)
        return
    change = next((made for start, made in CHANGES.items() if name.startswith(start)), None)
    for batch in batches(model):
        yield batch if change is None else change(model, batch)


def _config(model: nn.Module) -> Any:
    return model.config


def _ids(*shape: int) -> Tensor:
    """Token ids above the special ones and below the end of any vocabulary that is kept."""
    return 30 + torch.arange(torch.Size(shape).numel()).view(shape) * 5 % 97


def _trajectory(model: nn.Module) -> dict[str, Tensor]:
    """What was seen and done, and what for."""
    config = _config(model)
    return {
        "states": waves(ROWS, LENGTH, config.state_dim),
        "actions": waves(ROWS, LENGTH, config.act_dim),
        "rewards": waves(ROWS, LENGTH, 1),
        "returns_to_go": waves(ROWS, LENGTH, 1),
        "timesteps": torch.arange(LENGTH).expand(ROWS, -1),
    }


def _channels(model: nn.Module) -> dict[str, Tensor]:
    """Text, and a column of codes for each channel of sound."""
    channels = _config(model).decoder_config.num_channels
    return {"input_ids": _ids(ROWS, LENGTH), "decoder_input_ids": _ids(ROWS, LENGTH, channels)}


def _decision(model: nn.Module) -> dict[str, Tensor]:
    """One prompt with two questions, of three options and of two."""
    return {
        "input_ids": _ids(1, LENGTH),
        "marks": torch.tensor([[4, 7]]),
        "num_options": torch.tensor([[3, 2]]),
        "question_type_ids": torch.tensor([[1, 0]]),
    }


def _tiles(model: nn.Module) -> dict[str, Tensor]:
    """One image of one tile in each row."""
    config = _config(model)
    side, tiles = config.image_size, config.max_num_tiles
    return {
        "pixel_values": waves(ROWS, 1, tiles, 3, side, side),
        "aspect_ratio_ids": torch.ones(ROWS, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(ROWS, 1, tiles, dtype=torch.long),
    }


def _codebooks(model: nn.Module) -> dict[str, Tensor]:
    """A row of codes for each codebook."""
    return {"input_ids": _ids(ROWS * _config(model).num_codebooks, LENGTH)}


def _film(model: nn.Module) -> dict[str, Tensor]:
    """One row: positions of images cannot be added to more."""
    config = _config(model)
    side = config.max_img_size
    return {
        "input_ids": _ids(1, LENGTH),
        "attention_mask": torch.ones(1, LENGTH, dtype=torch.long),
        "pixel_values": waves(1, config.num_frames, 3, side, side),
    }


def _robot(model: nn.Module) -> dict[str, Tensor]:
    """A image, an order, and what the arm is at."""
    config = _config(model)
    vision, tokens = config.vlm_config.vision_config, config.vlm_config.image_token_id
    patches = (vision.image_size // vision.patch_size) ** 2
    images = torch.full((ROWS, patches), tokens)
    given = {
        "input_ids": torch.cat([images, _ids(ROWS, LENGTH)], dim=1),
        "attention_mask": torch.ones(ROWS, patches + LENGTH, dtype=torch.long),
        "pixel_values": waves(ROWS, 1, 3, vision.image_size, vision.image_size),
        "pixel_attention_mask": torch.ones(ROWS, 1, dtype=torch.bool),
    }
    if type(model).__name__ == "PI0Model":
        return given | {"action_embeds": waves(ROWS, 5, config.dit_config.hidden_size)}
    return given | {
        "state": waves(ROWS, config.max_state_dim),
        "noise": waves(ROWS, config.chunk_size, config.max_action_dim),
        "timestep": torch.full((ROWS,), 0.5),
    }


def _loudness(model: nn.Module) -> dict[str, Tensor]:
    """Text, and a spectrum with a channel."""
    bins = _config(model).audio_config.num_mel_bins
    return {"input_ids": _ids(ROWS, LENGTH), "input_features": waves(ROWS, 1, 64, bins)}


def _stacked(model: nn.Module) -> dict[str, Tensor]:
    """Pairs of frames with their differences."""
    config = _config(model)
    config = getattr(config, "encoder_config", config)
    return {"input_features": waves(ROWS, 64, 4 * config.num_mel_bins)}


def _voice(model: nn.Module) -> dict[str, Tensor]:
    """Text, and a sound with a channel."""
    return {"input_ids": _ids(ROWS, LENGTH), "input_values": waves(ROWS, 1, 16_000)}


def _vectors(model: nn.Module) -> dict[str, Tensor]:
    """What nets before it would have made."""
    width = _config(model).hidden_size
    return {
        "input_values": waves(ROWS, LENGTH, width),
        "decoder_input_values": waves(ROWS, LENGTH, width),
    }


def _frames(model: nn.Module) -> dict[str, Tensor]:
    """As many images as a film has."""
    config = _config(model).vision_config
    side = config.image_size
    images = waves(ROWS, config.num_frames, 3, side, side)
    return {"input_ids": _ids(ROWS, LENGTH), "pixel_values": images}


def _sound(model: nn.Module) -> dict[str, Tensor]:
    """Long enough for the context of an x-vector."""
    return {"input_values": waves(ROWS, 16_000)}


def _both_sounds(model: nn.Module) -> dict[str, Tensor]:
    """A sound, and its spectrum, a frame for every 320 samples."""
    bins = _config(model).semantic_model_config.feature_projection_input_dim
    return {"input_values": waves(ROWS, 1, 3200), "input_features": waves(ROWS, 10, bins)}


def _classes(model: nn.Module) -> dict[str, Tensor]:
    """A image in each row, and two classes to look for.

    What texts became is kept by the model itself, also across a step, and is dropped here.
    """
    for kept in (model.language_cache_class, model.language_cache_prompt):
        made: Any = kept
        made.cache.clear()
        made.current_load = 0
    side = 64
    return {
        "pixel_values": waves(ROWS, 3, side, side),
        "classes_input_ids": _ids(2 * ROWS, LENGTH),
        "classes_attention_mask": torch.ones(2 * ROWS, LENGTH, dtype=torch.long),
        "tasks_input_ids": _ids(ROWS, LENGTH),
        "tasks_attention_mask": torch.ones(ROWS, LENGTH, dtype=torch.long),
        "classes_structure": torch.full((ROWS,), 2),
    }


BATCHES: Final[Mapping[str, Callable[[nn.Module], Mapping[str, Any]]]] = MappingProxyType(
    {
        "ClapModel": _loudness,
        "DecisionTransformerModel": _trajectory,
        "DiaForConditionalGeneration": _channels,
        "DiaModel": _channels,
        "GraniteSpeech5Encoder": _stacked,
        "GraniteSpeech5ForCTC": _stacked,
        "JevForDecision": _decision,
        "MllamaVisionModel": _tiles,
        "MusicgenForCausalLM": _codebooks,
        "MusicgenMelodyForCausalLM": _codebooks,
        "MusicgenMelodyModel": _codebooks,
        "MusicgenModel": _codebooks,
        "NeuCodecModel": _both_sounds,
        "OmDetTurboForObjectDetection": _classes,
        "PI0ForConditionalGeneration": _robot,
        "PI0Model": _robot,
        "PeAudioModel": _voice,
        "PeAudioVideoModel": _voice,
        "SpeechT5Model": _vectors,
        "TvpForVideoGrounding": _film,
        "TvpModel": _film,
        "WavLMForXVector": _sound,
        "XCLIPModel": _frames,
        "Xcodec2Model": _both_sounds,
    }
)
"""Class of a model -> what its ``forward`` is given."""


def _questions(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The question ends at the first of three separators."""
    ids = batch["input_ids"].clone()
    ids[..., (2, 4, -1)] = _config(model).sep_token_id
    return {**batch, "input_ids": ids}


def _marked(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """A token stands for the question."""
    ids = batch["input_ids"].clone()
    ids[:, 2] = _config(model).question_token_id
    return {**batch, "input_ids": ids}


def _books(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """One column for each codebook besides the text."""
    ids = torch.ones(ROWS, LENGTH, _config(model).num_codebooks + 1, dtype=torch.long)
    return {**batch, "input_ids": ids}


CHANGES: Final[Mapping[str, Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]]]] = (
    MappingProxyType(
        {
            "Longformer": _questions,
            "SplinterForPreTraining": _marked,
            "KyutaiSpeechToText": _books,
        }
    )
)
"""Start of a class's name -> what it wants changed in the batch that suits any."""
