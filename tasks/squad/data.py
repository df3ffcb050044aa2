"""SQuAD's questions: of the published JSON, of a set of the hub, or made by a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, StrictInt, StrictStr, ValidationError, field_validator

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.hub import load_splits
from embshare.tasks.inputs import HubName
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
    """Answers of people; empty where the passage has no answer."""
    start: int | None = None
    """The first character of the first answer."""


@dataclass(frozen=True, kw_only=True)
class SquadData:
    """The training and the validation set."""

    name: str
    """Source, for a report."""
    train: tuple[Question, ...]
    dev: tuple[Question, ...]


class _Answer(BaseModel):
    text: StrictStr
    answer_start: StrictInt


class _Asked(BaseModel):
    id: StrictStr
    question: StrictStr
    answers: list[_Answer] | None = None
    is_impossible: bool = False

    @field_validator("answers", mode="before")
    @classmethod
    def _of_columns(cls, given: Any) -> Any:
        """Turn columns, as the hub has them, into a list, as files have it."""
        if not isinstance(given, Mapping):
            return given
        pairs = zip_longest(given.get("text") or (), given.get("answer_start") or ())
        return [{"text": text, "answer_start": start} for text, start in pairs]


class _Row(_Asked):
    context: StrictStr


class _Paragraph(BaseModel):
    context: StrictStr
    qas: list[_Asked]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: list[_Article]


Placed: TypeAlias = tuple[str, str, _Asked]
"""The place of a question in its source, its passage, and the question."""
Layout = TypeVar("Layout", bound=BaseModel)
NEEDS: Final = {"missing": "be there", "model_type": "be an object with names"}
"""Needs by the type of pydantic's error, where its message says them less well."""


@dataclass(frozen=True)
class _Source:
    """A file or a set of the hub, whose faults have a place."""

    path: Path
    version: str
    hint: str

    def fault(self, place: str, needs: str, has: str) -> DataError:
        return DataError(self.path, place or None, needs=needs, has=has, hint=self.hint)

    def parse(self, layout: type[Layout], tree: object, place: str = "") -> Layout:
        """Check the layout of a place."""
        try:
            return layout.model_validate(tree)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
            needs = NEEDS.get(first["type"], first["msg"].removeprefix("Input should "))
            has = "is missing" if first["type"] == "missing" else f"is {first['input']!r:.40}"
            raise self.fault(f"{place}{''.join(steps)}".lstrip("."), needs, has) from None

    def questions(self, whole: str, found: Iterable[Placed]) -> tuple[Question, ...]:
        """Check all questions of a split: there are some, and their ids differ."""
        places: dict[str, str] = {}
        questions = []
        for place, passage, asked in found:
            if (before := places.setdefault(asked.id, place)) != place:
                has = f"is {asked.id!r:.40}, as that of `{before}`"
                raise self.fault(f"{place}.id", "be of one question alone", has)
            questions.append(self._question(place, passage, asked))
        if not questions:
            raise self.fault(whole, "hold questions", "has none")
        return tuple(questions)

    def _question(self, place: str, passage: str, asked: _Asked) -> Question:
        answers = [] if asked.is_impossible else asked.answers
        if answers is None:
            raise self.fault(f"{place}.answers", "be a list", "is missing")
        if not answers and self.version == "1.1":
            has = "has none (it may be of version 2.0)"
            raise self.fault(f"{place}.answers", "hold an answer", has)
        for index, answer in enumerate(answers):
            start, text = answer.answer_start, answer.text
            if not text or start < 0 or not passage.startswith(text, start):
                there = passage[max(start, 0) : max(start, 0) + len(text)]
                has = f"is {text!r:.40}, and {there!r:.40} is there"
                where = f"{place}.answers[{index}].text"
                raise self.fault(where, f"be in the passage at {start:,}", has)
        return Question(
            id=asked.id,
            question=asked.question,
            passage=passage,
            answers=tuple(answer.text for answer in answers),
            start=answers[0].answer_start if answers else None,
        )


def read_folder(folder: Path, version: str, *, train: bool = True) -> SquadData:
    """Read ``train-v{version}.json`` and ``dev-v{version}.json``.

    Args:
        folder: with both files.
        version: ``1.1`` or ``2.0``.
        train: whether the first is read; it need not be there to score a model.
    Raises:
        DataError: one is missing, no JSON, not of SQuAD's layout, or has no questions; an answer
            is not where it should be; or two questions have one id.
    """
    paths = [_find(folder, names, version) for names in ((TRAIN, DEV) if train else (DEV,))]
    *first, dev = (_read(path, version) for path in paths)
    return SquadData(name=str(folder), train=first[0] if first else (), dev=dev)


def _find(folder: Path, names: tuple[str, ...], version: str) -> Path:
    wanted = [name.format(version=version) for name in names]
    for name in wanted:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
    raise MissingDataError(
        folder,
        needs=f"be a folder with {' or '.join(wanted)}",
        has="is not there" if there is None else f"holds {', '.join(there) or 'nothing'}",
        hint="Name the folder that the files of SQuAD are in, and their `version`.",
    )


def _read(path: Path, version: str) -> tuple[Question, ...]:
    try:
        tree = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(
            path,
            error.lineno,
            needs="be JSON",
            has=f"is not ({error.msg} at column {error.colno:,})",
            hint="Fetch the file again.",
        ) from error
    hint = f"Fetch the file of SQuAD {version}, or mend this one."
    source = _Source(path, version, hint)
    return source.questions("data", _of_file(source.parse(_File, tree)))


def _of_file(file: _File) -> Iterator[Placed]:
    for number, article in enumerate(file.data):
        for index, paragraph in enumerate(article.paragraphs):
            for item, asked in enumerate(paragraph.qas):
                place = f"data[{number}].paragraphs[{index}].qas[{item}]"
                yield place, paragraph.context, asked


def read_hub(hub: HubName, version: str, *, train: bool = True) -> SquadData:
    """Load SQuAD with the package ``datasets``; rows are checked as those of files are.

    Args:
        hub: name on the hub, or a folder with such a set, and a configuration where it has several.
        version: ``1.1`` or ``2.0``.
        train: as in `read_folder`.
    Raises:
        DataError: there is none, its columns are others, it has no questions, or a row is not of
            this version, not of SQuAD's layout, or has the id of another one.
    """
    hint = f"Name a set of SQuAD {version}, or a folder of your own with `data`."
    name = hub.name
    splits, source = load_splits(*hub), _Source(Path(name), version, hint)

    def read(split: str) -> tuple[Question, ...]:
        return source.questions(split, _of_rows(source, split, splits.get(split, ())))

    return SquadData(name=name, train=read("train") if train else (), dev=read("validation"))


def _of_rows(source: _Source, split: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Placed]:
    for number, entry in enumerate(rows):
        row = source.parse(_Row, entry, f"{split}[{number}]")
        yield f"{split}[{number}]", row.context, row


@dataclass(frozen=True)
class Fact:
    """Sentences that state something about a person, and questions that ask for it."""

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
    """Make 3,000 training and 600 validation questions, always the same."""
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
