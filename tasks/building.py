"""Build models by name: the matched family, the published systems, models of transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

import torch
from torch import nn

from embshare.errors import EmbshareError, MissingPackageError
from embshare.models.matched import Architecture

__all__ = ["SYSTEMS", "ModelNotForTaskError", "build_model", "has_weights", "is_matched"]

Place: TypeAlias = tuple[str, str, tuple[str, ...]]
SYSTEMS: Final[Mapping[str, Place]] = MappingProxyType(
    {
        "bert-base": ("transformers", "BertConfig", ()),  # its defaults are those of the paper
        "sharebert-small": ("embshare.models.sharebert.presets", "small", ()),
        "sharebert-base": ("embshare.models.sharebert.presets", "base", ()),
        "sharebert-large": ("embshare.models.sharebert.presets", "large", ()),
        "elc-bert-small": ("embshare.models.elc_bert.presets", "small", ("base",)),
        "elc-bert-base": ("embshare.models.elc_bert.presets", "base", ("base",)),
        "ltg-bert-small": ("embshare.models.elc_bert.presets", "small", ("ltg",)),
        "ltg-bert-base": ("embshare.models.elc_bert.presets", "base", ("ltg",)),
        "convbert-small": ("embshare.models.convbert", "ConvBertConfig.preset", ("small",)),
        "convbert-medium-small": (
            "embshare.models.convbert",
            "ConvBertConfig.preset",
            ("medium-small",),
        ),
        "convbert-base": ("embshare.models.convbert", "ConvBertConfig.preset", ("base",)),
    }
)
"""NAME of ``embshare:NAME`` -> module, function and arguments that return its configuration."""

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sharebert": "embshare.models.sharebert",
        "elc_bert": "embshare.models.elc_bert",
        "embshare-convbert": "embshare.models.convbert",
    }
)
"""Model type of a ``config.json`` -> package whose import registers it with transformers."""


class ModelNotForTaskError(EmbshareError, ValueError):
    """A model cannot be used for a task."""

    def __init__(self, *, model: str, finding: str, hint: str) -> None:
        super().__init__(f"`{model}` cannot be used for this task: {finding}. {hint}")
        self.model, self.finding, self.hint = model, finding, hint


def is_matched(model: str) -> bool:
    """Whether a name is an architecture of the matched family."""
    return model in get_args(Architecture)


def build_model(
    model: str,
    *,
    seed: int,
    matched: Callable[[Architecture], nn.Module],
    auto: str | None,
    vocab_size: int,
    changes: Mapping[str, object] = MappingProxyType({}),
    special_tokens: Mapping[str, int] = MappingProxyType({}),
) -> nn.Module:
    """Build a model, with random weights or with those of its folder.

    Args:
        model: ``lstm``, ``conv`` or ``attention``; ``embshare:NAME`` with a name of `SYSTEMS`;
            ``package.module:factory``, a function of the vocabulary's size that returns a model of
            the same forward as the matched ones; else a folder or a name that transformers knows. A
            folder without weights is an architecture.
        seed: seed of the initialization; torch's random state is left as it was.
        matched: builds a model of the matched family.
        auto: Auto class of transformers for this task, ``AutoModelForCausalLM``; ``None`` where
            the task takes the matched family alone.
        vocab_size: vocabulary size of the task. A new model gets as many rows; a trained one needs
            at least as many.
        changes: further fields of a new or loaded configuration (``num_labels``).
        special_tokens: special tokens of the task, for a new configuration (``bos_token_id``).
    Raises:
        ModelNotForTaskError: there is no such model, the task cannot use models of its kind, or
            its table has fewer rows than the task has tokens.
        MissingPackageError: transformers is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for architecture in get_args(Architecture):
            if model == architecture:
                return matched(architecture)
        if _is_factory(model):
            return _of_factory(model, vocab_size)
        if auto is None:
            raise ModelNotForTaskError(
                model=model,
                finding="it takes models of the matched family",
                hint=f"Name one of {', '.join(get_args(Architecture))}.",
            )
        new = {"vocab_size": vocab_size, **special_tokens, **changes}
        made: nn.Module = _of_transformers(model, auto, new, dict(changes))
        return made


def _is_factory(model: str) -> bool:
    module, colon, function = model.partition(":")
    names = (*module.split("."), function)
    return bool(colon) and module != "embshare" and all(name.isidentifier() for name in names)


def _of_factory(model: str, vocab_size: int) -> nn.Module:
    module, _, function = model.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # a console script does not look where people keep their models
    try:
        made = getattr(import_module(module), function)(vocab_size)
    except (ImportError, AttributeError, TypeError) as error:
        raise ModelNotForTaskError(
            model=model,
            finding=f"its factory cannot be called ({_first_line(error)})",
            hint="Name a function of the vocabulary's size, in a module that can be imported "
            "from here.",
        ) from error
    if not isinstance(made, nn.Module):
        raise ModelNotForTaskError(
            model=model,
            finding=f"its factory made a {type(made).__name__}",
            hint="Return an nn.Module.",
        )
    return made


def _of_transformers(model: str, auto: str, new: dict[str, Any], changes: dict[str, object]) -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="transformers", extra="hf") from error
    kind = getattr(transformers, auto)
    try:
        if model.startswith("embshare:"):
            config = _system(model)
            config.update(new)
            return kind.from_config(config)
        folder = Path(model)
        _introduce(folder)
        if folder.is_dir() and not has_weights(folder):
            config = transformers.AutoConfig.from_pretrained(model)
            config.update(new)
            return kind.from_config(config)
        return _with_enough_rows(model, kind.from_pretrained(model, **changes), new["vocab_size"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, EmbshareError):
            raise
        raise ModelNotForTaskError(
            model=model,
            finding=f"transformers cannot build it ({_first_line(error)})",
            hint=f"Name a folder or a hub model that `{auto}` reads, embshare:NAME, or lstm, "
            "conv or attention.",
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")


def _introduce(folder: Path) -> None:
    """Register the family of a folder's model with transformers, if it is one of this library."""
    with suppress(OSError, ValueError, AttributeError):
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if (package := FAMILIES.get(fields.get("model_type"))) is not None:
            import_module(package)


def _system(model: str) -> Any:
    name = model.removeprefix("embshare:")
    if name not in SYSTEMS:
        raise ModelNotForTaskError(
            model=model,
            finding="there is no such model",
            hint=f"Name one of {', '.join(f'embshare:{known}' for known in SYSTEMS)}.",
        )
    module, function, arguments = SYSTEMS[name]
    return attrgetter(function)(import_module(module))(*arguments)


def has_weights(folder: Path) -> bool:
    """Whether a folder of transformers holds weights, not only a configuration."""
    patterns = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
    return any(any(folder.glob(pattern)) for pattern in patterns)


def _with_enough_rows(name: str, model: Any, vocab_size: int) -> Any:
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocab_size:
        raise ModelNotForTaskError(
            model=name,
            finding=f"its table has {rows:,} rows, and the task has {vocab_size:,} tokens",
            hint="Use the tokenizer that it was trained with (`tokenizer`).",
        )
    return model
