"""Pairs of sentences about events: who did what to whom, where and when."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

from embshare.tasks.glue.dice import Dice
from embshare.tasks.text.names import NAMES

__all__ = ["paraphrase", "similarity"]

PEOPLE: Final = (
    ("doctor", "physician"), ("teacher", "instructor"), ("thief", "robber"), ("boss", "manager"),
    ("child", "kid"), ("policeman", "officer"), ("singer", "vocalist"), ("lawyer", "attorney"),
    ("writer", "author"), ("soldier", "trooper"), ("visitor", "guest"), ("king", "monarch"),
)  # fmt: skip
DEEDS: Final = (
    ("helped", "assisted"), ("hired", "employed"), ("praised", "applauded"), ("called", "phoned"),
    ("scolded", "rebuked"), ("chased", "pursued"), ("saved", "rescued"), ("cheated", "deceived"),
)  # fmt: skip
PLACES: Final = (
    ("in the shop", "in the store"), ("on the road", "on the street"),
    ("at the harbour", "at the port"), ("in the forest", "in the woods"),
    ("at home", "in the house"), ("in the garden", "in the yard"),
)  # fmt: skip
TIMES: Final = (
    ("at dawn", "at daybreak"), ("at dusk", "at nightfall"), ("last week", "a week ago"),
    ("in autumn", "in the fall"), ("at noon", "at midday"),
)  # fmt: skip
CHOICES: Final = {"deed": DEEDS, "place": PLACES, "time": TIMES}
SYNONYM: Final = 0.3
NAMED: Final = 0.5
"""Of the people have a name, which is said in one way alone."""


@dataclass(frozen=True)
class Event:
    """Each part is one meaning, and its two ways of saying."""

    agent: tuple[str, str]
    deed: tuple[str, str]
    patient: tuple[str, str]
    place: tuple[str, str]
    time: tuple[str, str]


PARTS: Final = tuple(field.name for field in fields(Event))


def paraphrase(dice: Dice) -> tuple[tuple[str, ...], int]:
    """Two sentences, and 1 if they tell of one event, 0 if one part or the roles differ."""
    event = _event(dice)
    first = _say(event, dice)
    if dice.chance(0.5):
        return (first, _say(event, dice)), 1
    if dice.chance(0.3):
        other = replace(event, agent=event.patient, patient=event.agent)
    else:
        part = dice.pick(PARTS)
        other = replace(event, **{part: _another(dice, event, part)})
    return (first, _say(other, dice)), 0


def similarity(dice: Dice) -> tuple[tuple[str, ...], float]:
    """Two sentences, and how many of five parts of what they tell agree."""
    event = other = _event(dice)
    changed = dice.below(len(PARTS) + 1)
    for part in dice.shuffled(PARTS)[:changed]:
        other = replace(other, **{part: _another(dice, other, part)})
    same = sum(getattr(event, part) == getattr(other, part) for part in PARTS)
    return (_say(event, dice), _say(other, dice)), float(same)


def _event(dice: Dice) -> Event:
    agent = _person(dice)
    patient = _person(dice, agent)
    return Event(agent, dice.pick(DEEDS), patient, dice.pick(PLACES), dice.pick(TIMES))


def _person(dice: Dice, *but: tuple[str, str]) -> tuple[str, str]:
    while True:
        name = dice.pick(NAMES)
        role = dice.pick(PEOPLE)
        found = (name, name) if dice.chance(NAMED) else (f"the {role[0]}", f"the {role[1]}")
        if found not in but:
            return found


def _another(dice: Dice, event: Event, part: str) -> tuple[str, str]:
    if part in ("agent", "patient"):
        return _person(dice, event.agent, event.patient)
    known: tuple[str, str] = getattr(event, part)
    return dice.other(CHOICES[part], known)


def _say(event: Event, dice: Dice) -> str:
    agent, deed, patient, place, time = (
        getattr(event, part)[dice.chance(SYNONYM)] for part in PARTS
    )
    if dice.chance(0.3):
        core = f"{patient} was {deed} by {agent}"
    else:
        core = f"{agent} {deed} {patient}"
    if dice.chance(0.4):
        return f"{time} , {core} {place} ."
    return f"{core} {place} {time} ."
