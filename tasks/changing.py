"""Settings that may change between training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.settings import TaskConfig

__all__ = ["FixedSettingError", "scored_with"]


class FixedSettingError(EmbshareError, ValueError):
    """Settings differ from those that a model was trained with, and must not."""

    def __init__(self, *, changed: Mapping[str, tuple[object, object]]) -> None:
        faults = [
            f"`{name}` must stay {trained!r}, with which this model was trained, but is {asked!r}"
            for name, (trained, asked) in changed.items()
        ]
        super().__init__(
            f"{'; '.join(faults)}. Leave {', '.join(f'`{name}`' for name in changed)} as in the "
            "training, or train another model."
        )
        self.changed = dict(changed)


def scored_with(trained: TaskConfig, changes: Mapping[str, Any]) -> TaskConfig:
    """Change some settings of a trained model, to evaluate it.

    Args:
        trained: settings of the training.
        changes: names and new values; those in `TaskConfig.scoring` may differ.
    Raises:
        InvalidValueError: a setting is unknown or out of range, or two contradict each other.
        FixedSettingError: settings that the trained model depends on would change; all are named.
    """
    if unknown := [name for name in changes if name not in type(trained).model_fields]:
        faults = [f"`{name}`: there is no such setting" for name in unknown]
        raise InvalidValueError(what=type(trained).__name__, faults=faults)
    elsewhere = any(changes.get(name) is not None for name in trained.sources)
    before = trained.model_dump(exclude=set(trained.sources) if elsewhere else None)
    asked = type(trained)(**(before | dict(changes)))
    pairs = {name: (getattr(trained, name), getattr(asked, name)) for name in changes}
    changed = {
        name: (was, now)
        for name, (was, now) in sorted(pairs.items())
        if name not in trained.scoring and was != now
    }
    if changed:
        raise FixedSettingError(changed=changed)
    return asked
