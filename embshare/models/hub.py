"""What models of transformers have in common here; importing it says which extra brings them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from embshare.errors import MissingPackageError

try:
    import transformers
    from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
    from transformers.utils.generic import can_return_tuple
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise  # it is installed; something that it imports is not
    raise MissingPackageError(package="transformers", extra="hf") from error

__all__ = ["register", "tuple_on_request"]

Forward = TypeVar("Forward", bound=Callable[..., Any])


def tuple_on_request(forward: Forward) -> Forward:
    """``return_dict=False``, in a call or in the config, turns what it returns into a tuple."""
    return cast("Forward", can_return_tuple(forward))


def register(config: type[PretrainedConfig], classes: Mapping[str, type[PreTrainedModel]]) -> None:
    """Make a ``config.json`` of this model type known; again changes nothing.

    Args:
        config: the configuration, whose ``model_type`` is in the file.
        classes: what the Auto classes of transformers build from it, by their names.
    """
    AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto, model in classes.items():
        getattr(transformers, auto).register(config, model, exist_ok=True)
