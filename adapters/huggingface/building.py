"""Models of transformers from a folder or a hub name, with or without their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from embshare.adapters.errors import ModelNotBuiltError
from embshare.adapters.packages import need

__all__ = ["build", "has_weights"]

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_FACTORY = "A function of yours that builds it can be named instead: `package.module:factory`."


def build(name: str, *, weights: bool = True) -> nn.Module:
    """The model that a ``config.json`` describes, of the class that it names.

    A repository's own code is never run.

    Args:
        name: a folder, or a model on the hub.
        weights: load them; without, the model starts at random (on meta under
            ``torch.device("meta")``, which takes neither time nor memory). A folder that has none
            gives a random model either way: see `has_weights`.
    Raises:
        MissingPackageError: transformers is not installed.
        ModelNotBuiltError: no such folder or model, a config that transformers does not know, or
            weights that cannot be read.
    """
    transformers = need("transformers", extra="hf")
    config = _read_config(transformers, name)
    kind = _class(transformers, config)
    if weights and (not Path(name).is_dir() or has_weights(name)):
        return _load(kind, name)
    try:
        made: nn.Module = kind(config) if hasattr(kind, "forward") else kind.from_config(config)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise ModelNotBuiltError(
            model=name, finding=f"its config.json makes no model ({error})", hint=_FACTORY
        ) from error
    return made


def has_weights(folder: str | Path) -> bool:
    """Whether a folder holds weights that `build` would load."""
    return any(next(Path(folder).glob(pattern), None) for pattern in _WEIGHTS)


def _read_config(transformers: Any, name: str) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        local = Path(name).is_dir()
        raise ModelNotBuiltError(
            model=name,
            finding=f"{'its config.json cannot be read' if local else 'not to be had'} "
            f"({_first_line(error)})",
            hint=_FACTORY if local else "A folder with a config.json can be named too.",
        ) from error


def _class(transformers: Any, config: Any) -> Any:
    """First class in the config's `architectures`, or the bare model."""
    named = (getattr(config, "architectures", None) or [""])[0]
    return getattr(transformers, named, None) or transformers.AutoModel


def _load(kind: Any, name: str) -> nn.Module:
    try:
        model: nn.Module = kind.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelNotBuiltError(
            model=name,
            finding=f"its weights cannot be read ({_first_line(error)})",
            hint="It can be built without them.",
        ) from error
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
