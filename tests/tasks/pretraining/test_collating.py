"""Batches of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from embshare.tasks.pretraining.collating import FixedMasks, Plain, TrainingMasks
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.rows import PASSES, Row
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary

TOTAL = 50


def rows(vocabulary: MaskedVocabulary, visit: int = 0, length: int = 40) -> list[Row]:
    random = np.random.default_rng(0)
    symbols = random.choice(vocabulary.ordinary, (TOTAL, length))
    symbols[:, 0], symbols[:, -1] = 2, 3
    return [Row(visit, number, symbols[number]) for number in range(TOTAL)]


def masks(vocabulary: MaskedVocabulary, **changes: Any) -> TrainingMasks:
    return TrainingMasks(PretrainingConfig(**changes), vocabulary, TOTAL)


@pytest.mark.parametrize("masking", ["tokens", "words", "spans", "ltg_spans"])
def test_inputs_and_labels_belong_together(vocabulary: MaskedVocabulary, masking: str) -> None:
    given = rows(vocabulary)
    batch = masks(vocabulary, masking=masking)(given)
    assert set(batch) == {"input_ids", "labels"}
    whole = torch.from_numpy(np.stack([row.symbols for row in given]))
    scored = batch["labels"] != -100
    assert torch.equal(batch["labels"][scored], whole[scored])
    assert torch.equal(batch["input_ids"][~scored], whole[~scored])
    assert 0.1 < scored.float().mean() < 0.2


def test_a_word_is_hidden_without_the_end_of_the_line_before_it() -> None:
    text = "fox\nfox\n" * 20
    config = PretrainingConfig(vocabulary_size=300, tokenization="bytes")
    made = MaskedVocabulary.learn(lambda: [text], config)
    (ids,) = made.encode([text])
    row = np.array([2, *ids[:38], 3])
    batch = masks(made, masking="words")([Row(0, number, row) for number in range(TOTAL)])
    scored = (batch["labels"] != -100).numpy()
    ends = np.flatnonzero(row == ids[1])[:-1]
    assert made.decode([ids[1]]) == "\n"
    assert (scored[:, ends] != scored[:, ends + 1]).any()


def test_new_passes_and_seeds_are_new_masks(vocabulary: MaskedVocabulary) -> None:
    collate = masks(vocabulary)
    first, second, other = (collate(rows(vocabulary, visit))["labels"] for visit in (0, 1, PASSES))
    assert torch.equal(first, collate(rows(vocabulary, 0))["labels"])
    for one, two in ((first, second), (first, other)):
        both = ((one != -100) & (two != -100)).float().mean()
        assert both == pytest.approx(0.15**2, abs=0.01)


def test_copies_of_masks_take_turns(vocabulary: MaskedVocabulary) -> None:
    collate = masks(vocabulary, mask_copies=3)
    seen = [collate(rows(vocabulary, visit))["input_ids"] for visit in range(6)]
    for number in range(3):
        assert torch.equal(seen[number], seen[number + 3])
    assert not torch.equal(seen[0], seen[1])


def test_short_rows_end_and_are_padded(vocabulary: MaskedVocabulary) -> None:
    batch = masks(vocabulary, short_rows=0.5)(rows(vocabulary))
    real, ids = batch["attention_mask"], batch["input_ids"]
    lengths = real.sum(dim=1)
    assert 0.3 < (lengths < 40).float().mean() < 0.7
    assert lengths.min() >= 3
    for row, length in enumerate(lengths.tolist()):
        assert ids[row, length - 1] == 3
        assert (ids[row, length:] == 0).all() and (batch["labels"][row, length:] == -100).all()
        assert real[row, :length].all()
        assert (batch["labels"][row] != -100).any()


def test_whole_rows_for_a_model_that_masks_itself(vocabulary: MaskedVocabulary) -> None:
    given = rows(vocabulary)
    batch = Plain(PretrainingConfig(), vocabulary, TOTAL)(given)
    assert list(batch) == ["input_ids"]
    assert batch["input_ids"].tolist() == [row.symbols.tolist() for row in given]


def test_masks_of_evaluation_are_fixed_and_all_hidden(vocabulary: MaskedVocabulary) -> None:
    given = rows(vocabulary)
    collate = FixedMasks(vocabulary, 0.15)
    batch = collate(given)
    scored = batch["labels"] != -100
    assert (batch["input_ids"][scored] == 4).all()
    assert scored.sum(dim=1).tolist() == [6] * TOTAL  # of 38
    part = collate(given[7:9])
    assert torch.equal(part["labels"], batch["labels"][7:9])
