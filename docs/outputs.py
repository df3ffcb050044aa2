"""Runs the Python of pages and writes what it prints below it; makes the tutorial's notebook.

python docs/outputs.py          # rewrite
python docs/outputs.py PAGE...  # rewrite these pages alone, `docs/tutorial/index.md` for one
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TUTORIAL: Final = "docs/tutorial/index.md"
NOTEBOOK: Final = "docs/tutorial/tutorial.ipynb"
PAGES: Final[Mapping[str, str]] = {
    "README.md": "",
    "docs/index.md": "",
    "docs/explanation/limits.md": "",
    "docs/how-to/habits.md": "",
    TUTORIAL: "transformers",
    "docs/how-to/compress.md": "",
    "docs/how-to/export.md": "onnxruntime",
    "docs/how-to/quantise.md": "torchao",
    "docs/how-to/resume.md": "",
    "docs/how-to/layer-kind.md": "",
    "docs/how-to/task.md": "transformers",
    "docs/reference/tasks.md": "transformers",
}
"""Page -> the package that its Python needs besides the library's own, if any."""
SHELL: Final = re.compile(r"^ *```sh\n(.*?)^ *```$", re.M | re.S)
"""Commands, which are not run."""
PYTHON: Final = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n.*?^```\n)?", re.M | re.S)


@dataclass(frozen=True)
class Part:
    """Prose, or a block of Python with what it printed."""

    text: str
    code: str | None = None
    printed: str = ""

    def __str__(self) -> str:
        if not self.printed:
            return self.text
        return f"```python\n{self.code}```\n\n```text\n{self.printed}```\n"


def run(text: str, name: str) -> Iterator[Part]:
    """The parts of a page, whose Python runs here in one namespace, in the current folder.

    Args:
        text: the page.
        name: names it in a traceback, whose lines are those of the page.
    """
    names: dict[str, object] = {"__name__": Path(name).stem}
    place = 0
    for hit in PYTHON.finditer(text):
        yield Part(text[place : hit.start()])
        lines = "\n" * text.count("\n", 0, hit.start("code"))
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(lines + hit["code"], name, "exec", dont_inherit=True), names)
        yield Part(hit[0], hit["code"], out.getvalue())
        place = hit.end()
    yield Part(text[place:])


def notebook(parts: list[Part]) -> str:
    """The same as a notebook: Markdown cells, and code cells with what they printed."""
    cells = [_cell(index, part) for index, part in enumerate(parts) if part.text.strip()]
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": python, "language_info": {"name": "python"}}
    found = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _cell(index: int, part: Part) -> dict[str, object]:
    source = (part.text if part.code is None else part.code).strip().splitlines(keepends=True)
    cell: dict[str, object] = {"id": f"cell-{index}", "metadata": {}, "source": source}
    if part.code is None:
        return {"cell_type": "markdown", **cell}
    printed = part.printed.splitlines(keepends=True)
    outputs = [{"name": "stdout", "output_type": "stream", "text": printed}] if printed else []
    return {"cell_type": "code", "execution_count": (index + 1) // 2, **cell, "outputs": outputs}


def files(page: str) -> dict[str, str]:
    """The page as it should be, and its notebook if it has one; it runs in a new folder."""
    text = (ROOT / page).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        parts = list(run(text, page))
    found = {page: "".join(map(str, parts))}
    return found | ({NOTEBOOK: notebook(parts)} if page == TUTORIAL else {})


def main(arguments: list[str]) -> None:
    """Rewrite."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    for page in arguments or PAGES:
        for name, text in files(page).items():
            (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
