"""The sizes of sub-networks: what each keeps, a model that runs at one, and exact counts.

Letters: n heads of a layer, m neurons of its feed-forward part, L layers, T positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import ConfigDict, Field
from torch import nn

from embshare._value import Value
from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, blocks, layer_list
from embshare.models.dynabert.elastic import cut, require_cuttable
from embshare.runtime.bank import bank_of
from embshare.runtime.current_plan import structure_now
from embshare.structure import structure_of

__all__ = [
    "DEPTHS",
    "FULL",
    "SIZE_KEY",
    "WIDTHS",
    "ElasticLayers",
    "Rounding",
    "Size",
    "apply_size",
    "configs",
    "count_operations",
    "count_parameters",
    "evaluating",
    "fitting_blocks",
    "keep",
    "kept_heads",
    "kept_layers",
    "kept_neurons",
    "matched_states",
    "read_size",
    "set_size",
    "size_of",
    "sized",
    "sub_networks",
]

M = TypeVar("M", bound=nn.Module)
Rounding: TypeAlias = Literal["exact", "official"]

WIDTHS: Final = (1.0, 0.75, 0.5, 0.25)
"""The published widths, widest first."""
DEPTHS: Final = (1.0, 0.75, 0.5)
"""The published depths, deepest first."""
SIZE_KEY: Final = "dynabert_size"
"""Key of the size in the configuration of a model that was set to one."""


# ---------------------------------------------------------------- numbers alone


class Size(Value):
    """Fractions of each layer and of the layers that a sub-network keeps.

    Raises:
        InvalidValueError: a fraction that is not above 0 and at most 1, or an unknown rounding.
    """

    model_config = ConfigDict(strict=True)  # True is no fraction

    width: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of heads and of feed-forward neurons, above 0 and at most 1."""
    depth: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of layers, above 0 and at most 1."""
    rounding: Rounding = "exact"
    """``exact`` refuses fractions that leave no whole number of heads, neurons or layers;
    ``official`` rounds them as the official code does, halves to the even number."""

    def require_fit(self, *, heads: int, neurons: int, layers: int) -> None:
        """Refuse a fraction that leaves no whole number, or nothing, of a model's parts.

        Raises:
            InvalidValueError: names each part that does not divide, and the fractions that do.
        """
        parts = (
            ("width", self.width, "heads", heads),
            ("width", self.width, "feed-forward neurons", neurons),
            ("depth", self.depth, "layers", layers),
        )
        if faults := [fault for part in parts for fault in self._faults(*part)]:
            raise InvalidValueError(what="the size", faults=faults)

    def _faults(self, name: str, part: float, what: str, count: int) -> Iterator[str]:
        left = part * count
        if self.rounding == "exact" and abs(left - round(left)) >= 1e-6:
            yield (
                f"`{name}` must leave a whole number of the {count:,} {what}, but {part:.4g} "
                f"leaves {left:.4g} (the nearest that does is {max(1, round(left)) / count:.4g}; "
                "rounding='official' rounds)"
            )
        elif what != "feed-forward neurons" and round(left) < 1:
            yield f"`{name}` must leave some of the {count:,} {what}, but {part:.4g} leaves none"


FULL: Final = Size()
"""The whole model."""


def kept_heads(heads: int, width: float) -> int:
    """Heads that a width keeps, of ``n``: the nearest whole number, of two the even one.

    Source:
        The official ``BertSelfAttention.forward``: Python's ``round``.
    """
    return round(heads * width)


def kept_neurons(neurons: int, heads: int, width: float) -> int:
    """Neurons that a width keeps, of ``m``: the fraction of kept heads, rounded down, at least 1.

    Source:
        The official ``round_to_nearest``. It goes through floating-point numbers, and so does this.
    """
    return max(1, int(round(heads * width) * 1.0 / heads * neurons))


def kept_layers(layers: int, depth: float) -> tuple[int, ...]:
    """Layers that a depth keeps, of ``L``, counted from 0: ``floor(i / depth)``, evenly spread.

    Source:
        The official ``BertEncoder.forward``. The paper's wording drops others.
    """
    return tuple(math.floor(i / depth) for i in range(round(depth * layers)))


def matched_states(layers: int, depth: float) -> tuple[int, ...]:
    """Indices of the teacher's ``L + 1`` states that a student of this depth is compared with.

    The student's state before a layer is compared with the teacher's before the same layer, and the
    last with the last.
    """
    return (*kept_layers(layers, depth), layers)


def sub_networks(
    widths: Sequence[float] = WIDTHS,
    depths: Sequence[float] = DEPTHS,
    rounding: Rounding = "exact",
) -> tuple[Size, ...]:
    """Every combination: depths outside and widths inside, the largest first, as officially."""
    return tuple(
        Size(width=width, depth=depth, rounding=rounding)
        for depth in sorted(depths, reverse=True)
        for width in sorted(widths, reverse=True)
    )


# ---------------------------------------------------------------- a model at a size


class ElasticLayers(nn.ModuleList):
    """A list of layers that runs some of them, and holds all."""

    kept: tuple[int, ...] = ()
    """Indices of the layers that are run, in order."""
    size: Size = FULL
    """Size that the model was set to."""

    def __iter__(self) -> Iterator[nn.Module]:
        """The layers that are run."""
        return iter([self[index] for index in self.kept])


@contextmanager
def sized(
    model: M, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact"
) -> Iterator[M]:
    """Let a model compute as one of its sub-networks while the context lasts.

    The model keeps all its parameters; those that are left out get no gradient. Contexts nest, and
    at the end the size from before is set again. One model has one size at a time, in all threads.
    Where activation checkpointing runs layers again, call ``backward`` inside of the context.

    Args:
        model: BERT or RoBERTa of transformers, with or without a head; plain or shared.
        width: fraction of the heads and neurons of each layer that is used: the first ones.
        depth: fraction of the layers that is used, see `kept_layers`.
        rounding: what is done about fractions that do not divide.
    Raises:
        InvalidValueError: the size does not fit the model, or the model is of another kind.
    """
    size, before = Size(width=width, depth=depth, rounding=rounding), size_of(model)
    apply_size(model, size)
    try:
        yield model
    finally:
        apply_size(model, before)


def set_size(
    model: M, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact"
) -> M:
    """As `sized`, until it is called again; ``save_pretrained`` writes the size down.

    The configuration has it, so `restore` sets it again after ``from_pretrained``. What is saved is
    the whole model; `extract` gives a model that is smaller.

    Returns:
        The same model.
    Raises:
        InvalidValueError: as `sized`.
    """
    size = Size(width=width, depth=depth, rounding=rounding)
    apply_size(model, size)
    for config in configs(model):
        config.__dict__.pop(SIZE_KEY, None)
        if size.width < 1 or size.depth < 1:
            setattr(config, SIZE_KEY, dict(size))
    return model


def size_of(model: nn.Module) -> Size:
    """The size that a model computes with now.

    Raises:
        InvalidValueError: the model is of another kind.
    """
    layers = layer_list(model)
    return layers.size if isinstance(layers, ElasticLayers) else FULL


def read_size(model: nn.Module) -> Size | None:
    """The size that a model's configuration asks for.

    Raises:
        InvalidValueError: what is there is no size.
    """
    found = getattr(getattr(model, "config", None), SIZE_KEY, None)
    if found is None:
        return None
    if not isinstance(found, dict):
        fault = f"`{SIZE_KEY}` must hold `width`, `depth` and `rounding`, but is {found!r:.80}"
        raise InvalidValueError(what="the configuration", faults=[fault])
    return Size(**found)


def apply_size(model: nn.Module, size: Size) -> None:
    """Set a size, and write nothing down.

    Raises:
        InvalidValueError: as `sized`; the model is as it was.
    """
    found = fitting_blocks(model, size)
    parts = [part for block in found for part in (block.attention, block.feed_forward)]
    if size.width < 1:
        require_cuttable(layer for part in parts for layer in part.layers)
    for block in found:
        heads, neurons = _kept(block, size.width)
        for part, count in ((block.attention, heads), (block.feed_forward, neurons)):
            for layer in part.inner:
                cut(layer, rows=count * part.unit)
            cut(part.outer, columns=count * part.unit)
    keep(layer_list(model), kept_layers(len(found), size.depth), size)


def keep(layers: nn.ModuleList, kept: tuple[int, ...], size: Size) -> None:
    """Let a list run some of its layers; all of them of the full size make it plain again."""
    whole = size.width == size.depth == 1
    layers.__class__ = nn.ModuleList if whole else ElasticLayers
    for name, value in (("kept", kept), ("size", size)):
        if whole:
            layers.__dict__.pop(name, None)
        else:
            layers.__dict__[name] = value


def fitting_blocks(model: nn.Module, size: Size) -> tuple[Block, ...]:
    """All layers of a model that divides into a size.

    Raises:
        InvalidValueError: as `Size.require_fit`, or the model is of another kind.
    """
    found = blocks(model)
    for heads, neurons in {(b.attention.count, b.feed_forward.count) for b in found}:
        size.require_fit(heads=heads, neurons=neurons, layers=len(found))
    return found


def configs(model: nn.Module) -> list[Any]:
    """The configurations of a model and of its body, which are one as a rule."""
    found = (getattr(part, "config", None) for part in (model, getattr(model, "base_model", model)))
    return list({id(config): config for config in found if config is not None}.values())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while the context lasts; then each module has its own mode again."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


# ---------------------------------------------------------------- exact counts


def count_parameters(
    model: nn.Module, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact"
) -> int:
    """Count the parameters of what `extract` would make of a model, a tied one once.

    Of a shared model too these are what the *plain* sub-network stores. The shared one stores the
    same at every size.

    Args:
        model: plain or shared; may be on meta.
        width: as in `sized`.
        depth: as in `sized`.
        rounding: as in `sized`.
    Raises:
        InvalidValueError: as `sized`.
    """
    found = fitting_blocks(model, Size(width=width, depth=depth, rounding=rounding))
    kept, layers = kept_layers(len(found), depth), layer_list(model)
    place = next(name for name, module in model.named_modules() if module is layers)
    structure = structure_of(model) if bank_of(model) is None else structure_now(model)
    first = {name: names[0] for names in structure.ties for name in names}
    counts: dict[str, int] = {}
    for name, shape in structure.tensors.items():
        inside = name.removeprefix(f"{place}.")
        if inside != name:
            number, _, inside = inside.partition(".")
            if int(number) not in kept:
                continue
            shape = _cut_shape(inside, shape, found[int(number)], width)
        counts[first.get(name, name)] = math.prod(shape)
    return sum(counts.values())


def _cut_shape(name: str, shape: tuple[int, ...], block: Block, width: float) -> tuple[int, ...]:
    """The shape of one parameter of a layer that was made narrower."""
    heads, neurons = _kept(block, width)
    attention = heads * block.attention.unit
    if name.startswith("attention.self."):
        return attention, *shape[1:]
    if name.startswith("intermediate.dense."):
        return neurons, *shape[1:]
    columns = {"attention.output.dense.weight": attention, "output.dense.weight": neurons}
    return (shape[0], columns[name]) if name in columns else shape


def count_operations(
    model: nn.Module,
    *,
    positions: int = 128,
    width: float = 1.0,
    depth: float = 1.0,
    rounding: Rounding = "exact",
) -> int:
    """Count multiplications and additions of the layers, for one sequence of ``T`` positions.

    Two for each element of each matrix product: four projections of attention, its scores and its
    means, and the feed-forward part. Sharing changes none of them.

    Raises:
        InvalidValueError: as `sized`, or ``positions`` is below 1.
    """
    if positions < 1:
        fault = f"`positions` must be at least 1, but is {positions}"
        raise InvalidValueError(what="the input", faults=[fault])
    found = fitting_blocks(model, Size(width=width, depth=depth, rounding=rounding))
    total = 0
    for index in kept_layers(len(found), depth):
        block = found[index]
        heads, neurons = _kept(block, width)
        attention, hidden = heads * block.attention.unit, block.attention.outer.out_features
        matrices = 4 * hidden * attention + 2 * hidden * neurons
        total += 2 * (positions * matrices + 2 * positions * positions * attention)
    return total


def _kept(block: Block, width: float) -> tuple[int, int]:
    """Heads and neurons of one layer."""
    heads = block.attention.count
    return kept_heads(heads, width), kept_neurons(block.feed_forward.count, heads, width)
