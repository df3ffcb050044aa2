"""The models of the study, each as wide as a number of stored parameters allows.

What is counted is what pretraining leaves behind: table and encoder, and the projection of a shared
model. Heads and ConvBERT's generator, which are thrown away, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    BertConfig,
    PretrainedConfig,
)

import embshare
from embshare._value import Value
from embshare.errors import EmbshareError
from embshare.models.convbert import ConvBertConfig
from embshare.models.elc_bert import ElcBertConfig
from embshare.models.matched import Architecture, MatchedConfig, MatchedMaskedLanguageModel
from embshare.models.sharebert import ShareBertConfig

__all__ = ["GROUPS", "SYSTEMS", "Sizes", "System", "build_empty", "fitted_width", "kept_parameters"]

Group = Literal["systems", "together", "matched", "elastic"]
HEADS: Final = ("generator", "discriminator_head", "transform", "decoder", "cls", "predictions")
"""Beginnings of the names of what fine-tuning does not keep, in all models here."""


class Sizes(Value):
    """What all models have in common."""

    budget: int = 450_000
    """Stored parameters that pretraining leaves behind; each model is as wide as fits."""
    vocabulary: int = 4_000
    """Vocabulary size: rows of the table."""
    length: int = 64
    """Sequence length, in fine-tuning and at the end of pretraining."""
    mask_share: float = 0.3
    """Fraction of masked tokens in pretraining, twice the usual one: each row then asks
    twice as much of a small model, which sees few of them."""
    layers: int = 2
    heads: int = 4
    anchor: float = 2.0
    """Anchor of shared models, see `embshare.ShareConfig`."""
    matched_width: int = 0
    """Width of the matched models, dense and shared alike; 0 makes each as wide as fits into the
    budget, as it does with all others."""
    matched_rank: int = 0
    """Rank of the residuals of shared matched models, which then have channel gains too."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One model of the study."""

    name: str
    group: Group
    config: Callable[[int, Sizes], PretrainedConfig] | None = None
    """From a width to a configuration of transformers; ``None`` for a matched model."""
    architecture: Architecture | None = None
    """Architecture of a matched model."""
    method: Literal["dense", "eps", "veps"] = "dense"
    exclude: tuple[str, ...] = ()
    """Weights of a shared model that stay dense: heads, which fine-tuning does not keep."""
    grain: int = 1
    """Columns per head that widths are multiples of."""
    kinds: bool = True
    """Whether it has token types, for the first and the second sentence."""
    replaced: bool = False
    """Whether it is pretrained to detect replaced tokens."""
    teacher: str | None = None
    """The name of the model that it learns from in pretraining."""
    layers: int | None = None
    """In place of those that all models have."""

    def share(self, sizes: Sizes) -> embshare.ShareConfig | None:
        """How its weights are shared."""
        if self.method == "dense":
            return None
        rank = sizes.matched_rank if self.group == "matched" else 0
        return embshare.ShareConfig(
            method=self.method,
            tie="all",
            anchor=sizes.anchor,
            exclude=self.exclude,
            residual_rank=rank,
            gain="channel" if rank else "match",
        )

    def own(self, sizes: Sizes) -> Sizes:
        """The common sizes, with this model's depth."""
        return sizes if self.layers is None else sizes.model_copy(update={"layers": self.layers})

    def model(self, width: int, sizes: Sizes, folder: Path) -> str:
        """What a run calls it: an architecture, or a folder with its configuration."""
        if self.config is None:
            assert self.architecture is not None
            return self.architecture
        self.config(width, self.own(sizes)).save_pretrained(folder)
        return str(folder)


def build_empty(system: System, width: int, sizes: Sizes) -> nn.Module:
    """The pretraining model without numbers, to be counted."""
    with torch.device("meta"):
        model = _build(system, width, system.own(sizes))
        share = system.share(sizes)
        if share is not None:
            embshare.share_from_embedding(model, share, start=False)
    return model


def _build(system: System, width: int, sizes: Sizes) -> nn.Module:
    if system.config is not None:
        kind: Any = AutoModelForPreTraining if system.replaced else AutoModelForMaskedLM
        made: nn.Module = kind.from_config(system.config(width, sizes))
        return made
    assert system.architecture is not None
    return MatchedMaskedLanguageModel(
        MatchedConfig(
            architecture=system.architecture,
            vocab_size=sizes.vocabulary,
            width=width,
            layers=sizes.layers,
            heads=sizes.heads,
        )
    )


def kept_parameters(model: nn.Module) -> int:
    """Stored parameters of table, encoder and, in a shared model, projection."""
    names = dict(model.named_parameters())  # a tied one under its first name, the table's
    return sum(p.numel() for n, p in names.items() if not n.startswith(HEADS))


