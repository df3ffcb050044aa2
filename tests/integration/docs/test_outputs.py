"""Pages show what their Python prints, and the notebook is the tutorial."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

from embshare.cli.application import app

ROOT = Path(__file__).resolve().parents[3]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


OUTPUTS = script("outputs")


@pytest.mark.filterwarnings("ignore")  # of whatever other packages have to say
@pytest.mark.parametrize("page", OUTPUTS.PAGES)
def test_a_page_shows_what_its_python_prints(page: str) -> None:
    if package := OUTPUTS.PAGES[page]:
        pytest.importorskip(package)
    for name, text in OUTPUTS.files(page).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"run docs/outputs.py {page}"


def test_a_notebook_has_the_parts_of_a_page() -> None:
    page = (
        "# A\n\n```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\nend\n\n```python\nx = 1\n```\n"
    )
    parts = list(OUTPUTS.run(page, "page"))
    assert "".join(map(str, parts)) == page.replace("3", "2")
    prose, first, end, second = json.loads(OUTPUTS.notebook(parts))["cells"]
    assert prose["source"] == ["# A"] and end["source"] == ["end"]
    assert first["source"] == ["print(1 + 1)"] and second["execution_count"] == 2
    assert first["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["2\n"]}]
    assert second["outputs"] == []


def commands() -> Iterator[tuple[str, str]]:
    """Every command line of `embshare` in the documentation, with its page."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in OUTPUTS.SHELL.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.partition(" #")[0].replace("&&", "|").split("|"):
                    if part.strip().startswith("embshare "):
                        yield page.name, part.strip().replace("$seed", "0")


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_of_the_documentation_can_be_given(page: str, line: str) -> None:
    """Its command and its options are there; what they would do is another matter."""
    _, *words = shlex.split(re.split(" [<>]", line)[0])
    command = typer.main.get_command(app)
    context = None
    while hasattr(command, "resolve_command"):
        context = typer.Context(command, parent=context)
        _, command, words = command.resolve_command(context, words)
    command.make_context("embshare", words, parent=context)


def test_the_page_of_the_command_line_has_the_options() -> None:
    text = "\n".join(script("commands").sections())
    assert "`embshare train translation`" in text
    for name in ("--residual-rank", "--share-residual-rank", "--resume", "--verify"):
        assert name in text, f"no option {name}"
