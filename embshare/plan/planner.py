"""`plan_sharing`: decide everything, touch nothing."""

from __future__ import annotations

import fnmatch
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import nn

from embshare._keys import KEY
from embshare.config import ShareConfig
from embshare.errors import (
    AlreadySharedError,
    InvalidValueError,
    NothingMatchedError,
    NothingToShareError,
    PlanError,
    SourceTooSmallError,
    UnsupportedSourceError,
)
from embshare.plan.inventory import (
    LOOKUPS,
    UNKNOWN,
    Candidate,
    Inventory,
    deviation,
    find_table,
    take_inventory,
)
from embshare.plan.layer_rules import RULES, Rules
from embshare.plan.requirements import (
    FROZEN,
    checked_config,
    dense_home,
    left_dense,
    residual_reason,
    warn_growth,
    without_frozen,
)
from embshare.plan.slots import LeftDense, RuleMatch, Slot, Source, columns_needed
from embshare.plan.start_choice import choose_init
from embshare.plan.tying import role_of, slot_numbers
from embshare.plan.uneven import warn_uneven
from embshare.plan.values import SharePlan

__all__ = ["plan_sharing"]


def plan_sharing(
    model: nn.Module,
    config: ShareConfig | None = None,
    *,
    rules: Rules = RULES,
    trained: bool | None = None,
) -> SharePlan:
    """Decide which weights read one block, and which columns of which table it is made of.

    Args:
        model: any module, also on meta; not changed. Of a `SentenceTransformer` or `CrossEncoder`
            the model of transformers inside it is planned, under that one's names.
        config: what to share and how; the defaults are ``ShareConfig()``.
        rules: layer kind -> rule, `embshare.plan.layer_rules.RULES` and the caller's own.
        trained: whether the model's weights are trained, for ``init="auto"``; ``None`` counts those
            that `from_pretrained` has loaded.
    Returns:
        The plan; ``str(plan)`` is a readable table. `UnevenCoverageWarning` is given where
        it shares a weight in some repeated blocks only, `GrowthWarning` where it stores more
        parameters than the model has.
    Raises:
        NoSourceError: the model has no table to read from, or not the one named.
        UnsupportedSourceError: the table is integer, empty, all zero, has a ``max_norm``, or
            cannot be factorised.
        NothingMatchedError: an `include`, `exclude` or `source` pattern matches nothing.
        NothingToShareError: every weight stays dense.
        SourceTooSmallError: EPS, or a fixed `width`, has too few columns.
        AliasedWeightError: two parameters overlap in memory.
        AlreadySharedError: the model is shared already.
        PlanError: others hold on to its parameters: DDP, FSDP, adapters; or a module is lazy.
        InvalidValueError: ``model`` is no module, or ``config`` no settings.
    """
    settings = checked_config(model, config, what="plan_sharing")
    if isinstance(settings, SharePlan):
        raise InvalidValueError(what="plan_sharing", faults=["`config` is a plan already"])
    config = settings
    if any(KEY in module.__dict__ for module in model.modules()):
        raise AlreadySharedError(model=type(model).__name__)
    model = dense_home(model)
    inventory = take_inventory(model, rules)
    tables = _tables(model, inventory, config) if config.reads_table else {}
    chosen, left, matches = _choose(inventory, config, set(tables.values()))
    if config.reads_table:
        by_table, homeless = _assign(chosen, tables, config)
        by_table, frozen = _trained(by_table, inventory)
        weights = [weight for group in by_table.values() for weight in group]
    else:
        by_table, homeless = {}, []
        weights, frozen = _trained_roles(model, chosen)
    left += homeless + frozen
    if not weights:
        raise NothingToShareError(
            model=type(model).__name__, reasons=sorted({entry.reason for entry in left})
        )
    init, reason = choose_init(model, config, weights, map(model.get_parameter, by_table), trained)
    sources: list[Source] = []
    slots = [] if config.reads_table else _blocks(model, weights, config)
    for index, (table, group) in enumerate(by_table.items()):
        source = _source(inventory, table, config)
        placed = _place(model, group, source, index, _with_init(config, init))
        used = sum(slot.columns for slot in placed)
        source = _with_width(source, used, config)
        sources.append(source)
        slots += _from_the_right(placed, source.width)
    plan = SharePlan(
        config=config,
        sources=tuple(sources),
        slots=tuple(slots),
        left_dense=tuple(left),
        matches=tuple(matches),
        init=init if config.init == "auto" else None,
        init_reason=reason,
        notes=tuple(_notes(inventory, by_table)) or None,
    )
    warn_uneven(plan.uneven())
    warn_growth(plan, inventory)
    return plan


