"""Scores of captions as papers report them, by pycocoevalcap.

METEOR, SPICE and the published split into words are Java programs. `make_plan` says before training
which of them this machine can run; where the split cannot be the published one, scores have other
names.

Source:
    Papineni et al. 2002 (BLEU); Lin 2004 (ROUGE-L); Vedantam, Zitnick & Parikh 2015 (CIDEr-D);
    Denkowski & Lavie 2014 (METEOR 1.5); Anderson et al. 2016 (SPICE).
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from embshare.errors import InvalidValueError
from embshare.tasks.captioning.config import SCORES
from embshare.tasks.captioning.words import is_plain, tokenize
from embshare.tasks.errors import DataError

__all__ = [
    "CLASSES",
    "PARSER",
    "ScorePlan",
    "Scores",
    "ScoresLeftOutWarning",
    "make_plan",
    "score_words",
    "split_words",
]

CLASSES: Final = {
    "bleu": ("bleu.bleu", "Bleu"),
    "rouge_l": ("rouge.rouge", "Rouge"),
    "cider": ("cider.cider", "Cider"),
    "meteor": ("meteor.meteor", "Meteor"),
    "spice": ("spice.spice", "Spice"),
}
"""Score -> module and class of pycocoevalcap."""
QUICK: Final = ("bleu", "rouge_l", "cider")  # without Java, where captions are plain words
PARSER: Final = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
NO_JAVA: Final = "there is no `java` on the path (8 or newer)"
# SPICE keeps what it has parsed by libraries that write into Java's own classes, which Java 9 and
# newer allow only if asked to; Java 8 does not read this variable.
OPENED: Final = (
    *("java.lang", "java.math", "java.net", "java.nio", "java.text", "java.util"),
    *("java.util.concurrent", "sun.nio.ch"),
)
ENVIRONMENT: Final = {
    "JAVA_TOOL_OPTIONS": "-Dfile.encoding=UTF-8",  # Java 17 and older follow the locale
    "JDK_JAVA_OPTIONS": " ".join(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED),
}
NO_CAPTION: Final = "emptycaption"
"""Stands for a caption without words, for METEOR, which would take a reference for it."""


class ScoresLeftOutWarning(UserWarning):
    """Some published scores cannot be computed on this machine; the others are."""


@dataclass(frozen=True)
class ScorePlan:
    """Scores that are computed, and why others are not."""

    families: tuple[str, ...]
    """Scores that are computed, of `SCORES`."""
    words: Literal["plain", "ptb", "words"]
    """``ptb``: by Stanford's tokenizer, as published; ``plain``: captions are words of letters,
    which it would leave as they are; ``words``: by `embshare.tasks.captioning.words`, and the
    scores have ``_words`` behind their names."""
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Score -> reason."""

    @property
    def suffix(self) -> str:
        """Ending of the names of scores that cannot be compared with published ones."""
        return "_words" if self.words == "words" else ""

    def describe(self) -> dict[str, object]:
        """Return the plan as a result has it."""
        left_out = dict(self.left_out)
        return {"computed": list(self.families), "words": self.words, "left_out": left_out}


def make_plan(wanted: tuple[str, ...] | None, captions: Iterable[str], *, quick: bool) -> ScorePlan:
    """Look for Java and SPICE's parser, and decide.

    Args:
        wanted: names of scores; ``None`` is as many as this machine can compute, and warns of the
            others.
        captions: the references; plain ones need no tokenizer.
        quick: with ``None``, leave out what needs Java without a warning.
    Raises:
        InvalidValueError: what is wanted by name cannot be computed here.
    Warns:
        ScoresLeftOutWarning: of all scores some cannot be computed, or not as published.
    """
    words: Literal["plain", "ptb", "words"] = "words"
    if all(map(is_plain, captions)):
        words = "plain"
    elif shutil.which("java"):
        words = "ptb"
    names = wanted or (QUICK if quick else SCORES)
    left_out = {name: why for name in names if (why := _obstacle(name))}
    if wanted and left_out:
        faults = [
            f"`metrics` names `{name}`, which cannot be computed here: {why}. Mend that, or leave "
            f"`{name}` out"
            for name, why in left_out.items()
        ]
        raise InvalidValueError(what="CaptioningConfig", faults=faults)
    families = tuple(name for name in names if name not in left_out)
    plan = ScorePlan(families, words, MappingProxyType(left_out))
    if not quick:
        _warn(plan)
    return plan


def _obstacle(name: str) -> str | None:
    """Why a score cannot be computed, if it cannot."""
    if name in ("meteor", "spice") and shutil.which("java") is None:
        return NO_JAVA
    if name == "spice":
        folder = _folder() / "spice" / "lib"
        if not all((folder / jar).is_file() for jar in PARSER):
            return (
                f"its parser ({PARSER[0]} and its models) is not in {folder}; pycocoevalcap's "
                "get_stanford_models.py fetches it"
            )
    return None


