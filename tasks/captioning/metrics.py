"""Scores of captions as papers report them: which this machine can compute, and their numbers.

BLEU and ROUGE-L are pycocoevalcap's. Its Java programs (Stanford's tokenizer, METEOR, SPICE) are
run from here: its own calls wait for ever for a program that hangs, take the output of one that
failed for a short answer, read text in the machine's locale, write into the installed package, and
keep SPICE's cache in a database that Java 17 refuses. CIDEr-D is our own: it is the reward of
self-critical training (`embshare.tasks.captioning.cider`), and needs no pycocoevalcap.

Source:
    Denkowski & Lavie 2014, "Meteor Universal" (version 1.5, English, with its normalisation);
    Anderson et al. 2016, "SPICE: Semantic Propositional Image Caption Evaluation".
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from embshare.errors import EmbshareError
from embshare.tasks.captioning.cider import Frequencies, cider_d, pad_references, pad_rows
from embshare.tasks.captioning.config import SCORES
from embshare.tasks.captioning.words import PUNCTUATION, is_plain, tokenize

__all__ = [
    "ScoreError",
    "ScorePlan",
    "Scores",
    "ScoresLeftOutWarning",
    "find_java",
    "make_plan",
    "read_spice",
    "score_captions",
    "score_words",
    "split_words",
]

QUICK: Final = ("bleu", "rouge_l", "cider")  # without Java, where captions are plain words
PARSER: Final = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
JAVA_OPTIONS: Final = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Djava.awt.headless=true")
NO_CAPTION: Final = "emptycaption"
"""In place of a caption without words, which so scores 0 and keeps its line."""

Captions = Sequence[str]
References = Sequence[Sequence[str]]


class ScoreError(EmbshareError):
    """A score cannot be computed: a package, Java or a file is missing, or a program failed."""

    def __init__(self, score: str, *, has: str, hint: str) -> None:
        super().__init__(f"`{score}` cannot be computed: {has}. {hint}")
        self.score, self.has, self.hint = score, has, hint


class ScoresLeftOutWarning(UserWarning):
    """Some published scores cannot be computed on this machine; the others are."""


@dataclass(frozen=True)
class ScorePlan:
    """What is computed, and what not, and why."""

    families: tuple[str, ...]
    """Names among `SCORES`."""
    words: Literal["plain", "ptb", "words"]
    """``ptb``: by Stanford's tokenizer, as published; ``plain``: captions are words of letters,
    which it would leave as they are; ``words``: by `embshare.tasks.captioning.words`, and the
    scores have ``_words`` behind their names."""
    java: Path | None = None
    """The program ``java``."""
    package: Path | None = None
    """The folder of pycocoevalcap."""
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Score -> reason."""
    memory: str = "1G"
    """Largest heap of a Java program, as Java's ``-Xmx`` takes it."""
    seconds: float = 600.0
    """After which a Java program is ended."""

    @property
    def suffix(self) -> str:
        """Behind the names of scores that cannot be compared with published ones."""
        return "_words" if self.words == "words" else ""

    def describe(self) -> dict[str, object]:
        """For a result."""
        left_out = dict(self.left_out)
        return {"computed": list(self.families), "words": self.words, "left_out": left_out}


