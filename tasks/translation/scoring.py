"""BLEU and chrF by sacreBLEU, with the signatures that make them comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embshare.errors import MissingPackageError

__all__ = ["Score", "Scorers"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric's value, and what it was computed with."""

    value: float
    """From 0 to 100."""
    signature: str
    """Number of references, case, tokenizer, smoothing and version, as sacreBLEU writes them."""


@dataclass(frozen=True, kw_only=True)
class Scorers:
    """BLEU and chrF of detokenised lines.

    Source:
        Post 2018, "A Call for Clarity in Reporting BLEU Scores"; Popović 2015 for chrF, whose
        defaults (six characters, no words, beta 2) are sacreBLEU's.
    """

    tokenizer: str = "13a"
    """How BLEU splits lines into words."""
    lowercase: bool = False
    """Without regard to case."""

    def score(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> dict[str, Score]:
        """``bleu`` and ``chrf``.

        Args:
            predictions: one of each sentence.
            references: one or several streams of as many.
        Raises:
            MissingPackageError: sacrebleu is not installed.
        """
        found = {}
        for name, metric in self._metrics(None).items():
            value = metric.corpus_score(list(predictions), [list(side) for side in references])
            found[name] = Score(value=float(value.score), signature=str(metric.get_signature()))
        return found

    def signatures(self, references: Sequence[Sequence[str]]) -> Mapping[str, str]:
        """Of both, before anything is translated."""
        sides = [list(side[:1]) for side in references]
        return {name: str(m.get_signature()) for name, m in self._metrics(sides).items()}

    def _metrics(self, references: list[list[str]] | None) -> dict[str, Any]:
        try:
            from sacrebleu.metrics.bleu import BLEU
            from sacrebleu.metrics.chrf import CHRF
        except ModuleNotFoundError as error:
            raise MissingPackageError(package="sacrebleu", extra="translation") from error
        return {
            "bleu": BLEU(tokenize=self.tokenizer, lowercase=self.lowercase, references=references),
            "chrf": CHRF(lowercase=self.lowercase, references=references),
        }
