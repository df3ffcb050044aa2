"""`save_pretrained` killed at each of its steps: the old save, the new one, or none that loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

import embshare
from embshare.errors import CheckpointError
from tests._support.huggingface_families import bert
from tests.integration.adapters.huggingface.test_folders import same


class KilledError(BaseException):
    """Raised in place of SIGKILL."""


def start(seed: int) -> Any:
    torch.manual_seed(seed)
    return embshare.share_from_embedding(bert())


def trained_on(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    return model


def with_other_settings(model: Any) -> Any:
    trained_on(model).config.hidden_dropout_prob = 0.5
    return model


PARTS = {"max_shard_size": "4KB"}
CASES: dict[str, tuple[dict[str, str], Callable[[], Any], dict[str, str]]] = {
    "trained on": ({}, lambda: trained_on(start(0)), {}),
    "another start": ({}, lambda: start(1), {}),
    "other settings": ({}, lambda: with_other_settings(start(0)), {}),
    "parts": (PARTS, lambda: trained_on(start(0)), PARTS),
    "one in place of parts": (PARTS, lambda: trained_on(start(0)), {}),
    "parts in place of one": ({}, lambda: trained_on(start(0)), PARTS),
}


def save_until(model: Any, folder: Path, options: dict[str, str], step: int) -> bool:
    """Whether a save came to its end, or was killed before it changed a file ``step`` times."""
    left = [step]

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def act_or_die(path: Path, *args: Any, **options: Any) -> Any:
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return act(path, *args, **options)

        return act_or_die

    with pytest.MonkeyPatch.context() as patched:
        for name in ("replace", "unlink"):
            patched.setattr(Path, name, dying(getattr(Path, name)))
        try:
            model.save_pretrained(folder, **options)
        except KilledError:
            return False
    return True


@pytest.mark.parametrize("case", CASES)
def test_a_kill_leaves_no_files_of_two_saves(case: str, tmp_path: Path) -> None:
    before, make, options = CASES[case]
    old, new = start(0), make()
    old.save_pretrained(tmp_path / "old", **before)
    found = []
    for step in range(20):
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "old", folder)
        done = save_until(new, folder, options, step)
        try:
            loaded = AutoModelForMaskedLM.from_pretrained(folder)
        except CheckpointError:
            raise
        except (OSError, ValueError):
            assert not (folder / "config.json").exists()
            found.append("none")
        else:
            settings = loaded.config.hidden_dropout_prob == new.config.hidden_dropout_prob
            found.append("new" if same(loaded, new) and settings else "old")
            assert found[-1] == "new" or same(loaded, old)
        if done:
            break
    refused = found.count("none")
    assert found == ["old", *["none"] * refused, "new"]
    assert (refused == 0) == (case == "trained on")


def test_other_files_stay_and_an_error_leaves_the_old_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = start(0), start(1)
    old.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("mine")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("transformers.modeling_utils.safe_save_file", full)
        new.save_pretrained(tmp_path)
    assert same(type(old).from_pretrained(tmp_path), old)
    new.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"vocab.txt", "config.json", "model.safetensors"}
    assert same(type(new).from_pretrained(tmp_path), new)
