"""Spans and pairs: what the heads of the matched family read, refuse, and that they learn."""

import pytest
import torch
from torch import Tensor

from embshare.models.matched import (
    ARCHITECTURES,
    Architecture,
    MatchedClassifier,
    MatchedConfig,
    MatchedSpans,
)

VOCAB = 23


@pytest.fixture(params=ARCHITECTURES)
def config(request: pytest.FixtureRequest) -> MatchedConfig:
    architecture: Architecture = request.param
    return MatchedConfig(
        architecture=architecture, vocab_size=VOCAB, width=32, layers=1, heads=2, dropout=0.0
    )


def rows(count: int, question: int = 4, passage: int = 8) -> dict[str, Tensor]:
    ids = torch.randint(2, VOCAB, (count, question + passage))
    kinds = torch.zeros_like(ids)
    kinds[:, question:] = 1
    return {"input_ids": ids, "token_type_ids": kinds}


def test_spans_learn_a_batch_by_heart(config: MatchedConfig) -> None:
    model, batch = MatchedSpans(config), rows(6)
    starts = torch.tensor([4, 7, 9, 0, 5, 11])
    ends = torch.tensor([5, 7, 11, 0, 6, 11])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(**batch, start_positions=starts, end_positions=ends)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    output = model.eval()(**batch)
    assert torch.equal(output["start_logits"].argmax(dim=1), starts)
    assert torch.equal(output["end_logits"].argmax(dim=1), ends)
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_answers_are_in_the_passage_or_at_the_first_position(config: MatchedConfig) -> None:
    batch = rows(3)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][:, 10:] = 0
    start = MatchedSpans(config)(**batch)["start_logits"]
    assert (start[:, 1:4] == -1e4).all()
    assert (start[:, 10:] == -1e4).all()
    assert (start[:, 4:10] > -1e3).all()
    assert (start[:, 0] > -1e3).all()


def test_a_row_that_is_not_scored_costs_nothing(config: MatchedConfig) -> None:
    model, batch = MatchedSpans(config).eval(), rows(2)
    first = {name: tensor[:1] for name, tensor in batch.items()}
    nowhere, somewhere = torch.tensor([-100]), torch.tensor([5])
    alone = model(**first, start_positions=somewhere, end_positions=somewhere)["loss"]
    both = torch.cat((somewhere, nowhere))
    torch.testing.assert_close(
        model(**batch, start_positions=both, end_positions=both)["loss"], alone
    )
    none = model(**first, start_positions=nowhere, end_positions=nowhere)["loss"]
    assert none.item() == 0


def test_a_pair_is_compared(config: MatchedConfig) -> None:
    model = MatchedClassifier(config, pairs=True)
    same = torch.randint(2, VOCAB, (16, 4))
    other = torch.cat((same[:8], torch.randint(2, VOCAB, (8, 4))))
    batch = {
        "input_ids": torch.cat((same, other), dim=1),
        "token_type_ids": torch.tensor([[0] * 4 + [1] * 4]).expand(16, -1),
        "labels": torch.tensor([1] * 8 + [0] * 8),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = model(**batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_padding_changes_neither(config: MatchedConfig) -> None:
    batch = rows(2)
    padded = {n: torch.cat((t, torch.zeros(2, 3).long()), dim=1) for n, t in batch.items()}
    spans, pairs = MatchedSpans(config).eval(), MatchedClassifier(config, pairs=True).eval()
    short, long = spans(**batch)["end_logits"], spans(**padded)["end_logits"]
    torch.testing.assert_close(long[:, :12], short)
    torch.testing.assert_close(pairs(**padded)["logits"], pairs(**batch)["logits"])


def test_both_have_to_know_what_is_where(config: MatchedConfig) -> None:
    ids = rows(1)["input_ids"]
    with pytest.raises(ValueError, match="has to know the passage: give `token_type_ids`"):
        MatchedSpans(config)(ids)
    with pytest.raises(ValueError, match="compares two sentences: give `token_type_ids`"):
        MatchedClassifier(config, pairs=True)(ids)