def find_java() -> Path | None:
    """``java`` of ``JAVA_HOME``, else on the path, if there is one."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home, "bin"))) if home else None
    found = found or shutil.which("java")
    return None if found is None else Path(found)


def _package() -> Path | None:
    found = find_spec("pycocoevalcap")
    places = None if found is None else found.submodule_search_locations
    return Path(next(iter(places))) if places else None


def make_plan(
    wanted: tuple[str, ...] | None,
    captions: Iterable[str],
    *,
    quick: bool,
    memory: str,
    seconds: float,
) -> ScorePlan:
    """Look for packages, Java and the parser, and decide.

    Args:
        wanted: names of scores; ``None`` is as many as this machine can compute, and warns of the
            others.
        captions: the references; plain ones need no tokenizer.
        quick: with ``None``, leave out what needs Java without a warning.
        memory: as in `ScorePlan`.
        seconds: as in `ScorePlan`.
    Raises:
        ScoreError: what is wanted by name cannot be computed here.
    Warns:
        ScoresLeftOutWarning: of all scores some cannot be computed, or not as published.
    """
    package, java = _package(), find_java()
    words: Literal["plain", "ptb", "words"] = "words"
    if all(map(is_plain, captions)):
        words = "plain"
    elif java is not None and package is not None:
        words = "ptb"
    names = wanted or (QUICK if quick else SCORES)
    reasons = {name: why for name in names if (why := _obstacle(name, java, package))}
    if wanted:
        for name, why in reasons.items():
            raise ScoreError(name, has=why, hint=_hint(name, package))
    families = tuple(name for name in names if name not in reasons)
    plan = ScorePlan(families, words, java, package, MappingProxyType(reasons), memory, seconds)
    if not quick:
        _warn(plan)
    return plan


def _obstacle(name: str, java: Path | None, package: Path | None) -> str | None:
    """Why a score cannot be computed, if it cannot."""
    if name == "cider":
        return None
    if package is None:
        return "pycocoevalcap is not installed"
    if name in ("meteor", "spice") and java is None:
        return "there is no Java (neither JAVA_HOME nor `java` on the path)"
    if name == "spice" and not all((package / "spice" / "lib" / jar).is_file() for jar in PARSER):
        return f"its parser ({PARSER[0]} and its models) is not in {package / 'spice' / 'lib'}"
    return None


def _hint(name: str, package: Path | None) -> str:
    if package is None:
        return "Install it with pip install 'embshare[captioning]'."
    if name == "spice":
        return "pycocoevalcap's get_stanford_models.py fetches it; else leave it out of `metrics`."
    return "Install a Java runtime (8 or newer), or leave it out of `metrics`."


def _warn(plan: ScorePlan) -> None:
    parts = [f"{name} is left out: {why}" for name, why in plan.left_out.items()]
    if plan.words == "words":
        parts.append(
            "captions are split into words without Stanford's tokenizer, which needs pycocoevalcap "
            "and Java, so that scores are named with `_words` and are not those of other reports"
        )
    if parts:
        text = f"{'; '.join(parts)}. Computed: {', '.join(plan.families)}."
        warnings.warn(ScoresLeftOutWarning(text[0].upper() + text[1:]), stacklevel=3)


@dataclass(frozen=True)
class Scores:
    """Scores of a whole split."""

    corpus: dict[str, float]
    """By name, as pycocoevalcap gives them: CIDEr from 0 to 10, the others from 0 to 1."""
    cider: tuple[float, ...]
    """CIDEr-D of each caption, for samples."""


def score_captions(captions: Captions, references: References, plan: ScorePlan) -> Scores:
    """Score captions as they are written.

    Args:
        captions: one for each image.
        references: one or more for each image.
        plan: which scores, and by which words.
    Raises:
        ScoreError: a program failed.
    """
    every = iter(split_words([*captions, *chain.from_iterable(references)], plan))
    found = [next(every) for _ in captions]
    return score_words(found, [[next(every) for _ in lines] for lines in references], plan)


def split_words(captions: Captions, plan: ScorePlan) -> list[str]:
    """Captions as words with a space between them, by the plan's tokenizer.

    Raises:
        ScoreError: the Java program failed.
    """
    lines = [" ".join(caption.split()) for caption in captions]
    if plan.words == "plain":
        return lines
    if plan.words == "words":
        return [" ".join(tokenize(line)) for line in lines]
    jar = _jar(plan, "tokenizer", "stanford-corenlp-3.4.1.jar")
    program = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
    found = _run(plan, "words", ["-cp", jar, *program, "-encoding", "UTF-8"], lines)
    if len(found) != len(lines):
        raise ScoreError(
            "words",
            has=f"the tokenizer gave {len(found):,} lines for {len(lines):,}",
            hint="Look for control characters in the captions.",
        )
    return [" ".join(w for w in line.split() if w not in PUNCTUATION) for line in found]


def score_words(captions: Captions, references: References, plan: ScorePlan) -> Scores:
    """Score captions that are words already, with a space between them.

    Raises:
        ScoreError: a program failed.
    """
    each = _cider(captions, references)
    known = {index: list(lines) for index, lines in enumerate(references)}
    given = {index: [line] for index, line in enumerate(captions)}
    found: dict[str, float] = {}
    for family in plan.families:
        match family:
            case "bleu":
                scorer = import_module("pycocoevalcap.bleu.bleu").Bleu(4)
                corpus, _ = scorer.compute_score(known, given, verbose=0)
                found |= {f"bleu_{order}": float(x) for order, x in enumerate(corpus, start=1)}
            case "rouge_l":
                scorer = import_module("pycocoevalcap.rouge.rouge").Rouge()
                found["rouge_l"] = float(scorer.compute_score(known, given)[0])
            case "cider":
                found["cider"] = sum(each) / len(each)
            case "meteor":
                found["meteor"] = _meteor(captions, references, plan)
            case "spice":
                found["spice"] = _spice(captions, references, plan)
    return Scores({f"{name}{plan.suffix}": value for name, value in found.items()}, tuple(each))


def _cider(captions: Captions, references: References) -> list[float]:
    numbers: dict[str, int] = {}

    def encode(line: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers)) for word in line.split()]

    known = [[encode(line) for line in rows] for rows in references]
    found = [encode(line) for line in captions]
    frequencies = Frequencies.count(known, base=max(1, len(numbers)))
    scores: list[float] = []
    for begin in range(0, len(found), 256):  # more at once would only take more memory
        some = slice(begin, begin + 256)
        padded = (*pad_rows(found[some]), *pad_references(known[some]))
        scores += cider_d(*padded, frequencies).tolist()
    return scores


def _meteor(captions: Captions, references: References, plan: ScorePlan) -> float:
    def clean(line: str) -> str:
        return " ".join(line.replace("|||", " ").split())  # pycocoevalcap's separator is no word

    # The program takes a fixed number of references; one that is there twice changes no score.
    most = max(map(len, references))
    known = [clean(line) for lines in references for line in ([*lines] * most)[:most]]
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch, "captions"), Path(scratch, "references")
        for file, lines in zip(
            files, ([clean(c) or NO_CAPTION for c in captions], known), strict=True
        ):
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        options = ["-l", "en", "-norm", "-r", str(most), "-q"]
        jar = _jar(plan, "meteor", "meteor-1.5.jar")
        answers = _run(plan, "meteor", ["-jar", jar, *map(str, files), *options], [])
    try:
        return float(answers[-1])
    except (ValueError, IndexError) as error:
        has = f"its program answered {answers!r:.60}"
        raise ScoreError("meteor", has=has, hint="Leave it out of `metrics`.") from error


def _spice(captions: Captions, references: References, plan: ScorePlan) -> float:
    rows = [
        {"image_id": index, "test": caption, "refs": list(lines)}
        for index, (caption, lines) in enumerate(zip(captions, references, strict=True))
    ]
    jar = _jar(plan, "spice", "spice-1.0.jar")
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch, "captions.json"), Path(scratch, "scores.json")
        given.write_text(json.dumps(rows), encoding="utf-8")
        _run(plan, "spice", ["-jar", jar, str(given), "-out", str(found), "-silent"], [])
        if not found.is_file():
            raise _failed("spice", "it wrote no scores")
        return read_spice(found.read_text(encoding="utf-8"))


def read_spice(text: str) -> float:
    """The mean of what SPICE wrote; an image without a score counts in no mean."""
    scores = [row["scores"]["All"]["f"] for row in json.loads(text)]
    known = [float(score) for score in scores if score is not None and math.isfinite(score)]
    return sum(known) / len(known) if known else 0.0


def _jar(plan: ScorePlan, folder: str, name: str) -> str:
    assert plan.package is not None, "`make_plan` sees to this"
    return str(plan.package / folder / name)


def _run(plan: ScorePlan, score: str, arguments: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The lines that a Java program writes when it is given lines; it has ended."""
    assert plan.java is not None, "`make_plan` sees to this"
    try:
        done = subprocess.run(
            [str(plan.java), *JAVA_OPTIONS, f"-Xmx{plan.memory}", *arguments],
            input="".join(f"{line}\n" for line in lines).encode(),
            capture_output=True,
            timeout=plan.seconds,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        has = f"its Java program took more than {plan.seconds:g} s"
        hint = "Raise `java_seconds`, or leave it out of `metrics`."
        raise ScoreError(score, has=has, hint=hint) from error
    except subprocess.CalledProcessError as error:
        raise _failed(score, error.stderr.decode(errors="replace")) from error
    except OSError as error:
        raise _failed(score, str(error)) from error
    return done.stdout.decode().split("\n")[:-1]


def _failed(score: str, complaints: str) -> ScoreError:
    """The error of a program that failed, with the most telling line of what it said."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    said = [line for line in lines if "rror" in line or "xception" in line] or lines[-1:]
    return ScoreError(
        score,
        has=f"its Java program failed ({said[0] if said else 'it said nothing'})",
        hint="Give it more memory (`java_memory`), or leave it out of `metrics`.",
    )
