"""Self-critical sequence training: the reward of a sampled caption above that of the greedy one.

Source:
    Rennie et al. 2017, "Self-critical Sequence Training for Image Captioning", equations 8 and 11.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from pycocoevalcap.cider.cider_scorer import (  # type: ignore[import-untyped]
    CiderScorer,
    cook_refs,
    precook,
)
from torch import Tensor, nn

from embshare.caching import cached
from embshare.tasks.captioning.model import Captioner
from embshare.tasks.captioning.processor import IGNORED, IMAGE, banned_tokens, pad_labels
from embshare.tasks.captioning.words import EOS, Vocabulary, tokenize
from embshare.tasks.decoding import SequenceScorer, greedy_search, sample
from embshare.tasks.task import Batch

__all__ = ["Reward", "SelfCritical", "policy_loss"]


# pycocoevalcap counts n-grams in Python: 33 ms for 16 images of the built-in scenes, where tensor
# arithmetic took 9 ms. Of a whole step, which took 440 ms on one CPU core, that is a twentieth.
class _TrainingCider(CiderScorer):  # type: ignore[misc]
    """CIDEr-D of a few captions, weighted by the document frequencies of a whole training set."""

    def __init__(self, references: Iterable[Sequence[str]]) -> None:
        super().__init__()
        # A default dict, as the scorer has it, would keep each n-gram that was ever sampled.
        self.document_frequency: Counter[tuple[str, ...]] = Counter()
        self.images = 0
        for lines in references:
            self.document_frequency.update({ngram for line in lines for ngram in precook(line)})
            self.images += 1

    @property
    def ref_len(self) -> float:
        """The logarithm of the number of training images."""
        return math.log(self.images)

    @ref_len.setter
    def ref_len(self, of_the_batch: float | None) -> None:
        """Leave it: `compute_cider` sets that of the number of captions that it is given."""

    def score(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """CIDEr-D of each caption against its own references."""
        self.ctest = [precook(caption) for caption in captions]
        self.crefs = [cook_refs(lines) for lines in references]
        found: list[float] = self.compute_cider()
        return found


@final
class Reward:
    """CIDEr-D against the training set's references, with its document frequencies.

    Args:
        captions: of each training image.
        vocabulary: of the model.
    """

    def __init__(self, captions: Sequence[Sequence[str]], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._references = [[" ".join(tokenize(line)) for line in lines] for lines in captions]
        self._scorer = _TrainingCider(self._references)

    def __call__(self, images: Tensor, captions: Sequence[Sequence[int]]) -> Tensor:
        """CIDEr-D from 0 to 10 of captions of the training images ``[B]``: ``[B]``, float32."""
        written = [self._vocabulary.decode(tokens) for tokens in captions]
        known = [self._references[number] for number in images.tolist()]
        return torch.tensor(self._scorer.score(written, known), dtype=torch.float32)


@final
class SelfCritical:
    """The objective of training: cross-entropy, and in the last steps the reward.

    Args:
        reward: of captions.
        vocabulary: of the model.
        steps: at the end of training that maximise it.
        most_words: of a sampled caption.
    """

    def __init__(
        self, reward: Reward, vocabulary: Vocabulary, *, steps: int, most_words: int
    ) -> None:
        self._reward, self._vocabulary = reward, vocabulary
        self._steps, self._most_words = steps, most_words

    def __call__(self, model: nn.Module, batch: Batch, remaining: int) -> Tensor:
        """The loss of a batch.

        Args:
            model: a `Captioner`, perhaps in a wrapper of distributed training.
            batch: with images' numbers under `IMAGE`.
            remaining: steps of training that are left, this one counted.
        """
        batch = dict(batch)
        images = batch.pop(IMAGE)
        if remaining > self._steps:
            loss: Tensor = model(**batch)["loss"]
            return loss
        batch.pop("labels")
        inner: Any = getattr(model, "module", model)
        sampled, greedy = self._write(inner, batch)
        both = torch.cat((images, images))
        rewards, baseline = self._reward(both, [*sampled, *greedy]).chunk(2)
        ended = [[*row, EOS] if len(row) < self._most_words else [*row] for row in sampled]
        labels = pad_labels(ended).to(images.device)
        logits = model(**batch, labels=labels)["logits"]
        # What is never sampled must not take up the probability that bad captions lose.
        never = torch.tensor(self._banned(inner), device=logits.device)
        logits = logits.index_fill(2, never, -torch.inf)
        return policy_loss(logits, labels, (rewards - baseline).to(logits.device))

    def _banned(self, model: Captioner) -> list[int]:
        return banned_tokens(self._vocabulary, model.text.settings.vocab_size)

    @torch.no_grad()
    def _write(
        self, model: Captioner, batch: Batch
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """A sampled and the greedy caption of each image, without dropout."""
        device = model.text.embedding.weight.device
        # The seed is of torch's own state, which checkpoints keep: a resumed run samples the same.
        seed = int(torch.randint(2**62, ()))
        generator = torch.Generator(device).manual_seed(seed)
        scorer = SequenceScorer(model.text, banned=self._banned(model))
        first = model.text.settings.bos_token_id
        model.eval()
        with cached(model):
            state = scorer.start(model.encode(**batch))
            limits = [self._most_words + 1] * len(state.memory.hidden)
            sampled = sample(
                scorer,
                state,
                limits=limits,
                first=first,
                end=EOS,
                generator=generator,
                device=device,
            )
            greedy = greedy_search(
                scorer, state, limits=limits, first=first, end=EOS, device=device
            )
        model.train()
        return sampled, greedy


def policy_loss(logits: Tensor, labels: Tensor, advantage: Tensor) -> Tensor:
    """Minus the mean over tokens of ``advantage * log p``.

    Args:
        logits: ``[B, T, V]``.
        labels: the sampled tokens ``[B, T]``, -100 behind.
        advantage: of each caption, ``[B]``: its reward less the greedy one's.
    """
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(labels)
    return (nats * advantage[:, None]).sum() / labels.ne(IGNORED).sum().clamp(min=1)
