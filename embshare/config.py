"""What to share and how: the only settings there are."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

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

    model_config = ConfigDict(use_attribute_docstrings=True)  # they are the options' help

    method: Literal["eps", "veps", "own"] = "veps"
    """What a slot's block is made of: columns of the embedding table ``E`` itself (``eps``) or of
    its projection ``S = E P + b`` with learned ``P`` and ``b`` (``veps``), or a parameter of its
    own, which no table is needed for (``own``: ordinary tied layers)."""
    factor: Size | None = None
    """Columns ``F`` of a factorised table, which is stored as ``[V, F]`` and projected to the
    model's width ``D`` where it is used; None stores ``[V, D]``."""
    tie: str = "all"
    """Number of slots that the layers of one role share: ``none`` (one each), ``all`` (one), or
    ``M``, assigned as in ``sequence:M``, ``cycle:M`` or ``cycle_rev:M`` (Takase & Kiyono 2021)."""
    source: str | dict[str, str] = "auto"
    """Table that weights are derived from: ``auto`` (the input embedding), the name of any
    parameter of two or more dimensions, or a mapping ``{glob of weights: name}``. A parameter of
    more than two dimensions is read as a matrix: its first dimension by all others."""
    include: tuple[str, ...] = ("*",)
    """Globs over the names of parameters to derive. Weights of known layer kinds match any glob,
    other parameters only one whose last part names them."""
    exclude: tuple[str, ...] = ()
    """Globs over the names of parameters that stay dense, even where `include` matches."""
    gain: Literal["match", "none", "learned", "channel"] = "match"
    """Scale of a derived weight: ``match``, a constant that gives it the standard deviation of the
    layer's weight before sharing (1 for ``own``, whose block begins with it); ``none``, 1;
    ``learned``, the constant times one learned scalar per weight; ``channel``, the constant times
    one learned scalar per output channel."""
    init: Literal["auto", "random", "svd"] = "auto"
    """Initialisation of what is stored: ``svd`` fits it to the weights that the model has (joint
    truncated SVD; of ``own`` their mean), ``random`` ignores them (a block of ``own`` begins as the
    first of its layers), and ``auto`` is svd where the model is known to be trained and can be
    fitted. The plan says which it is, and why."""
    residual_rank: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Rank of a low-rank term that each weight owns and adds to the shared block; 0 adds none."""
    order: Literal["row", "column"] = "row"
    """Order in which a slot's ``[V, G]`` columns are flattened: by rows (the paper's) or by
    columns."""
    width: Size | None = None
    """Number of columns of ``S`` (VEPS only); None computes as many as the slots need."""
    column_bias: bool = False
    """Bias ``b`` of ``S = E P + b``, one learned number per column (VEPS only)."""
    # Why: docs/explanation/decisions/anchor-is-off.md
    anchor: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """Scale of a fixed sign matrix ``R`` that is added to the table, in standard deviations of the
    table: weights are derived from ``E + anchor * std * R``, and so change more slowly than the
    table does. ``R`` is computed, never stored; 0 adds nothing."""
    factor_norm: bool = False
    """LayerNorm before and after the projection of a factorised table, which then has a bias."""

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

    @property
    def reads_table(self) -> bool:
        """Whether blocks are columns of a table; else the model needs none."""
        return self.method != "own"

    @model_validator(mode="after")
    def _nothing_of_a_table(self) -> ShareConfig:
        if self.reads_table:
            return self
        of_tables = ("source", "order", "width", "column_bias", "anchor", "factor", "factor_norm")
        fields = type(self).model_fields
        if said := [n for n in of_tables if getattr(self, n) != fields[n].default]:
            names = ", ".join(f"`{name}`" for name in said)
            raise ValueError(
                f"{names} would say how a table is read, and method={self.method!r} reads none: "
                f"leave out what belongs to tables, or use method='veps'"
            )
        return self

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
