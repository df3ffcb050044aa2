"""Options of a command from the fields of a config, so that each is written once."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError

__all__ = [
    "config_options",
    "field_docs",
    "given_part",
    "option_name",
    "optional_options",
    "read_value",
    "source_of",
    "with_config",
]


def read_value(entry: str, text: str) -> Any:
    """What stands behind a ``--set NAME=``, as YAML reads it.

    Args:
        entry: the whole of what was given, to be named.
        text: what is behind the sign.
    Raises:
        InvalidValueError: it is no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        finding = " ".join(str(error).split())
        fault = f"`--set`: the value must be YAML, but {entry!r} is none ({finding})"
        raise InvalidValueError(what="settings", faults=[fault]) from error


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose last parameter is ``config: ShareConfig`` an option for each field."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        given = {name: options.pop(name) for name in ShareConfig.model_fields}
        command(*args, **options, config=_config(given))

    own = inspect.signature(command, eval_str=True).parameters.values()
    kept = [parameter for parameter in own if parameter.name != "config"]
    signature = inspect.Signature([*kept, *config_options()], return_annotation=None)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return run


def config_options() -> Iterator[inspect.Parameter]:
    """One keyword parameter, annotated for typer, for each field of `ShareConfig`."""
    docs = field_docs(ShareConfig)
    for name, field in ShareConfig.model_fields.items():
        default = field.default
        kind, metavar = _kind(name, field.annotation)
        if kind == list[str]:
            default = [default] if isinstance(default, str) else list(default)
        flags = f"{option_name(name)}/--no-{option_name(name)[2:]}"
        option = typer.Option(
            flags if kind is bool else option_name(name),
            help=" ".join(filter(None, [docs.get(name), _choices(field.annotation)])),
            metavar=metavar,
            rich_help_panel="What to share and how",
        )
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, option],
        )


def optional_options(
    model: type[BaseModel],
    prefix: str,
    flags: Mapping[str, Sequence[str]],
    panel: str | None = None,
) -> Iterator[inspect.Parameter]:
    """One keyword parameter for each named field of a config, ``None`` where it is not given.

    Args:
        model: the config.
        prefix: of the parameters' names, so that two configs may have a field of one name.
        flags: field -> its flags on the command line.
        panel: the heading in the help.
    """
    docs = field_docs(model)
    for name, names in flags.items():
        field = model.model_fields[name]
        kind, metavar = _optional_kind(field.annotation)
        option = typer.Option(
            *(_switch(names) if kind == bool | None else names),
            help=" ".join(filter(None, [docs.get(name), _choices(field.annotation)])),
            metavar=metavar,
            rich_help_panel=panel,
            show_default=False,
        )
        yield inspect.Parameter(
            prefix + name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, option],
        )


def given_part(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Of what `optional_options` gave, one config's fields that are not left out."""
    return {
        name.removeprefix(prefix): value
        for name, value in given.items()
        if name.startswith(prefix) and value is not None
    }


def _switch(names: Sequence[str]) -> list[str]:
    return [f"{name}/--no-{name[2:]}" for name in names]


def _optional_kind(annotation: Any) -> tuple[Any, str | None]:
    """What typer reads an option as that may be left out; ranges are left to the config."""
    inner = _members(annotation)
    if any(get_origin(member) is dict for member in inner):
        return list[str] | None, "NAME"
    if any(get_origin(member) is tuple for member in inner):
        (entries,) = [member for member in inner if get_origin(member) is tuple]
        kinds = _members(get_args(entries)[0])
        kind = next((known for known in (int, float, Path) if known in kinds), str)
        return list[kind] | None, f"{_METAVARS[kind]}, repeated"  # type: ignore[valid-type]
    for known in (bool, int, float, Path):
        if known in inner:
            return known | None, None if known is bool else _METAVARS[known]
    return str | None, "TEXT"


_METAVARS: Final[Mapping[type, str]] = MappingProxyType(
    {int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}
)


def _members(annotation: Any) -> list[Any]:
    """The kinds that an annotation allows, without ``Annotated`` and ``None``."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [_members(part) for part in get_args(annotation) if part is not NoneType]
        return [member for part in parts for member in part]
    return [annotation]


def option_name(field: str) -> str:
    """``residual_rank`` as ``--residual-rank``."""
    return "--" + field.replace("_", "-")


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings under a class's fields and those it inherits, without the marks of code.

    What has no source has none.
    """
    docs: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner.model_fields:
            docs |= _own_field_docs(owner)
    return docs


def _own_field_docs(model: type[BaseModel]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    except OSError:
        return {}
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                docs[name] = inspect.cleandoc(words).replace("\n", " ").replace("`", "")
    return docs


def _kind(name: str, annotation: Any) -> tuple[Any, str | None]:
    """What typer reads an option as, and what its help shows in the value's place.

    Choices and ranges are left to the config, which then lists all faults at once.
    """
    if name == "source":
        return list[str], "NAME"
    if annotation is bool:
        return bool, None
    if get_origin(annotation) is tuple:
        return list[str], "GLOB"
    if annotation in (int, float):
        return annotation, "NUMBER" if annotation is float else "INTEGER"
    if _may_be_int(annotation):
        return int | None, "INTEGER"
    return str, "TEXT"


def _may_be_int(annotation: Any) -> bool:
    """``Annotated[int, ...] | None``."""
    members = get_args(annotation)
    return any(int in (member, *get_args(member)[:1]) for member in members)


def _choices(annotation: Any) -> str:
    """What a Literal allows, as a sentence."""
    for member in _members(annotation):
        if get_origin(member) is Literal:
            return f"One of {', '.join(map(str, get_args(member)))}."
    return ""


def _config(given: dict[str, Any]) -> ShareConfig:
    """The config that the options say.

    Raises:
        InvalidValueError: a value cannot be, or several contradict each other.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    fields["source"] = source_of(given["source"])
    return ShareConfig(**fields)


def source_of(given: list[str]) -> str | dict[str, str]:
    """One name, or ``GLOB=NAME`` as often as needed."""
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    pairs = [entry.partition("=") for entry in given]
    if wrong := [glob for glob, sign, name in pairs if not (glob and sign and name)]:
        fault = f"`source`: must be one NAME, or GLOB=NAME several times, but is {wrong[0]!r}"
        raise InvalidValueError(what="ShareConfig", faults=[fault])
    return {glob: name for glob, _, name in pairs}
