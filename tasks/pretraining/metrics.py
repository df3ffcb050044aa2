"""Perplexity of masked tokens, detection of replaced ones, and samples of predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.matched.embedding import IGNORED
from embshare.tasks.pretraining.collating import FixedMasks
from embshare.tasks.pretraining.masked_models import as_masked_model, labelled_logits
from embshare.tasks.pretraining.rows import Rows
from embshare.tasks.task import Batch
from embshare.tasks.text.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from embshare.models.convbert import ConvBertForPreTraining

__all__ = ["METRICS", "discriminator_scores", "sums_per_row", "to_metrics", "write_samples"]

METRICS: Final = ("masked_perplexity", "masked_accuracy", "masked_tokens")
SHOWN: Final = 5
"""Number of rows, from all over the text."""
TOKENS: Final = 32
"""Number of tokens of each row."""


def sums_per_row(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of ``-log p``, number of correct predictions and number of labels of each row.

    Args:
        logits: scores of all positions, or of the labelled ones; see `labelled_logits`.
        labels: ``[B, T]``, -100 where nothing is predicted.
    Returns:
        ``[B, 3]`` of float64, so that sums over a long text stay exact.
    """
    scored = labels != IGNORED
    kept, wanted = labelled_logits(logits, labels).float(), labels[scored]
    nats = F.cross_entropy(kept, wanted, reduction="none").double()
    hits = (kept.argmax(dim=-1) == wanted).double()
    found = torch.stack((nats, hits, torch.ones_like(nats)), dim=1)
    rows = scored.nonzero()[:, 0]
    return found.new_zeros(len(labels), 3).index_add(0, rows, found)


def to_metrics(sums: Any) -> Mapping[str, float]:
    """Metrics by the names in `METRICS`, from sums ``[N, 3]`` of rows."""
    nats, hits, tokens = sums.sum(axis=0).tolist()
    try:
        perplexity = math.exp(nats / tokens)
    except OverflowError:
        perplexity = math.inf
    return dict(zip(METRICS, (perplexity, hits / tokens, tokens), strict=True))


@torch.inference_mode()
def discriminator_scores(
    model: ConvBertForPreTraining, batches: Iterable[Batch], *, seed: int
) -> Mapping[str, float]:
    """How well replaced tokens are detected, with replacements drawn by the generator.

    Args:
        model: in evaluation mode.
        batches: rows without masks, ``input_ids`` ``[B, T]``.
        seed: seed of the masks and of the generator's draws.
    Returns:
        ``replaced_share``, of all tokens; ``replaced_accuracy``, where a model that detects none
        has one minus that share; ``replaced_f1``, of detecting them.
    """
    device = model.convbert.embeddings.word_embeddings.weight.device
    random = torch.Generator(device).manual_seed(seed)
    counts = torch.zeros(4, dtype=torch.float64)
    for batch in batches:
        output: Any = model(batch["input_ids"].to(device), generator=random)
        taken, replaced = output.logits > 0, output.replaced.bool()
        kinds = (taken & replaced, taken & ~replaced, ~taken & replaced, ~taken & ~replaced)
        counts += torch.stack([kind.sum() for kind in kinds]).double().cpu()
    hits, false, missed, right = counts.tolist()
    total = max(1.0, hits + false + missed + right)
    return {
        "replaced_share": (hits + missed) / total,
        "replaced_accuracy": (hits + right) / total,
        "replaced_f1": 2 * hits / max(1.0, 2 * hits + false + missed),
    }


@torch.inference_mode()
def write_samples(
    tokenizer: TextTokenizer, model: nn.Module, rows: Rows, masks: FixedMasks, folder: Path
) -> None:
    """Write ``samples.json``: rows with masks, the masked tokens, and the predicted ones."""
    numbers = range(0, len(rows), max(1, len(rows) // SHOWN))[:SHOWN]
    batch = masks([rows[number] for number in numbers])
    device = next(model.parameters()).device
    ids, labels = batch["input_ids"], batch["labels"]
    output: Any = as_masked_model(model.eval())(input_ids=ids.to(device), labels=labels.to(device))
    best = labelled_logits(output["logits"], labels.to(device)).argmax(dim=-1).cpu()
    guessed = torch.full_like(labels, IGNORED)
    guessed[labels != IGNORED] = best
    samples = [_sample(tokenizer, *parts) for parts in zip(ids, labels, guessed, strict=True)]
    content = json.dumps(samples, ensure_ascii=False, indent=1)
    (folder / "samples.json").write_text(content, encoding="utf-8")


def _sample(
    tokenizer: TextTokenizer, ids: Tensor, labels: Tensor, guessed: Tensor
) -> dict[str, str]:
    ids, labels, guessed = (part[1:TOKENS] for part in (ids, labels, guessed))
    masked = labels != IGNORED
    return {
        "given": tokenizer.decode(ids.tolist()),
        "reference": _words(tokenizer, labels[masked].tolist()),
        "prediction": _words(tokenizer, guessed[masked].tolist()),
    }


def _words(tokenizer: TextTokenizer, ids: Sequence[int]) -> str:
    return ", ".join(tokenizer.decode([token]) for token in ids)
