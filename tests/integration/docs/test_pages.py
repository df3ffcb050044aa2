"""The Python of pages that show no output runs, block after block, as a reader would run it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    """The fenced blocks of Python, each moved to its own line so that a traceback names it."""
    text = (ROOT / page).read_text()
    return ["\n" * text.count("\n", 0, hit.start(1)) + hit[1] for hit in FENCE.finditer(text)]


def run(page: str, names: dict[str, object]) -> None:
    """Run all blocks of a page in order, in one namespace."""
    found = blocks(page)
    assert found, f"{page} has no Python to run"
    for block in found:
        exec(compile(block, ROOT / page, "exec"), names)


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_folders_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("docs/how-to/huggingface.md", {"__name__": "huggingface"})
    assert {path.name for path in tmp_path.iterdir()} == {"small-bert", "large-bert", "run"}


@pytest.mark.filterwarnings("ignore")  # of whatever torchvision has to say
def test_image_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    run("docs/how-to/vision.md", {"__name__": "vision"})
    assert (tmp_path / "small-resnet" / "model.safetensors").is_file()


def test_a_model_of_ones_own_is_verified() -> None:
    run("docs/results/coverage.md", {"__name__": "coverage"})
