"""The Python in the documentation runs, block after block, as a reader would run it."""

import re
from pathlib import Path

import pytest
from torch import nn

import embshare

ROOT = Path(__file__).resolve().parents[2]
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


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("docs/tutorial/index.md", {"__name__": "tutorial"})
    assert {path.name for path in (tmp_path / "tagger").iterdir()} == {
        "model.safetensors",
        "embshare.json",
    }


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_folders_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("docs/how-to/huggingface.md", {"__name__": "huggingface"})
    assert {path.name for path in tmp_path.iterdir()} == {"small-bert", "large-bert", "run"}


@pytest.mark.filterwarnings("ignore")  # of whatever torchvision has to say
def test_models_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    run("docs/how-to/vision.md", {"__name__": "pictures"})
    assert (tmp_path / "small-resnet" / "model.safetensors").is_file()


def test_a_model_of_ones_own_is_verified() -> None:
    run("docs/results/coverage.md", {"__name__": "coverage"})


def test_the_first_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Embedding(1000, 32), nn.Linear(32, 256), nn.Linear(256, 32))
    names: dict[str, object] = {"model": model}
    before = sum(parameter.numel() for parameter in model.parameters())

    run("docs/index.md", names)

    assert names["model"] is model
    assert embshare.summarize(model).stored < before
    assert (tmp_path / "small" / "model.safetensors").is_file()


def test_the_readme_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("README.md", {})
    shown = re.search(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert shown is not None
    assert capsys.readouterr().out == shown[1]
    assert (tmp_path / "small" / "model.safetensors").is_file()


def test_a_loop_inside_cached(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 8))
    shared = embshare.share_from_embedding(model)
    run("docs/explanation/limits.md", {"model": shared, "embshare": embshare})
