"""The measured numbers that weights are computed with, where every state dict takes them along.

Gains are measured on a model's own random start, so two models that are planned alike differ in
them. As buffers they travel with `state_dict`, `stack_module_state`, DDP's broadcast and any
checkpoint; a text beside them says what their layout is, so that a state of another plan is
refused instead of being read as something else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare._warnings import notify
from embshare.errors import PartStateWarning, StateMismatchError
from embshare.ops.tracing import must_be_plain, runs_now
from embshare.plan.values import SharePlan

__all__ = ["DIGEST", "Scales", "check_state", "describe", "encoded", "scales_of"]

TEXT: Final = 128
"""Characters of a layout's description. A fixed number: torch.distributed.checkpoint writes into
the tensors of the model, and would complain of sizes where we name plans."""
DIGEST: Final = 16
_SOURCE: Final = {"name", "rows", "dim", "stored_dim", "width"}
_SLOT: Final = {"weights", "source", "start", "numel", "shape", "transposed", "channel"}
"""Fields that decide a layout; named, so that a field that is added later changes no digest."""
_WRAPPERS: Final = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


# Why: docs/explanation/decisions/gains-are-buffers.md
class Scales(nn.Module):
    """Gains of slots and standard deviations of sources, as buffers of a bank.

    They are float32 even in a model of half precision: a gain that is rounded makes every weight of
    its slot another. The layout is text in floats, one character each, because moving averages of
    a state dict keep them to rounding, where integers would be cut off.

    Attributes:
        gains: ``[slots]``.
        spreads: ``[sources]``, standard deviations of the tables when the plan was made; an anchor
            scales with them.
        layout: ``[128]``, see `describe`.
    """

    gains: Tensor
    spreads: Tensor
    layout: Tensor

    def __init__(self, plan: SharePlan, like: Tensor) -> None:
        super().__init__()
        self.plan = plan
        self.planned = self.measured = (_gains(plan), _deviations(plan))
        # Known already where the table has no values yet: loaders that fill a model on meta by the
        # names of a file find nothing there for these in files of earlier versions.
        device = torch.device("cpu") if like.device.type == "meta" else like.device
        dtype = torch.promote_types(like.dtype, torch.float32)
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("gains", torch.tensor(self.measured[0], **kind))
        self.register_buffer("spreads", torch.tensor(self.measured[1], **kind))
        self.register_buffer("layout", encoded(plan).to(device))
        self._seen: tuple[object, ...] = self._state()

    def values(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Gains and deviations as they are now, read from their tensors where those changed."""
        if must_be_plain():  # tracers and transforms multiply with the tensors themselves
            return self.measured
        state = self._state()
        if state != self._seen:
            gains, deviations = self.measured
            self.measured = _read(gains, self.gains), _read(deviations, self.spreads)
            self._seen = state
        return self.measured

    def _state(self) -> tuple[object, ...]:
        return tuple(
            part
            for tensor in (self._buffers["gains"], self._buffers["spreads"])
            if tensor is not None
            for part in (
                id(tensor),
                None if tensor.is_inference() else tensor._version,
                tensor.device,
                _numbers(tensor),  # a write through ``.data`` moves no version
            )
        )

    def merged(self) -> SharePlan:
        """The plan with these numbers instead of those that it was made with."""
        plan = self.plan
        gains, deviations = self.values()
        if gains == _gains(plan) and deviations == _deviations(plan):
            return plan
        slots = zip(plan.slots, gains, strict=True)
        sources = zip(plan.sources, deviations, strict=True)
        return plan.model_copy(
            update={
                "slots": tuple(slot.model_copy(update={"gain": gain}) for slot, gain in slots),
                "sources": tuple(s.model_copy(update={"spread": std}) for s, std in sources),
            }
        )

    @torch.no_grad()
    def take(self, plan: SharePlan) -> None:
        """Adopt a plan of the same columns, and its numbers."""
        self.plan = plan
        self.planned = self.measured = (_gains(plan), _deviations(plan))
        for name, values in zip(("gains", "spreads"), self.measured, strict=True):
            old = self._buffers[name]
            assert old is not None
            self._buffers[name] = torch.tensor(values, dtype=old.dtype, device=old.device)
        self.layout = encoded(plan).to(self.layout.device)
        self._seen = self._state()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Scales:
        """Move, but neither round nor forget: `to_empty` would leave other gains behind."""
        values = self.values()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, known in (("gains", values[0]), ("spreads", values[1])):
            made = self._buffers[name]
            assert made is not None
            kind = torch.promote_types(made.dtype, torch.float32)
            self._buffers[name] = _filled(made.to(kind), torch.tensor(known, dtype=torch.float64))
        self.layout = _filled(self.layout.float(), encoded(self.plan))
        self._seen = self._state()
        return self


