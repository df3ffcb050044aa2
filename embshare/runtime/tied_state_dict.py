"""A state dict that any writer accepts: a parameter that a model ties appears once.

Tied parameters (a head that is the table, a bias held twice) are listed by torch under each of
their names, all with the same memory, which safetensors refuses. A shared model lists the first
name alone and, on loading, takes either. Ties that were lost on the way (``to_empty`` makes every
parameter new) are made again by a state dict that has the first name alone.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor, nn

__all__ = ["TIES", "aliases_of", "hide_aliases", "hides_aliases", "show_aliases"]

TIES: Final = "_embshare_ties"


# Why: docs/explanation/decisions/state-dict-lists-once.md
def hide_aliases(model: nn.Module) -> None:
    """Free ``model.state_dict()`` of aliases; ``load_state_dict`` takes it back strictly."""
    model.__dict__[TIES] = aliases_of(model)
    model.register_state_dict_post_hook(_drop)
    model.register_load_state_dict_pre_hook(_restore)
    model.register_load_state_dict_post_hook(_tie_again)


def aliases_of(model: nn.Module) -> dict[str, str]:
    """Name -> the first name of the same parameter or buffer."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    everything = [*model.named_parameters(remove_duplicate=False)]
    everything += [*model.named_buffers(remove_duplicate=False)]  # type: ignore[list-item]
    for name, tensor in everything:
        if first.setdefault(id(tensor), name) != name:
            found[name] = first[id(tensor)]
    return found


def _drop(model: nn.Module, state: dict[str, Tensor], prefix: str, _: dict[str, Any]) -> None:
    for name, kept in aliases_of(model).items():
        if prefix + kept in state:
            state.pop(prefix + name, None)


def _restore(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, kept in (model.__dict__[TIES] | aliases_of(model)).items():
        if prefix + name not in state and prefix + kept in state:
            _tie(model, name, kept)
            state[prefix + name] = state[prefix + kept]


def _tie_again(model: nn.Module, _: Any) -> None:
    """``assign=True`` makes two parameters of a tensor that both names were given: one again."""
    found = dict(model.named_parameters(remove_duplicate=False))
    for name, kept in model.__dict__[TIES].items():
        one, other = found.get(name), found.get(kept)
        if one is None or other is None or one is other or one.shape != other.shape:
            continue
        if one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() != 0:
            _tie(model, name, kept)


def _tie(model: nn.Module, name: str, kept: str) -> None:
    owner, _, leaf = name.rpartition(".")
    first, _, stored = kept.rpartition(".")
    module, source = model.get_submodule(owner), model.get_submodule(first)
    if leaf in module._parameters and stored in source._parameters:
        module._parameters[leaf] = source._parameters[stored]


def show_aliases(model: nn.Module) -> None:
    """Undo `hide_aliases`."""
    model.__dict__.pop(TIES, None)
    for hooks in (
        model._state_dict_hooks,
        model._load_state_dict_pre_hooks,
        model._load_state_dict_post_hooks,
    ):
        for number, hook in list(hooks.items()):
            if _plain(hook) in (_drop, _restore, _tie_again):
                del hooks[number]


def hides_aliases(model: nn.Module) -> bool:
    """Whether `hide_aliases` holds still."""
    hooks = (*model._state_dict_hooks.values(), *model._load_state_dict_pre_hooks.values())
    return TIES in model.__dict__ and {_drop, _restore} <= {_plain(hook) for hook in hooks}


def _plain(hook: Any) -> Any:
    """The function in torch's wrapper of a load hook."""
    return getattr(hook, "hook", hook)
