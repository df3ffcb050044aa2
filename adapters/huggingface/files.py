"""Check a folder's weights by their headers, before any of them is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from embshare.adapters.huggingface.gains import as_tensors, check_gain, check_scales
from embshare.errors import CheckpointError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import Bank
from embshare.runtime.factorized import FactorMap
from embshare.runtime.scales import scales_of
from embshare.runtime.shared_layers import SharedLayer
from embshare.sharing import BANK

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_files", "check_missing"]


def check_files(
    model: PreTrainedModel, files: Iterable[str], plan: SharePlan, ties: Mapping[str, str]
) -> None:
    """Look for all that sharing stores besides the table, and for the biases of shared layers.

    transformers would only warn of a missing tensor, and leave its memory as it found it.

    Args:
        model: shared, on meta.
        files: with the weights; where one is no safetensors file, nothing is checked.
        plan: plan of the saved model.
        ties: name of a parameter -> the first name of the same one, under which it is stored.
    Raises:
        CheckpointError: a tensor is absent, of another shape or of another plan, or a file cannot
            be read.
    """
    files = list(files)
    if not files or not all(str(file).endswith(".safetensors") for file in files):
        return
    shapes: dict[str, tuple[int, ...]] = {}
    scales = {f"{BANK}.{key}": numbers for key, numbers in scales_of(plan).items()}
    stored: dict[str, Tensor] = {}
    for file in files:
        shapes |= _read(
            file, as_tensors(plan), {name: t.shape for name, t in scales.items()}, stored
        )
    prefix = f"{model.base_model_prefix}."
    for name, needs in _own(model):
        first = ties.get(name, name)
        spellings = (first, prefix + first, first.removeprefix(prefix))
        has = next((shapes[spelling] for spelling in spellings if spelling in shapes), None)
        if has != needs:
            raise _of_two_saves(model, name, needs, has or "absent")
    for name, numbers in stored.items():
        check_scales(name, scales[name], numbers)


def check_missing(model: PreTrainedModel, missing: Iterable[str], *, whole: bool) -> None:
    """Hold the names that transformers misses to being those of a head that is new.

    Args:
        model: shared, on meta.
        missing: names of parameters; what the model's class lets be missing is passed over.
        whole: it is of the class that was saved, and nothing is new.
    Raises:
        CheckpointError: one is of those that `check_files` looks for, or of any in a whole model.
    """
    let_go = re.compile("|".join(model._keys_to_ignore_on_load_missing or ["$^"]))
    needed = {name: tuple(p.shape) for name, p in model.named_parameters()} if whole else {}
    needed |= dict(_own(model))
    for name in missing:
        if name in needed and not let_go.search(name):
            raise _of_two_saves(model, name, needed[name], "absent")


def _of_two_saves(
    model: PreTrainedModel, name: str, needs: tuple[int, ...], has: object
) -> CheckpointError:
    return CheckpointError(
        path=model.config.name_or_path,
        finding=f"`{name}` must be of shape {needs}, but is {has}",
        hint="Its weights and its config.json are of two saves, or of another version "
        "of transformers: save it again.",
    )


def _read(
    file: str,
    gains: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[int, ...]],
    found: dict[str, Tensor],
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a file, in which the gains are compared with the plan's.

    Args:
        file: to read.
        gains: gains of the plan.
        wanted: shapes of tensors whose values are asked for.
        found: takes those that have this shape.
    """
    try:
        with safe_open(file, "pt", device="cpu") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}
            for name, gain in gains.items():
                if shapes.get(name) == gain.shape:
                    check_gain(name, gain, opened.get_tensor(name))
            for name, shape in wanted.items():
                if shapes.get(name) == shape:
                    found[name] = opened.get_tensor(name)
            return shapes
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            path=file,
            finding=f"cannot be read ({error})",
            hint="Save it again, or take another copy.",
        ) from error


def _own(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names that only a shared model stores, and other parameters of shared layers: biases."""
    for path, module in model.named_modules():
        if isinstance(module, (Bank, FactorMap, SharedLayer)):
            for name, parameter in module.named_parameters(path):
                yield name, tuple(parameter.shape)
