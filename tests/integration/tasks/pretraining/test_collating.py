"""Batches of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from embshare.tasks.pretraining.collating import FixedMasks, TrainingMasks, Unmasked
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.rows import Row
from embshare.tasks.pretraining.task import learn_tokenizer
from embshare.tasks.pretraining.token_properties import TokenProperties
from embshare.tasks.text.tokenizer import TextTokenizer

TOTAL = 50


@pytest.fixture
def properties(tokenizer: TextTokenizer) -> TokenProperties:
    return TokenProperties(tokenizer)


def rows(properties: TokenProperties, epoch: int = 0, length: int = 40, seed: int = 0) -> list[Row]:
    random = np.random.default_rng(0)
    tokens = random.choice(properties.ordinary, (TOTAL, length))
    tokens[:, 0], tokens[:, -1] = 2, 3
    return [Row(seed, epoch, number, tokens[number]) for number in range(TOTAL)]


def masks(properties: TokenProperties, **changes: Any) -> TrainingMasks:
    return TrainingMasks(PretrainingConfig(**changes), properties, TOTAL)


@pytest.mark.parametrize("masking", ["tokens", "words", "spans", "ltg_spans"])
def test_inputs_and_labels_belong_together(properties: TokenProperties, masking: str) -> None:
    given = rows(properties)
    batch = masks(properties, masking=masking)(given)
    assert set(batch) == {"input_ids", "labels"}
    whole = torch.from_numpy(np.stack([row.tokens for row in given]))
    scored = batch["labels"] != -100
    assert torch.equal(batch["labels"][scored], whole[scored])
    assert torch.equal(batch["input_ids"][~scored], whole[~scored])
    assert 0.1 < scored.float().mean() < 0.2


def test_a_word_is_masked_without_the_end_of_the_line_before_it() -> None:
    text = "fox\nfox\n" * 20
    made = learn_tokenizer(PretrainingConfig(vocabulary_size=300, tokenization="bytes"), [text])
    (ids,) = made.ids([text])
    row = np.array([2, *ids[:38], 3])
    collate = masks(TokenProperties(made), masking="words")
    batch = collate([Row(0, 0, number, row) for number in range(TOTAL)])
    scored = (batch["labels"] != -100).numpy()
    ends = np.flatnonzero(row == ids[1])[:-1]
    assert made.decode([ids[1]]) == "\n"
    assert (scored[:, ends] != scored[:, ends + 1]).any()


def test_new_epochs_and_seeds_are_new_masks(properties: TokenProperties) -> None:
    collate = masks(properties)
    first, second = (collate(rows(properties, epoch))["labels"] for epoch in (0, 1))
    other = collate(rows(properties, seed=1))["labels"]
    assert torch.equal(first, collate(rows(properties, 0))["labels"])
    for one, two in ((first, second), (first, other)):
        both = ((one != -100) & (two != -100)).float().mean()
        assert both == pytest.approx(0.15**2, abs=0.01)


def test_copies_of_masks_take_turns(properties: TokenProperties) -> None:
    collate = masks(properties, mask_copies=3)
    seen = [collate(rows(properties, epoch))["input_ids"] for epoch in range(6)]
    for number in range(3):
        assert torch.equal(seen[number], seen[number + 3])
    assert not torch.equal(seen[0], seen[1])


def test_short_rows_end_and_are_padded(properties: TokenProperties) -> None:
    batch = masks(properties, short_rows=0.5)(rows(properties))
    real, ids = batch["attention_mask"], batch["input_ids"]
    lengths = real.sum(dim=1)
    assert 0.3 < (lengths < 40).float().mean() < 0.7
    assert lengths.min() >= 3
    for row, length in enumerate(lengths.tolist()):
        assert ids[row, length - 1] == 3
        assert (ids[row, length:] == 0).all() and (batch["labels"][row, length:] == -100).all()
        assert real[row, :length].all()
        assert (batch["labels"][row] != -100).any()


def test_whole_rows_for_a_model_that_masks_itself(properties: TokenProperties) -> None:
    given = rows(properties)
    batch = Unmasked(PretrainingConfig(), properties, TOTAL)(given)
    assert list(batch) == ["input_ids"]
    assert batch["input_ids"].tolist() == [row.tokens.tolist() for row in given]


def test_masks_of_evaluation_are_fixed_and_all_masked(properties: TokenProperties) -> None:
    given = rows(properties)
    collate = FixedMasks(properties, 0.15)
    batch = collate(given)
    scored = batch["labels"] != -100
    assert (batch["input_ids"][scored] == 4).all()
    assert scored.sum(dim=1).tolist() == [6] * TOTAL  # of 38
    part = collate(given[7:9])
    assert torch.equal(part["labels"], batch["labels"][7:9])
