"""Which settings may be others than those that a processor was made with."""

from __future__ import annotations

from typing import Final

from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.changing import FixedSettingError

__all__ = ["settings_again"]

ENCODER: Final = frozenset({"frozen", "encoder", "encoder_width", "image_size"})
"""What a frozen encoder stands and falls with."""
RESOLVED: Final = frozenset({"image_size", "rows"})
"""What depends on the data where it is left out: fixed, but by what came of it."""


def settings_again(
    config: CaptioningConfig, before: CaptioningConfig, *, train: bool
) -> CaptioningConfig:
    """The settings for a processor that is used again.

    Args:
        config: that are asked for now.
        before: that the processor was made with.
        train: another model, which may be another one but for a frozen encoder.
    Returns:
        What is asked for. Where a setting that is fixed depends on the data if it is left out, it
        is that of ``before``.
    Raises:
        FixedSettingError: what is fixed is asked for in another way; names all such settings.
    """
    if train:
        fixed = ENCODER if before.frozen else frozenset({"frozen"})
    else:
        fixed = frozenset(CaptioningConfig.model_fields) - (config.scoring - RESOLVED)
    resolved = {"image_size": before.side, "rows": before.table_rows(0)}
    changed: dict[str, tuple[object, object]] = {}
    for name in sorted(fixed):
        was, asked = getattr(before, name), getattr(config, name)
        if asked not in (was, resolved.get(name, was)):
            changed[name] = (resolved.get(name, was), asked)
    if changed:
        raise FixedSettingError(changed=changed)
    kept = {name: value for name, value in resolved.items() if name in fixed}
    return config.model_copy(update=kept)
