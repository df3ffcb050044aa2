"""BLEU and chrF by sacreBLEU, the smoothed training loss, and the validation loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.errors import MissingPackageError
from embshare.models.matched import MatchedSeq2Seq
from embshare.models.matched.embedding import IGNORED
from embshare.tasks.task import Batch

__all__ = ["Score", "Scorers", "SmoothedLoss", "nats_per_row"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Value of a metric, with the signature that makes it comparable."""

    value: float
    """Value from 0 to 100."""
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
    """Tokenizer of BLEU."""
    lowercase: bool = False
    """Score case-insensitively."""

    def score(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> dict[str, Score]:
        """Compute ``bleu`` and ``chrf``.

        Args:
            predictions: translation of each sentence.
            references: one or several references of each sentence, as streams of equal length.
        Raises:
            MissingPackageError: sacrebleu is not installed.
        """
        found = {}
        for name, metric in self._metrics(None).items():
            value = metric.corpus_score(list(predictions), [list(side) for side in references])
            found[name] = Score(value=float(value.score), signature=str(metric.get_signature()))
        return found

    def signatures(self, references: Sequence[Sequence[str]]) -> Mapping[str, str]:
        """Signatures of both metrics, before anything is translated."""
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


@dataclass(frozen=True)
class SmoothedLoss:
    """Cross-entropy with label smoothing, for training; evaluation uses the model's own loss.

    Source:
        Szegedy et al. 2016, section 7; for translation Vaswani et al. 2017, section 5.4.
    """

    smoothing: float

    def __call__(self, model: nn.Module, batch: Batch, left: int) -> Tensor:
        """Compute the mean nats per token, as `embshare.tasks.task.Objective`."""
        labels = batch["labels"]
        given = {name: value for name, value in batch.items() if name != "labels"}
        given["decoder_input_ids"] = _decoder_inputs(model, labels)
        total = F.cross_entropy(
            model(**given)["logits"].flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.smoothing,
            reduction="sum",
        )
        return total / labels.ne(IGNORED).sum().clamp(min=1)


def _decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor:
    """Shift the labels: a model that is given labels would compute a loss that nobody needs."""
    owner: Any = getattr(model, "module", model)  # several processes train a wrapped model
    if isinstance(owner, MatchedSeq2Seq):
        return owner.shift(labels)
    before: Tensor
    if (own := getattr(owner, "prepare_decoder_input_ids_from_labels", None)) is not None:
        before = own(labels.clone())  # some write into their argument
        return before
    before = labels.roll(1, dims=1)
    before[:, 0] = owner.config.decoder_start_token_id
    return before.masked_fill(before.eq(IGNORED), owner.config.pad_token_id)


def nats_per_row(logits: Any, labels: Tensor) -> Tensor:
    """Sum ``-log p`` and count the tokens of each row, ``[B, 2]`` of float64.

    Args:
        logits: ``[B, T, V]``, position ``t`` predicts token ``t``; or a tuple that begins with it.
        labels: ``[B, T]``, -100 where nothing is predicted.
    """
    scores: Tensor = logits[0] if isinstance(logits, tuple) else logits
    nats = F.cross_entropy(
        scores.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    per_row = nats.view_as(labels).double().sum(dim=1)
    return torch.stack((per_row, labels.ne(IGNORED).sum(dim=1).double()), dim=1)
