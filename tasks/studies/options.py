"""Options of a study by the names that `embshare train` has for them, as the config of a run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs.config import RunConfig, is_task
from embshare.tasks.settings import TrainSettings, merged

__all__ = ["check_option", "known_options", "run_config"]

RUN: Final = {
    "arch": "model",
    **{
        name: name for name in ("model", "seed", "start", "teacher", "teacher_share", "temperature")
    },
}
"""Option -> field of `RunConfig`."""
PARTS: Final = ("settings", "training", "share")
SHARE: Final = tuple(name for name in ShareConfig.model_fields if name != "method")


def known_options(task: str) -> tuple[str, ...]:
    """All options of a task's runs, without the dotted forms."""
    own = {"task", "share", *RUN, *TASKS[task].settings_class().model_fields}
    own |= {*TrainSettings.model_fields}
    return tuple(sorted({*own, *(f"share_{name}" if name in own else name for name in SHARE)}))


def check_option(name: str, task: str) -> None:
    """Find that a task's runs have no such option, before it has a value.

    Raises:
        InvalidValueError: there is none, with the names that are near it.
    """
    _place(name, TASKS[task].settings_class().model_fields, task)


def run_config(options: Mapping[str, Any], out: Path) -> RunConfig:
    """The run that some options describe.

    Names are those of `embshare train` with underscores: of the run (``arch``, ``share``,
    ``seed``), of the task's settings (``width``), of training (``steps``) and, where the model is
    shared, of `ShareConfig` (``anchor``; ``share_width`` where the task has a ``width`` too).
    ``training.steps`` and ``share.anchor`` say which part is meant. ``share`` is ``none``, a
    method, or a mapping of fields.

    Args:
        options: By name; later ones override earlier ones.
        out: Folder of the run.
    Raises:
        InvalidValueError: there is no such option, with the names that are near it; or a value is
            out of range.
    """
    task = options.get("task")
    if not is_task(task):
        fault = f"`task`: must be one of {', '.join(TASKS)}, but is {task!r}"
        raise InvalidValueError(what="study", faults=[fault])
    assert isinstance(task, str)
    own = TASKS[task].settings_class().model_fields
    run: dict[str, Any] = {"share": None}
    parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for name, value in options.items():
        part, field = _place(name, own, task)
        if part == "":
            run[field] = value
            continue
        given = {field: value} if field else _fields(part, value)
        if part == "settings":
            parts["training"] = merged(parts["training"], given.pop("training", {}))
        elif part == "share" and not field:
            run["share"] = bool(given)
        parts[part] = merged(parts[part], given)
    run["share"] = parts["share"] if run["share"] else None
    run["settings"] = {**parts["settings"], "training": parts["training"]}
    return RunConfig(**run, out=out)


def _place(name: str, own: Iterable[str], task: str) -> tuple[str, str]:
    """Part of the config (``""`` for the run itself) and field; no field is all of the part."""
    part, _, field = name.rpartition(".")
    if part in PARTS:
        return part, field
    if name in PARTS:
        return name, ""
    if name == "task" or name in RUN:
        return "", RUN.get(name, name)
    if name in own:
        return "settings", name
    for part, fields in (("training", TrainSettings.model_fields), ("share", SHARE)):
        if (found := name.removeprefix(f"{part}_")) in fields:
            return part, found
    raise _unknown(name, known_options(task))


def _fields(part: str, given: Any) -> dict[str, Any]:
    """A part that is given as a whole; a share method alone is the config with that method."""
    if part == "share" and given in (None, "none"):
        return {}
    if part == "share" and isinstance(given, str):
        return {"method": given}
    if isinstance(given, Mapping):
        return dict(given)
    needs = "a mapping of fields" + ", a method or none" * (part == "share")
    fault = f"`{part}`: must be {needs}, but is {given!r:.80}"
    raise InvalidValueError(what="study", faults=[fault])


def _unknown(name: str, known: Iterable[str]) -> InvalidValueError:
    near = " or ".join(f"`{each}`" for each in difflib.get_close_matches(name, list(known)))
    hint = f"did you mean {near}?" if near else f"the options are {', '.join(known)}"
    return InvalidValueError(what="study", faults=[f"`{name}`: is no option here; {hint}"])
