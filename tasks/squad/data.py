"""SQuAD's questions: of the published JSON, of a set of the hub, or made by a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from embshare.tasks.text.errors import BadFileError, BadLineError, SetNotFoundError
from embshare.tasks.text.files import read_text
from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["Question", "SquadData", "built_in", "read_folder", "read_hub"]

TRAIN: Final = ("train-v{version}.json", "train.json")
DEV: Final = ("dev-v{version}.json", "dev.json")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, its passage, and what people answered."""

    id: str
    question: str
    passage: str
    answers: tuple[str, ...]
    """None where the passage has no answer."""
    start: int | None = None
    """The first character of the first answer."""


@dataclass(frozen=True, kw_only=True)
class SquadData:
    """The training and the validation set."""

    name: str
    """Where they came from, for a report."""
    train: tuple[Question, ...]
    dev: tuple[Question, ...]


Placed: TypeAlias = tuple[str, Question]
"""A question, and where it stands."""


class _FaultError(Exception):
    """A place in a file or set, what is needed there, and what is found."""

    def __init__(self, place: str, needs: str, finding: str) -> None:
        self.place, self.needs, self.finding = place, needs, finding


def read_folder(folder: Path, version: str, *, train: bool = True) -> SquadData:
    """Read ``train-v{version}.json`` and ``dev-v{version}.json``.

    Args:
        folder: of the two.
        version: ``1.1`` or ``2.0``.
        train: whether the first is read; it need not be there to score a model.
    Raises:
        BadFileError: one is missing, no JSON, not of SQuAD's layout, or has no questions; an
            answer does not stand where it should; or two questions have one id.
    """
    paths = [_find(folder, side, version) for side in ((TRAIN, DEV) if train else (DEV,))]
    *first, dev = (_read(path, version) for path in paths)
    return SquadData(name=str(folder), train=first[0] if first else (), dev=dev)


def _find(folder: Path, names: tuple[str, ...], version: str) -> Path:
    wanted = [name.format(version=version) for name in names]
    for name in wanted:
        if (folder / name).is_file():
            return folder / name
    if folder.is_dir():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        has = f"holds {found}"
    else:
        has = "is not there"
    raise BadFileError(
        path=folder,
        needs=f"be a folder with {' or '.join(wanted)}",
        finding=has,
        way_out="Name the folder that the files of SQuAD are in, and their `version`.",
    )


def _read(path: Path, version: str) -> tuple[Question, ...]:
    try:
        tree = json.loads(read_text(path))
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):
            raise
        raise BadLineError(
            path=path,
            line=error.lineno,
            needs="be JSON",
            finding=f"is not ({error.msg} at column {error.colno:,})",
            way_out="Fetch the file again.",
        ) from error
    try:
        return _each_once(_questions(tree, version), "data")
    except _FaultError as fault:
        raise BadFileError(
            path=path,
            needs=f"be of SQuAD's layout: `{fault.place}` must {fault.needs}",
            finding=fault.finding,
            way_out=f"Fetch the file of SQuAD {version}, or mend this one.",
        ) from None


def _each_once(found: Iterable[Placed], whole: str) -> tuple[Question, ...]:
    """All questions of a side: there are some, and answers are told apart by their ids."""
    places: dict[str, str] = {}
    questions = []
    for place, question in found:
        if (before := places.setdefault(question.id, place)) != place:
            finding = f"is {question.id!r:.40}, as that of `{before}`"
            raise _FaultError(f"{place}.id", "be of one question alone", finding)
        questions.append(question)
    if not questions:
        raise _FaultError(whole, "hold questions", "has none")
    return tuple(questions)


def _questions(tree: object, version: str) -> Iterator[Placed]:
    for number, article in enumerate(_list(tree, "", "data")):
        place = f"data[{number}]"
        for index, paragraph in enumerate(_list(article, place, "paragraphs")):
            inside = f"{place}.paragraphs[{index}]"
            passage = _text(paragraph, inside, "context")
            for item, entry in enumerate(_list(paragraph, inside, "qas")):
                here = f"{inside}.qas[{item}]"
                yield here, _question(entry, here, passage, version)


def _question(entry: object, place: str, passage: str, version: str) -> Question:
    texts, start = [], None
    impossible = isinstance(entry, Mapping) and bool(entry.get("is_impossible"))
    for index, answer in enumerate([] if impossible else _list(entry, place, "answers")):
        here = f"{place}.answers[{index}]"
        texts.append(_text(answer, here, "text"))
        first = _start(answer, here, texts[-1], passage)
        start = first if start is None else start
    if not texts and version == "1.1":
        raise _FaultError(
            f"{place}.answers", "hold an answer", "has none (it may be of version 2.0)"
        )
    return Question(
        id=_text(entry, place, "id"),
        question=_text(entry, place, "question"),
        passage=passage,
        answers=tuple(texts),
        start=start,
    )


