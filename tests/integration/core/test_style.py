"""Honest ``__all__``, no ``**kwargs``, a docstring for each public name."""

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.unit.test_architecture import modules

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("embshare", "adapters", "tasks", "benchmarks", "docs")

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
    """Every function with its dotted name, and whether it and all that it is in are public."""
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


def findings(source: str) -> Iterator[str]:
    """What is wrong with one file's source."""
    tree = ast.parse(source)
    if source.strip() and ast.get_docstring(tree) is None:
        yield "no module docstring"
    for name, public, node in functions(tree.body):
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


def exports(tree: ast.Module) -> set[str] | None:
    """What ``__all__`` of a module lists; None where it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return set(ast.literal_eval(node.value))
    return None


def hidden(trees: Mapping[str, ast.Module]) -> list[str]:
    """Names that one module imports from another whose ``__all__`` does not list them."""
    public = {name: exports(tree) for name, tree in trees.items()}
    found = set[str]()
    for name, tree in trees.items():
        for node in ast.walk(tree):
            listed = public.get(node.module or "") if isinstance(node, ast.ImportFrom) else None
            if isinstance(node, ast.ImportFrom) and listed is not None:
                names = {a.name for a in node.names if f"{node.module}.{a.name}" not in trees}
                found |= {f"{name}: {node.module}.{hidden}" for hidden in names - listed}
    return sorted(found)


def test_modules_import_what_others_list_alone() -> None:
    assert hidden({name: ast.parse(path.read_text()) for name, path in modules().items()}) == []


def test_a_name_that_is_not_listed_is_found() -> None:
    one, two = ast.parse('__all__ = ["a"]\na = b = 1'), ast.parse("from one import a, b")
    assert hidden({"one": one, "two": two}) == ["two: one.b"]


def test_each_rule_can_fail() -> None:
    source = '''
def one(**kwargs):
    """Take anything."""
def two():
    return 2
class Three:
    def four(self, **options): ...
    def _five(self, **options): ...
'''
    assert sorted(findings(source)) == [
        "Three has no docstring",
        "Three.four takes **options",
        "no module docstring",
        "one takes **kwargs",
        "two has no docstring",
    ]
