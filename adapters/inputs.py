"""Small batches that models run on, and one number of whatever they return."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from embshare.adapters.errors import InputsError, suggestion
from embshare.adapters.small import LENGTH, ROWS, waves

__all__ = ["call", "candidates", "find_inputs", "inputs_from", "score"]

LIMIT: Final = 1e4
"""Outputs beyond it are those of masks."""
SIZE: Final = 224
"""Height and width of an image, where a model does not say its own."""
HOW: Final = (
    "Give some: `--input FILE.py:function` on the command line, `inputs=` in Python. The function "
    "returns a tensor, a tuple of arguments or a dict of keyword arguments."
)


def candidates(model: nn.Module) -> Iterator[object]:
    """Batches to try on a model, the most likely first, made from its configuration or first layer.

    Args:
        model: model of transformers, timm, torchvision or fairseq, or another whose first layer
            shows what it takes: an embedding token ids, a convolution images, a Linear vectors.
    """
    packages = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "transformers" in packages:
        from embshare.adapters.huggingface.inputs import batches

        yield from batches(model)
    elif "fairseq" in packages:
        from embshare.adapters.fairseq.inputs import sentences

        yield from sentences(model)
    else:
        yield from _plain(model)


def _plain(model: nn.Module) -> Iterator[Tensor]:
    """Inputs of the first layer in order of registration."""
    for layer in model.modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            numbers = torch.arange(ROWS * LENGTH).view(ROWS, LENGTH)
            yield numbers * 5 % layer.num_embeddings
            return
        if isinstance(layer, _ConvNd):
            dimensions = len(layer.kernel_size)
            for size in dict.fromkeys((_image_size(model), SIZE)):
                yield waves(ROWS, layer.in_channels, *[size] * dimensions)
            return
        if isinstance(layer, nn.Linear):
            yield waves(ROWS, layer.in_features)
            yield waves(ROWS, LENGTH, layer.in_features)
            return


def _image_size(model: nn.Module) -> int:
    """The size of images that timm's configuration or torchvision's attribute says."""
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size") if isinstance(config, Mapping) else None
    found = size[-1] if size else getattr(model, "image_size", SIZE)
    return found if isinstance(found, int) else SIZE


def find_inputs(model: nn.Module, tried: Iterable[object]) -> object:
    """The first of some batches that a model runs on.

    Raises:
        InputsError: there is none; the message has the first batch's error.
    """
    place, finding = type(model).__name__, ""
    for inputs in tried:
        try:
            with torch.no_grad():
                score(call(model, inputs))
        except Exception as error:  # models raise errors of any class
            first = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
            finding = finding or f"does not run on inputs that were made for it ({first})"
        else:
            return inputs
    raise InputsError(
        place=place, finding=finding or "is of no kind that inputs could be made for", hint=HOW
    )


def call(model: nn.Module, inputs: object) -> object:
    """Call a model with a tensor, with a tuple or list of arguments, or with a mapping of them."""
    match inputs:
        case Mapping():
            return model(**inputs)
        case tuple() | list():
            return model(*inputs)
    return model(inputs)


def inputs_from(place: str) -> object:
    """Call a function in a file of the user's.

    Args:
        place: ``FILE.py:function``; the function takes no arguments.
    Raises:
        InputsError: there is no such file or function, it fails, or returns something else.
    """
    file, _, name = place.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise InputsError(place=place, finding="is not `FILE.py:function`", hint=HOW)
    path = Path(file)
    if not path.is_file():
        raise InputsError(place=place, finding=f"there is no file `{path}`", hint=HOW)
    spec = importlib.util.spec_from_file_location(f"inputs_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    _tried(place, "running the file", lambda: loader.exec_module(module))
    function = getattr(module, name, None)
    if not callable(function):
        own = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise InputsError(
            place=place, finding=f"has no function `{name}`", hint=suggestion(name, own)
        )
    made: object = _tried(place, f"`{name}()`", function)
    if not isinstance(made, (Tensor, tuple, list, Mapping)):
        raise InputsError(
            place=place, finding=f"`{name}()` returned a {type(made).__name__}", hint=HOW
        )
    return made


def _tried(place: str, what: str, act: Callable[[], object]) -> object:
    try:
        return act()
    except Exception as error:  # whatever the user's code does
        raise InputsError(
            place=place,
            finding=f"{what} failed ({type(error).__name__}: {error})",
            hint="Run it in Python to see where.",
        ) from error


def score(outputs: object) -> Tensor:
    """A fixed linear function of every floating tensor that a model returned.

    A sum of squares would not do: of what a normalisation returns it is constant.

    Args:
        outputs: tensors in mappings, lists, tuples and dataclasses; anything else in them is
            passed over.
    Raises:
        ValueError: there is no floating tensor.
    """
    found = list(_floats(outputs))
    if not found:
        raise ValueError("the model returns nothing that could be scored")
    total = torch.zeros(())
    for tensor in found:
        flat = tensor.float().flatten().clamp(-LIMIT, LIMIT)
        total = total + (flat * torch.arange(flat.numel()).mul(1.7).sin()).mean()
    return total


def _floats(outputs: object) -> Iterator[Tensor]:
    """Floating tensors in order, without what a generation keeps for its next step."""
    match outputs:
        case Tensor() if outputs.is_floating_point() and outputs.numel():
            yield outputs
        case Mapping():
            for name, part in outputs.items():
                if "past" not in str(name) and "cache" not in str(name):
                    yield from _floats(part)
        case list() | tuple():
            for part in outputs:
                yield from _floats(part)
        case _ if dataclasses.is_dataclass(outputs):
            yield from _floats(vars(outputs))