def _start(answer: object, place: str, text: str, passage: str) -> int:
    start = answer.get("answer_start") if isinstance(answer, Mapping) else None
    if not isinstance(start, int):
        raise _FaultError(f"{place}.answer_start", "be a whole number", f"is {start!r:.40}")
    if not text or passage[start : start + len(text)] != text or start < 0:
        there = passage[max(start, 0) : max(start, 0) + len(text)]
        needs = f"stand in the passage at {start:,}"
        raise _FaultError(
            f"{place}.text", needs, f"is {text!r:.40}, and {there!r:.40} stands there"
        )
    return start


def _list(tree: object, place: str, name: str) -> list[Any]:
    found = tree.get(name) if isinstance(tree, Mapping) else None
    if not isinstance(found, list):
        where = f"{place}.{name}".lstrip(".")
        raise _FaultError(where, "be a list", "is missing" if found is None else "is none")
    return found


def _text(tree: object, place: str, name: str) -> str:
    found = tree.get(name) if isinstance(tree, Mapping) else None
    if not isinstance(found, str):
        has = "is missing" if found is None else f"is {found!r:.40}"
        raise _FaultError(f"{place}.{name}", "be a string", has)
    return found


def read_hub(name: str, version: str, *, train: bool = True) -> SquadData:
    """Load SQuAD with the package ``datasets``; rows are checked as those of files are.

    Args:
        name: of the set on the hub, or a folder with such a set.
        version: ``1.1`` or ``2.0``.
    Raises:
        SetNotFoundError: there is none, its columns are others, it has no questions, or a row is
            not of this version, not of SQuAD's layout, or has the id of another one.
    """
    first = _hub_side(name, "train", version) if train else ()
    return SquadData(name=name, train=first, dev=_hub_side(name, "validation", version))


def _hub_side(name: str, split: str, version: str) -> tuple[Question, ...]:
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        rows = load_dataset(name, split=split)
    except Exception as error:  # its errors have no class in common
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SetNotFoundError(name=name, finding=f"{split} cannot be had ({first})") from error
    missing = sorted({"id", "question", "context", "answers"} - set(rows.column_names))
    if missing:
        raise SetNotFoundError(name=name, finding=f"{split} has no column `{missing[0]}`")
    try:
        return _each_once(_of_hub(rows, split, version), split)
    except _FaultError as fault:
        finding = (
            f"it is not of SQuAD {version}: `{fault.place}` must {fault.needs}, but {fault.finding}"
        )
        raise SetNotFoundError(name=name, finding=finding) from None


def _of_hub(rows: Iterable[Mapping[str, Any]], split: str, version: str) -> Iterator[Placed]:
    """Questions of rows, whose answers are columns, as those of a file."""
    for number, row in enumerate(rows):
        place = f"{split}[{number}]"
        inside = f"{place}.answers"
        texts, starts = (_list(row["answers"], inside, key) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            needs, finding = f"have as many entries as `text` ({len(texts)})", f"has {len(starts)}"
            raise _FaultError(f"{inside}.answer_start", needs, finding)
        pairs = zip(texts, starts, strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in pairs]
        passage = _text(row, place, "context")
        yield place, _question({**row, "answers": answers}, place, passage, version)


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
TRAIN_QUESTIONS: Final = 3_000
DEV_QUESTIONS: Final = 600
UNANSWERABLE: Final = 1 / 3
SEED: Final = 2016


def built_in(version: str) -> SquadData:
    """3,000 questions to learn from and 600 to be scored on, the same always."""
    rng, seen = PortableRandom(SEED), set[tuple[str, str]]()
    found: list[Question] = []
    while len(found) < TRAIN_QUESTIONS + DEV_QUESTIONS:
        question = _make_question(rng, str(len(found)), unanswerable=version == "2.0")
        if (key := (question.passage, question.question)) not in seen:
            seen.add(key)
            found.append(question)
    return SquadData(
        name=f"built-in grammar, SQuAD {version}",
        train=tuple(found[:TRAIN_QUESTIONS]),
        dev=tuple(found[TRAIN_QUESTIONS:]),
    )


def _make_question(rng: PortableRandom, number: str, *, unanswerable: bool) -> Question:
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
