"""Which scores are computed on this machine, and by which words."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from embshare.tasks.captioning.errors import ScoreError, ScoresLeftOutWarning
from embshare.tasks.captioning.java import Java, find_java
from embshare.tasks.captioning.tokens import is_plain

__all__ = ["FAMILIES", "QUICK", "ScorePlan", "make_plan"]

FAMILIES: Final = ("bleu", "rouge_l", "cider", "meteor", "spice")
QUICK: Final = ("bleu", "rouge_l", "cider")  # without Java, where captions are plain words
PARSER: Final = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
INSTALL: Final = "Install it with pip install 'embshare[captioning]'."

Words = Literal["plain", "ptb", "words"]


@dataclass(frozen=True)
class ScorePlan:
    """What is computed, and what not, and why."""

    families: tuple[str, ...]
    """Of `FAMILIES`."""
    words: Words
    """``ptb``: by Stanford's tokenizer, as published; ``plain``: captions are words of letters,
    which it would leave as they are; ``words``: by `embshare.tasks.captioning.tokens`, and the
    scores have ``_words`` behind their names."""
    java: Java | None
    package: Path | None
    """Of pycocoevalcap."""
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Family -> reason."""

    @property
    def suffix(self) -> str:
        """Behind the names of scores that cannot be compared with published ones."""
        return "_words" if self.words == "words" else ""

    def describe(self) -> dict[str, object]:
        """For a result."""
        return {
            "computed": list(self.families),
            "words": self.words,
            "left_out": dict(self.left_out),
        }


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
        wanted: of `FAMILIES`; ``None`` is as many as this machine can compute, and says which not.
        captions: the references; plain ones need no tokenizer.
        quick: with ``None``, leave out what needs Java without a word.
        memory: as in `Java`.
        seconds: likewise.
    Raises:
        ScoreError: what is wanted by name cannot be computed here.
    Warns:
        ScoresLeftOutWarning: of all scores some cannot be computed, or not as published.
    """
    package, path = _package(), find_java()
    java = None if path is None else Java(path, memory, seconds)
    words: Words = "words"
    if all(map(is_plain, captions)):
        words = "plain"
    elif java is not None and package is not None:
        words = "ptb"
    names = wanted or (QUICK if quick else FAMILIES)
    reasons = {name: why for name in names if (why := _obstacle(name, java, package))}
    if wanted:
        for name, why in reasons.items():
            raise ScoreError(score=name, finding=why, way_out=_way_out(name, package))
    families = tuple(name for name in names if name not in reasons)
    plan = ScorePlan(families, words, java, package, MappingProxyType(reasons))
    if not quick:
        _tell(plan)
    return plan


def _package() -> Path | None:
    found = find_spec("pycocoevalcap")
    places = None if found is None else found.submodule_search_locations
    return Path(next(iter(places))) if places else None


def _obstacle(name: str, java: Java | None, package: Path | None) -> str | None:
    """Why a score cannot be computed, if it cannot."""
    if name == "cider":
        return None  # our own, and equal to the published one
    if package is None:
        return "pycocoevalcap is not installed"
    if name in ("meteor", "spice") and java is None:
        return "there is no Java (neither JAVA_HOME nor `java` on the path)"
    if name == "spice" and not all((package / "spice" / "lib" / jar).is_file() for jar in PARSER):
        return f"its parser ({PARSER[0]} and its models) is not in {package / 'spice' / 'lib'}"
    return None


def _way_out(name: str, package: Path | None) -> str:
    if package is None:
        return INSTALL
    if name == "spice":
        return "pycocoevalcap's get_stanford_models.py fetches it; else leave it out of `metrics`."
    return "Install a Java runtime (8 or newer), or leave it out of `metrics`."


def _tell(plan: ScorePlan) -> None:
    parts = [f"{name} is left out: {why}" for name, why in plan.left_out.items()]
    if plan.words == "words":
        parts.append(
            "captions are split into words without Stanford's tokenizer, which needs pycocoevalcap "
            "and Java, so that scores are named with `_words` and are not those of other reports"
        )
    if parts:
        computed = ", ".join(plan.families)
        text = f"{'; '.join(parts)}. Computed: {computed}."
        warnings.warn(ScoresLeftOutWarning(text[0].upper() + text[1:]), stacklevel=3)
