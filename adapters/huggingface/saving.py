"""`save_pretrained` of a shared model: a plain folder of transformers, with the plan in it.

It is written aside and then moved into place, so that plan and weights are never of two saves.

The plan is in the configuration while the folder is written, and at no other time: to the
rest of transformers a shared model is an ordinary one, which may be trained, cast and moved.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from embshare.adapters.huggingface.entry import Entry
from embshare.adapters.huggingface.gains import as_tensors
from embshare.adapters.huggingface.moving import staged
from embshare.errors import CheckpointError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import Bank, require_bank
from embshare.runtime.current_plan import fit_state, places, plan_to_save
from embshare.runtime.loading import bank_name
from embshare.runtime.offloading import refuse_offloaded
from embshare.runtime.scales import scales_of
from embshare.runtime.tied_state_dict import aliases_of

__all__ = ["keep_saving", "stop_saving"]

NAME: Final = "save_pretrained"


class Saving:
    """A model's own `save_pretrained`, with its plan; copies and pickles follow their model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.__name__ = NAME

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return getattr(type(self.model), NAME).__doc__  # type: ignore[no-any-return]

    def __call__(
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> Any:
        """Save the model as its class does, with the plan.

        Raises:
            NotSharedError: this is a part of a shared model, whose bank it would leave behind.
            OffloadedError: hooks of accelerate have moved values away.
            CheckpointError: it is quantized too, or a module is between it and a shared layer.
        """
        model = self.model
        bank = require_bank(model)
        plain = getattr(type(model), NAME)
        if getattr(model, "_hf_peft_config_loaded", False):  # writes the adapter alone
            return plain(model, save_directory, is_main_process, state_dict, **options)
        refuse_offloaded(model, "save")
        if getattr(model, "hf_quantizer", None) is not None:
            raise CheckpointError(
                path=save_directory,
                finding="has place for one method in its configuration, but the model is "
                f"quantized by {model.quantization_method} too",
                hint="Use embshare.save(model, folder).",
            )
        state = model.state_dict() if state_dict is None else state_dict
        plan = _plan_now(model, bank, state)
        state = fit_state(state, model, bank, plan) | as_tensors(plan)
        for key, numbers in scales_of(plan).items():  # by which the folder's plan is known again
            state[f"{bank_name(model)}.{key}"] = numbers.float()
        del state[f"{bank_name(model)}.scales.gains"]  # which replace the weights
        if "save_original_format" in inspect.signature(plain).parameters:
            options["save_original_format"] = False  # names in the file are those of the plan
        with (
            _described(model, Entry(plan=plan, ties=aliases_of(model))),
            _whole(save_directory, is_main_process, options) as directory,
        ):
            return plain(model, directory, is_main_process, state, **options)


def _whole(
    directory: Any, is_main_process: bool, options: Mapping[str, Any]
) -> AbstractContextManager[Any]:
    """Choose the folder to write to, so that a kill leaves no files of two saves.

    Left to transformers are what several processes write together, what is uploaded from where it
    is, and its complaint of a file in the folder's place.
    """
    together = not is_main_process or options.get("distributed_checkpoint")
    if together or options.get("push_to_hub") or Path(directory).is_file():
        return nullcontext(directory)
    return staged(Path(directory))


def _plan_now(model: nn.Module, bank: Bank, state: Mapping[str, Tensor]) -> SharePlan:
    """The plan without weights that are stored by now, as a resized head is.

    Raises:
        CheckpointError: a module is between the model and a layer, so that transformers would
            not find its weight under the name that it had.
    """
    derived = {place.name for place in places(model, bank)}
    for name in bank.plan.weights():
        if name not in derived and name not in state:
            raise CheckpointError(
                path=name,
                finding="is neither derived nor stored, as when an adapter wraps its layer",
                hint="Save the adapter, or take it off first.",
            )
    return plan_to_save(model, bank)


@contextmanager
def _described(model: Any, entry: Entry) -> Iterator[None]:
    """The entry in a model's configuration, for the length of a block."""
    config = model.config
    before = config.__dict__.get("quantization_config")
    config.quantization_config = entry.model_dump(mode="json")
    try:
        yield
    finally:
        del config.quantization_config
        if before is not None:
            config.quantization_config = before


def keep_saving(model: nn.Module) -> None:
    """Wrap `save_pretrained` of a model of transformers."""
    model.__dict__[NAME] = Saving(model)


def stop_saving(model: nn.Module) -> None:
    """Undo `keep_saving`."""
    if isinstance(model.__dict__.get(NAME), Saving):
        del model.__dict__[NAME]
