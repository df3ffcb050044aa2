"""Initialization of a task's models: from scratch, from a tokenizer, or from a pretrained run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from torch import nn

from embshare.models.matched import Architecture, MatchedConfig
from embshare.tasks.building import ModelNotForTaskError, build_model
from embshare.tasks.text.pretrained import PretrainedRun, Sizes
from embshare.tasks.text.tokenizer import SMALLEST, TextTokenizer

__all__ = ["Start"]


@final
@dataclass(frozen=True)
class Start:
    """A vocabulary, the sizes of the matched models, and trained weights if there are any."""

    tokenizer: TextTokenizer
    sizes: Sizes
    run: PretrainedRun | None = None

    @classmethod
    def make(
        cls,
        *,
        sizes: Sizes,
        tokenizer: str | None,
        init_from: Path | None,
        texts: Iterable[str],
        vocabulary_size: int,
    ) -> Self:
        """Load or learn what the settings ask for.

        Args:
            sizes: sizes of the model, where no run decides them.
            tokenizer: folder or name; ``None`` takes the run's, or learns one.
            init_from: folder of the run.
            texts: training set.
            vocabulary_size: size of a learned vocabulary; at least all bytes.
        Raises:
            PretrainedRunError: `init_from` is no run that models can start from.
            TokenizerError: there is no such tokenizer.
        """
        if init_from is not None:
            run = PretrainedRun.read(init_from)
            return cls(TextTokenizer.load(tokenizer or run.tokenizer), run.sizes or sizes, run)
        if tokenizer is not None:
            return cls(TextTokenizer.load(tokenizer), sizes)
        return cls(TextTokenizer.learn(texts, max(vocabulary_size, SMALLEST)), sizes)

    def save(self, folder: Path) -> None:
        """Write what `load` needs: the vocabulary and the sizes, no weights."""
        self.tokenizer.save(folder)
        self.sizes.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote.

        Raises:
            TokenizerError: the vocabulary cannot be read.
            PretrainedRunError: the sizes cannot be read.
        """
        return cls(TextTokenizer.load(str(folder)), Sizes.load(folder))

    def model_config(
        self, architecture: Architecture, *, dropout: float, labels: int = 2
    ) -> MatchedConfig:
        """Configuration of one architecture; all have the same table, width and budget."""
        return MatchedConfig(
            architecture=architecture,
            vocab_size=len(self.tokenizer),
            width=self.sizes.width,
            layers=self.sizes.layers,
            heads=self.sizes.heads,
            kernel_size=self.sizes.kernel_size,
            dropout=dropout,
            labels=labels,
            pad_token_id=self.tokenizer.pad,
            bos_token_id=self.tokenizer.start,
        )

    def build(
        self,
        model: str,
        *,
        seed: int,
        matched: Callable[[Architecture], nn.Module],
        auto: str,
        changes: Mapping[str, object],
    ) -> nn.Module:
        """Build a new model, one initialized from the run, or a saved one; see `build_model`.

        Raises:
            ModelNotForTaskError: there is no such model, or it is not the one of the run.
            EmbshareError: the run's weights cannot be read.
        """
        if self.run is not None and model != self.run.model:
            raise ModelNotForTaskError(
                model=model,
                finding=f"the run in {self.run.root} trained `{self.run.model}`",
                hint="Name that model, or leave `init_from` out.",
            )
        trained = self.run is not None and self.run.sizes is None
        name = str(self.run.weights) if self.run is not None and trained else model
        made = build_model(
            name,
            seed=seed,
            matched=matched,
            auto=auto,
            vocab_size=len(self.tokenizer),
            changes=changes,
            special_tokens={"pad_token_id": self.tokenizer.pad},
        )
        if self.run is not None and not trained:
            self.run.fill(made)
        return made
