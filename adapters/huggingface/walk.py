"""Every model class of transformers that its Auto classes know, made tiny."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.adapters.huggingface.feeding import Feed, feeds, score
from embshare.adapters.huggingface.shrinking import Scale, shrink
from embshare.adapters.packages import need
from embshare.adapters.specimen import Specimen

__all__ = ["specimens"]

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
LIMIT: Final = 40_000_000
"""Parameters of a model that is still tiny."""


def specimens() -> Iterator[Specimen]:
    """One for each model class that an Auto class of the installed transformers knows.

    Those without an input embedding are among them: what has one shows when it is built.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    transformers = need("transformers", extra="hf")
    transformers.logging.set_verbosity_error()
    for name in sorted(_names()):
        skip = None
        kind = getattr(transformers, name, None)
        try:
            if getattr(kind, "config_class", None) is None:
                continue
        except ImportError as error:  # stands for a class whose packages are not installed
            skip = _told(error)
        made = _Tiny(kind)
        yield Specimen(
            library="transformers",
            name=name,
            build=made.build,
            loss=made.loss,
            source=SOURCES.get(name, "auto"),
            skip=skip,
        )


def _names() -> set[str]:
    """Class names in the mappings of the Auto classes."""
    auto = need("transformers.models.auto.modeling_auto", extra="hf")
    found: set[str] = set()
    for attribute, mapping in vars(auto).items():
        if attribute.startswith("MODEL_") and attribute.endswith("_MAPPING_NAMES"):
            for names in mapping.values():
                found |= {names} if isinstance(names, str) else set(names)
    return found


SOURCES: Final[Mapping[str, str]] = {}


@dataclass
class _Tiny:
    """A class, and the scale and batch with which it runs, once they are found."""

    kind: Any
    scale: Scale | None = None
    feed: int | None = None

    def build(self) -> nn.Module:
        if self.scale is None:
            self._find()
        assert self.scale is not None
        return self._make(self.scale)

    def loss(self, model: nn.Module) -> Tensor:
        if self.feed is None:
            raise RuntimeError(self.fault)
        return score(model(**list(feeds(model))[self.feed]))

    fault: str = ""

    def _make(self, scale: Scale) -> nn.Module:
        config = make_config(self.kind.config_class, scale, self.kind.__name__)
        model: nn.Module = self.kind(config)
        return model.eval()

    def _find(self) -> None:
        """The first scale at which a model can be made and run."""
        made: Scale | None = None
        for scale in SCALES:
            try:
                with torch.device("meta"):
                    size = sum(p.numel() for p in self._make(scale).parameters())
            except Exception:
                size = 0  # not everything can be made on meta
            try:
                if size > LIMIT:
                    raise ValueError(f"{size:,} parameters are too many to try")
                state = torch.random.get_rng_state()
                model = self._make(scale)
                torch.random.set_rng_state(state)
            except Exception as error:
                self.fault = self.fault or _told(error)
                continue
            made = made or scale
            if not _has_table(model):
                break
            number = self._run(model)
            if number is not None:
                self.scale, self.feed = scale, number
                return
        if made is None:
            raise RuntimeError(self.fault)
        self.scale = made

    def _run(self, model: nn.Module) -> int | None:
        for number, feed in enumerate(feeds(model)):
            try:
                with torch.no_grad():
                    score(model(**feed))
            except Exception as error:
                self.fault = self.fault or _told(error)
            else:
                return number
        return None


def _has_table(model: nn.Module) -> bool:
    try:
        return isinstance(model.get_input_embeddings(), (nn.Embedding, nn.EmbeddingBag)) or type(model).__name__ in SOURCES
    except (NotImplementedError, AttributeError):
        return False


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def make_config(kind: type, scale: Scale, name: str = "") -> Any:
    settings = shrink(kind, scale)
    config = kind(**settings)
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    return config
