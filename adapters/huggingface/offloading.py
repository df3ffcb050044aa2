"""Integration with accelerate: shared models are offloaded and dispatched like any other.

Accelerate moves parameters away by the names of a state dict, and brings those of one module back
while that module runs. The bank asks hooks for values by itself (`embshare.blocks.resident`); what
else sharing needs is here. A state dict of a shared model names a tied parameter once, so its other
names are looked up under the first. A factorised table is moved as it is stored. And all that is
derived from one table must run on one device, which is checked before anything is moved.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from embshare.blocks.resident import COVERED
from embshare.errors import OffloadedError
from embshare.runtime.bank import Bank
from embshare.runtime.factorized import STORED, as_factored, as_stored, is_factored
from embshare.runtime.offloading import Tied

__all__ = ["attach", "detach", "introduce"]

Function = Callable[..., Any]

READ_FROM_ABOVE: Final = ("MultiheadAttention", "TransformerEncoderLayer")
"""Classes of torch that read the parameters of their children, past the children's hooks."""

MODULES: Final = ("hooks", "big_modeling", "utils", "utils.modeling")
"""Parts of accelerate that have these functions from each other by name."""


def introduce() -> None:
    """Put what a shared model needs around the functions that move parameters."""
    parts = [sys.modules[f"accelerate.{name}"] for name in MODULES]
    for name, wrapper in {
        "attach_align_device_hook": _attaching,
        "attach_align_device_hook_on_blocks": _attaching,
        "set_module_tensor_to_device": _setting,
        "retie_parameters": _tying,
        "offload_state_dict": _writing,
    }.items():
        _wrap(parts, name, wrapper)
    _wrap([parts[0].AlignDevicesHook], "detach_hook", _detaching)


def attach(model: nn.Module) -> None:
    """Do nothing: hooks come later."""


def detach(model: nn.Module) -> None:
    """Do nothing: hooks that exist by now are the user's."""


def _wrap(places: Iterable[Any], name: str, wrapper: Callable[[Function], Function]) -> None:
    """Wrap a function once, wherever it is looked up."""
    made: dict[Function, Function] = {}
    for place in places:
        function = getattr(place, name, None)
        if function is not None and not hasattr(function, "_embshare"):
            if function not in made:
                made[function] = functools.wraps(function)(wrapper(function))
                made[function]._embshare = True  # type: ignore[attr-defined]
            setattr(place, name, made[function])


def _attaching(function: Function) -> Function:
    """Wrap the two functions that recurse through a model and attach hooks."""
    signature = inspect.signature(function)

    def attach(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        module, known = call.arguments["module"], call.arguments["weights_map"]
        banks = [part for part in module.modules() if isinstance(part, Bank)]
        if not banks:
            return function(*args, **kwargs)
        prefix = call.arguments["module_name"]
        prefix = f"{prefix}." if prefix else ""
        _refuse_older_norms(module, prefix, call.arguments["offload"])
        for bank in banks:
            _require_one_device(module, prefix, bank, call.arguments["execution_device"])
        if known is None and call.arguments["offload"] is True:
            known = {f"{prefix}{name}": t.to("cpu") for name, t in module.state_dict().items()}
        if known is not None and not isinstance(known, Tied):
            tied = call.arguments["weights_map"] = Tied(known, module, prefix)
            _require_all(tied, module, prefix, call.arguments["offload"])
        call.arguments["preload_module_classes"] = _whole_classes(
            call.arguments["preload_module_classes"]
        )
        result = function(*call.args, **call.kwargs)
        _note_covered(module)
        return result

    return attach


def _whole_classes(names: Sequence[str] | None) -> list[str]:
    """Classes to be moved as a whole, by the names that they have in a shared model too."""
    plain = {*(names or ()), *READ_FROM_ABOVE}
    return sorted(plain | {f"{kind}{name}" for kind in ("Shared", "Factored") for name in plain})


def _require_one_device(model: nn.Module, prefix: str, bank: Bank, devices: Any) -> None:
    """Refuse a map by which layers run on another device than the table that they are read from.

    Raises:
        OffloadedError: with two modules that read or hold the same, and their devices.
    """
    if not isinstance(devices, Mapping):
        return
    names = {module: name for name, module in model.named_modules()}
    found: dict[torch.device, str] = {}
    for module in _involved(bank):
        if module in names:
            name = prefix + names[module]
            found.setdefault(torch.device(_of(name, devices)), name)
    if len(found) > 1:
        (first, here), (second, there) = list(found.items())[:2]
        raise OffloadedError(
            place=there,
            needs=f"run on {first} as `{here}` does, one being derived from the other",
            finding=f"the device map says {second}",
            hint="Name one device for the whole model (parts of it may still be offloaded to "
            "'cpu' or 'disk'), or dispatch the plain model of embshare.materialize(model).",
        )


def _involved(bank: Bank) -> Iterator[nn.Module]:
    """Tables' owners and what reads them."""
    for columns in bank.columns:
        yield columns.__dict__["owner"]
    yield from bank.modules()
    for reader in bank.readers:
        yield from (layer for layer, _ in reader.places)


def _of(name: str, settings: Any) -> Any:
    """Find the setting of the longest prefix of a name in a map; one setting is for all."""
    if not isinstance(settings, Mapping):
        return settings
    while name and name not in settings:
        name = name.rpartition(".")[0]
    return settings.get(name)


def _require_all(known: Tied, model: nn.Module, prefix: str, offload: Any) -> None:
    """Check that the map has values for parameters that are on meta already."""
    for name, parameter in model.named_parameters(prefix.rstrip("."), remove_duplicate=False):
        if parameter.is_meta and name not in known.names and _of(name, offload):
            raise OffloadedError(
                place=name,
                needs="have values in the state dict or folder that hooks read from",
                finding="is on meta and not in it",
                hint="A state dict of a shared model names tied parameters once: tie the "
                "model's parameters (`model.tie_weights()`) before it is shared.",
            )


def _refuse_older_norms(model: nn.Module, prefix: str, offload: Any) -> None:
    """Torch's older norms compute a weight before accelerate brings back what it is made of."""
    for name, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm) and _of(prefix + name, offload):
                raise OffloadedError(
                    place=prefix + name,
                    needs="have its parameters when its weight is computed",
                    finding=f"its {type(hook).__name__} does that before hooks of accelerate run",
                    hint="Use torch.nn.utils.parametrizations, or leave it out of the offload.",
                )


