"""``import embshare`` names what is public; the modules behind it are imported at first use."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import embshare


def run(code: str) -> str:
    """What a new process prints."""
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def test_every_public_name_has_a_place_and_is_what_is_there() -> None:
    assert sorted([*embshare._PLACES, "__version__"]) == sorted(embshare.__all__)
    for name, place in embshare._PLACES.items():
        assert getattr(embshare, name) is getattr(importlib.import_module(place), name)


def test_type_checkers_read_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(embshare.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    found = {alias.name: node.module for node in imports for alias in node.names}
    assert found == embshare._PLACES


def test_nothing_behind_the_names_is_imported_before_one_is_used() -> None:
    code = "import sys, embshare\nprint('embshare.sharing' in sys.modules)\n"
    assert run(code + "embshare.save\nprint('embshare.sharing' in sys.modules)") == "False\nTrue"


@pytest.mark.parametrize(
    "first",
    [
        "import embshare",
        "import embshare.check",
        "from embshare import materialize",
        "from embshare.check import Finding",
        "from embshare import check",
    ],
)
def test_a_function_is_not_hidden_by_the_module_of_its_name(first: str) -> None:
    code = f"{first}\nimport embshare\nprint(*(type(getattr(embshare, n)).__name__ for n in "
    assert run(code + "('check', 'materialize')))") == "function function"


def test_submodules_are_attributes_as_after_any_import() -> None:
    assert run("import embshare; print(embshare.errors.PlanError.__name__)") == "PlanError"


def test_names_are_listed_before_they_are_used() -> None:
    code = "import embshare; print(set(embshare.__all__) - set(dir(embshare)))"
    assert run(code) == "set()"
    code = "from embshare import *; import embshare; print(set(embshare.__all__) - set(globals()))"
    assert run(code) == "set()"


def test_an_unknown_name_is_an_attribute_error() -> None:
    code = "import embshare\n"
    for name in ("no_such_name", "__no_such_name__", "no_such_name"):
        code += f"try: embshare.{name}\nexcept AttributeError as error: print(error)\n"
    lines = run(code).splitlines()
    assert len(lines) == 3
    assert all("module 'embshare' has no attribute" in line for line in lines)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = embshare.no_such_name  # type: ignore[attr-defined]


def test_names_are_the_same_in_threads_that_ask_at_once() -> None:
    code = (
        "import embshare\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "names = embshare.__all__ * 4\n"
        "with ThreadPoolExecutor(16) as pool: pool_found = list(pool.map("
        "lambda n: getattr(embshare, n), names))\n"
        "print(all(getattr(embshare, n) is f for n, f in zip(names, pool_found)), "
        "type(embshare).__name__)"
    )
    assert run(code) == "True module"
