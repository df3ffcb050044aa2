"""Options of a command from the fields of a config, so that each is written once."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError

__all__ = ["config_options", "field_docs", "option_name", "with_config"]


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


def option_name(field: str) -> str:
    """``residual_rank`` as ``--residual-rank``."""
    return "--" + field.replace("_", "-")


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings under a class's fields, without the marks of code; empty without a source."""
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
    if get_origin(annotation) is not Literal:
        return ""
    return f"One of {', '.join(get_args(annotation))}."


def _config(given: dict[str, Any]) -> ShareConfig:
    """The config that the options say.

    Raises:
        InvalidValueError: a value cannot be, or several contradict each other.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    fields["source"] = _source(given["source"])
    return ShareConfig(**fields)


def _source(given: list[str]) -> str | dict[str, str]:
    """One name, or ``GLOB=NAME`` as often as needed."""
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    pairs = [entry.partition("=") for entry in given]
    if wrong := [glob for glob, sign, name in pairs if not (glob and sign and name)]:
        fault = f"`source`: must be one NAME, or GLOB=NAME several times, but is {wrong[0]!r}"
        raise InvalidValueError(what="ShareConfig", faults=[fault])
    return {glob: name for glob, _, name in pairs}
