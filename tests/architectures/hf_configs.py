"""A configuration of transformers made tiny, whatever family it is of.

Settings of a model are bound to each other: widths are numbers of heads times widths of a head,
parts of a rotary embedding add up to half of one, layers of one part read what those of another
return. So nothing is set to a small value of its own. All widths of a head are divided by one
number, all numbers of heads by another, and every other width by their product; products and sums
that held before hold then. What a setting is, is read from its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from typing import Any, Final

from tests.architectures.hf_settings import SETTINGS

__all__ = ["Scale", "make_config", "reads_tokens", "shrink"]

VOCABULARY: Final = 256
"""Tokens that are kept."""
SPECIAL: Final = 20
"""The first of the ids that special tokens beyond the vocabulary get."""
SMALL: Final = 16
"""An unknown setting below it is no width."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """By how much a configuration is made smaller."""

    head: int
    """Divides the width of a head."""
    heads: int
    """Divides the number of heads."""
    layers: int
    """That are kept of each stack."""

    def width(self, value: int) -> int:
        """Any other width."""
        small, rest = divmod(value, self.head * self.heads)
        # What is bound to nothing else is a multiple of four, as fused kernels want it.
        return max(1, small if not rest else -(-small // 4) * 4)


Rule = Callable[[Scale, int], int]


def _at_most(limit: int) -> Rule:
    return lambda _, value: min(value, limit)


def _kept(_: Scale, value: int) -> int:
    return value


def _head(scale: Scale, value: int) -> int:
    return max(1, value // scale.head) if value >= scale.head else value


# What a setting is, by its name; the first line that matches decides.
RULES: Final[tuple[tuple[re.Pattern[str], Rule], ...]] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (
            r"^n_(embd|inner)$|^upsample_groups$|^(coordinate|shape|patch_embeds_hidden)_size$|^class_embed_dim$",
            Scale.width,
        ),
        (r"vocab|^num_embeddings$|codebook_size|num_hash_buckets", _at_most(VOCABULARY)),
        (r"window", _at_most(SMALL)),
        (r"n_group$|topk_group$", _at_most(1)),
        (r"experts?_(per_tok|topk|top_k)|top_?k(_experts)?$|selected_experts|^moe_k$", _at_most(2)),
        (
            r"feature_layer|_indices$|_indexes$|deepstack|global_attn_ind|^summary_idxs$",
            lambda scale, value: min(value, scale.layers - 1),
        ),
        (r"experts$|zero_expert_num", _at_most(4)),
        (r"first_k_dense|offset$", _at_most(1)),
        (r"period|interval|every|_freq|sparse_step$", _at_most(2)),
        (r"(head_dim|dim_head|head_size|^d_kv|^d_head|mamba_d_head|kv_channels)$", _head),
        (r"^rotary_dim$|mrope_section|^qk_", _head),
        (r"heads|n_head$|groups$", lambda scale, value: max(1, value // scale.heads)),
        (
            r"layers?$|^n_layer|^depths?$|^num_blocks$|blocks_per_stage|stage_numb_of_layers",
            lambda scale, value: min(value, scale.layers),
        ),
        (
            r"position_embeddings|^n_positions|^n_ctx|max_seq_len|_positions$|max_text_length"
            r"|context_length|seq_length|^max_length$",
            _at_most(128),
        ),
        (
            r"query_num$|num_(queries|query_tokens|latents|detection_tokens)|n_latents$|num_image_tokens"
            r"|position_buckets",
            _at_most(8),
        ),
        (
            r"token|symbol|position|image_size|patch|kernel|window|strid|chunk|block|rate|bins|mel"
            r"|label|class|length|input_size|bucket|distance|max_|min_|num_|^n_|seed|theta|base|temperature"
            r"|frames|period|seconds|samples|resolution|radius|offset|level|index|steps|types|ratio"
            r"|grid|area|pool|id$|feat_size|feature_size|feat_per_channel|extent|capacity|fifo|cache"
            r"|hop|factor|scalar|multiple|res_types|shape|alpha|context|scale|dilation"
            r"|projection_input_dim|spec_size",
            _kept,
        ),
    )
)


def make_config(kind: Any, scale: Scale) -> Any:
    """A tiny configuration of a model class, with what the class needs and no default has."""
    made: type = kind.config_class
    own = SETTINGS.get(kind.__name__, {})
    whole = {name: value for name, value in own.items() if "." not in name}
    config = made(**{**shrink(made, scale), **whole})
    for name in own.keys() - whole.keys():
        part, _, leaf = name.rpartition(".")
        setattr(attrgetter(part)(config), leaf, own[name])
    for part in _parts(config):
        if _value(part, "pad_token_id") is None:  # heads that classify a row look for it
            part.pad_token_id = 0
        _fill(part)
    return config


def reads_tokens(kind: type) -> bool:
    """Whether a configuration or a part of it has a vocabulary; what may be any model may have."""
    if "vocab_size" in dict(_written(kind)):
        return True
    parts: Mapping[str, type] = getattr(kind, "sub_configs", None) or {}
    return any(
        "Auto" in part.__name__ or reads_tokens(part)
        for name, part in parts.items()
        if not re.search(r"backbone|image|vision|patch|fov", name)
    )


def _parts(config: object) -> Iterator[Any]:
    """A configuration and those in it."""
    yield config
    for name in getattr(type(config), "sub_configs", None) or {}:
        part = _value(config, name)
        if hasattr(part, "model_type"):
            yield from _parts(part)


def _fill(config: Any) -> None:
    """What some families leave to their published configurations, and cannot do without."""
    names = {name for name, _ in _written(type(config))}
    heads, width = _value(config, "num_attention_heads"), _value(config, "hidden_size")
    if not (isinstance(heads, int) and isinstance(width, int)):
        return
    for name, value in (("head_dim", width // heads), ("num_key_value_heads", heads)):
        if name in names and _value(config, name) is None:
            with contextlib.suppress(Exception):  # each layer has its own
                setattr(config, name, value)
    if "use_cache" in names:  # not every cache can be as short as these models are
        config.use_cache = False
    rope = _value(config, "rope_parameters")
    if "mrope_section" in getattr(
        config, "ignore_keys_at_rope_validation", ()
    ) and "rope_theta" in (rope or ()):
        part = rope.get("partial_rotary_factor") or 1
        half = int((_value(config, "head_dim") or width // heads) * part) // 2
        rope["mrope_section"] = [3 * half // 8, 3 * half // 8, half - 2 * (3 * half // 8)]


def shrink(kind: type, scale: Scale, *, default: object = None) -> dict[str, Any]:
    """Keyword arguments that make a tiny configuration of a class.

    Args:
        kind: a configuration's class.
        scale: by how much.
        default: what it is where nothing is said, if that is not ``kind()``: a part of a larger
            configuration may have other settings than one of its class by itself.
    Returns:
        Only what differs from the default; what is worked out from other settings is left out.
    """
    return _shrink(kind, kind() if default is None else default, scale, count(SPECIAL))


def _shrink(kind: type, default: object, scale: Scale, special: Iterator[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    parts = getattr(kind, "sub_configs", None) or {}
    layers = _value(default, "num_hidden_layers")
    for name, written in _written(kind):
        if name in parts:
            continue
        value = _value(default, name)
        if written is None or value is None:  # worked out from others, or not used
            continue
        if isinstance(value, (list, tuple)) and len(value) == layers:
            value = type(value)(value[: scale.layers])
        changed = _setting(name, value, scale, special)
        if changed != _value(default, name):
            found[name] = changed
    for name in parts:
        part = _value(default, name)
        if hasattr(part, "model_type"):
            found[name] = type(part)(**_shrink(type(part), part, scale, special))
    if "image_size" not in found:
        found |= _images(default, {name for name, _ in _written(kind)})
    return {**found, **SETTINGS.get(kind.__name__, {})}


def _written(kind: type) -> Iterator[tuple[str, Any]]:
    """Names of a configuration's own settings, and what stands in its code for them."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            yield field.name, None if default is dataclasses.MISSING else default
        return
    for name, parameter in inspect.signature(kind.__init__).parameters.items():  # type: ignore[misc]
        if parameter.default is not parameter.empty:
            yield name, parameter.default


