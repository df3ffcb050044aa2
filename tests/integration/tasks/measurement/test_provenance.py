"""What makes a work tree another than its commit: changed files, and new code."""

import subprocess
from pathlib import Path

import pytest

import embshare
from embshare.tasks.measurement.provenance import read_provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed package, from which embshare seems to be imported."""
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git = ["git", "-C", str(folder.parent), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(embshare, "__file__", str(folder / "__init__.py"))
    return folder


def test_results_in_a_checkout_are_no_change_of_the_code(package: Path) -> None:
    assert read_provenance().dirty is False
    assert read_provenance().changes is None
    (package.parent / "bench" / "cells").mkdir(parents=True)
    (package.parent / "bench" / "cells" / "result.json").write_text("{}")
    (package / "notes.txt").write_text("mine")
    assert read_provenance().dirty is False


@pytest.mark.parametrize("name", ["package/__init__.py", "package/new.py", "other/of/it.py"])
def test_changed_files_and_new_python_files_are(package: Path, name: str) -> None:
    path = package.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x = 1\n")
    found = read_provenance()
    assert found.dirty is True
    assert found.commit is not None
    assert read_provenance().changes == found.changes is not None
    path.write_text("x = 2\n")
    assert read_provenance().changes not in (None, found.changes)  # other code, other results


def test_what_git_ignores_does_not_count(package: Path) -> None:
    (package.parent / "scratch").mkdir()
    (package.parent / "scratch" / ".gitignore").write_text("*\n")
    (package.parent / "scratch" / "try.py").write_text("")
    assert read_provenance().dirty is False
