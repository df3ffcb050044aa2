"""Every model class of transformers that its Auto classes know, made tiny."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from embshare.adapters.inputs import score
from embshare.adapters.packages import need
from tests.architectures.architecture import Architecture
from tests.architectures.hf_batches import feeds
from tests.architectures.hf_configs import Scale, make_config, reads_tokens
from tests.architectures.hf_settings import CANNOT, SOURCES

__all__ = ["architectures"]

SCALES: Final = (
    Scale(head=8, heads=4, layers=2),
    Scale(head=4, heads=4, layers=4),
    Scale(head=8, heads=1, layers=2),
    Scale(head=4, heads=2, layers=2),
    Scale(head=4, heads=1, layers=4),
    Scale(head=2, heads=1, layers=2),
    Scale(head=1, heads=1, layers=2),
)
"""Tried in this order: not every number of heads divides by four."""
LIMIT: Final = 100_000_000
"""Parameters of a model that there is time for: not every part can be made tiny."""

TABLES: Final = (nn.Embedding, nn.EmbeddingBag)


def architectures() -> Iterator[Architecture]:
    """One for each model class that an Auto class knows and whose configuration has a vocabulary.

    Some of them have no input embedding all the same: that shows when they are built.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    transformers = need("transformers", extra="hf")
    transformers.logging.set_verbosity_error()
    for name, settings in sorted(_classes().items()):
        if any(map(reads_tokens, settings)):
            made = _Tiny(name)
            yield Architecture(
                library="transformers",
                name=name,
                build=made.build,
                loss=made.loss,
                source=SOURCES.get(name, "auto"),
                skip=CANNOT.get(name),
            )


def _classes() -> dict[str, list[type]]:
    """Model classes in the mappings of the Auto classes, with their configurations' classes.

    By name: to import them all takes a minute.
    """
    auto = need("transformers.models.auto.modeling_auto", extra="hf")
    configs = need("transformers.models.auto.configuration_auto", extra="hf").CONFIG_MAPPING
    found: dict[str, list[type]] = {}
    for attribute, mapping in vars(auto).items():
        if attribute.startswith("MODEL_") and attribute.endswith("_MAPPING_NAMES"):
            for key, names in mapping.items():
                for name in [names] if isinstance(names, str) else names:
                    found.setdefault(name, []).append(configs[key])
    return found


@dataclass
class _Tiny:
    """A class, and the scale and batch with which it runs, once they are found."""

    name: str
    scale: Scale | None = None
    feed: int | None = None
    fault: str = ""
    """The first error that kept it from being built or run."""

    def build(self) -> nn.Module:
        """A model in evaluation mode.

        Raises:
            RuntimeError: no scale makes a model; the message is the error at the first one.
        """
        if self.scale is None:
            self._find()
        assert self.scale is not None
        return self._make(self.scale)

    def loss(self, model: nn.Module) -> Tensor:
        """Of the batch that was found.

        Raises:
            RuntimeError: there is none; the message is the error of the first batch.
        """
        if self.feed is None:
            raise RuntimeError(self.fault)
        return score(model(**list(feeds(model))[self.feed]))

    def _make(self, scale: Scale) -> nn.Module:
        kind = getattr(need("transformers", extra="hf"), self.name)
        model: nn.Module = kind(make_config(kind, scale))
        return model.eval()

    def _find(self) -> None:
        """The first scale at which a model can be made and run."""
        state, last = torch.random.get_rng_state(), ""
        for scale in SCALES:
            try:
                self._check_size(scale)
                model = self._make(scale)
            except Exception as error:
                self.fault = self.fault or _told(error)
                if _told(error) == last:  # not a matter of scale
                    break
                last = _told(error)
                continue
            finally:
                torch.random.set_rng_state(state)
            self.scale = self.scale or scale
            known = self.name in SOURCES
            if not known and not any(isinstance(module, TABLES) for module in model.modules()):
                return
            self.feed = self._run(model)
            if self.feed is not None:
                self.scale = scale
                return
        if self.scale is None:
            raise RuntimeError(self.fault)

    def _check_size(self, scale: Scale) -> None:
        try:
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in self._make(scale).parameters())
        except Exception:  # not everything can be made on meta
            return
        if size > LIMIT:
            raise ValueError(f"{size:,} parameters are too many to try")

    def _run(self, model: nn.Module) -> int | None:
        """The number of the first batch that the model takes."""
        for number, feed in enumerate(feeds(model)):
            try:
                with torch.no_grad():
                    score(model(**feed))
            except Exception as error:
                self.fault = self.fault or _told(error)
            else:
                return number
        return None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