def fitted_width(system: System, sizes: Sizes) -> int:
    """The largest width whose model stores no more than the budget, unless one is given.

    Raises:
        SystemExit: not even the smallest does.
    """
    if system.group == "matched" and sizes.matched_width:
        return sizes.matched_width
    grain = system.grain * sizes.heads
    low, high = 0, sizes.budget // sizes.vocabulary // grain * 4 + 1
    while high - low > 1:  # low fits, high does not
        middle = (low + high) // 2
        if _fits(system, middle * grain, sizes):
            low = middle
        else:
            high = middle
    if not low:
        raise SystemExit(f"{system.name}: no width fits into {sizes.budget:,} parameters")
    return low * grain


def _fits(system: System, width: int, sizes: Sizes) -> bool:
    try:
        return kept_parameters(build_empty(system, width, sizes)) <= sizes.budget
    except EmbshareError:  # a table with too few columns for layers of this width
        return False


def _common(width: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "vocab_size": sizes.vocabulary,
        "hidden_size": width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "max_position_embeddings": sizes.length,
        "hidden_dropout_prob": 0.0,  # no model sees its text often enough to learn it by heart
        "attention_probs_dropout_prob": 0.0,
    }


def _spread(width: int) -> float:
    """Initial standard deviation of dense matrices; the published 0.02 suits widths from 768."""
    return round(width**-0.5, 4)


def bert(width: int, sizes: Sizes) -> PretrainedConfig:
    """BERT, its inner width four times its width."""
    return BertConfig(
        **_common(width, sizes), intermediate_size=4 * width, initializer_range=_spread(width)
    )


def albert(width: int, sizes: Sizes) -> PretrainedConfig:
    """ALBERT with a table of half the width."""
    return AlbertConfig(
        **_common(width, sizes),
        embedding_size=width // 2,
        intermediate_size=4 * width,
        initializer_range=_spread(width),
    )


def sharebert(width: int, sizes: Sizes) -> PretrainedConfig:
    """ShareBERT with a factor of three quarters of the width; inner width as in its small model.

    Its weights are products of two tables; the tables' spread is what gives them the others'.
    """
    factor = 3 * width // 4
    return ShareBertConfig(
        **_common(width, sizes),
        intermediate_size=2 * width,
        factor_size=factor,
        initializer_range=round((width * factor) ** -0.25, 4),
    )


def elc_bert(width: int, sizes: Sizes) -> PretrainedConfig:
    """ELC-BERT, its gated inner width 8/3 of its width."""
    return ElcBertConfig("base", **_common(width, sizes), intermediate_size=round(8 * width / 3))


def ltg_bert(width: int, sizes: Sizes) -> PretrainedConfig:
    """LTG-BERT with the same inner width."""
    return ElcBertConfig("ltg", **_common(width, sizes), intermediate_size=round(8 * width / 3))


def convbert(width: int, sizes: Sizes) -> PretrainedConfig:
    """ConvBERT with a generator of half its width, as in its published small models."""
    return ConvBertConfig(
        **_common(width, sizes),
        embedding_size=width,
        intermediate_size=4 * width,
        generator_hidden_ratio=0.5,
        initializer_range=_spread(width),
        mask_probability=sizes.mask_share,
        max_predictions=max(1, round(sizes.mask_share * sizes.length)),
    )


def _matched() -> Iterator[System]:
    for architecture in get_args(Architecture):
        for method in ("dense", "eps", "veps"):
            yield System(
                name=f"{architecture}_{method}",
                group="matched",
                architecture=architecture,
                method=method,
                grain=2,
            )


PUBLISHED: Final = (
    System(name="bert", group="systems", config=bert),
    System(name="sharebert", group="systems", config=sharebert, grain=4),
    System(name="albert", group="systems", config=albert),
    System(name="elc_bert", group="systems", config=elc_bert, kinds=False),
    System(name="ltg_bert", group="systems", config=ltg_bert, kinds=False),
    System(name="convbert", group="systems", config=convbert, replaced=True),
)
TOGETHER: Final = (
    System(name="shared_bert", group="together", config=bert, method="veps", exclude=("cls.*",)),
    System(
        name="shared_elc_bert",
        group="together",
        config=elc_bert,
        method="veps",
        exclude=("transform.*",),
        kinds=False,
    ),
    System(
        name="shared_convbert",
        group="together",
        config=convbert,
        method="veps",
        exclude=("generator*", "discriminator_head*"),
        replaced=True,
    ),
    System(
        name="taught_shared_bert",
        group="together",
        config=bert,
        method="veps",
        exclude=("cls.*",),
        teacher="bert",
    ),
)
ELASTIC: Final = (
    System(name="deep_bert", group="elastic", config=bert, layers=4),
    System(
        name="deep_shared_bert",
        group="elastic",
        config=bert,
        layers=4,
        method="veps",
        exclude=("cls.*",),
    ),
)
"""Models of four layers, so that a half and three quarters of them are whole numbers."""
SYSTEMS: Final = MappingProxyType(
    {system.name: system for system in (*PUBLISHED, *TOGETHER, *_matched(), *ELASTIC)}
)
"""Every model of the study by its name, in the order in which they are trained."""
GROUPS: Final = get_args(Group)
