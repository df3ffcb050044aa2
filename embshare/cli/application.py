"""The application: commands imported when they are asked for, errors without traceback."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from embshare.errors import EmbshareError, InvalidValueError

__all__ = ["COMMANDS", "Entry", "LazyGroup", "app", "command_of", "main", "message"]


class Entry(NamedTuple):
    """A command that is not imported yet."""

    place: str
    """``module:function``. A module that is not there is a command that is not there."""
    summary: str
    """First line of the function's docstring."""


COMMANDS: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "inspect": Entry(
            "embshare.cli.inspecting:inspect_model",
            "Show which weights would be read from which columns, and what that would save.",
        ),
        "share": Entry(
            "embshare.cli.sharing:share_model",
            "Share a model and save it: the table, a projection, biases and norms.",
        ),
        "check": Entry(
            "embshare.cli.check:check_saved",
            "Check a saved model: files, plan, sizes, numbers. Nothing is changed.",
        ),
        "train": Entry(
            "embshare.cli.train:train", "Train one model on a task, evaluate it, and save both."
        ),
        "eval": Entry(
            "embshare.cli.using:evaluate_run",
            "Evaluate a trained model again: on other data, or with other settings.",
        ),
        "predict": Entry(
            "embshare.cli.using:predict_lines",
            "Translate sentences, caption image files, continue texts, or classify rows.",
        ),
        "demo": Entry(
            "embshare.cli.demo:demo",
            "Train a small language model dense and shared, and show what each stores and loses.",
        ),
        "elastic": Entry(
            "embshare.cli.elastic:elastic",
            "Make a fine-tuned model run at twelve sizes, as DynaBERT does, and measure them all.",
        ),
        "bench": Entry(
            "embshare.cli.bench:bench",
            "Compare ways of sharing with dense models of as many bytes, on three architectures.",
        ),
        "ablate": Entry(
            "embshare.cli.bench:ablate",
            "Run a study: every combination of what a file varies, compared by one metric.",
        ),
        "report": Entry(
            "embshare.cli.bench:report",
            "Report a study, or runs: tables, fronts, tests, effects, curves, as a page and as "
            "figures.",
        ),
        "fairseq-plugin": Entry(
            "embshare.cli.fairseq_plugin:fairseq_plugin",
            "Print the folder for fairseq's --user-dir, which adds --embshare to its commands.",
        ),
    }
)
"""Command -> where it is."""


class LazyGroup(TyperGroup):
    """Commands that are listed by their summaries, and imported when one of them runs."""

    def summaries(self) -> Mapping[str, str]:
        """Command -> its line in the help, in order."""
        raise NotImplementedError

    def load(self, name: str) -> Any:
        """The command of this name."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in order."""
        return list(self.summaries())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Placeholder of a command in the list."""
        summary = self.summaries().get(cmd_name)
        return None if summary is None else TyperCommand(cmd_name, help=summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is to run, or to show its help."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, None if listed is None else self.load(listed.name or ""), rest


class Commands(LazyGroup):
    """Finds commands in `COMMANDS`, and says what went wrong in one message."""

    def summaries(self) -> dict[str, str]:
        """The commands whose module is there, in the order of the table."""
        return {
            name: entry.summary
            for name, entry in COMMANDS.items()
            if find_spec(entry.place.partition(":")[0])
        }

    def load(self, name: str) -> Any:
        """Import a command's module and make its function a command."""
        module, _, function = COMMANDS[name].place.partition(":")
        found = getattr(importlib.import_module(module), function)
        if isinstance(found, typer.Typer):  # a group of commands
            group = typer.main.get_command(found)
            group.name = name
            return group
        return command_of(name, found)

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


def command_of(name: str, function: Callable[..., None], *, help_text: str | None = None) -> Any:
    """A typer command of one function, whose docstring is its help unless a text is given."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=help_text)(function)
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
