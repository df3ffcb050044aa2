"""``embshare check FOLDER``: what is found in saved models, and with which exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import embshare
from embshare import ShareConfig
from embshare.cli import app

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")

V, D = 97, 12


def run(folder: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    result = CliRunner().invoke(app, ["check", str(folder)])
    return result.exit_code, result.stdout, result.stderr


def lm() -> nn.Module:
    """A table and two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(V, D), nn.Linear(D, D), nn.Linear(D, D))


def shared(**settings: object) -> Any:
    config = ShareConfig(**{"tie": "all"} | settings)  # type: ignore[arg-type]
    return embshare.share_from_embedding(lm(), config)


def saved(model: nn.Module, folder: Path) -> Path:
    return embshare.save(model, folder)


def test_a_healthy_folder(tmp_path: Path) -> None:
    assert run(saved(shared(), tmp_path)) == (0, "Nothing found.\n", "")


def test_numbers(tmp_path: Path) -> None:
    model = shared(factor=5)
    names = dict(model.named_parameters())
    with torch.no_grad():
        names["1.bias"][0] = float("nan")
        names["0.embshare_bank.sources.0.projection"].zero_()
    code, out, err = run(saved(model, tmp_path))
    assert (code, err) == (1, "")
    assert "non-finite" in out and "1.bias" in out
    assert "constant" in out and "sources.0.projection" in out
    assert "2 findings" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"width": 9}, "unused-columns"),
        ({"width": 90}, "growth"),
        ({"init": "svd"}, "poor-fit"),
        ({"include": ("1.weight",)}, "uneven"),
    ],
)
@pytest.mark.filterwarnings("ignore::embshare.errors.UnevenCoverageWarning")
def test_plans(settings: dict[str, object], kind: str, tmp_path: Path) -> None:
    model = shared(**settings)
    code, out, _ = run(saved(model, tmp_path))
    assert code == 1
    assert kind in out
    assert set(embshare.check(model).kinds) == {
        line.split()[0] for line in out.splitlines() if f" {tmp_path}" in line
    }


def test_sizes_are_those_of_summarize(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(10, 12), nn.BatchNorm1d(12), nn.Linear(12, 12))
    embshare.share_from_embedding(model, ShareConfig(residual_rank=8, factor=4))
    summary = embshare.summarize(model)
    assert summary.stored > summary.stored_before
    _, out, _ = run(saved(model, tmp_path))
    assert f"{summary.stored:,} parameters, and {summary.stored_before:,}" in out


def test_other_dtypes(tmp_path: Path) -> None:
    model = shared()
    model[1].to(torch.bfloat16)
    code, out, _ = run(saved(model, tmp_path))
    assert code == 1 and "bfloat16" in out and "cast" in out


def test_several_shared_models(tmp_path: Path) -> None:
    parent = nn.ModuleDict({"student": shared(), "teacher": shared(width=9)})
    code, out, _ = run(saved(parent, tmp_path))
    assert code == 1
    assert "teacher" in out and "student" not in out


def test_files_of_two_saves(tmp_path: Path) -> None:
    saved(shared(), tmp_path)
    other = saved(shared(tie="none"), tmp_path / "other")
    (tmp_path / "embshare.json").write_bytes((other / "embshare.json").read_bytes())
    code, out, _ = run(tmp_path)
    assert code == 1 and "two-saves" in out


def test_a_folder_of_a_newer_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embshare.checkpoint_files.__version__", "99.0.1+local")
    saved(shared(), tmp_path)
    monkeypatch.undo()
    code, out, _ = run(tmp_path)
    assert code == 1 and "newer" in out and "99.0.1" in out


def broken(folder: Path, way: str) -> None:
    weights = folder / "model.safetensors"
    if way == "cut":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif way == "changed":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif way == "gone":
        weights.unlink()
    else:
        (folder / "embshare.json").write_text("{")


@pytest.mark.parametrize("way", ["cut", "changed", "gone", "json"])
def test_a_folder_that_cannot_be_read(way: str, tmp_path: Path) -> None:
    broken(saved(shared(), tmp_path), way)
    code, out, err = run(tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_folder_without_a_shared_model(tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "no such folder"), (tmp_path, "no shared model")):
        code, out, err = run(folder)
        assert (code, out) == (2, "")
        assert words in err


def test_folders_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests._support.layer_examples import gpt2

    dense: Any = gpt2()
    dense.save_pretrained(tmp_path / "dense")
    assert run(tmp_path / "dense")[0] == 2
    torch.manual_seed(0)
    model = embshare.share_from_embedding(dense, ShareConfig(tie="all"))
    found = embshare.check(model.eval()).kinds
    model.save_pretrained(tmp_path / "fine")
    code, out, _ = run(tmp_path / "fine")
    assert code == (1 if found else 0), out
    with torch.no_grad():
        model.transformer.wte.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    code, out, _ = run(tmp_path / "nan")
    assert code == 1 and "non-finite" in out and "transformer.wte.weight" in out
    (tmp_path / "nan" / "model.safetensors").unlink()
    assert run(tmp_path / "nan")[0] == 2
    config = json.loads((tmp_path / "fine" / "config.json").read_text())
    del config["quantization_config"]["plan"]
    (tmp_path / "fine" / "config.json").write_text(json.dumps(config))
    assert run(tmp_path / "fine")[0] == 2
