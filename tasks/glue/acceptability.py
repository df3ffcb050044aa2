"""Sentences, and the same sentences with one rule of grammar broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from embshare.tasks.glue.dice import Dice
from embshare.tasks.text.names import NAMES

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


def acceptability(dice: Dice) -> tuple[tuple[str, ...], int]:
    """A sentence, and 1 if it is one of English, 0 if a rule is broken."""
    clause = _clause(dice)
    if dice.chance(0.5):
        return (f"{clause} .",), 1
    return (f"{dice.pick(FAULTS)(clause, dice)} .",), 0


def _phrase(dice: Dice, *, after: bool = False) -> Phrase:
    if dice.chance(NAMED):
        return Phrase("", "", dice.pick(NAMES), "", False)
    plural = dice.chance(0.5)
    determiner = "the" if dice.chance(0.4) else dice.pick(DETERMINERS)[plural]
    adjective = dice.pick(ADJECTIVES) if dice.chance(0.3) else ""
    noun = dice.pick(NOUNS)[plural]
    if determiner == "a" and (adjective or noun)[0] in "aeiou":
        determiner = "an"
    tail = f"{dice.pick(NEAR)} {_phrase(dice)}" if after else ""
    return Phrase(determiner, adjective, noun, tail, plural)


def _clause(dice: Dice) -> Clause:
    subject = _phrase(dice, after=dice.chance(0.25))
    takes_object = dice.chance(0.6)
    verb = dice.pick(TAKES_OBJECT if takes_object else NO_OBJECT)
    target = ""
    if takes_object:
        target = _self(subject, dice) if dice.chance(0.2) else str(_phrase(dice))
    when = dice.pick(WHEN) if dice.chance(0.4) else ""
    return Clause(subject, verb, subject.plural, target, takes_object, when)


def _self(subject: Phrase, dice: Dice) -> str:
    if subject.plural:
        return "themselves"
    return dice.pick(SELVES.get(subject.noun, ("himself", "herself")))


def _agreement(clause: Clause, dice: Dice) -> str:
    return str(replace(clause, plural_verb=not clause.plural_verb))


def _object(clause: Clause, dice: Dice) -> str:
    """One that is missing, or one too many."""
    return str(replace(clause, target="" if clause.takes_object else str(_phrase(dice))))


def _determiner(clause: Clause, dice: Dice) -> str:
    wrong = dice.pick(DETERMINERS)[not clause.subject.plural]
    return str(replace(clause, subject=replace(clause.subject, determiner=wrong)))


def _reflexive(clause: Clause, dice: Dice) -> str:
    if not clause.takes_object:
        return _agreement(clause, dice)
    wrong = "itself" if clause.subject.plural else "themselves"
    return str(replace(clause, target=wrong))


def _order(clause: Clause, dice: Dice) -> str:
    """Two neighbouring words of the subject, or the subject and the verb, change places."""
    words = str(clause).split()
    place = dice.below(min(3, len(words) - 1))
    words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


FAULTS: Final[tuple[Callable[[Clause, Dice], str], ...]] = (
    _agreement,
    _object,
    _determiner,
    _determiner,
    _reflexive,
    _order,
    _order,
)
