"""Self-critical training: its loss, its reward, and that it raises CIDEr-D."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from embshare.models.matched import MatchedConfig
from embshare.tasks.captioning.model import Captioner
from embshare.tasks.captioning.processor import IMAGE
from embshare.tasks.captioning.words import BOS, EOS, PAD, Vocabulary

pytest.importorskip("pycocoevalcap")
from embshare.tasks.captioning.self_critical import (
    Reward,
    SelfCritical,
    policy_loss,
)

CAPTIONS = [["a red cat", "the red cat"], ["a blue dog", "one blue dog"], ["two green birds"]]
WORDS = Vocabulary.learn([line for lines in CAPTIONS for line in lines])


def captioner() -> Captioner:
    config = MatchedConfig(
        architecture="lstm",
        vocab_size=len(WORDS) + 3,
        width=16,
        layers=1,
        heads=2,
        dropout=0.0,
        pad_token_id=PAD,
        bos_token_id=BOS,
    )
    return Captioner(config, None, features=4)


def batch() -> dict[str, Tensor]:
    features = torch.eye(3, 4)[:, None].repeat(1, 2, 1)
    labels = torch.tensor([[*WORDS.encode(lines[0]), EOS] for lines in CAPTIONS])
    return {"features": features, "labels": labels, IMAGE: torch.arange(3)}


def objective(steps: int) -> SelfCritical:
    return SelfCritical(Reward(CAPTIONS, WORDS), WORDS, steps=steps, most_words=5)


def test_the_reward_is_that_of_each_images_own_references() -> None:
    reward = Reward(CAPTIONS, WORDS)
    captions = [WORDS.encode("a red cat"), WORDS.encode("a blue dog")]
    right = reward(torch.tensor([0, 1]), captions)
    wrong = reward(torch.tensor([1, 0]), captions)
    assert (right > wrong).all()
    assert right.dtype == torch.float32


def test_the_reward_weighs_by_the_frequencies_of_the_whole_training_set() -> None:
    from pycocoevalcap.cider.cider import Cider  # type: ignore[import-untyped]

    written = ["a red cat", "the dog dog", "two birds"]
    known = dict(enumerate(CAPTIONS))
    _, expected = Cider().compute_score(known, {n: [line] for n, line in enumerate(written)})
    reward = Reward(CAPTIONS, WORDS)
    for number, line in enumerate(written):  # alone, and not with all other images
        found = reward(torch.tensor([number]), [WORDS.encode(line)])
        assert found.item() == pytest.approx(expected[number])
    assert len(reward._scorer.document_frequency) == len(
        Reward(CAPTIONS, WORDS)._scorer.document_frequency
    )


def test_words_that_the_model_does_not_have_are_not_what_it_calls_unknown() -> None:
    few = Vocabulary.learn([line for lines in CAPTIONS for line in lines], size=6)
    unknown = few.encode("zebra")
    assert Reward(CAPTIONS, few)(torch.tensor([2]), [unknown * 3]).item() == 0.0


def test_the_loss_weighs_the_log_probability_by_the_advantage() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    labels = torch.tensor([[1, 2, 3], [4, 0, -100]])
    advantage = torch.tensor([2.0, -1.0])
    loss = policy_loss(logits, labels, advantage)
    log_p = logits.log_softmax(-1)
    by_hand = 2 * (log_p[0, 0, 1] + log_p[0, 1, 2] + log_p[0, 2, 3])
    by_hand = by_hand - (log_p[1, 0, 4] + log_p[1, 1, 0])
    torch.testing.assert_close(loss, -by_hand / 5)
    assert policy_loss(logits, labels, torch.zeros(2)).item() == 0.0


def test_before_the_last_steps_it_is_the_models_own_loss() -> None:
    model, given = captioner(), batch()
    expected = model(features=given["features"], labels=given["labels"])["loss"]
    assert objective(steps=5)(model, given, remaining=6) == expected
    assert IMAGE in given  # what was handed in stays as it is
    assert objective(steps=5)(model, given, remaining=5) != expected


def test_the_model_is_in_training_mode_again_afterwards() -> None:
    model = captioner().train()
    objective(steps=1)(model, batch(), remaining=1).backward()
    assert all(module.training for module in model.modules())
    assert model.text.embedding.weight.grad is not None


class Wrapped(nn.Module):
    """As distributed training wraps a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Tensor, labels: Tensor) -> object:
        return self.module(features=features, labels=labels)


def test_a_wrapped_model_is_called_through_its_wrapper() -> None:
    model = captioner()
    losses = []
    for called in (model, Wrapped(model)):
        torch.manual_seed(3)
        losses.append(objective(steps=1)(called, batch(), remaining=1).item())
    assert losses[0] == pytest.approx(losses[1])


def test_it_raises_the_reward_of_what_is_drawn_and_is_the_same_twice() -> None:
    def run(steps: int) -> tuple[list[float], float]:
        torch.manual_seed(0)
        model, given, reward = captioner(), batch(), Reward(CAPTIONS, WORDS)
        loss_of = SelfCritical(reward, WORDS, steps=80, most_words=5)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        means = []
        for step in range(steps):
            loss = loss_of(model, given, remaining=steps - step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step in (30, steps - 1):
                seen = {"features": given["features"]}
                drawn = [loss_of._write(model, seen)[0] for _ in range(10)]
                each = [reward(given[IMAGE], captions).mean() for captions in drawn]
                means.append(torch.stack(each).mean().item())
        return means, loss.item()

    (before, after), _ = run(110)
    assert after > before + 0.5
    assert run(12) == run(12)
