"""Folders of earlier versions, which hold no gains but in their plans, are read as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import embshare
from embshare.errors import StateMismatchError
from tests.integration.earlier.make_folders import CONFIGS, IDS, LM

EARLIER = Path(__file__).resolve().parent


def wanted(name: str) -> Tensor:
    return safetensors.torch.load_file(EARLIER / "outputs.safetensors")[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_computes_what_it_did(name: str) -> None:
    torch.testing.assert_close(embshare.load(EARLIER / name, LM)(IDS), wanted(name))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_loaded_into_a_model_that_is_shared_already(name: str) -> None:
    model = embshare.share_from_embedding(LM(), embshare.ShareConfig(**CONFIGS[name]))
    assert embshare.load(EARLIER / name, model) is model
    torch.testing.assert_close(model(IDS), wanted(name))


def test_saved_again_it_holds_its_gains(tmp_path: Path) -> None:
    embshare.save(embshare.load(EARLIER / "plain", LM), tmp_path)
    other = embshare.share_from_embedding(LM())
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    torch.testing.assert_close(other(IDS), wanted("plain"))
    untied = embshare.share_from_embedding(LM(), embshare.ShareConfig(tie="none"))
    with pytest.raises(StateMismatchError, match="tie=none"):
        untied.load_state_dict(other.state_dict())


def test_a_folder_of_transformers_computes_what_it_did() -> None:
    transformers: Any = pytest.importorskip("transformers")
    model = transformers.AutoModelForMaskedLM.from_pretrained(EARLIER / "bert")
    torch.testing.assert_close(model(IDS).logits, wanted("bert"))
