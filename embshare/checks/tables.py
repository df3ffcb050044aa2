"""Looks at what weights are derived from: tables, projections, gains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from embshare._keys import DTYPE
from embshare.blocks.columns import Columns
from embshare.blocks.computed import made_by
from embshare.checks.findings import Finding, found
from embshare.checks.looks import Rooted, extremes, owner_of
from embshare.errors import SourceShrunkError, TableReplacedError
from embshare.runtime.current_plan import places

__all__ = ["dtypes", "numbers", "odd_numbers", "partly_meta", "tables", "ties"]


def tables(at: Rooted) -> Iterator[Finding]:
    """Is each table the one that the model looks tokens up in, and one that can be read?"""
    for columns in at.bank.columns:
        name = at.name(columns.source.name)
        owner: nn.Module = columns.__dict__["owner"]
        try:
            columns.check_place(at.root)
            columns.fingerprint()
        except TableReplacedError as error:
            yield found("table-replaced", name, f"is not the table that is read: {error.finding}")
            continue
        except SourceShrunkError as error:
            text = f"has {error.has:,} rows, of which layers read {error.needs:,}"
            yield found("table-shrunk", name, text)
            continue
        except AttributeError as error:
            yield found("table-replaced", name, f"is gone ({error})")
            continue
        yield from _kind_of_table(at, columns, owner, name)


def _kind_of_table(at: Rooted, columns: Columns, owner: nn.Module, name: str) -> Iterator[Finding]:
    if (copy := _copy_beside(at.root, columns, owner)) is not None:
        yield found("table-copied", name, f"has a copy beside it that is looked up: `{copy}`")
    if getattr(owner, "max_norm", None) is not None:
        yield found("table-renormed", name, f"has max_norm={owner.max_norm}")
    if owner._parameters.get(columns.leaf) is None:
        made = made_by(owner, columns.leaf)
        yield found("table-computed", name, f"is {made} by its module")


def _copy_beside(root: nn.Module, columns: Columns, owner: nn.Module) -> str | None:
    """The name of a table of the same shape inside of what wraps the module of a table."""
    place = owner_of(root, columns.source.name)
    if place is None or place is owner or place is root:
        return None
    inside = set(owner.modules())
    shape = columns.stored()[0].shape
    return next(
        (
            f"{name}.{leaf}"
            for name, module in place.named_modules()
            if module not in inside
            for leaf, parameter in module._parameters.items()
            if leaf == columns.leaf and parameter is not None and parameter.shape == shape
        ),
        None,
    )


def ties(at: Rooted) -> Iterator[Finding]:
    """Is what was tied to a table tied to it still?"""
    parameters = dict(at.root.named_parameters(remove_duplicate=False))
    for columns in at.bank.columns:
        table = parameters.get(columns.source.name)
        for name in columns.source.tied:
            other = parameters.get(name)
            if other is None or table is None or other is table or other.shape != table.shape:
                continue
            if other.device.type != "meta":  # torch moves each by itself there; loading ties again
                text = f"was tied to `{at.name(columns.source.name)}`, and is a parameter by itself"
                yield found("tie-lost", at.name(name), text)


def numbers(at: Rooted) -> Iterator[Finding]:
    """Are the numbers finite, and do those differ that weights are derived from?"""
    every = dict[str, Tensor](at.root.named_parameters())
    names = {id(parameter): name for name, parameter in every.items()}
    shared: dict[str, Tensor] = {}
    for columns in at.bank.columns:
        stored = columns.stored()
        if len(stored) == 1:  # else computed from masks and the like, which may be constant
            shared[names.get(id(stored[0]), columns.source.name)] = stored[0][: columns.source.rows]
        if columns.projection is not None:
            shared[names.get(id(columns.projection), "projection")] = columns.projection
    for kind, name, text in odd_numbers(every, shared):
        yield found(kind, at.name(name), text)


def odd_numbers(
    every: Mapping[str, Tensor], shared: Mapping[str, Tensor]
) -> Iterator[tuple[str, str, str]]:
    """Kind, name and text of tensors that are not finite, or that say nothing.

    Args:
        every: tensors by their names.
        shared: what weights are derived from, as far as it is read.
    """
    for name, tensor in every.items():
        if (ends := extremes(tensor)) and not all(map(math.isfinite, ends)):
            yield "non-finite", name, "has elements that are not finite (NaN or infinite)"
    for name, tensor in shared.items():
        ends = extremes(tensor)
        if ends and ends[0] == ends[1] and tensor.numel() > 1:  # NaN is not equal to itself
            yield "constant", name, f"is {ends[0]:g} everywhere"


def partly_meta(at: Rooted) -> Iterator[Finding]:
    """Do some parameters have values, and others none that anybody would put there?"""
    empty: list[str] = []
    whole = 0
    for path, module in at.root.named_modules():
        for leaf, parameter in module._parameters.items():
            if parameter is None:
                continue
            if parameter.device.type != "meta":
                whole += 1
            elif not hasattr(module, "_hf_hook"):  # else offloaded, and filled for each call
                empty.append(f"{path}.{leaf}" if path else leaf)
    if empty and whole:
        more = f", and {len(empty) - 1} more are too" if len(empty) > 1 else ""
        yield found("partly-meta", at.name(empty[0]), f"is on meta{more}")


def dtypes(at: Rooted) -> Iterator[Finding]:
    """Do layers get weights of the layer's dtype, and without a cast?"""
    casts: dict[tuple[str, str], list[str]] = {}
    clash: dict[tuple[str, str], list[str]] = {}
    for place in places(at.root, at.bank):
        slot = at.bank.readers[place.reader].slot
        table = at.bank.material(slot).dtype(slot)
        wanted = place.layer.__dict__.get(DTYPE)
        given = wanted if at.bank.mixed and wanted is not None else table
        own = [p.dtype for p in place.layer._parameters.values() if p is not None]
        own = [dtype for dtype in own if dtype.is_floating_point]
        if own and given not in own:
            clash.setdefault((_word(given), _word(own[0])), []).append(place.name)
        elif given is not table:
            casts.setdefault((_word(table), _word(given)), []).append(place.name)
    for kind, groups in (("dtype-clash", clash), ("cast", casts)):
        for (one, other), names in groups.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            text = f"{one} is derived{more and f' here{more}'}, and the layer is {other}"
            if kind == "cast":
                text = f"is cast{more and f' here{more}'} from {one}, its table's dtype, to {other}"
            yield found(kind, at.name(names[0]), text)


def _word(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
