"""Integration with transformers: folders that it writes and reads by itself."""

from __future__ import annotations

from torch import nn

from embshare.adapters.huggingface.gains import accept_gains, refuse_gains
from embshare.adapters.huggingface.saving import keep_saving, stop_saving
from embshare.adapters.huggingface.writers import keep_from_writing

__all__ = ["attach", "detach", "introduce"]


def introduce() -> None:
    """Register the method ``embshare`` with transformers, whose quantizers have been imported."""
    from transformers.quantizers import auto

    from embshare.adapters.huggingface.entry import METHOD

    if METHOD in auto.AUTO_QUANTIZER_MAPPING:
        return
    from embshare.adapters.huggingface.quantizer import SharingConfig, SharingQuantizer

    auto.register_quantization_config(METHOD)(SharingConfig)
    auto.register_quantizer(METHOD)(SharingQuantizer)


def attach(model: nn.Module) -> None:
    """Let every model of transformers in a shared one save itself with its plan, or refuse."""
    from transformers import PreTrainedModel

    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            keep_saving(module)
    accept_gains(model)
    keep_from_writing(model)


def detach(model: nn.Module) -> None:
    """Let every model of transformers save itself as its class does."""
    for module in model.modules():
        stop_saving(module)
    refuse_gains(model)
