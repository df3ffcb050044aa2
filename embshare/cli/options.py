"""Options of a command from the fields of configs, so that each is written once."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError

__all__ = [
    "SHARING",
    "Fields",
    "flags_of",
    "option",
    "option_name",
    "read_value",
    "read_values",
    "with_options",
]


def option(help_text: str, *names: str, panel: str | None = None) -> Any:
    """A typer option whose default is not shown: the help says it, or the config has it."""
    return typer.Option(*names, help=help_text, rich_help_panel=panel, show_default=False)


def option_name(field: str) -> str:
    """``residual_rank`` as ``--residual-rank``."""
    return "--" + field.replace("_", "-")


def flags_of(
    config: type[BaseModel], *, prefix: str = "", without: Iterable[str] = ()
) -> dict[str, list[str]]:
    """The fields of a config, each with its one name on the command line.

    Args:
        config: the config.
        prefix: goes before each name: ``share_`` makes ``--share-width`` of ``width``.
        without: fields that are left out.
    """
    return {
        name: [option_name(prefix + name)] for name in config.model_fields if name not in {*without}
    }


@dataclass(frozen=True)
class Fields:
    """The fields of one config that are options of a command."""

    config: type[BaseModel]
    """The config: annotations, docstrings and checks of the options are those of its fields."""
    flags: Mapping[str, Sequence[str]]
    """Field -> its names on the command line (`flags_of`)."""
    panel: str | None = None
    """Heading of the options in the help."""
    defaults: BaseModel | None = None
    """The value whose fields the help shows as defaults; ``None`` shows none."""
    panels: Mapping[str, str] = field(default_factory=dict)
    """Field -> its heading, where that is another one."""

    def parameters(self, part: str) -> Iterator[inspect.Parameter]:
        """One keyword parameter for each field, annotated for typer; ``None`` is "not given".

        Choices and ranges are left to the config, which lists all faults at once.

        Args:
            part: goes before each parameter's name, since two configs may share a field's name.
        """
        for name, names in self.flags.items():
            kind = _kind(self.config.model_fields[name].annotation)
            made = option(
                _help(self.config, name, getattr(self.defaults, name, None)),
                *([f"{each}/--no-{each[2:]}" for each in names] if kind == bool | None else names),
                panel=self.panels.get(name, self.panel),
            )
            yield inspect.Parameter(
                f"{part}_{name}",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind, made],
            )

    def take(self, part: str, given: dict[str, Any]) -> dict[str, Any]:
        """Take this config's fields out of what typer read: those that were given, by their names.

        Raises:
            InvalidValueError: a field of names has an entry that is none.
        """
        found = {name: given.pop(f"{part}_{name}") for name in self.flags}
        return {
            name: self._value(name, value) for name, value in found.items() if value is not None
        }

    def _value(self, name: str, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        members = _members(self.config.model_fields[name].annotation)
        if any(get_origin(member) is dict for member in members):
            return read_values(self.config.__name__, name, value)
        return tuple(value)


SHARING: Final = Fields(ShareConfig, flags_of(ShareConfig), "What to share and how", ShareConfig())
"""All of `ShareConfig`, each field under its own name."""


def with_options(
    parts: Mapping[str, Fields],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of configs.

    Args:
        parts: parameter of the command -> the config whose options take its place. The command is
            called with a dictionary there: the fields that were given, ready for the config.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            taken = {part: fields.take(part, given) for part, fields in parts.items()}
            command(**given, **taken)

        own = inspect.signature(command, eval_str=True).parameters.values()
        kept = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name not in parts]
        options = [p for part, fields in parts.items() for p in fields.parameters(part)]
        signature = inspect.Signature([*kept, *options], return_annotation=None)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return run

    return decorate


def read_value(entry: str, text: str) -> Any:
    """The value of a ``--set NAME=VALUE``, read as YAML.

    Args:
        entry: all of what was given, for the error.
        text: the part behind the sign.
    Raises:
        InvalidValueError: not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        finding = " ".join(str(error).split())
        fault = f"`--set`: the value must be YAML, but {entry!r} is not ({finding})"
        raise InvalidValueError(what="settings", faults=[fault]) from error


def read_values(what: str, field: str, given: Sequence[str]) -> str | dict[str, str]:
    """One name, or a mapping from ``GLOB=NAME``, given several times.

    Args:
        what: the config, for the error.
        field: its field, for the error.
        given: the entries.
    Raises:
        InvalidValueError: neither.
    """
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    pairs = [entry.partition("=") for entry in given]
    if wrong := [glob for glob, sign, name in pairs if not (glob and sign and name)]:
        fault = f"`{field}`: must be one NAME, or GLOB=NAME several times, but is {wrong[0]!r}"
        raise InvalidValueError(what=what, faults=[fault])
    return {glob: name for glob, _, name in pairs}


def _kind(annotation: Any) -> Any:
    """Type of an option for typer."""
    members = _members(annotation)
    origins = {get_origin(member): member for member in members}
    if dict in origins:
        return list[str] | None
    if tuple in origins:
        entry = _kind(get_args(origins[tuple])[0])
        return list[get_args(entry)[0]] | None  # type: ignore[misc]
    return next((kind for kind in (bool, int, float, Path) if kind in members), str) | None


def _members(annotation: Any) -> list[Any]:
    """The kinds that an annotation allows, without ``Annotated`` and ``None``."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [m for part in get_args(annotation) if part is not NoneType for m in _members(part)]
    return [annotation]


def _help(config: type[BaseModel], name: str, default: object) -> str:
    """The field's docstring without the marks of code, its choices and its default."""
    found = config.model_fields[name]
    text = " ".join((found.description or "").split())
    text = re.sub(r"`*None`*(?: is|:)", "default:", text)
    text = re.sub(r"\. default:", ". Default:", re.sub("`*None`*", "by default", text))
    sentences = [text.replace("`", "")]
    for member in _members(found.annotation):
        if get_origin(member) is Literal:
            sentences.append(f"One of {', '.join(map(str, get_args(member)))}.")
        elif get_origin(member) is tuple:
            sentences.append("Repeatable.")
    if isinstance(default, bool):
        default = "yes" if default else "no"
    if default not in (None, ()) and "efault:" not in sentences[0]:
        entries = default if isinstance(default, tuple) else (default,)
        sentences.append(f"Default: {', '.join(map(str, entries))}.")
    return " ".join(sentences)
