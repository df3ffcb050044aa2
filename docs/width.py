"""Brings the prose of all pages to one width; code, tables and headings stay as they are.

python docs/width.py          # rewrite
python docs/width.py --check  # exit with 1 where a page is not as this would write it
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WIDTH: Final = 120
ROOT: Final = Path(__file__).resolve().parent.parent
FENCE: Final = re.compile(r"\s*(```|~~~|<!-- table: |<!-- end -->)")
ENDS: Final = {"<!-- table: ": "<!-- end -->"}  # what docs/tables.py writes stays
MARK: Final = re.compile(r"(\s*)(?:[*+-]|\d+\.)\s+")
APART: Final = re.compile(r"\s*(#|\||<|>|:::|!!!|\[[^\]]+\]: |---)")
"""Lines that are no prose: headings, tables, HTML, directives, link definitions."""
UNSAFE: Final = re.compile(r"([*+-]|\d+[.)]|#+|>|\||:::)(\s|$)|```|<")
"""What a line of prose must not begin with, since it would mean something else."""


def wrapped(text: str) -> str:
    """A page with each paragraph and list item filled to `WIDTH`."""
    return "\n".join(_lines(text.split("\n")))


def _lines(lines: list[str]) -> Iterator[str]:
    paragraph: list[str] = []
    fence = ""
    for line in lines:
        mark = FENCE.match(line)
        if fence or mark:
            yield from _fill(paragraph)
            paragraph = []
            yield line
            if mark and not fence:
                fence = ENDS.get(mark[1], mark[1])
            elif mark and mark[1] == fence:
                fence = ""
        elif not line.strip() or APART.match(line):
            yield from _fill(paragraph)
            paragraph = []
            yield line
        else:
            if MARK.match(line):
                yield from _fill(paragraph)
                paragraph = []
            paragraph.append(line)
    yield from _fill(paragraph)


def _fill(paragraph: list[str]) -> Iterator[str]:
    if not paragraph:
        return
    mark = MARK.match(paragraph[0])
    first = mark[0] if mark else paragraph[0][: len(paragraph[0]) - len(paragraph[0].lstrip())]
    if not mark and len(first) >= 4:  # indented code, or the body of an admonition
        yield from paragraph
        return
    rest = " " * len(first)
    line, empty = first, True
    words = " ".join([paragraph[0][len(first) :], *paragraph[1:]]).split()
    for place, word in enumerate(words):
        following = " ".join(words[place : place + 2])
        fits = len(line) + (not empty) + len(word) <= WIDTH
        if empty or fits or UNSAFE.match(following):
            line += word if empty else f" {word}"
        else:
            yield line
            line = rest + word
        empty = False
    yield line


def pages() -> Iterator[Path]:
    """The pages whose prose is held to the width."""
    yield ROOT / "README.md"
    for folder in ("docs", "benchmarks/notes"):
        yield from sorted((ROOT / folder).rglob("*.md"))


def main(arguments: list[str]) -> int:
    """Rewrite, or check; 1 where a page is not as it should be."""
    found = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := wrapped(text)) != text:
            found = 1
            if "--check" in arguments:
                print(page.relative_to(ROOT))
            else:
                page.write_text(new, encoding="utf-8")
    return found if "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
