"""What is shipped is what is in the folders, and the lists that people read agree with it."""

import os
import re
import tomllib
from importlib.metadata import entry_points
from importlib.metadata import version as metadata_version
from pathlib import Path
from typing import Any

import embshare

ROOT = Path(__file__).resolve().parents[3]
HOMES = {"embshare": "embshare", "adapters": "embshare.adapters", "tasks": "embshare.tasks"}
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
PINS = re.findall(r"^([A-Za-z0-9_.-]+)==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def canonical(requirement: str) -> str:
    """The distribution's name in a requirement, as package indexes spell it."""
    name = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def direct(*extras: str) -> set[str]:
    """What some extras ask for, with our extras that they name resolved."""
    names: set[str] = set()
    for requirement in (line for extra in extras for line in EXTRAS[extra]):
        if own := re.match(r"embshare\[(.*)\]$", requirement):
            names |= direct(*own[1].split(","))
        else:
            names.add(canonical(requirement))
    return names


def test_every_package_folder_is_shipped() -> None:
    found: set[str] = set()
    for folder, package in HOMES.items():
        for here, _, files in os.walk(ROOT / folder):  # does not follow the two links
            if "__init__.py" in files:
                found.add(".".join([package, *Path(here).relative_to(ROOT / folder).parts]))
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found


def test_the_two_links_lead_to_the_two_folders() -> None:
    for name in ("adapters", "tasks"):
        link = ROOT / "embshare" / name
        assert link.readlink() == Path("..") / name


def test_a_bare_folder_refuses_to_be_a_package_by_itself() -> None:
    for name in ("adapters", "tasks"):
        code = compile((ROOT / name / "__init__.py").read_text(), name, "exec")
        try:
            exec(code, {"__name__": name})
        except ImportError as error:
            assert str(error) == (
                f"this folder is the package embshare.{name}; it was imported as {name!r}"
            )
        else:
            raise AssertionError(f"`import {name}` worked")


def test_the_core_asks_for_five_packages_and_no_more() -> None:
    core = {canonical(line) for line in PYPROJECT["project"]["dependencies"]}
    assert core == {"torch", "safetensors", "pydantic", "typer", "rich"}


def test_all_is_every_extra_but_the_one_that_compiles() -> None:
    others = [extra for extra in EXTRAS if extra not in ("all", "fairseq")]
    assert direct("all") == direct(*others)
    assert not direct("fairseq") & direct("all")


def test_ci_pins_everything_that_it_asks_for() -> None:
    pinned = {canonical(name) for name in PINS}
    core = {canonical(line) for line in PYPROJECT["project"]["dependencies"]}
    assert core | direct("dev", "docs", "bench") <= pinned
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == len(PINS) == len(pinned)


def test_the_oldest_transformers_that_is_asked_for_is_the_oldest_that_is_tested() -> None:
    oldest = next(line for line in EXTRAS["hf"] if canonical(line) == "transformers")
    tested = re.search(
        r"^transformers==(\d+\.\d+)\.\d+$",
        (ROOT / ".ci/transformers4.txt").read_text(),
        re.MULTILINE,
    )
    assert tested and oldest == f"transformers>={tested[1]}"


def test_the_console_script_is_there() -> None:
    (script,) = entry_points(group="console_scripts", name="embshare")
    assert script.value == PYPROJECT["project"]["scripts"]["embshare"]
    assert callable(script.load())


def test_the_changelog_has_this_version() -> None:
    version = re.escape(embshare.__version__)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_version_is_in_one_place() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert metadata_version("embshare") == embshare.__version__


def test_the_readme_gives_two_commands_that_a_new_machine_can_run() -> None:
    commands = re.findall(r"^pip .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [command.split(" && ")[1].split()[0] for command in commands] == ["embshare", "pytest"]
    assert all(command.startswith("pip install -c constraints.txt ") for command in commands)
