"""The application: commands imported when they are asked for, errors without traceback."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final

import typer
from typer.core import TyperGroup

from embshare.errors import EmbshareError, InvalidValueError

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "inspect": "embshare.cli.inspecting:inspect_model",
        "share": "embshare.cli.sharing:share_model",
        "check": "embshare.cli.check:check_saved",
        "train": "embshare.cli.train:train",
        "eval": "embshare.cli.using:evaluate_run",
        "predict": "embshare.cli.using:predict_lines",
        "elastic": "embshare.cli.elastic:elastic",
        "bench": "embshare.cli.bench:bench",
        "report": "embshare.cli.bench:report",
        "fairseq-plugin": "embshare.cli.fairseq_plugin:fairseq_plugin",
    }
)
"""Command -> ``module:function``. A module that is not there is a command that is not there."""


class Commands(TyperGroup):
    """Finds commands in `COMMANDS`, and says what went wrong in one message."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands whose module is there, in the order of the table."""
        return [name for name, place in COMMANDS.items() if find_spec(place.partition(":")[0])]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command's module and make its function a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), function)
        if isinstance(found, typer.Typer):  # a command with commands of its own
            group = typer.main.get_command(found)
            group.name = cmd_name
            return group
        return command_of(cmd_name, found)

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            typer.Exit: with 2 for values that cannot be, with 1 for every other error that
                embshare raises on purpose, after it was printed on stderr.
        """
        try:
            return super().invoke(ctx)
        except EmbshareError as error:
            typer.echo(f"error: {message(error)}", err=True)
            raise typer.Exit(2 if isinstance(error, InvalidValueError) else 1) from None


def message(error: BaseException) -> str:
    """An error's text and the notes that were added on its way up."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def command_of(name: str, function: Callable[..., None]) -> Any:
    """A typer command of one function."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(function)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=Commands,
    name="embshare",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def embshare() -> None:
    """Compute a model's hidden weights from its own embedding table, and store the table alone."""


def main() -> None:
    """The console script."""
    app()