def _value(config: object, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # a setting that each layer has for itself cannot be asked for as a whole
        return None


def _setting(name: str, value: Any, scale: Scale, special: Iterator[int]) -> Any:
    """One setting, smaller."""
    match value:
        case bool() | float() | str():
            return value
        case int():
            return _integer(name, value, scale, special)
        case list() | tuple():
            return type(value)(_setting(name, part, scale, special) for part in value)
        case Mapping() if all(isinstance(key, str) for key in value) and "label" not in name:
            return {key: _setting(key, part, scale, special) for key, part in value.items()}
    return value


def _integer(name: str, value: int, scale: Scale, special: Iterator[int]) -> int:
    if re.search(r"_ids?$|token_index$|_tokens$|_codes$", name) and "num" not in name:
        return value if value < VOCABULARY // 4 else next(special)
    for pattern, rule in RULES:
        if pattern.search(name):
            return rule(scale, value)
    return value if value < SMALL else scale.width(value)


def _images(default: object, names: set[str]) -> dict[str, Any]:
    """Images of four by four patches."""
    size, patch = _value(default, "image_size"), _value(default, "patch_size")
    if "image_size" not in names or not isinstance(size, int):
        return {}
    side = 4 * patch if isinstance(patch, int) else 64
    return {"image_size": min(size, side)}
