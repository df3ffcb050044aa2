"""What was found: values that print as sentences and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from embshare.checks.kinds import KINDS

__all__ = ["Finding", "Findings", "found", "seen"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or surprising; ``str()`` is a paragraph."""

    kind: str
    """Its name on the page "Troubleshooting"."""
    place: str
    """The module, parameter or file; of a model itself, its class."""
    finding: str
    """What is so, with names and numbers."""
    consequence: str
    hint: str
    """What helps."""

    def __str__(self) -> str:
        return (
            f"{self.kind}: `{self.place}` {self.finding}. {self.consequence} Way out: {self.hint}"
        )


class Findings(tuple[Finding, ...]):
    """Findings in the order of the look; empty where nothing is wrong. ``str()`` is a table."""

    __slots__ = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds that were found, each once."""
        return tuple(dict.fromkeys(finding.kind for finding in self))

    def table(self) -> RenderableType:
        """Anything that rich prints."""
        if not self:
            return Text("Nothing found.")
        number = "1 finding" if len(self) == 1 else f"{len(self)} findings"
        return Group(Text(f"{number}\n"), *map(_shown, self))

    def __str__(self) -> str:
        from embshare._tables import render

        return render(self.table())

    def __rich__(self) -> RenderableType:
        return self.table()


def _shown(finding: Finding) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    table.add_column(Text(finding.kind, "bold"), style="dim", no_wrap=True, min_width=18)
    table.add_column(Text(finding.place, "bold"), overflow="fold")
    for label, text in (
        ("found", finding.finding),
        ("so", finding.consequence),
        ("hint", finding.hint),
    ):
        table.add_row(label, Text(text))
    return Group(table, Text())


def found(kind: str, place: str, finding: str) -> Finding:
    """A finding of a kind of the table."""
    known = KINDS[kind]
    return Finding(
        kind=kind,
        place=place,
        finding=finding.removesuffix("."),
        consequence=known.consequence,
        hint=known.hint,
    )


def seen(place: str, looks: Iterable[Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """What looks find; one that fails is a finding too, for a broken model is what is looked at."""
    for look in looks:
        try:
            yield from look()
        except Exception as error:
            name = getattr(look, "__name__", "") or getattr(
                getattr(look, "func", None), "__name__", "a look"
            )
            text = f"made `{name}` of embshare.check fail ({type(error).__name__}: {error})"
            yield found("unseen", place, text)
