"""Build models by name: the matched family, the published systems, models of transformers.

Names are checked without torch, which takes seconds to import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from embshare.errors import EmbshareError, MissingPackageError

if TYPE_CHECKING:
    from torch import nn

    from embshare.models.matched import Architecture

__all__ = [
    "MATCHED",
    "SYSTEMS",
    "ModelNotForTaskError",
    "build_model",
    "check_name",
    "has_weights",
    "is_factory",
    "is_matched",
    "not_of_transformers",
]

MATCHED: Final = ("lstm", "conv", "attention")
"""Names of the matched family, which are its ``ARCHITECTURES``."""

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
    return model in MATCHED


def check_name(model: str, *, matched_only: bool = False) -> None:
    """Check a model's name as far as it can be without building the model.

    Args:
        model: name as for `build_model`. A name of the hub is not looked up.
        matched_only: whether the task takes the matched family and factories alone.
    Raises:
        ModelNotForTaskError: there is no such system, folder or module.
    """
    if is_matched(model):
        return
    if is_factory(model):
        _check_module(model)
    elif matched_only:
        raise _not_matched(model)
    elif model.startswith("embshare:"):
        if (name := model.removeprefix("embshare:")) not in SYSTEMS:
            raise _no_system(model, name)
    elif _is_path(model) and not Path(model).is_dir():
        raise ModelNotForTaskError(
            model=model,
            finding="there is no such folder",
            hint=f"Name a folder or a hub model, embshare:NAME, or {_matched_names()}.",
        )
    elif not Path(model).is_dir() and (near := get_close_matches(model, MATCHED, n=1)):
        raise ModelNotForTaskError(  # the hub, which has no such names, would be asked for long
            model=model,
            finding="there is no such folder or model of the matched family",
            hint=f"Did you mean {near[0]}?",
        )


def _is_path(model: str) -> bool:
    """Whether a name cannot be one of the hub, which are ``NAME`` or ``OWNER/NAME``."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model


def _matched_names() -> str:
    return f"{', '.join(MATCHED[:-1])} or {MATCHED[-1]}"


def _not_matched(model: str) -> ModelNotForTaskError:
    return ModelNotForTaskError(
        model=model,
        finding="it takes models of the matched family",
        hint=f"Name one of {', '.join(MATCHED)}, or a package.module:factory of your own.",
    )


def _no_system(model: str, name: str) -> ModelNotForTaskError:
    near = get_close_matches(name, SYSTEMS, n=3) or SYSTEMS
    return ModelNotForTaskError(
        model=model,
        finding="there is no such model",
        hint=f"Name one of {', '.join(f'embshare:{known}' for known in near)}.",
    )


def _check_module(model: str) -> None:
    module = model.partition(":")[0]
    _see_modules_here()
    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ModelNotForTaskError(
            model=model,
            finding=f"there is no module `{module}` here or among the installed ones",
            hint="Name a function of the vocabulary's size as package.module:factory.",
        )


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
        model: one of `MATCHED`; ``embshare:NAME`` with a name of `SYSTEMS`;
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
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_matched(model):
            return matched(cast("Architecture", model))
        if is_factory(model):
            return _of_factory(model, vocab_size)
        if auto is None:
            raise _not_matched(model)
        new = {"vocab_size": vocab_size, **special_tokens, **changes}
        made: nn.Module = _of_transformers(model, auto, new, dict(changes))
        return made


def is_factory(model: str) -> bool:
    """Whether a name is ``package.module:factory``."""
    module, colon, function = model.partition(":")
    names = (*module.split("."), function)
    return bool(colon) and module != "embshare" and all(name.isidentifier() for name in names)


def _see_modules_here() -> None:
    """Find modules in the current folder: a console script does not look where people keep their
    models."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def _of_factory(model: str, vocab_size: int) -> nn.Module:
    from torch import nn

    module, _, function = model.partition(":")
    _see_modules_here()
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
        raise not_of_transformers(model, error, auto) from error


def not_of_transformers(
    model: str, error: BaseException, auto: str = "AutoConfig"
) -> ModelNotForTaskError:
    """Return the error for a model that transformers cannot build.

    Args:
        model: its name.
        error: what transformers raised.
        auto: Auto class that was to read it.
    """
    return ModelNotForTaskError(
        model=model,
        finding=f"transformers cannot build it ({_first_line(error)})",
        hint=f"Name a folder or a hub model that `{auto}` reads, embshare:NAME, or "
        f"{_matched_names()}.",
    )


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
        raise _no_system(model, name)
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
