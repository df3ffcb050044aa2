"""Settings of one run, saved with its result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from embshare._value import Value
from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.settings import TaskConfig, TrainSettings

if TYPE_CHECKING:  # imports torch, which a mistake in the settings does not wait for
    from embshare.tasks.task import Task

__all__ = [
    "ConfigFileError",
    "RunConfig",
    "is_task",
    "naming_lines",
    "read_config_file",
    "read_yaml",
]


def is_task(name: object) -> bool:
    """Whether a value read from a file is one of `embshare.tasks.catalogue.TASKS`."""
    return isinstance(name, str) and name in TASKS


class ConfigFileError(EmbshareError, ValueError):
    """A settings file cannot be read."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be a YAML file of settings, but {finding}. `embshare train` writes one "
            "as config.yaml beside each result: use that as a template."
        )
        self.path, self.finding = path, finding


class RunConfig(Value):
    """Task, model, sharing and training of one run, and its folder.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    task: str
    """One of `embshare.tasks.catalogue.TASKS`."""
    model: str = "attention"
    """Model: lstm, conv or attention of the matched family; embshare:NAME; or a model of
    transformers by folder or hub name. A folder without weights is an architecture."""
    share: ShareConfig | None = None
    """Sharing of the model's weights; ``None`` leaves the model dense."""
    settings: SerializeAsAny[TaskConfig] = Field(default_factory=TaskConfig)
    """Settings of the task: data, sizes, training."""
    start: Path | None = None
    """Folder of a run of the same task whose trained model this one starts from, with its
    vocabulary and sizes; sharing is fitted to its weights."""
    teacher: Path | None = None
    """Folder of a run of the same task whose model is distilled into this one; its vocabulary is
    used."""
    teacher_share: float = Field(default=0.5, ge=0, le=1)
    """Weight of the distillation loss."""
    temperature: float = Field(default=2.0, gt=0)
    """Temperature of distillation, which divides the logits of both models."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of initialization, dropout and data order."""
    out: Path
    """Folder for the model and its result."""

    @field_validator("task")
    @classmethod
    def _known(cls, task: str) -> str:
        if not is_task(task):
            raise ValueError(f"must be one of {', '.join(TASKS)}")
        return task

    @model_validator(mode="before")
    @classmethod
    def _settings_of_task(cls, given: Any) -> Any:
        """Read the task's settings with the task's own class."""
        if isinstance(given, dict) and is_task(given.get("task")):
            settings = given.get("settings", {})
            if isinstance(settings, dict):
                return {**given, "settings": TASKS[given["task"]].settings_class()(**settings)}
        return given

    @property
    def training(self) -> TrainSettings:
        """Training settings."""
        found: TrainSettings = self.settings.training  # type: ignore[attr-defined]
        return found

    def to_task(self) -> Task[Any]:
        """Make the task, which has read no data yet."""
        return TASKS[self.task].task(self.settings)

    def to_yaml(self) -> str:
        """Return the settings as YAML; `from_yaml` reads them back equal."""
        fields = self.model_dump(mode="json")
        text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
        return text

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a file that `to_yaml` wrote.

        Raises:
            ConfigFileError: not a YAML file of settings.
            InvalidValueError: a field is unknown or out of range.
        """
        fields = read_config_file(path)
        try:
            return cls(**fields)
        except InvalidValueError as error:
            error.add_note(f"in {path}")
            raise


def read_config_file(path: Path) -> dict[str, Any]:
    """Read the fields in a YAML file, unchecked but for their structure.

    Raises:
        ConfigFileError: there is no such file, it or a part of it is not a mapping, or a name is
            not a string or occurs twice.
    """
    fields = read_yaml(path)
    if fields.get("share") is not None:
        _mapping(path, fields["share"], "`share`")
    if "settings" in fields:
        settings = _mapping(path, fields["settings"], "`settings`")
        fields["settings"] = settings
        if "training" in settings:
            settings["training"] = _mapping(path, settings["training"], "`settings.training`")
    return fields


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigFileError: there is no such file, it is not a mapping, or a name is not a string or
            occurs twice.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigFileError(path=path, finding=error.strerror or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise ConfigFileError(path=path, finding=f"it is not YAML ({what})") from error
    return _mapping(path, found, "it")


def _mapping(path: Path, found: object, place: str) -> dict[str, Any]:
    """Check that a part of a file is a mapping with string keys; an empty part has none."""
    found = {} if found is None and place != "it" else found
    if not isinstance(found, dict):
        raise ConfigFileError(path=path, finding=f"{place} is not a mapping of names to values")
    if wrong := [key for key in found if not isinstance(key, str)]:
        raise ConfigFileError(path=path, finding=f"{place} has {wrong[0]!r} where a name should be")
    return found


@contextmanager
def naming_lines(path: Path) -> Iterator[None]:
    """Add file and line to an `InvalidValueError` whose fault begins with the name of a field.

    Args:
        path: the YAML file that the values came from.
    """
    try:
        yield
    except InvalidValueError as error:
        places = (re.match(r"`([^`]+)`", fault) for fault in error.faults)
        lines = (_line_of(path, found[1].split(".")) for found in places if found)
        line = next(filter(None, lines), None)
        error.add_note(f"in {path}" if line is None else f"in {path}, line {line}")
        raise


def _line_of(path: Path, names: Sequence[str]) -> int | None:
    """Line of the last of some nested names that a file has; of the last anywhere, if of none."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    line, rest = None, list(names)
    while rest and (found := _child(node, rest[0])) is not None:
        line, node = found
        rest.pop(0)
    return line or next(_lines_with(node, names[-1]), None)


def _child(node: yaml.Node | None, name: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
        value = node.value[int(name)]
        return value.start_mark.line + 1, value
    return None


def _lines_with(node: yaml.Node | None, name: str) -> Iterator[int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                yield key.start_mark.line + 1
            yield from _lines_with(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _lines_with(value, name)


MERGED: Final = "tag:yaml.org,2002:merge"
"""Tag of ``<<``, which inserts another mapping."""


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate names, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGED]
        if twice := [key for index, key in enumerate(keys) if key in keys[:index]]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} occurs twice", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)