def _numbers(tensor: Tensor) -> list[float] | None:
    """What a tensor holds, where reading it waits for nothing."""
    quick = tensor.device.type == "cpu" and type(tensor) is Tensor and runs_now()
    return tensor.tolist() if quick else None


def _read(known: tuple[float, ...], tensor: Tensor) -> tuple[float, ...]:
    """What a tensor holds; with all digits that are known, where it is a rounding of these.

    A loader may have one of the tensors on meta and not the other.
    """
    if tensor.device.type == "meta":
        return known
    found = tensor.tolist()
    same = torch.tensor(known, dtype=tensor.dtype, device="cpu").tolist() == found
    return known if same else tuple(found)


def _filled(made: Tensor, known: Tensor) -> Tensor:
    if made.device.type != "meta":
        with torch.no_grad():
            made.copy_(known)
    return made


def _gains(plan: SharePlan) -> tuple[float, ...]:
    return tuple(slot.gain for slot in plan.slots)


def _deviations(plan: SharePlan) -> tuple[float, ...]:
    return tuple(source.spread for source in plan.sources)


def describe(plan: SharePlan) -> str:
    """A layout in 128 characters: a digest of all that decides it, then words for people.

    Measured numbers are not in it, nor what only led to the layout: patterns, the start.
    """
    config = plan.config
    deciding: dict[str, Any] = {
        "config": {
            name: getattr(config, name)
            for name in ("method", "order", "column_bias", "anchor", "factor_norm", "factor")
        },
        "own": [config.gain if config.gain in ("learned", "channel") else "", config.residual_rank],
        "sources": [source.model_dump(include=_SOURCE) for source in plan.sources],
        "slots": [slot.model_dump(include=_SLOT) for slot in plan.slots],
    }
    text = json.dumps(deciding, sort_keys=True)
    for wrapper in _WRAPPERS:
        text = text.replace(wrapper, "")
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST]
    words = [config.method, f"tie={config.tie}", f"order={config.order}"]
    words += [f"factor={config.factor}"] * (config.factor is not None)
    words += [f"anchor={config.anchor:g}"] * bool(config.anchor)
    words += [f"gain={config.gain}"] * (config.gain in ("learned", "channel"))
    words += [f"residual_rank={config.residual_rank}"] * bool(config.residual_rank)
    readers = sum(len(slot.weights) for slot in plan.slots)
    words += [f"{readers} weights", f"{len(plan.slots)} slots"]
    words += [f"table {source.rows}x{source.stored_dim}" for source in plan.sources]
    described = f"{digest} {', '.join(words)}".encode("ascii", "replace").decode()
    return described[:TEXT].ljust(TEXT)


def encoded(plan: SharePlan) -> Tensor:
    """`describe` as ``[128]`` float32, one character each."""
    characters = [float(ord(c)) for c in describe(plan)]
    return torch.tensor(characters, dtype=torch.float32, device="cpu")


def scales_of(plan: SharePlan) -> dict[str, Tensor]:
    """The tensors of `Scales` by their names in a bank."""
    gains, deviations = _gains(plan), _deviations(plan)
    return {
        "scales.gains": torch.tensor(gains, dtype=torch.float64, device="cpu"),
        "scales.spreads": torch.tensor(deviations, dtype=torch.float64, device="cpu"),
        "scales.layout": encoded(plan),
    }


def check_state(state: Mapping[str, Tensor], name: str, plan: SharePlan) -> None:
    """Hold a state dict to being of the plan's layout.

    Args:
        state: as `load_state_dict` was given it.
        name: of the bank in it.
        plan: of the model that is loaded into.
    Raises:
        StateMismatchError: it was saved under another plan.
    """
    found, ours = state.get(f"{name}.scales.layout"), describe(plan)
    if found is not None and found.device.type != "meta":
        theirs = "".join(chr(round(c) % 128) for c in found.flatten().tolist())
        if theirs[:DIGEST] != ours[:DIGEST]:
            raise StateMismatchError(
                needs=ours[DIGEST:].strip(), finding=f"of {theirs[DIGEST:].strip()}"
            )
    elif found is None and any(key.startswith(f"{name}.") for key in state):
        notify(
            "this state dict has parameters of the bank, but no gains: it was made of "
            "`named_parameters()`, or before gains were part of a state dict. The model keeps its "
            "own: its weights are right only if these are of the same start. Use `state_dict()`.",
            PartStateWarning,
        )
