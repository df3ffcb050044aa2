"""Sharing as transformers knows methods that change how weights are stored: as a quantizer.

It is one while a folder is being loaded, and leaves no trace: what `from_pretrained` returns is
the same model that `share_from_embedding` returns, quantized in nobody's eyes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from embshare.adapters.huggingface.entry import METHOD, parse
from embshare.adapters.huggingface.files import check_files, check_missing
from embshare.adapters.huggingface.filling import names_of, prepare, restore, tie
from embshare.adapters.huggingface.versions import files_of, is_of_bank, keep_names, take_names
from embshare.errors import CheckpointError, EmbshareError
from embshare.plan.migrate import Kept, naming, numbers_kept, refit
from embshare.runtime.bank import BLOCKS, RELAXATIONS, require_bank
from embshare.sharing import BANK, share_from_embedding

if TYPE_CHECKING:  # this module is imported while transformers still is
    from transformers import PreTrainedModel

__all__ = ["SharingConfig", "SharingQuantizer"]


class SharingConfig(QuantizationConfigMixin):
    """The entry of a ``config.json``, checked as soon as transformers reads it."""

    def __init__(self, **entry: Any) -> None:
        """Read the entry.

        Raises:
            CheckpointError: the format is newer, or values are invalid.
        """
        self.quant_method = METHOD  # type: ignore[assignment]  # transformers lists its own alone
        self.entry = parse(entry)

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON has it."""
        return self.entry.model_dump(mode="json")


# Why: docs/explanation/decisions/quantizer-of-transformers.md
class SharingQuantizer(HfQuantizer):
    """Shares a model on meta by the plan of its folder, before its weights are loaded."""

    quantization_config: SharingConfig
    ties: Mapping[str, str]

    def update_device_map(self, device_map: Any) -> Any:
        """Check that the model is on one device: every layer reads from the same table.

        Raises:
            CheckpointError: the map names several, or the disk.
        """
        if isinstance(device_map, str):  # "auto" and its like: a single device is already a map
            return {"": _device()}
        devices = sorted(set(map(str, (device_map or {}).values())))
        if len(devices) > 1 or "disk" in devices:
            place = f"several devices ({', '.join(devices)})" if len(devices) > 1 else "disk"
            raise CheckpointError(
                path="device_map",
                finding=f"places a shared model on {place}, but all its layers read from one "
                "table, in memory",
                hint="Name one device, or load it and call embshare.materialize(model).",
            )
        return device_map and {"": next(iter(device_map.values()))}

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **context: Any) -> None:
        saved = self.quantization_config.entry
        same_class = _is_as_saved(model)
        if not same_class:
            model.tie_weights()  # transformers 5 does nothing here, and knows ties by name instead
            tie(model, getattr(model, "all_tied_weights_keys", {}))
        here = naming(names_of(model), model.base_model_prefix)
        self.ties = {here(alias): here(first) for alias, first in saved.ties.items()}
        tie(model, self.ties)
        names = names_of(model)
        try:
            plan = saved.plan if same_class else refit(saved.plan, names, here)
            share_from_embedding(model, plan, start=False)
        except EmbshareError as error:
            raise CheckpointError(
                path=model.config.name_or_path,
                finding=f"its plan does not fit this {type(model).__name__} ({error})",
                hint="Load it into the class that was saved, or save it again.",
            ) from error
        kept = numbers_kept(saved.plan, names, here)
        prepare(model, kept)
        files = files_of(context, model.config.name_or_path or "", saved)
        check_files(model, files, saved.plan, self.ties)
        keep_names(model)
        derived = {*saved.plan.weights(), *plan.weights()}
        _untie(model, derived)
        gone = [*map(_exactly, derived), *_without(kept)]  # gains, and what belongs to a head
        _ignore(model, "_keys_to_ignore_on_load_unexpected", gone)
        known = {*self.ties, *_scales(model)}
        _ignore(model, "_keys_to_ignore_on_load_missing", map(_exactly, known))

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        take_names(model)
        _own_memory(model)
        bank = require_bank(model)
        bank.adopt(bank.scales.plan)  # whatever transformers cast its numbers to
        bank.scales.to(bank.materials[0].device())
        tie(model, self.ties)
        restore(model)
        for key in ("hf_quantizer", "is_quantized", "quantization_method"):
            model.__dict__.pop(key, None)
        for module in model.modules():
            for key in ("quantization_config", "_is_quantized", "_pre_quantization_dtype"):
                getattr(getattr(module, "config", None), "__dict__", {}).pop(key, None)

    def update_missing_keys(
        self, model: PreTrainedModel, missing_keys: list[str], prefix: str
    ) -> list[str]:
        """4.57 asks here, before it reads a weight: on the hub, no file was there to be checked."""
        check_missing(model, missing_keys, whole=_is_as_saved(model))
        return missing_keys

    def update_unexpected_keys(
        self, model: PreTrainedModel, unexpected_keys: list[str]
    ) -> list[str]:
        """4.57 takes the bank for a head that the class does not have."""
        known = {name for name in model.state_dict() if is_of_bank(name)}
        return [name for name in unexpected_keys if name not in known]

    def is_serializable(self, *_: Any) -> bool:
        """Whether it can be saved: always, as it was shared."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether it can be trained: every stored parameter."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """Whether it trains without adapters."""
        return True

    @property
    def is_compileable(self) -> bool:
        """Whether it can be compiled: as the dense model."""
        return True


def _scales(model: PreTrainedModel) -> list[str]:
    """Names of the numbers that the plan has as well, and folders of earlier versions alone."""
    return [f"{BANK}.scales.{name}" for name, _ in require_bank(model).scales.named_buffers()]


@torch.no_grad()
def _own_memory(model: PreTrainedModel) -> None:
    """Take tensors out of the file's memory map.

    They lie there as the file has them, unaligned, so that torch runs kernels whose last bits
    differ from those of the model that was saved; and the file may be written over.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def _device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    accelerator = getattr(torch, "accelerator", None)  # torch 2.6 has it
    found = (
        accelerator.current_accelerator() if accelerator and accelerator.is_available() else None
    )
    return found or torch.device("cpu")


def _is_as_saved(model: PreTrainedModel) -> bool:
    """Whether a model is of the class that its folder was saved from."""
    return type(model).__name__ in (model.config.architectures or ())


def _untie(model: PreTrainedModel, derived: Iterable[str]) -> None:
    """Take derived weights off those that transformers 5 ties, whatever the configuration says."""
    tied = getattr(model, "all_tied_weights_keys", {})
    for name in derived:
        tied.pop(name, None)


def _ignore(model: PreTrainedModel, what: str, patterns: Iterable[str]) -> None:
    """Have names that are neither missed nor unexpected left out of the report of the loading."""
    known = getattr(model, what)
    kind = set if isinstance(known, set) else list
    setattr(model, what, kind([*(known or ()), *patterns]))


def _exactly(name: str) -> str:
    return f"^{re.escape(name)}$"


def _without(kept: Kept) -> Iterator[str]:
    """Patterns of what a bank has under numbers of a folder that this class has nothing of."""
    for part, numbers in ((RELAXATIONS, kept.readers), (BLOCKS, kept.slots)):
        mine = "|".join(map(str, numbers))
        yield rf"^{re.escape(BANK)}\.{part}\.(?!(?:{mine})(?:\.|$))"
