"""Small tasks of GLUE's kinds, made by a grammar: what any machine has.

Five of the nine: acceptability (cola), sentiment (sst2), paraphrase (mrpc), similarity (stsb) and
entailment (rte). A sentence of the development set is never in the training set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from embshare.tasks.glue.config import GlueName
from embshare.tasks.glue.data import TASKS, Data, Example
from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["MAKERS", "built_in"]

Labelled: TypeAlias = tuple[tuple[str, ...], float | int]
"""The sentences of an example, and its label."""

TRAIN: Final = 4_000
DEV: Final = 800
SEED: Final = 2024


def built_in(name: GlueName) -> Data:
    """Make a task's built-in data: 4,000 training and 800 development examples, always the same."""
    rows = _distinct(MAKERS[name], PortableRandom(SEED))
    examples = [
        Example(str(index), texts, label)
        for index, (texts, label) in zip(range(TRAIN + DEV), rows, strict=False)
    ]
    part = TASKS[name].dev[0]
    return Data(
        name=f"built-in grammar of {name}",
        train=tuple(examples[:TRAIN]),
        dev={part: tuple(examples[TRAIN:])},
        test={},
    )


def _distinct(
    make: Callable[[PortableRandom], Labelled], rng: PortableRandom
) -> Iterator[Labelled]:
    seen: set[tuple[str, ...]] = set()
    while True:
        texts, label = make(rng)
        if texts not in seen:
            seen.add(texts)
            yield texts, label


# Acceptability: sentences, and the same sentences with one rule of grammar broken.

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
"""Reflexive pronouns; with all other nouns, ``himself`` and ``herself`` are both English."""
NAMED_PHRASES: Final = 0.4
"""Share of phrases that are a name, which is singular and takes no determiner."""
ADJECTIVES: Final = ("old", "tall", "quiet", "clever", "tired", "famous")


@dataclass(frozen=True)
class Phrase:
    """A noun with the words before and after it."""

    determiner: str
    adjective: str
    noun: str
    after: str
    plural: bool

    def __str__(self) -> str:
        return " ".join(filter(None, (self.determiner, self.adjective, self.noun, self.after)))


@dataclass(frozen=True)
class Clause:
    """The parts of a sentence."""

    subject: Phrase
    verb: tuple[str, str]
    plural_verb: bool
    target: str
    takes_object: bool
    when: str

    def __str__(self) -> str:
        words = (str(self.subject), self.verb[self.plural_verb], self.target, self.when)
        return " ".join(filter(None, words))


def acceptability(rng: PortableRandom) -> Labelled:
    """Make a sentence, and 1 if it is one of English, 0 if a rule is broken."""
    clause = _clause(rng)
    if rng.chance(0.5):
        return (f"{clause} .",), 1
    return (f"{rng.pick(FAULTS)(clause, rng)} .",), 0


def _phrase(rng: PortableRandom, *, after: bool = False) -> Phrase:
    if rng.chance(NAMED_PHRASES):
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


def _break_agreement(clause: Clause, rng: PortableRandom) -> str:
    return str(replace(clause, plural_verb=not clause.plural_verb))


def _break_object(clause: Clause, rng: PortableRandom) -> str:
    """Leave the object out, or add one."""
    return str(replace(clause, target="" if clause.takes_object else str(_phrase(rng))))


def _break_determiner(clause: Clause, rng: PortableRandom) -> str:
    wrong = rng.pick(DETERMINERS)[not clause.subject.plural]
    return str(replace(clause, subject=replace(clause.subject, determiner=wrong)))


def _break_reflexive(clause: Clause, rng: PortableRandom) -> str:
    if not clause.takes_object:
        return _break_agreement(clause, rng)
    wrong = "itself" if clause.subject.plural else "themselves"
    return str(replace(clause, target=wrong))


def _break_order(clause: Clause, rng: PortableRandom) -> str:
    """Swap two neighbouring words of the subject, or the subject and the verb."""
    words = str(clause).split()
    place = rng.below(min(3, len(words) - 1))
    words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


FAULTS: Final[tuple[Callable[[Clause, PortableRandom], str], ...]] = (
    _break_agreement,
    _break_object,
    _break_determiner,
    _break_determiner,
    _break_reflexive,
    _break_order,
    _break_order,
)


# Sentiment: reviews whose last or main clause decides, with negations that turn a word around.

WORDS: Final = (
    (
        "dull", "clumsy", "shallow", "tedious", "awful", "bland", "silly", "weak", "lifeless",
        "messy", "tired", "pointless", "hollow", "crude", "flat", "stale",
    ),
    (
        "clever", "moving", "gripping", "funny", "lovely", "bold", "fresh", "rich", "charming",
        "honest", "brilliant", "tender", "sharp", "warm", "witty", "vivid",
    ),
)  # fmt: skip
"""Adjectives that blame, then those that praise."""
THINGS: Final = (
    "film", "plot", "cast", "score", "script", "ending", "opening", "dialogue", "camera", "story",
    "hero", "pace", "humour", "direction",
)  # fmt: skip
PLAIN: Final = ("is", "seems", "feels", "is really", "is often", "remains")
TURNED: Final = ("is not", "is never", "is hardly", "seems far from", "is anything but")


def sentiment(rng: PortableRandom) -> Labelled:
    """Make a review, and 1 if it praises, 0 if it does not."""
    label = rng.below(2)
    first, second = rng.pick(THINGS), rng.pick(THINGS)
    shape = rng.below(4)
    if shape == 0:
        text = _opinion(rng, first, label)
    elif shape == 1:
        text = f"{_opinion(rng, first, label)} and {_opinion(rng, second, label)}"
    elif shape == 2:
        text = f"{_opinion(rng, first, 1 - label)} , but {_opinion(rng, second, label)}"
    else:
        text = f"{_opinion(rng, first, label)} , although {_opinion(rng, second, 1 - label)}"
    where = f"in {rng.pick(NAMES)} , " if rng.chance(0.7) else ""
    return (f"{where}{text} .",), label


