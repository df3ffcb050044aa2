"""Small passages about people, and questions about them, made by a grammar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embshare.tasks.squad.reading import Question, SquadData
from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["built_in"]


@dataclass(frozen=True)
class Fact:
    """How something about a person is told, and asked."""

    told: tuple[str, ...]
    asked: tuple[str, ...]
    who: str
    values: tuple[str, ...]


FACTS: Final = (
    Fact(
        told=("{name} lives in {value} .", "{value} is the home of {name} ."),
        asked=("Where does {name} live ?", "In which city is {name} at home ?"),
        who="Who lives in {value} ?",
        values=("Rome", "Paris", "Oslo", "Vienna", "Madrid", "Dublin", "Athens", "Prague",
                "Lisbon", "New York", "San Marino", "Hong Kong"),
    ),
    Fact(
        told=("{name} works as a {value} .", "The work of {name} is that of a {value} ."),
        asked=("What does {name} work as ?", "What is the job of {name} ?"),
        who="Who works as a {value} ?",
        values=("baker", "teacher", "pilot", "nurse", "painter", "lawyer", "bus driver",
                "bank clerk", "tailor", "violin maker", "cook", "night guard"),
    ),
    Fact(
        told=("{name} owns a {value} .", "A {value} belongs to {name} ."),
        asked=("What does {name} own ?", "What belongs to {name} ?"),
        who="Who owns a {value} ?",
        values=("red car", "grey horse", "small boat", "black cat", "blue bicycle", "young dog",
                "white house", "silver watch", "garden", "piano", "tall tower", "wooden flute"),
    ),
)  # fmt: skip
TRAIN: Final = 3_000
DEV: Final = 600
UNANSWERABLE: Final = 1 / 3
SEED: Final = 2016


def built_in(version: str) -> SquadData:
    """3,000 questions to learn from and 600 to be scored on, the same always."""
    rng, seen = PortableRandom(SEED), set[tuple[str, str]]()
    found: list[Question] = []
    while len(found) < TRAIN + DEV:
        question = _question(rng, str(len(found)), unanswerable=version == "2.0")
        if (key := (question.passage, question.question)) not in seen:
            seen.add(key)
            found.append(question)
    return SquadData(
        name=f"built-in grammar, SQuAD {version}",
        train=tuple(found[:TRAIN]),
        dev=tuple(found[TRAIN:]),
    )


def _question(rng: PortableRandom, number: str, *, unanswerable: bool) -> Question:
    people = rng.some(NAMES, 3)
    facts = [(name, fact, rng.pick(fact.values)) for fact in FACTS for name in people]
    told = rng.shuffled(facts)[:6]
    sentences = [rng.pick(fact.told).format(name=name, value=value) for name, fact, value in told]
    passage = " ".join(sentences)
    if unanswerable and rng.chance(UNANSWERABLE):
        fact = rng.pick(FACTS)
        known = [name for name, other, _ in told if other == fact]
        missing = rng.pick([name for name in people if name not in known] or NAMES)
        while missing in known:
            missing = rng.pick(NAMES)
        asked = rng.pick(fact.asked).format(name=missing)
        return Question(id=number, question=asked, passage=passage, answers=())
    chosen = rng.below(len(told))
    name, fact, value = told[chosen]
    alone = sum((other, said) == (fact, value) for _, other, said in told) == 1
    if alone and rng.chance(0.3):
        asked, answer = fact.who.format(value=value), name
    else:
        asked, answer = rng.pick(fact.asked).format(name=name), value
    before = sum(len(sentence) + 1 for sentence in sentences[:chosen])
    start = before + sentences[chosen].index(answer)
    return Question(id=number, question=asked, passage=passage, answers=(answer,), start=start)