def _folder() -> Path:
    """Folder of pycocoevalcap."""
    found = find_spec("pycocoevalcap")
    assert found is not None and found.submodule_search_locations, "`Captioning.prepare` checks it"
    return Path(next(iter(found.submodule_search_locations)))


def _warn(plan: ScorePlan) -> None:
    parts = [f"{name} is left out: {why}" for name, why in plan.left_out.items()]
    if plan.words == "words":
        parts.append(
            "captions are split into words without Stanford's tokenizer, which needs Java, so that "
            "scores are named with `_words` and are not those of other reports"
        )
    if parts:
        text = f"{'; '.join(parts)}. Computed: {', '.join(plan.families)}."
        warnings.warn(ScoresLeftOutWarning(text[0].upper() + text[1:]), stacklevel=3)


def split_words(captions: Iterable[str], plan: ScorePlan) -> list[str]:
    """Captions as words with a space between them, by the plan's tokenizer.

    Raises:
        DataError: the Java program failed.
    """
    lines = [" ".join(caption.split()) for caption in captions]
    if plan.words == "plain":
        return lines
    if plan.words == "words":
        return [" ".join(tokenize(line)) for line in lines]
    rows = {number: [{"caption": line}] for number, line in enumerate(lines)}
    with _java("the split into words", _folder() / "tokenizer"):
        found: dict[int, list[str]] = _made("tokenizer.ptbtokenizer", "PTBTokenizer").tokenize(rows)
        if len(found) != len(lines):  # a program that failed gives fewer, without an error
            raise ValueError(f"{len(found):,} lines came back for {len(lines):,}")
    return [found[number][0] for number in rows]


@dataclass(frozen=True)
class Scores:
    """Scores of a whole split."""

    corpus: dict[str, float]
    """Scores by name, as pycocoevalcap gives them: CIDEr from 0 to 10, the others from 0 to 1."""
    cider: tuple[float, ...]
    """CIDEr-D of each caption, for samples."""


def score_words(
    captions: Sequence[str], references: Sequence[Sequence[str]], plan: ScorePlan
) -> Scores:
    """Score captions that are words already, with a space between them.

    Args:
        captions: one for each image.
        references: one or more for each image.
        plan: which scores, among them CIDEr.
    Raises:
        DataError: a Java program failed.
    """
    known = {number: list(lines) for number, lines in enumerate(references)}
    given = {number: [line] for number, line in enumerate(captions)}
    found: dict[str, float] = {}
    cider: tuple[float, ...] = ()
    for name in plan.families:
        pair = (_for_meteor(known), _for_meteor(given)) if name == "meteor" else (known, given)
        module, kind = CLASSES[name]
        with _java(f"`{name}`", _folder() / name), redirect_stdout(io.StringIO()):
            whole, each = _score(_made(module, kind), *pair)
        match name:
            case "bleu":
                found |= {f"bleu_{order}": float(x) for order, x in enumerate(whole, start=1)}
            case "spice":  # an image without a score, which is not a number, counts in no mean
                found["spice"] = float(np.nanmean([row["All"]["f"] for row in each]))
            case _:
                found[name] = float(whole)
        if name == "cider":
            cider = tuple(map(float, each))
    return Scores({f"{name}{plan.suffix}": value for name, value in found.items()}, cider)


def _made(module: str, kind: str) -> Any:
    return getattr(import_module(f"pycocoevalcap.{module}"), kind)()


def _score(scorer: Any, *pair: Mapping[int, list[str]]) -> tuple[Any, Any]:
    try:
        found: tuple[Any, Any] = scorer.compute_score(*pair)
        return found
    finally:
        if (program := getattr(scorer, "meteor_p", None)) is not None:
            _end(program, scorer.lock)


def _end(program: subprocess.Popen[bytes], lock: Lock) -> None:
    """End METEOR's program.

    Its own finalizer leaves pipes open, and would wait for a lock that a failure leaves locked.
    """
    program.kill()
    program.wait()
    for pipe in filter(None, (program.stdin, program.stdout, program.stderr)):
        with suppress(OSError):  # what could not be written any more
            pipe.close()
    if lock.locked():
        lock.release()


def _for_meteor(rows: Mapping[int, list[str]]) -> dict[int, list[str]]:
    """Lines without its separator, none of which is empty."""
    return {
        number: [" ".join(line.replace("|||", " ").split()) or NO_CAPTION for line in lines]
        for number, lines in rows.items()
    }


@contextmanager
def _java(what: str, place: Path) -> Iterator[None]:
    """Give Java programs their `ENVIRONMENT`, and name one that fails."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    for name, options in ENVIRONMENT.items():
        os.environ[name] = f"{before[name] or ''} {options}".strip()
    try:
        yield
    except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        raise DataError(
            place,
            needs=f"compute {what}",
            has=f"fails ({type(error).__name__}: {error})",
            hint="Its Java program may have said more above. See that it runs, and that you may "
            "write to this folder; if not, install pycocoevalcap into a virtual environment.",
        ) from error
    finally:
        for name in ENVIRONMENT:
            del os.environ[name]
        os.environ.update({name: options for name, options in before.items() if options})