def _opinion(rng: PortableRandom, thing: str, good: int) -> str:
    turned = rng.chance(0.4)
    verb = rng.pick(TURNED if turned else PLAIN)
    return f"the {thing} {verb} {rng.pick(WORDS[good != turned])}"


# Paraphrase and similarity: who did what to whom, where and when, in one of two ways each.

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
NAMED_PEOPLE: Final = 0.5
"""Share of people that have a name, which is said in one way alone."""


@dataclass(frozen=True)
class Event:
    """The parts of an event, each of which can be said in two ways."""

    agent: tuple[str, str]
    deed: tuple[str, str]
    patient: tuple[str, str]
    place: tuple[str, str]
    time: tuple[str, str]


PARTS: Final = tuple(field.name for field in fields(Event))


def paraphrase(rng: PortableRandom) -> Labelled:
    """Make two sentences, and 1 if they tell of one event, 0 if one part or the roles differ."""
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


def similarity(rng: PortableRandom) -> Labelled:
    """Make two sentences, and the number of their five parts that agree."""
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
        found = (name, name) if rng.chance(NAMED_PEOPLE) else (f"the {role[0]}", f"the {role[1]}")
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


# Entailment: whether one sentence follows from the other, by how quantifiers carry over
# (monotonicity, as in MacCartney & Manning 2007, Natural Logic for Textual Inference).

KINDS: Final = (
    ("dogs", "animals"), ("cats", "animals"), ("horses", "animals"), ("birds", "animals"),
    ("roses", "plants"), ("trees", "plants"), ("tulips", "plants"), ("doctors", "people"),
    ("sailors", "people"), ("singers", "people"), ("lawyers", "people"), ("cars", "machines"),
    ("trains", "machines"), ("clocks", "machines"),
)  # fmt: skip
"""Things, and what they are a kind of."""
QUALITIES: Final = ("old", "young", "large", "small", "quiet", "famous")
STATES: Final = (
    ("stand in the garden", "stand outside"), ("are seen in Rome", "are seen in Italy"),
    ("move very slowly", "move"), ("came this morning", "came today"),
    ("were sold in May", "were sold in spring"), ("are loved by all children", "are loved by some"),
    ("wait at the north gate", "wait at a gate"), ("vanished in June", "vanished in summer"),
)  # fmt: skip
"""Statements, and what follows from each."""
NAMED_OWNERS: Final = 0.6
"""Share of claims about what belongs to someone with a name."""
SUBJECT: Final = {"some": 1, "all": -1, "no": -1, "not all": 1}
"""1: what holds of a kind holds of what it is a kind of; -1: the other way round."""
PREDICATE: Final = {"some": 1, "all": 1, "no": -1, "not all": -1}
UNSURE: Final = (("all", "some"), ("no", "not all"))
"""Pairs of which the second follows only where there are such things; they are left out."""


@dataclass(frozen=True)
class Claim:
    """A sentence; each of the last three fields is narrow (0) or wide (1)."""

    quantifier: str
    kind: tuple[str, str]
    adjective: str
    state: tuple[str, str]
    wide_kind: int
    bare: int
    wide_state: int

    def __str__(self) -> str:
        adjective = () if self.bare else (self.adjective,)
        words = (
            self.quantifier,
            *adjective,
            self.kind[self.wide_kind],
            self.state[self.wide_state],
        )
        return f"{' '.join(words)} ."


def entailment(rng: PortableRandom) -> Labelled:
    """Make two sentences, and 0 if the second follows from the first, 1 if it does not."""
    follows = rng.chance(0.5)
    while True:
        premise, hypothesis = _claims(rng)
        quantifiers = (premise.quantifier, hypothesis.quantifier)
        if str(premise) == str(hypothesis) or quantifiers in UNSURE:
            continue
        if _follows(premise, hypothesis) == follows:
            return (str(premise), str(hypothesis)), int(not follows)


def _claims(rng: PortableRandom) -> tuple[Claim, Claim]:
    quantifier, adjective = rng.pick(tuple(SUBJECT)), rng.pick(QUALITIES)
    kind, state = rng.pick(KINDS), rng.pick(STATES)
    if rng.chance(NAMED_OWNERS):
        state = (f"belong to {rng.pick(NAMES)}", "belong to someone")
    widths = [(rng.below(2), rng.below(2)) for _ in range(3)]
    other = quantifier if rng.chance(0.85) else rng.pick(tuple(SUBJECT))
    first, second = zip(*widths, strict=True)
    return (
        Claim(quantifier, kind, adjective, state, *first),
        Claim(other, kind, adjective, state, *second),
    )


def _follows(premise: Claim, hypothesis: Claim) -> bool:
    if premise.quantifier != hypothesis.quantifier:
        return False
    subject, predicate = SUBJECT[premise.quantifier], PREDICATE[premise.quantifier]
    steps = (
        (hypothesis.wide_kind - premise.wide_kind) * subject,
        (hypothesis.bare - premise.bare) * subject,
        (hypothesis.wide_state - premise.wide_state) * predicate,
    )
    return min(steps) >= 0


MAKERS: Final[Mapping[GlueName, Callable[[PortableRandom], Labelled]]] = MappingProxyType(
    {
        "cola": acceptability,
        "sst2": sentiment,
        "mrpc": paraphrase,
        "stsb": similarity,
        "rte": entailment,
    }
)
"""Functions that make one example of a task."""
