"""A folder that a new process reads, with and without the one extra line."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import embshare
from embshare import ShareConfig
from tests._support.huggingface_families import IDS, bert, logits

ROOT = Path(__file__).resolve().parents[4]

PLAIN = """
import torch
from transformers import AutoModelForMaskedLM
model = AutoModelForMaskedLM.from_pretrained("small")
with torch.no_grad():
    torch.save(model(torch.load("ids.pt")).logits, "logits.pt")
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new process, in a folder."""
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = embshare.share_from_embedding(bert(), ShareConfig(factor=4))
    model.save_pretrained(tmp_path / "small")
    torch.save(IDS, tmp_path / "ids.pt")
    torch.save(logits(model), tmp_path / "wanted.pt")
    return tmp_path


@pytest.mark.parametrize(
    "code",
    [
        f"import embshare\nassert 'transformers' not in sys.modules\n{PLAIN}",
        PLAIN.replace("AutoModelForMaskedLM\n", "AutoModelForMaskedLM\nimport embshare\n", 1),
    ],
    ids=["before", "after"],
)
def test_with_embshare_it_is_restored(code: str, folder: Path) -> None:
    done = run(code, folder)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(folder / "logits.pt"), torch.load(folder / "wanted.pt"))


def test_without_embshare_it_is_refused(folder: Path) -> None:
    done = run(PLAIN, folder)
    assert done.returncode != 0
    assert "Unknown quantization type, got embshare" in done.stderr
    assert "RuntimeError" in done.stderr and "mismatch" in done.stderr.lower()
    assert not (folder / "logits.pt").exists()