def _note_covered(model: nn.Module) -> None:
    """Let modules know of hooks that move their parameters from above."""
    for module in model.modules():
        for hook in _hooks(module):
            if getattr(hook, "offload", False) and hook.place_submodules:
                for name, part in module.named_modules():
                    if part is not module:
                        part.__dict__[COVERED] = (hook, f"{name}.")


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    hook = module.__dict__.get("_hf_hook")
    return () if hook is None else tuple(getattr(hook, "hooks", (hook,)))


def _detaching(function: Function) -> Function:
    """Wrap the method of a hook that restores parameters: ties are made again."""

    def detach_hook(hook: Any, module: nn.Module) -> nn.Module:
        result: nn.Module = function(hook, module)
        for part in module.modules():
            if part.__dict__.get(COVERED, (None,))[0] is hook:
                del part.__dict__[COVERED]
        known = getattr(hook.weights_map, "dataset", None)
        if hook.offload and isinstance(known, Tied):
            _tie_again(known, hook.weights_map.prefix)
        return result

    return detach_hook


def _tie_again(known: Tied, prefix: str) -> None:
    for other, name in known.first.items():
        first = known.tensor(name)
        back = other.startswith(prefix) or not known.tensor(other).is_meta
        if back and not first.is_meta:
            known.tie(other, first)


def _setting(function: Function) -> Function:
    """Wrap the function that replaces a tensor of a module."""

    def set_module_tensor_to_device(
        module: nn.Module, tensor_name: str, *args: Any, **kwargs: Any
    ) -> Any:
        with _stored([module.get_submodule(tensor_name.rpartition(".")[0])]):
            return function(module, tensor_name, *args, **kwargs)

    return set_module_tensor_to_device


def _writing(function: Function) -> Function:
    """Wrap the function that writes a part of a model to disk, which may store nothing."""

    def offload_state_dict(save_dir: Any, state_dict: Mapping[str, Any]) -> Any:
        result = function(save_dir, state_dict)
        if not state_dict:  # and then no index is written, which is read next
            Path(save_dir, "index.json").write_text("{}")
        return result

    return offload_state_dict


def _tying(function: Function) -> Function:
    """Wrap the function that ties parameters again, by names."""

    def retie_parameters(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _stored(model.modules()):
            return function(model, *args, **kwargs)

    return retie_parameters


def _stored(modules: Iterable[nn.Module]) -> ExitStack:
    """A block in which factorised tables are seen as they are stored."""
    stack = ExitStack()
    for module in modules:
        if is_factored(module) and STORED not in module.__dict__:
            as_stored(module)
            stack.callback(as_factored, module)
    return stack
