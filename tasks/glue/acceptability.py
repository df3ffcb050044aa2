"""Sentences, and the same sentences with one rule of grammar broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["acceptability"]

NOUNS: Final = (
    ("dog", "dogs"), ("teacher", "teachers"), ("child", "children"), ("farmer", "farmers"),
    ("pilot", "pilots"), ("singer", "singers"), ("mouse", "mice"), ("doctor", "doctors"),
    ("student", "students"), ("woman", "women"), ("man", "men"), ("sailor", "sailors"),
    ("artist", "artists"), ("queen", "queens"), ("baker", "bakers"), ("writer", "writers"),
)  # fmt: skip
TAKES_OBJECT: Final = (
    ("sees", "see"), ("follows", "follow"), ("admires", "admire"), ("helps", "help"),
    ("draws", "draw"), ("visits", "visit"), ("blames", "blame"), ("hears", "hear"),
)  # fmt: skip
NO_OBJECT: Final = (
    ("sleeps", "sleep"), ("laughs", "laugh"), ("arrives", "arrive"), ("waits", "wait"),
    ("smiles", "smile"), ("falls", "fall"), ("sings", "sing"), ("works", "work"),
)  # fmt: skip
DETERMINERS: Final = (("this", "these"), ("that", "those"), ("a", "many"), ("every", "all"))
NEAR: Final = ("near", "behind", "beside", "with")
WHEN: Final = ("today", "every day", "in the garden", "at night", "without a word")
SELVES: Final = {
    "dog": ("itself",), "mouse": ("itself",), "woman": ("herself",), "queen": ("herself",),
    "man": ("himself",),
}  # fmt: skip
"""Of others either is English."""
NAMED: Final = 0.4
"""Of the phrases are a name, which is singular and takes no determiner."""
ADJECTIVES: Final = ("old", "tall", "quiet", "clever", "tired", "famous")


@dataclass(frozen=True)
class Phrase:
    """A noun with what stands before it and after it."""

    determiner: str
    adjective: str
    noun: str
    after: str
    plural: bool

    def __str__(self) -> str:
        return " ".join(filter(None, (self.determiner, self.adjective, self.noun, self.after)))


@dataclass(frozen=True)
class Clause:
    """What a sentence is made of."""

    subject: Phrase
    verb: tuple[str, str]
    plural_verb: bool
    target: str
    takes_object: bool
    when: str

    def __str__(self) -> str:
        words = (str(self.subject), self.verb[self.plural_verb], self.target, self.when)
        return " ".join(filter(None, words))


def acceptability(rng: PortableRandom) -> tuple[tuple[str, ...], int]:
    """A sentence, and 1 if it is one of English, 0 if a rule is broken."""
    clause = _clause(rng)
    if rng.chance(0.5):
        return (f"{clause} .",), 1
    return (f"{rng.pick(FAULTS)(clause, rng)} .",), 0


def _phrase(rng: PortableRandom, *, after: bool = False) -> Phrase:
    if rng.chance(NAMED):
        return Phrase("", "", rng.pick(NAMES), "", False)
    plural = rng.chance(0.5)
    determiner = "the" if rng.chance(0.4) else rng.pick(DETERMINERS)[plural]
    adjective = rng.pick(ADJECTIVES) if rng.chance(0.3) else ""
    noun = rng.pick(NOUNS)[plural]
    if determiner == "a" and (adjective or noun)[0] in "aeiou":
        determiner = "an"
    tail = f"{rng.pick(NEAR)} {_phrase(rng)}" if after else ""
    return Phrase(determiner, adjective, noun, tail, plural)


def _clause(rng: PortableRandom) -> Clause:
    subject = _phrase(rng, after=rng.chance(0.25))
    takes_object = rng.chance(0.6)
    verb = rng.pick(TAKES_OBJECT if takes_object else NO_OBJECT)
    target = ""
    if takes_object:
        target = _self(subject, rng) if rng.chance(0.2) else str(_phrase(rng))
    when = rng.pick(WHEN) if rng.chance(0.4) else ""
    return Clause(subject, verb, subject.plural, target, takes_object, when)


def _self(subject: Phrase, rng: PortableRandom) -> str:
    if subject.plural:
        return "themselves"
    return rng.pick(SELVES.get(subject.noun, ("himself", "herself")))


def _agreement(clause: Clause, rng: PortableRandom) -> str:
    return str(replace(clause, plural_verb=not clause.plural_verb))


def _object(clause: Clause, rng: PortableRandom) -> str:
    """One that is missing, or one too many."""
    return str(replace(clause, target="" if clause.takes_object else str(_phrase(rng))))


def _determiner(clause: Clause, rng: PortableRandom) -> str:
    wrong = rng.pick(DETERMINERS)[not clause.subject.plural]
    return str(replace(clause, subject=replace(clause.subject, determiner=wrong)))


def _reflexive(clause: Clause, rng: PortableRandom) -> str:
    if not clause.takes_object:
        return _agreement(clause, rng)
    wrong = "itself" if clause.subject.plural else "themselves"
    return str(replace(clause, target=wrong))


def _order(clause: Clause, rng: PortableRandom) -> str:
    """Two neighbouring words of the subject, or the subject and the verb, change places."""
    words = str(clause).split()
    place = rng.below(min(3, len(words) - 1))
    words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


FAULTS: Final[tuple[Callable[[Clause, PortableRandom], str], ...]] = (
    _agreement,
    _object,
    _determiner,
    _determiner,
    _reflexive,
    _order,
    _order,
)
