"""The model card and what else is in a folder that is made to be handed on."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import embshare
from embshare import ShareConfig
from embshare.adapters.huggingface import export, is_pretrained
from embshare.adapters.huggingface.card import card
from embshare.errors import CheckpointError
from tests._support.huggingface_families import bert, logits


def test_the_card_shows_how_to_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embshare.share_from_embedding(bert())
    export(model, tmp_path / "small", made_from=str(tmp_path))
    text = (tmp_path / "small" / "README.md").read_text()
    block = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block
    monkeypatch.chdir(tmp_path)
    names: dict[str, nn.Module] = {}
    exec(block[1], names)
    assert torch.equal(logits(names["model"]), logits(model))


def test_the_card_is_honest() -> None:
    model = embshare.share_from_embedding(bert(), ShareConfig(factor=4, tie="none"))
    summary = embshare.summarize(model)
    text = card(model, name="bert-base-uncased", folder="small", base="bert-base-uncased")
    assert "\nbase_model: bert-base-uncased\n---\n" in text
    assert "**Not trained yet.**" in text
    assert "`ShareConfig(factor=4, tie='none')`" in text
    assert f"| stored parameters | {summary.stored_before:,} | {summary.stored:,} |" in text
    assert f"| bytes of them | {summary.bytes_before:,} | {summary.bytes:,} |" in text
    fitted = embshare.share_from_embedding(bert(), ShareConfig(init="svd"))
    assert "**Not trained yet.**" not in card(fitted, name="x", folder="y")
    assert "base_model" not in card(fitted, name="x", folder="y")


def test_the_tokenizer_travels_along(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tokenizer.json", "vocab.txt", "pytorch_model.bin", "config.json"):
        (source / name).write_text(name)
    model = embshare.share_from_embedding(bert())
    export(model, tmp_path / "small", made_from=str(source))
    assert (tmp_path / "small" / "vocab.txt").read_text() == "vocab.txt"
    assert (tmp_path / "small" / "tokenizer.json").is_file()
    assert not (tmp_path / "small" / "pytorch_model.bin").exists()
    assert (tmp_path / "small" / "config.json").read_text() != "config.json"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = embshare.share_from_embedding(bert())
    with pytest.raises(CheckpointError, match="cannot be written"):
        export(model, tmp_path / "file" / "small", made_from="package.module:factory")


def test_which_models_are_of_transformers() -> None:
    assert is_pretrained(bert())
    assert not is_pretrained(nn.Linear(1, 1))
