"""A plan of one class of a family for another: pre-trained with one head, trained with the next.

transformers loads the weights of a `BertForMaskedLM` into a `BertForSequenceClassification`: what
both have is taken, what only the new one has starts at random. A plan is carried over in the same
way, for models of transformers when their folders are read, and by `embshare.transfer` for any
other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from embshare.errors import PlanMismatchError
from embshare.plan.slots import Slot, Source
from embshare.plan.values import SharePlan

__all__ = ["Kept", "Naming", "naming", "numbers_kept", "only", "refit"]


Naming = Callable[[str], str]


def naming(names: Collection[str], prefix: str) -> Naming:
    """How a class spells names of its family: with or without the name of its base model.

    Args:
        names: every parameter of the class.
        prefix: the attribute that holds a headed class's base model, ``bert``.
    Returns:
        A function of a name; what the class lacks keeps its name.
    """

    def here(name: str) -> str:
        spellings = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
        return next((spelling for spelling in spellings if spelling in names), name)

    return here


def refit(plan: SharePlan, names: Mapping[str, tuple[str, ...]], here: Naming) -> SharePlan:
    """The part of a plan that another class of the same family has, under its names.

    Args:
        plan: of the class that was saved.
        names: every parameter of the class that is loaded -> all names of the same parameter.
        here: as `naming` made it.
    Raises:
        PlanMismatchError: it has none of the weights.
    """
    sources = tuple(_source(source, names, here) for source in plan.sources)
    slots = tuple(
        slot.model_copy(update={"weights": tuple(map(here, slot.weights))}) for slot in plan.slots
    )
    return only(plan.model_copy(update={"sources": sources, "slots": slots}), names)


class Kept(NamedTuple):
    """What a class has of the numbers in another one, under which parts of a bank are stored."""

    readers: tuple[int, ...]
    """Of weights: their learned gains and residuals."""
    slots: tuple[int, ...]
    """Of slots: their blocks."""


def numbers_kept(plan: SharePlan, names: Mapping[str, tuple[str, ...]], here: Naming) -> Kept:
    """The numbers that a class's weights and slots have among those of the class that was saved.

    Args:
        plan: of the class that was saved.
        names: as of `refit`.
        here: as `naming` made it.
    """
    everyone = dict.fromkeys(names.get(name, name) for name in map(here, plan.weights()))
    mine = {*names.values()}
    slots = (n for n, s in enumerate(plan.slots) if any(here(name) in names for name in s.weights))
    readers = (number for number, reader in enumerate(everyone) if reader in mine)
    return Kept(tuple(readers), tuple(slots))


def _source(source: Source, names: Mapping[str, tuple[str, ...]], here: Naming) -> Source:
    name = here(source.name)
    tied = tuple(alias for alias in names.get(name, ()) if alias != name)
    return source.model_copy(update={"name": name, "tied": tied})


def only(plan: SharePlan, names: Collection[str]) -> SharePlan:
    """A plan without the weights that are not in ``names``; each column stays where it is.

    Raises:
        PlanMismatchError: as `refit`.
    """
    missing = [name for name in plan.weights() if name not in names]
    if not missing:
        return plan
    slots = tuple(_slots(plan, names))
    if not slots:
        raise PlanMismatchError(place=missing[0], needs="a parameter", finding="absent")
    return plan.model_copy(update={"slots": slots})


def _slots(plan: SharePlan, names: Collection[str]) -> Iterator[Slot]:
    for slot in plan.slots:
        if weights := tuple(name for name in slot.weights if name in names):
            yield slot.model_copy(update={"weights": weights})
