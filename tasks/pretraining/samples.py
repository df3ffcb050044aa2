"""Samples of masked tokens and predictions, for people to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.tasks.pretraining.collating import FixedMasks
from embshare.tasks.pretraining.masked_models import as_masked_model, labelled_logits
from embshare.tasks.pretraining.processor import PretrainingProcessor
from embshare.tasks.pretraining.rows import Rows

__all__ = ["write_samples"]

SHOWN: Final = 5
"""Number of rows, from all over the text."""
TOKENS: Final = 32
"""Number of tokens of each row."""


@torch.inference_mode()
def write_samples(
    processor: PretrainingProcessor, model: nn.Module, rows: Rows, masks: FixedMasks, folder: Path
) -> None:
    """Write ``samples.json``: rows with masks, the masked tokens, and the predicted ones."""
    numbers = range(0, len(rows), max(1, len(rows) // SHOWN))[:SHOWN]
    batch = masks([rows[number] for number in numbers])
    device = next(model.parameters()).device
    ids, labels = batch["input_ids"], batch["labels"]
    output: Any = as_masked_model(model.eval())(input_ids=ids.to(device), labels=labels.to(device))
    best = labelled_logits(output["logits"], labels.to(device)).argmax(dim=-1).cpu()
    guessed = torch.full_like(labels, -100)
    guessed[labels != -100] = best
    samples = [_sample(processor, *parts) for parts in zip(ids, labels, guessed, strict=True)]
    content = json.dumps(samples, ensure_ascii=False, indent=1)
    (folder / "samples.json").write_text(content, encoding="utf-8")


def _sample(
    processor: PretrainingProcessor, ids: Tensor, labels: Tensor, guessed: Tensor
) -> dict[str, str]:
    ids, labels, guessed = (part[1:TOKENS] for part in (ids, labels, guessed))
    masked = labels != -100
    return {
        "given": processor.tokenizer.decode(ids.tolist()),
        "reference": _words(processor, labels[masked].tolist()),
        "prediction": _words(processor, guessed[masked].tolist()),
    }


def _words(processor: PretrainingProcessor, ids: Sequence[int]) -> str:
    return ", ".join(processor.tokenizer.decode([token]) for token in ids)
