"""Pairs of sentences about events: who did what to whom, where and when."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

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


def paraphrase(rng: PortableRandom) -> tuple[tuple[str, ...], int]:
    """Two sentences, and 1 if they tell of one event, 0 if one part or the roles differ."""
    event = _event(rng)
    first = _say(event, rng)
    if rng.chance(0.5):
        return (first, _say(event, rng)), 1
    if rng.chance(0.3):
        other = replace(event, agent=event.patient, patient=event.agent)
    else:
        part = rng.pick(PARTS)
        other = replace(event, **{part: _another(rng, event, part)})
    return (first, _say(other, rng)), 0


def similarity(rng: PortableRandom) -> tuple[tuple[str, ...], float]:
    """Two sentences, and how many of five parts of what they tell agree."""
    event = other = _event(rng)
    changed = rng.below(len(PARTS) + 1)
    for part in rng.shuffled(PARTS)[:changed]:
        other = replace(other, **{part: _another(rng, other, part)})
    same = sum(getattr(event, part) == getattr(other, part) for part in PARTS)
    return (_say(event, rng), _say(other, rng)), float(same)


def _event(rng: PortableRandom) -> Event:
    agent = _person(rng)
    patient = _person(rng, agent)
    return Event(agent, rng.pick(DEEDS), patient, rng.pick(PLACES), rng.pick(TIMES))


def _person(rng: PortableRandom, *but: tuple[str, str]) -> tuple[str, str]:
    while True:
        name = rng.pick(NAMES)
        role = rng.pick(PEOPLE)
        found = (name, name) if rng.chance(NAMED) else (f"the {role[0]}", f"the {role[1]}")
        if found not in but:
            return found


def _another(rng: PortableRandom, event: Event, part: str) -> tuple[str, str]:
    if part in ("agent", "patient"):
        return _person(rng, event.agent, event.patient)
    known: tuple[str, str] = getattr(event, part)
    return rng.other(CHOICES[part], known)


def _say(event: Event, rng: PortableRandom) -> str:
    agent, deed, patient, place, time = (
        getattr(event, part)[rng.chance(SYNONYM)] for part in PARTS
    )
    if rng.chance(0.3):
        core = f"{patient} was {deed} by {agent}"
    else:
        core = f"{agent} {deed} {patient}"
    if rng.chance(0.4):
        return f"{time} , {core} {place} ."
    return f"{core} {place} {time} ."