def _trained(
    by_table: dict[str, list[Candidate]], inventory: Inventory
) -> tuple[dict[str, list[Candidate]], list[LeftDense]]:
    """Each table's weights without those that are frozen while it is trained."""
    tables = {name: p for p, names in inventory.names.items() for name in names}
    kept: dict[str, list[Candidate]] = {}
    dense: list[LeftDense] = []
    for table, group in by_table.items():
        moving, still = without_frozen(group, tables[table])
        dense += [left_dense(candidate, FROZEN) for candidate in still]
        if moving:
            kept[table] = moving
    return kept, dense


def _trained_roles(
    model: nn.Module, chosen: list[Candidate]
) -> tuple[list[Candidate], list[LeftDense]]:
    """Weights without those that are frozen while others of their role are trained."""
    still = {c.names[0] for role in _roles(model, chosen) for c in without_frozen(role)[1]}
    return (
        [candidate for candidate in chosen if candidate.names[0] not in still],
        [left_dense(candidate, FROZEN) for candidate in chosen if candidate.names[0] in still],
    )


def _notes(inventory: Inventory, tables: Iterable[str]) -> Iterator[str]:
    for table in tables:
        if getattr(inventory.owner(table), "sparse", False):
            yield (
                f"the gradient of `{table}` will be dense, though its embedding is sparse: all of "
                f"its rows are read. Train it with a dense optimizer, not SparseAdam."
            )


def _with_init(config: ShareConfig, init: Literal["random", "svd"]) -> ShareConfig:
    return config if config.init == init else config.model_copy(update={"init": init})


def _tables(model: nn.Module, inventory: Inventory, config: ShareConfig) -> dict[str, str]:
    """Glob of weights -> full name of the table that they read."""
    if isinstance(config.source, str):
        return {"*": find_table(model, inventory, config.source)}
    return {glob: find_table(model, inventory, name) for glob, name in config.source.items()}


def _choose(
    inventory: Inventory, config: ShareConfig, tables: set[str]
) -> tuple[list[Candidate], list[LeftDense], list[RuleMatch]]:
    included = dict.fromkeys(config.include, 0)
    excluded = dict.fromkeys(config.exclude, 0)
    chosen: list[Candidate] = []
    left: list[LeftDense] = []
    for candidate in inventory.candidates:
        if tables & set(candidate.names):
            continue
        reason = _refusal(candidate, included, excluded) or residual_reason(candidate, config)
        if reason is None:
            chosen.append(candidate)
        else:
            left.append(left_dense(candidate, reason))
    matches = [RuleMatch(field="include", pattern=p, count=n) for p, n in included.items()]
    matches += [RuleMatch(field="exclude", pattern=p, count=n) for p, n in excluded.items()]
    for match in matches:
        if not match.count:
            examples = [c.names[0] for c in inventory.candidates if c.kind and not c.obstacle][:3]
            if match.pattern == "*" and not examples:
                raise NothingToShareError(
                    model="the model", reasons=sorted({e.reason for e in left})
                )
            raise NothingMatchedError(field=match.field, pattern=match.pattern, examples=examples)
    return chosen, left, matches


