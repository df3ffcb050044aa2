"""Writes the page of the command line while the documentation is built: a hook of mkdocs.

A line ``<!-- commands -->`` in a page becomes a section for each command of `embshare`, as the
application itself describes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

MARK: Final = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs for each page."""
    return markdown.replace(MARK, "\n".join(sections())) if MARK in markdown else markdown


def sections() -> Iterator[str]:
    """All commands, and the subcommands of those that have some."""
    import typer

    from embshare.cli.application import app

    yield from _section(typer.main.get_command(app), "embshare", None)


def _section(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    if parent is not None:
        yield f"\n## `{context.command_path}`\n\n{command.help or ''}\n"
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        yield from _parameters(shown, context)
    if hasattr(command, "list_commands"):
        for child in command.list_commands(context):
            _, found, _ = command.resolve_command(context, [child])  # imports it
            yield from _section(found, child, context)


def _parameters(found: list[Any], context: Any) -> Iterator[str]:
    records = [each.get_help_record(context) for each in found if each.name != "help"]
    if rows := [record for record in records if record]:
        yield "| parameter | what |\n| --- | --- |"
        for names, what in rows:
            yield f"| `{_cell(names)}` | {_cell(what)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
