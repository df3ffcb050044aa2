"""Configuration of the matched family, whose three architectures have equal budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from embshare.errors import EmbshareError

__all__ = ["ARCHITECTURES", "Architecture", "MatchedConfig", "MatchedConfigError"]

Architecture = Literal["lstm", "conv", "attention"]
ARCHITECTURES: Final[tuple[Architecture, ...]] = get_args(Architecture)


class MatchedConfigError(EmbshareError, ValueError):
    """A field of a `MatchedConfig` has a value that no model can be built from.

    Raised when the config is made, so before any tensor is.
    """

    def __init__(self, *, field: str, needs: str, has: object, hint: str) -> None:
        super().__init__(f"`MatchedConfig.{field}` must be {needs}, but is {has!r} instead. {hint}")
        self.field, self.needs, self.has, self.hint = field, needs, has, hint


@dataclass(frozen=True, kw_only=True)
class MatchedConfig:
    """One model of the matched family: an architecture, and the budget it has to keep.

    The three architectures are matched by giving every one of their layers the same budget of
    ``budget * width**2`` weights. A layer is a mixer, which moves information along the sequence,
    and a feed-forward part, which does not. The mixer takes what it needs, and the feed-forward
    part's inner width is what is left:

    ============================  ===============  ====================  =================
    mixer                         its weights      inner, ``budget=12``  weights per layer
    ============================  ===============  ====================  =================
    attention (q, k, v, output)   4 width²         4 width               12 width²
    LSTM, causal                  8 width²         2 width               12 width²
    LSTM, two directions          6 width²         3 width               12 width²
    gated convolution             2 kernel width²  (6 - kernel) width    12 width²
    ============================  ===============  ====================  =================

    So one table, one tied head, one width, one number of layers and one budget describe all three,
    and only biases differ (by about 1 % of the hidden parameters at width 64, less above). The two
    directions of an encoding LSTM have half the width each, so that side by side they have it
    whole. Attention over a memory costs 4 width² more in every architecture alike.
    """

    architecture: Architecture
    """Mixer of the layers."""
    vocab_size: int
    """Rows of the embedding table, and outputs of the tied head."""
    width: int = 128
    """Columns of the table, and the width of every layer's input and output."""
    layers: int = 4
    """Number of layers of a backbone; an encoder-decoder has two backbones."""
    budget: int = 12
    """Weights of one layer without biases and norms, in units of ``width**2``."""
    heads: int = 4
    """Attention heads, in the attention mixer and in attention over a memory."""
    kernel_size: int = 3
    """Positions that one convolution sees; odd, so that it can be centred."""
    dilations: tuple[int, ...] = (1, 2, 4)
    """Steps between those positions: layer ``i`` uses ``dilations[i % len(dilations)]``."""
    dropout: float = 0.1
    """Probability with which embeddings, branch outputs and the last hidden states are zeroed."""
    labels: int = 2
    """Classes of a `MatchedClassifier`; 1 is regression."""
    pad_token_id: int = 0
    """Padding token; masks are derived from it where none is given."""
    bos_token_id: int = 1
    """Start token of a decoder."""

    def __post_init__(self) -> None:
        self._check_choice()
        for field in ("vocab_size", "width", "layers", "budget", "heads", "kernel_size", "labels"):
            self._check_positive(field)
        self._check_special_tokens()
        self._check_dropout()
        self._check_shapes()

    def inner_width(self, *, causal: bool) -> int:
        """The feed-forward part's inner width: what the mixer leaves of the layer's budget."""
        return (self.budget - self._mixer_units(causal=causal)) * self.width // 2

    def _mixer_units(self, *, causal: bool) -> int:
        """Weights of the mixer, in units of ``width**2``."""
        match self.architecture:
            case "attention":
                return 4
            case "lstm":
                return 8 if causal else 6
            case "conv":
                return 2 * self.kernel_size

    def _check_choice(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise MatchedConfigError(
                field="architecture",
                needs=f"one of {', '.join(ARCHITECTURES)}",
                has=self.architecture,
                hint="Other architectures can be shared too, but are not of this family.",
            )

    def _check_positive(self, field: str) -> None:
        if (value := getattr(self, field)) < 1:
            raise MatchedConfigError(
                field=field, needs="at least 1", has=value, hint=f"Raise `{field}`."
            )

    def _check_special_tokens(self) -> None:
        for field in ("pad_token_id", "bos_token_id"):
            if not 0 <= (value := getattr(self, field)) < self.vocab_size:
                raise MatchedConfigError(
                    field=field,
                    needs=f"a row of the table, from 0 to {self.vocab_size - 1:,}",
                    has=value,
                    hint="Choose another token, or raise `vocab_size`.",
                )

    def _check_dropout(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise MatchedConfigError(
                field="dropout",
                needs="at least 0 and below 1",
                has=self.dropout,
                hint="0 turns it off.",
            )

    def _check_shapes(self) -> None:
        """Conditions that tie several fields to each other."""
        if self.width % (2 * self.heads):
            raise MatchedConfigError(
                field="width",
                needs=f"a multiple of 2 * heads = {2 * self.heads}",
                has=self.width,
                hint="Rotary positions turn pairs of columns of each head.",
            )
        if self.kernel_size % 2 == 0:
            raise MatchedConfigError(
                field="kernel_size",
                needs="odd",
                has=self.kernel_size,
                hint="An even kernel cannot be centred.",
            )
        if not self.dilations or min(self.dilations) < 1:
            raise MatchedConfigError(
                field="dilations",
                needs="one or more steps of at least 1",
                has=self.dilations,
                hint="(1,) is an ordinary convolution.",
            )
        if min(self.inner_width(causal=True), self.inner_width(causal=False)) < 1:
            units = max(self._mixer_units(causal=causal) for causal in (True, False))
            raise MatchedConfigError(
                field="budget",
                needs=f"more than the {units} that the {self.architecture} mixer takes alone",
                has=self.budget,
                hint="Raise `budget`, or lower `kernel_size` where the mixer is a convolution.",
            )