def _refusal(
    candidate: Candidate, included: dict[str, int], excluded: dict[str, int]
) -> str | None:
    """Why this weight stays dense, or None; counts what each pattern decided."""
    hits = [glob for glob in included if _names(glob, candidate)]
    bars = [glob for glob in excluded if any(fnmatch.fnmatchcase(n, glob) for n in candidate.names)]
    for glob in bars:
        excluded[glob] += 1
    if not hits:
        matched = candidate.kind and not candidate.obstacle
        return "no `include` pattern names it" if matched else candidate.obstacle or UNKNOWN
    if candidate.obstacle:
        if not candidate.parameter.is_floating_point():
            raise PlanError(
                f"`{candidate.names[0]}` must be floating to be derived: {candidate.obstacle}. "
                f"Leave it out with exclude=({candidate.names[0]!r},)."
            )
        return candidate.obstacle
    for glob in hits:
        included[glob] += 1
    return f"excluded by {bars[0]!r}" if bars else None


def _names(glob: str, candidate: Candidate) -> bool:
    """Known kinds by any glob; anything else only where the pattern's last part names it."""
    if not any(fnmatch.fnmatchcase(name, glob) for name in candidate.names):
        return False
    literal = not set(glob.rpartition(".")[2]) & set("*?")  # "[0-9]" names a list's parameters
    return (candidate.kind and not candidate.obstacle) or literal


def _assign(
    chosen: Iterable[Candidate], tables: dict[str, str], config: ShareConfig
) -> tuple[dict[str, list[Candidate]], list[LeftDense]]:
    """Each chosen weight to the table of the first glob that names it."""
    groups: dict[str, list[Candidate]] = {table: [] for table in tables.values()}
    counts = dict.fromkeys(tables, 0)
    left: list[LeftDense] = []
    for candidate in chosen:
        for glob, table in tables.items():
            if any(fnmatch.fnmatchcase(name, glob) for name in candidate.names):
                counts[glob] += 1
                groups[table].append(candidate)
                break
        else:
            left.append(left_dense(candidate, "`source` names no table for it"))
    if isinstance(config.source, dict):
        for glob, count in counts.items():
            if not count:
                names = [candidate.names[0] for candidate in chosen][:3]
                raise NothingMatchedError(field="source", pattern=glob, examples=names)
    return {table: group for table, group in groups.items() if group}, left


def _source(inventory: Inventory, name: str, config: ShareConfig) -> Source:
    table, aliases = next((p, names) for p, names in inventory.names.items() if name in names)
    rows, dim = table.shape[0], table.numel() // table.shape[0]
    tied = tuple(alias for alias in aliases if alias != name)
    if config.factor is not None:
        _check_factor(inventory, name, tied, dim, config.factor)
    if getattr(inventory.owner(name), "max_norm", None) is not None:
        raise UnsupportedSourceError(
            source=name,
            need="without `max_norm`, which rewrites its rows in each call",
            finding="with it",
        )
    std = deviation(table) if config.gain != "none" or config.anchor else None
    read = config.gain != "none" and not config.anchor and table.device.type != "meta"
    if read and std is None:  # and what is derived from it would stay zero in training
        raise UnsupportedSourceError(
            source=name, need="other than zero somewhere", finding="zero everywhere"
        )
    return Source(
        name=name,
        rows=rows,
        dim=dim,
        stored_dim=config.factor or dim,
        width=1,
        tied=tied,
        spread=_as_stored(std or 1.0),
    )


def _check_factor(
    inventory: Inventory, name: str, tied: tuple[str, ...], dim: int, factor: int
) -> None:
    if not isinstance(inventory.owner(name), nn.Embedding):
        kind = type(inventory.owner(name)).__name__
        raise UnsupportedSourceError(
            source=name, need="an nn.Embedding's weight to be factorised", finding=f"of a {kind}"
        )
    if factor > dim:
        raise UnsupportedSourceError(
            source=name, need=f"at least factor={factor} wide", finding=f"{dim} wide"
        )
    for alias in tied:
        if not isinstance(inventory.owner(alias), (nn.Linear, *LOOKUPS)):
            kind = type(inventory.owner(alias)).__name__
            raise UnsupportedSourceError(
                source=alias, need="tied to a Linear or an embedding to be factorised", finding=kind
            )


