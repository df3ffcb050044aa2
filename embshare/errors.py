"""Every error that embshare raises on purpose.

EmbshareError
 ├─ InvalidValueError          a config, plan or file holds a value that cannot be
 ├─ PlanError                  a plan cannot be made for, or does not fit, this model
 │   ├─ NoSourceError          no embedding to read from, or not the one that was named
 │   ├─ NothingMatchedError    a pattern selects no parameter
 │   ├─ NothingToShareError    every candidate stayed dense
 │   ├─ SourceTooSmallError    EPS, or a fixed width, has too few columns
 │   ├─ UnsupportedSourceError integer, empty or otherwise unusable tables
 │   ├─ AliasedWeightError     two parameters overlap in memory
 │   ├─ AlreadySharedError     the model already reads its weights from a bank
 │   └─ PlanMismatchError      the plan was made for another model
 ├─ NotSharedError             the model has no bank
 ├─ DerivedWeightError         a derived weight was assigned to, or read where it cannot be
 ├─ SourceShrunkError          a table has lost rows, or columns, that derived weights read
 ├─ TableReplacedError         a model's table was replaced by another one
 ├─ StateMismatchError         a state dict was saved under another plan
 ├─ OffloadedError             values that derived weights are read from are elsewhere
 ├─ MaterializeError           the materialized model would not equal the shared one
 ├─ CheckpointError            a folder cannot be read or written
 └─ MissingPackageError        an optional package is needed

EmbshareWarning
 ├─ StaleCacheWarning          a source changed inside `cached`
 ├─ UnusedCacheWarning         a compiled call derived weights that `cached` kept
 ├─ UnevenCoverageWarning      blocks of one kind are not shared alike
 ├─ GrowthWarning              a plan stores more than the model does
 ├─ PartCopyWarning            a copy of a part reads the original's table
 ├─ PartStateWarning           a part's state dict lacks what its weights are derived from
 ├─ FrozenLayerWarning         layers were frozen, but not what their weights are derived from
 ├─ StaleOptimizerWarning      an optimizer holds weights that sharing removed
 └─ UnusedHookWarning          a hook or gradient is asked of a weight that each call derives

Each message names the place, what was needed, what was found and a hint;
the numbers are also fields of the error.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AliasedWeightError",
    "AlreadySharedError",
    "CheckpointError",
    "DerivedWeightError",
    "EmbshareError",
    "EmbshareWarning",
    "FrozenLayerWarning",
    "GrowthWarning",
    "InvalidValueError",
    "MaterializeError",
    "MissingPackageError",
    "NoSourceError",
    "NotSharedError",
    "NothingMatchedError",
    "NothingToShareError",
    "OffloadedError",
    "PartCopyWarning",
    "PartStateWarning",
    "PlanError",
    "PlanMismatchError",
    "SourceShrunkError",
    "SourceTooSmallError",
    "StaleCacheWarning",
    "StaleOptimizerWarning",
    "StateMismatchError",
    "TableReplacedError",
    "UnevenCoverageWarning",
    "UnsupportedSourceError",
    "UnusedCacheWarning",
    "UnusedHookWarning",
]


class EmbshareError(Exception):
    """Base of every error that embshare raises on purpose.

    It goes from one process to another as it is, with its fields and notes.
    """

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are made again by a call with their message, which these do not take.
        return _without_init, (type(self), self.args), self.__dict__


def _without_init(kind: type[EmbshareError], args: tuple[object, ...]) -> EmbshareError:
    return kind.__new__(kind, *args)


class InvalidValueError(EmbshareError, ValueError):
    """A config, plan or file holds a value that cannot be; all faults are listed at once."""

    def __init__(self, *, what: str, faults: Sequence[str]) -> None:
        super().__init__(f"{what} is not valid: {'; '.join(faults)}.")
        self.what, self.faults = what, tuple(faults)


class PlanError(EmbshareError):
    """A plan cannot be made for this model, or does not fit it."""


class NoSourceError(PlanError):
    """No embedding to read weights from, or not the one that was named."""

    def __init__(self, *, source: str, model: str, found: Sequence[str]) -> None:
        have = ", ".join(f"`{name}`" for name in found) or "none"
        super().__init__(
            f"{model} has no table `{source}` to read weights from (its embeddings: {have}). "
            f"Name an nn.Embedding or any parameter of two or more dimensions with source='name'."
        )
        self.source, self.model, self.found = source, model, tuple(found)


class NothingMatchedError(PlanError):
    """A pattern selects no parameter: a silent miss would be a compressed model that is not."""

    def __init__(self, *, field: str, pattern: str, examples: Sequence[str]) -> None:
        shown = ", ".join(f"`{name}`" for name in examples)
        super().__init__(
            f"`{field}` pattern {pattern!r} matches no parameter that can be shared. "
            f"Patterns are globs over whole parameter names such as {shown}."
        )
        self.field, self.pattern, self.examples = field, pattern, tuple(examples)


class NothingToShareError(PlanError):
    """Every weight stayed dense."""

    def __init__(self, *, model: str, reasons: Sequence[str]) -> None:
        why = "; ".join(reasons) or "it has no weight of a known layer kind"
        super().__init__(
            f"{model} has nothing to share: {why}. Name bare parameters in `include`, or pass "
            f"rules={{**RULES, YourLayer: LayerRule(...)}} for a new layer kind."
        )
        self.model, self.reasons = model, tuple(reasons)


class SourceTooSmallError(PlanError):
    """A source has fewer columns than the slots need."""

    def __init__(self, *, source: str, needs: int, has: int, method: str) -> None:
        hint = (
            "use method='veps' (its columns are as many as needed), tie more layers "
            "(tie='all'), or exclude some"
            if method == "eps"
            else f"use width=None or a width of at least {needs:,}"
        )
        super().__init__(
            f"`{source}` must have {needs:,} columns for these layers, but has {has:,}: {hint}."
        )
        self.source, self.needs, self.has, self.method = source, needs, has, method


class UnsupportedSourceError(PlanError):
    """The table cannot be read from (integer, empty, of one dimension)."""

    def __init__(self, *, source: str, need: str, finding: str) -> None:
        super().__init__(
            f"`{source}` must be {need} to be a source, but is {finding}. "
            f"Name another table with source='name'."
        )
        self.source, self.need, self.finding = source, need, finding


class AliasedWeightError(PlanError):
    """Two parameters overlap in memory, so removing one would not free it."""

    def __init__(self, *, first: str, second: str) -> None:
        super().__init__(
            f"`{first}` and `{second}` are different parameters that overlap in memory (one is a "
            f"view of the other). Make them one nn.Parameter, or clones, or exclude both."
        )
        self.first, self.second = first, second


class AlreadySharedError(PlanError):
    """The model already reads its weights from a bank, by another plan."""

    def __init__(self, *, model: str, finding: str = "already shared by another plan") -> None:
        super().__init__(
            f"{model} is {finding}. Call embshare.materialize(model) first, "
            f"or start from the dense model."
        )
        self.model, self.finding = model, finding


class PlanMismatchError(PlanError):
    """The plan was made for another model."""

    def __init__(self, *, place: str, needs: str, finding: str) -> None:
        super().__init__(
            f"the plan does not fit this model: `{place}` must be {needs}, but is {finding}. "
            f"Make the plan for this model with embshare.plan_sharing(model, config)."
        )
        self.place, self.needs, self.finding = place, needs, finding


class NotSharedError(EmbshareError):
    """The model has no bank, or a bank that no layer reads any more."""

    def __init__(self, *, model: str, emptied: bool = False) -> None:
        super().__init__(
            f"{model} was shared, but each derived weight was replaced or frozen since. Save it "
            f"as a dense model: embshare.materialize(model); or let what was "
            f"frozen follow the table again: embshare.unfreeze(model)."
            if emptied
            else f"{model} is not shared, or is a part of a shared model. "
            f"Call this on the model that embshare.share_from_embedding returned."
        )
        self.model, self.emptied = model, emptied


class DerivedWeightError(EmbshareError):
    """A derived weight was assigned to, or read where it cannot be."""


class SourceShrunkError(EmbshareError):
    """A table has fewer rows than derived weights read."""

    def __init__(self, *, source: str, needs: int, has: int) -> None:
        super().__init__(
            f"`{source}` must have at least {needs:,} rows, which derived weights read, but has "
            f"{has:,}. A vocabulary may grow after sharing, not shrink; and where a framework "
            f"partitions parameters (DeepSpeed ZeRO stage 3), use FSDP2 or stage 1 or 2."
        )
        self.source, self.needs, self.has = source, needs, has


class TableReplacedError(EmbshareError):
    """The module that holds a table is no longer the one that derived weights read."""

    def __init__(self, *, source: str, finding: str) -> None:
        super().__init__(
            f"`{source}` is the table that layers of this model are derived from, but {finding}: "
            f"they would still read the old one, which is in no file and no optimizer. To have "
            f"them follow new rows, keep the module and assign its parameter (`embedding.weight = "
            f"nn.Parameter(new)`); to keep the layers as they are, call embshare.materialize(model)"
            f" and share again afterwards."
        )
        self.source, self.finding = source, finding


class StateMismatchError(EmbshareError):
    """A state dict was saved under another plan than that of the model it is loaded into."""

    def __init__(self, *, needs: str, finding: str) -> None:
        super().__init__(
            f"the state dict must be of a model that was shared like this one ({needs}), but is "
            f"{finding}. Share the model by the plan of the state, or load the folder that was "
            f"saved with it: embshare.load(folder, model)."
        )
        self.needs, self.finding = needs, finding


class OffloadedError(EmbshareError):
    """The values that derived weights are read from are, or would be, elsewhere."""

    def __init__(self, *, place: str, needs: str, finding: str, hint: str) -> None:
        super().__init__(f"`{place}` must {needs}, but {finding}. {hint}")
        self.place, self.needs, self.finding, self.hint = place, needs, finding, hint


class MaterializeError(EmbshareError):
    """The materialized weight would not equal the derived one."""

    def __init__(self, *, weight: str, difference: float) -> None:
        super().__init__(
            f"`{weight}` differs by {difference:.3g} when read again; the model is still shared. "
            f"Something changed the source meanwhile: call materialize when nothing trains."
        )
        self.weight, self.difference = weight, difference


class CheckpointError(EmbshareError):
    """A checkpoint folder cannot be read or written."""

    def __init__(self, *, path: object, finding: str, hint: str) -> None:
        super().__init__(f"`{path}`: {finding}. {hint}")
        self.path, self.finding, self.hint = str(path), finding, hint


class MissingPackageError(EmbshareError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, *, package: str, extra: str) -> None:
        super().__init__(f"`{package}` is not installed: pip install 'embshare[{extra}]'")
        self.package, self.extra = package, extra


class EmbshareWarning(UserWarning):
    """Base of every warning that embshare gives."""


class StaleCacheWarning(EmbshareWarning):
    """A source changed inside `embshare.cached`; the kept weights were derived again."""


class UnusedCacheWarning(EmbshareWarning):
    """A compiled call derived again what `embshare.cached` had kept. Given when the block ends."""


class UnevenCoverageWarning(EmbshareWarning):
    """A plan shares a weight in some of a model's repeated blocks and leaves it in others."""


class GrowthWarning(EmbshareWarning):
    """A plan stores more parameters than the dense model does."""


class PartCopyWarning(EmbshareWarning):
    """A copy of a part of a shared model follows the original's table. Given once for each copy."""


class PartStateWarning(EmbshareWarning):
    """A state dict was loaded into a part of a shared model, whose weights it cannot hold."""


class FrozenLayerWarning(EmbshareWarning):
    """All that layers store was frozen, while what their weights are derived from is trained."""


class StaleOptimizerWarning(EmbshareWarning):
    """An optimizer steps weights that sharing removed, and not what they are derived from."""


class UnusedHookWarning(EmbshareWarning):
    """A hook or a gradient was asked of a derived weight, which is another tensor at each call."""
