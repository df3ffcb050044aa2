"""Short files, short functions, no ``**kwargs``, a docstring for each public name."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("embshare", "adapters", "tasks", "benchmarks", "docs")
FILE_LINES = 400
FUNCTION_LINES = 60

# "path: finding" of what may stay as it is, with the reason. It may only shrink: a finding that is
# gone must leave the list too.
CALLBACK = "transformers calls its callbacks with keyword arguments that grow by version"
EXCEPTIONS: dict[str, str] = {
    "tasks/trainer.py: StepClock.on_step_begin takes **_": CALLBACK,
    "tasks/trainer.py: StepClock.on_step_end takes **_": CALLBACK,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[Path]:
    """Every Python file of the library, its benchmarks and its documentation."""
    for folder in FOLDERS:
        for here, _, files in os.walk(ROOT / folder):  # does not follow the two links
            yield from (Path(here, file) for file in sorted(files) if file.endswith(".py"))


def functions(
    body: list[ast.stmt], prefix: str = "", public: bool = True
) -> Iterator[tuple[str, bool, Function]]:
    """Every function with its dotted name, and whether it and all that it stands in are public."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            seen = public and not node.name.startswith("_")
            yield from functions(node.body, f"{prefix}{node.name}.", seen)
        elif isinstance(node, Function):
            seen = public and not node.name.startswith("_")
            yield f"{prefix}{node.name}", seen, node
            yield from functions(node.body, f"{prefix}{node.name}.", False)
        elif hasattr(node, "body"):  # a function defined under an `if`, a `try`, a `with`
            yield from functions(node.body, prefix, public)


def length(node: Function) -> int:
    """Lines of a function from its ``def`` on, without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def findings(source: str) -> Iterator[str]:
    """What is wrong with one file's source."""
    tree = ast.parse(source)
    if len(source.splitlines()) > FILE_LINES:
        yield f"more than {FILE_LINES} lines"
    if source.strip() and ast.get_docstring(tree) is None:
        yield "no module docstring"
    for name, public, node in functions(tree.body):
        if length(node) > FUNCTION_LINES:
            yield f"{name} has more than {FUNCTION_LINES} lines"
        if public and node.args.kwarg is not None:
            yield f"{name} takes **{node.args.kwarg.arg}"
    for item in tree.body:
        if not isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not item.name.startswith("_") and ast.get_docstring(item) is None:
            yield f"{item.name} has no docstring"


def test_the_sources_keep_the_house_style() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {finding}"
        for path in sources()
        for finding in findings(path.read_text())
    }
    assert sorted(found - set(EXCEPTIONS)) == [], "new findings: mend them"
    assert sorted(set(EXCEPTIONS) - found) == [], "mended: take these out of EXCEPTIONS"


def test_each_rule_can_fail() -> None:
    long = "\n".join(["    x = 1"] * FUNCTION_LINES)
    source = f'''
def one(**kwargs):
    """Take anything."""
def two():
{long}
class Three:
    def four(self, **options): ...
    def _five(self, **options): ...
{"#" + chr(10) * FILE_LINES}
'''
    assert sorted(findings(source)) == [
        "Three has no docstring",
        "Three.four takes **options",
        "more than 400 lines",
        "no module docstring",
        "one takes **kwargs",
        "two has more than 60 lines",
        "two has no docstring",
    ]


def test_a_docstring_is_not_counted() -> None:
    doc = "\n".join(["    word"] * 100)
    assert not list(
        findings(f'"""Doc."""\n\ndef f():\n    """Doc.\n{doc}\n    """\n    return 1\n')
    )