def _place(
    model: nn.Module, group: list[Candidate], source: Source, index: int, config: ShareConfig
) -> list[Slot]:
    """Slots of one source in plan order, without their place yet."""
    return [_slot(members, source, index, config) for members in _tied(model, group, config)]


def _blocks(model: nn.Module, weights: list[Candidate], config: ShareConfig) -> list[Slot]:
    """Slots of blocks that are parameters, in plan order; they lie as their weights do."""
    return [
        Slot(
            weights=tuple(name for member in members for name in member.names),
            source=None,
            start=0,
            columns=0,
            numel=members[0].parameter.numel(),
            shape=tuple(members[0].parameter.shape),
            channel=members[0].channel,
        )
        for members in _tied(model, weights, config)
    ]


def _tied(
    model: nn.Module, group: list[Candidate], config: ShareConfig
) -> Iterable[list[Candidate]]:
    """Weights that read one slot, slot by slot, in the order of the model's parameters."""
    readers: dict[tuple[int, int], list[Candidate]] = defaultdict(list)
    number_of = {}
    for role, members in enumerate(_roles(model, group)):
        for member, number in zip(members, slot_numbers(config.tie, len(members)), strict=True):
            number_of[member.names[0]] = (role, number)
    for candidate in group:
        readers[number_of[candidate.names[0]]].append(candidate)
    return readers.values()


def _roles(model: nn.Module, group: Iterable[Candidate]) -> Iterable[list[Candidate]]:
    """Weights that are repetitions of one another: alike in name, shape and layout."""
    roles: dict[object, list[Candidate]] = defaultdict(list)
    for candidate in group:
        shape = tuple(candidate.parameter.shape)
        roles[role_of(model, candidate.names[0]), shape, candidate.transposed].append(candidate)
    return roles.values()


def _slot(members: list[Candidate], source: Source, index: int, config: ShareConfig) -> Slot:
    first = members[0].parameter
    columns = columns_needed(first.numel(), source.rows)
    return Slot(
        weights=tuple(name for member in members for name in member.names),
        source=index,
        start=0,
        columns=columns,
        numel=first.numel(),
        shape=tuple(first.shape),
        transposed=members[0].transposed,
        channel=members[0].channel,
        gain=_gain(members, source, config),
        delta=columns * source.rows - first.numel(),
    )


def _gain(members: list[Candidate], source: Source, config: ShareConfig) -> float:
    """Standard deviation of the layers' weights over that of the columns at the start."""
    if config.gain == "none" or config.init == "svd":  # decided by now
        return 1.0
    squares = [_wanted(member) ** 2 for member in members]
    wanted = math.sqrt(sum(squares) / len(squares))
    # VEPS: a projection of variance 1 / F leaves the columns with the table's own deviation.
    return _as_stored(wanted / (source.spread * math.hypot(1.0, config.anchor)))


def _as_stored(number: float) -> float:
    """Round to float32, in which a state dict has it: plans compare equal after one."""
    return float(torch.tensor(number, dtype=torch.float32, device="cpu"))


def _wanted(member: Candidate) -> float:
    """Standard deviation of a weight; on meta or all zero, that of torch's initialisation."""
    found = deviation(member.parameter)
    if found is not None:
        return found
    fan_in = member.parameter.numel() // member.parameter.shape[0]
    return 1.0 / math.sqrt(3.0 * fan_in)


def _with_width(source: Source, used: int, config: ShareConfig) -> Source:
    width = source.stored_dim if config.method == "eps" else (config.width or used)
    if used > width:
        raise SourceTooSmallError(source=source.name, needs=used, has=width, method=config.method)
    return source.model_copy(update={"width": width})


def _from_the_right(slots: list[Slot], width: int) -> list[Slot]:
    placed, edge = [], width
    for slot in slots:
        edge -= slot.columns
        placed.append(slot.model_copy(update={"start": edge}))
    return placed
