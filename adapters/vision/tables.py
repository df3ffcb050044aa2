"""Tables for models without tokens: of their classes, of their patches, or a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError, NoSourceError
from embshare.sharing import share_from_embedding

__all__ = ["COLUMNS", "ROWS", "TABLE", "add_table", "share_vision", "table_of", "with_tables"]

M = TypeVar("M", bound=nn.Module)

TABLE: Final = "shared_table"
"""Name of a new table among the model's parameters."""
ROWS: Final = 4096
COLUMNS: Final = 128
STD: Final = 0.02
"""Standard deviation of a new table, as in vision transformers."""

_NEW: Final = re.compile(r"new(?::([1-9]\d{0,8})x([1-9]\d{0,6}))?")


def table_of(model: nn.Module, kind: str) -> str:
    """The name of the parameter that a model without a token table can be shared from.

    Args:
        model: model of torchvision or timm, or any other image classifier.
        kind: ``classifier``, the embeddings of its classes, ``[classes, width]``: the weight of
            timm's ``get_classifier()``, or else of the last Linear or convolution of one pixel.
            ``patch``, its patch embedding, ``[width, channels, height, width]``, read as a matrix
            of ``width`` rows: the weight of the first convolution or Linear.
    Raises:
        InvalidValueError: another kind.
        NoSourceError: the model has no such layer.
    """
    layers = [(name, module) for name, module in model.named_modules() if _is_layer(module)]
    if kind == "patch":
        found = layers[:1]
    elif kind == "classifier":
        own = _own_classifier(model)
        found = [pair for pair in layers if pair[1] is own] or [
            (name, layer) for name, layer in layers if _is_pointwise(layer)
        ][-1:]
    else:
        fault = f"must be 'classifier', 'patch', 'new' or 'new:ROWSxCOLUMNS', but is {kind!r}"
        raise InvalidValueError(what="source", faults=[fault])
    if not found:
        raise NoSourceError(source=kind, model=type(model).__name__, found=[])
    return f"{found[0][0]}.weight" if found[0][0] else "weight"


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, _ConvNd)) and "weight" in module._parameters


def _is_pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or set(layer.kernel_size) == {1}  # type: ignore[arg-type]


def _own_classifier(model: nn.Module) -> object:
    getter = getattr(model, "get_classifier", None)
    found = getter() if callable(getter) else None
    return found[0] if isinstance(found, tuple) and found else found  # distilled ones have two


def add_table(model: M, *, rows: int = ROWS, columns: int = COLUMNS) -> M:
    """Give a model a parameter ``shared_table`` that nothing but its shared layers will read.

    It is stored with the model, so whoever loads a checkpoint builds the model in the same way:
    ``embshare.load(folder, lambda: add_table(resnet50(), rows=4096, columns=128))``.
    What is stored for ``n`` derived elements is ``rows * columns + n * columns / rows``.

    Args:
        model: changed in place, and returned.
        rows: number of rows, the vocabulary size of other tables; more make the projection
            smaller and the table larger.
        columns: width of the table; the fewer, the less is stored, and the less weights differ.
    Raises:
        InvalidValueError: the model has one, or a size is below one.
    """
    faults = [
        f"`{name}`: must be at least 1, but is {size}"
        for name, size in (("rows", rows), ("columns", columns))
        if size < 1
    ]
    if hasattr(model, TABLE):
        faults.append(f"`{TABLE}`: is there already")
    if faults:
        raise InvalidValueError(what="a new table", faults=faults)
    like = next(model.parameters(), torch.empty(0))
    table = torch.empty(rows, columns, device=like.device, dtype=like.dtype)
    model.register_parameter(TABLE, nn.Parameter(nn.init.normal_(table, std=STD)))
    return model


def with_tables(model: nn.Module, config: ShareConfig) -> ShareConfig:
    """A config whose `source` says ``classifier``, ``patch`` or ``new``, with parameter names.

    Args:
        model: gets its new table here, where one is asked for.
        config: any; other names are left as they are.
    Raises:
        NoSourceError: the model has no such layer.
        InvalidValueError: it has a new table already.
    """
    if isinstance(config.source, Mapping):
        words = {glob: _named(model, word) for glob, word in config.source.items()}
        return config.model_copy(update={"source": words})
    return config.model_copy(update={"source": _named(model, config.source)})


def _named(model: nn.Module, word: str) -> str:
    if match := _NEW.fullmatch(word):
        if not hasattr(model, TABLE) or match[1]:
            sizes = {"rows": int(match[1]), "columns": int(match[2])} if match[1] else {}
            add_table(model, **sizes)
        return TABLE
    if word not in ("classifier", "patch"):
        return word
    own = dict(model.named_parameters(remove_duplicate=False))
    return word if {word, f"{word}.weight"} & own.keys() else table_of(model, word)


def share_vision(
    model: M,
    config: ShareConfig | None = None,
    *,
    source: str = "classifier",
    generator: torch.Generator | None = None,
) -> M:
    """Share a vision model, in place.

    Args:
        model: model of torchvision, timm, or similar.
        config: sharing settings; its `source` is ignored.
        source: ``classifier``, ``patch``, ``new``, ``new:ROWSxCOLUMNS``, or a parameter's name.
        generator: generator of the random start.
    Returns:
        The model.
    Raises:
        PlanError: as `plan_sharing`.
        InvalidValueError: it has a new table already.
    """
    settings = (config or ShareConfig()).model_copy(update={"source": source})
    return share_from_embedding(model, with_tables(model, settings), generator=generator)
