"""What to share and how: the only settings there are."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from embshare._value import Value

__all__ = ["ShareConfig"]

Size = Annotated[int, Field(ge=1, lt=2**31)]
"""Beyond it torch cannot even count the bytes of a wide model."""
_TIES = re.compile(r"none|all|(sequence|cycle|cycle_rev):[1-9][0-9]{0,5}")


class ShareConfig(Value):
    """What to share and how. Saved with every plan, so it is enough to repeat a run.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    method: Literal["eps", "veps"] = "veps"
    """``eps`` reads the columns of the table itself, ``veps`` those of ``S = E P + b``."""
    factor: Size | None = None
    """Store the table as ``[V, factor]`` and project it to the model's width where it is used."""
    tie: str = "all"
    """``none``, ``all``, ``sequence:M``, ``cycle:M`` or ``cycle_rev:M`` (Takase & Kiyono 2021)."""
    source: str | dict[str, str] = "auto"
    """``auto``, the name of an embedding or parameter, or ``{glob of weights: name}``. One of more
    than two dimensions is read as a matrix: its first dimension by all others."""
    include: tuple[str, ...] = ("*",)
    """Globs over parameter names. A bare parameter is taken when the last part names it."""
    exclude: tuple[str, ...] = ()
    """Globs over parameter names that stay dense, whatever `include` says."""
    gain: Literal["match", "none", "learned", "channel"] = "match"
    """``match``: a constant that gives the layer its initial standard deviation; ``none``: 1;
    ``learned``: match, times one learned number per weight; ``channel``: one per output channel."""
    init: Literal["auto", "random", "svd"] = "auto"
    """``svd`` starts from the weights that the model has (joint truncated SVD), ``random`` from
    none; ``auto``: svd where the model is known to be trained and can be fitted. The plan says
    which it is, and why."""
    residual_rank: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Above 0, each weight adds its own low-rank term to the shared one."""
    order: Literal["row", "column"] = "row"
    """How a slot's columns are flattened: ``row`` is the paper's."""
    width: Size | None = None
    """VEPS: columns of ``S``; None is as many as are used."""
    column_bias: bool = False
    """VEPS: the ``b`` of ``S = E P + b``."""
    # Why: docs/explanation/decisions/anchor-is-off.md
    anchor: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """Read from ``E + anchor * R``, with fixed signs ``R`` times the table's standard deviation,
    which are computed and never stored: the weights then move more slowly than the table that they
    come from."""
    factor_norm: bool = False
    """LayerNorm before and after the factor's input projection, which then has a bias."""

    @field_validator("tie")
    @classmethod
    def _known_tie(cls, tie: str) -> str:
        if not _TIES.fullmatch(tie):
            raise ValueError("must be 'none', 'all', 'sequence:M', 'cycle:M' or 'cycle_rev:M'")
        return tie

    @field_validator("include")
    @classmethod
    def _some_pattern(cls, include: tuple[str, ...]) -> tuple[str, ...]:
        if not include:
            raise ValueError("must name at least one pattern ('*' is everything)")
        return include

    @model_validator(mode="after")
    def _no_contradiction(self) -> ShareConfig:
        if self.method == "eps" and (self.width is not None or self.column_bias):
            raise ValueError(
                "`width` and `column_bias` belong to method='veps': EPS reads the table itself"
            )
        if self.factor_norm and self.factor is None:
            raise ValueError(
                "`factor_norm` needs a `factor`: it normalises the factor's projection"
            )
        if self.factor_norm and self.init == "svd":
            raise ValueError("`init='svd'` fits linear maps; it cannot start a `factor_norm` table")
        if self.anchor and self.init == "svd":
            raise ValueError(
                "`init='svd'` fits the table itself: it leaves no place for an `anchor`"
            )
        if self.source == {} or self.source == "":
            raise ValueError("`source` must be 'auto', a name, or a mapping with an entry")
        return self
