"""Checkpoints: bit-equal, all or nothing, and never another exception than ours."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import embshare
from embshare import SharePlan
from embshare.checkpoint_files import digest_of
from embshare.errors import CheckpointError, NotSharedError
from embshare.structure import Structure
from tests._support.layer_examples import MODELS, VOCABULARY

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

IDS = torch.arange(12).view(2, 6)
ROOT = Path(__file__).resolve().parents[3]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, 40, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        found: Tensor = self.head(self.rnn(hidden)[0])
        return found


class Normed(nn.Module):
    """Its convolution keeps what it was computed from its norm last, and a graph with it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.convolution = torch.nn.utils.weight_norm(nn.Conv1d(8, 8, 3))

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.convolution(self.embed(ids).transpose(1, 2))
        return found


def test_a_model_of_the_older_weight_norm_is_filled(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(Normed())
    embshare.save(model, tmp_path)
    fresh = Normed()
    assert not fresh.convolution.weight.is_leaf
    assert torch.equal(embshare.load(tmp_path, fresh)(IDS), model(IDS))


CONFIGS = (
    embshare.ShareConfig(),
    embshare.ShareConfig(tie="none", factor=4),
    embshare.ShareConfig(gain="channel", residual_rank=2, column_bias=True),
    embshare.ShareConfig(method="eps", include=("layers.*",)),
    embshare.ShareConfig(method="own"),
    embshare.ShareConfig(method="own", tie="cycle:2", gain="channel", include=("layers.*",)),
)


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_a_saved_model_comes_back_bit_equal(config: embshare.ShareConfig, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(Model(), config)
    wanted = model(IDS)
    embshare.save(model, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embshare.json", "model.safetensors"]
    with torch.device("meta"):
        empty = Model()
    for fresh in (Model, Model(), empty, embshare.load(tmp_path, Model)):
        loaded = embshare.load(tmp_path, fresh)
        assert torch.equal(loaded(IDS), wanted)
        assert loaded.head._parameters["weight"] is loaded.embed._parameters["weight"]
        loaded(IDS).sum().backward()


def test_files_are_as_readable_as_any_that_one_writes(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    embshare.save(embshare.share_from_embedding(Model()), tmp_path)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_grown_vocabulary_is_loaded(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(Model())
    with torch.no_grad():
        model.embed.weight.data = torch.cat([model.embed.weight, torch.ones(5, 8)])
    wanted = model(IDS)
    assert wanted.shape[-1] == 45
    embshare.save(model, tmp_path)
    assert torch.equal(embshare.load(tmp_path, Model)(IDS), wanted)
    grown = Model()
    grown.embed.weight.data = torch.zeros(45, 8)
    assert torch.equal(embshare.load(tmp_path, grown)(IDS), wanted)
    fresh = Model()
    fresh.embed.weight.data = torch.zeros(46, 8)
    with pytest.raises(CheckpointError, match=r"`embed.weight` is \(45, 8\) there"):
        embshare.load(tmp_path, fresh)


@pytest.mark.parametrize("config", [{}, {"factor": 5}], ids=str)
def test_a_grown_hugging_face_vocabulary_is_loaded(config: dict[str, Any], tmp_path: Path) -> None:
    """Its head's bias grows with the table."""
    bert = next(example for example in MODELS if example.name == "bert")
    model: Any = embshare.share_from_embedding(bert.build().eval(), embshare.ShareConfig(**config))
    model.resize_token_embeddings(VOCABULARY + 5)
    wanted = model(**bert.inputs).logits
    assert wanted.shape[-1] == VOCABULARY + 5
    embshare.save(model, tmp_path)
    fresh: Any = bert.build().eval()
    with pytest.raises(CheckpointError, match=r"bias` is \(102,\) there"):
        embshare.load(tmp_path, fresh)
    fresh.resize_token_embeddings(VOCABULARY + 5)
    assert torch.equal(embshare.load(tmp_path, fresh)(**bert.inputs).logits, wanted)


@pytest.mark.parametrize("name", ["model.safetensors", "embshare.json"])
def test_a_damaged_file_is_refused_and_the_model_left_alone(name: str, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(Model())
    wanted = model(IDS)
    embshare.save(model, tmp_path)
    path, rng, refused = tmp_path / name, random.Random(0), 0
    good = path.read_bytes()
    for turn in range(90):
        damaged = bytearray(good)
        if turn % 3:
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        else:
            del damaged[rng.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        fresh = Model()
        before = fresh(IDS)
        try:
            assert torch.equal(embshare.load(tmp_path, fresh)(IDS), wanted)
        except CheckpointError:
            refused += 1
            assert torch.equal(fresh(IDS), before)
            assert type(fresh.layers[0]) is nn.Linear
    assert refused > 60


@pytest.mark.parametrize("step", [1, 2])
def test_a_full_disk_leaves_the_old_checkpoint(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = embshare.share_from_embedding(Model())
    embshare.save(old, tmp_path)
    new = embshare.share_from_embedding(Model())
    calls, flush = [0], os.fsync

    def full(file: int) -> None:
        calls[0] += 1
        if calls[0] == step:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\)"):
        embshare.save(new, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embshare.json", "model.safetensors"]
    wanted = old if step == 1 else new  # the weights carry their own description
    assert torch.equal(embshare.load(tmp_path, Model)(IDS), wanted(IDS))


def test_wrong_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSharedError, match="Model is not shared"):
        embshare.save(Model(), tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        embshare.load(tmp_path / "absent", Model)
    embshare.save(embshare.share_from_embedding(Model()), tmp_path)
    with pytest.raises(CheckpointError, match=r"a different model: `0\.weight`"):
        embshare.load(tmp_path, nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4)))
    description = tmp_path / "embshare.json"
    found = json.loads(description.read_text())
    description.write_text(json.dumps(found | {"format": 3}))
    with pytest.raises(CheckpointError, match="has format 3, newer than 2"):
        embshare.load(tmp_path, Model)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> None:
    """Change tensors and plan of a checkpoint whose digest is then right again."""
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        found = json.loads(file.metadata()["embshare"])
    change(state, found["plan"])
    plan, structure = (
        SharePlan.from_json(json.dumps(found["plan"])),
        Structure(**found["structure"]),
    )
    found["digest"] = digest_of(state, {"": plan}, structure, {})
    path.write_bytes(safetensors.torch.save(state, metadata={"embshare": json.dumps(found)}))


def whole_numbers(state: dict[str, Tensor], _: dict[str, Any]) -> None:
    state["embed.weight"] = state["embed.weight"].view(torch.int32)


def fractions(state: dict[str, Tensor], _: dict[str, Any]) -> None:
    state["norm.num_batches_tracked"] = state["norm.num_batches_tracked"].view(torch.float64)


def a_scalar(state: dict[str, Tensor], _: dict[str, Any]) -> None:
    state["embed.weight"] = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (whole_numbers, r"`embed\.weight` .* type torch\.float32"),
        (fractions, r"`norm\.num_batches_tracked` .* type torch\.int64"),
        (a_scalar, r"`embed\.weight` must be \(40, 8\)"),
    ],
)
def test_tensors_of_another_kind_are_refused_and_the_model_left_alone(
    change: Callable[[dict[str, Tensor], dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    class WithCounts(Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

    embshare.save(embshare.share_from_embedding(WithCounts()), tmp_path)
    rewrite(tmp_path, change)
    fresh = WithCounts()
    before = fresh(IDS)
    with pytest.raises(CheckpointError, match=message) as caught:
        embshare.load(tmp_path, fresh)
    assert caught.value.path == str(tmp_path)
    assert torch.equal(fresh(IDS), before)
    assert type(fresh.layers[0]) is nn.Linear


SAVES = """
import sys, torch, embshare
from tests.integration.core.test_checkpoint import Model

models = []
for seed in (0, 1):
    torch.manual_seed(seed)
    models.append(embshare.share_from_embedding(Model()))
embshare.save(models[0], sys.argv[1])
print("saved", flush=True)
while True:
    for model in models:
        embshare.save(model, sys.argv[1])
"""


def test_a_process_killed_while_saving_leaves_one_whole_checkpoint(tmp_path: Path) -> None:
    wanted = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        wanted.append(embshare.share_from_embedding(Model())(IDS))
    rng = random.Random(0)
    for turn in range(4):
        folder = tmp_path / str(turn)
        child = subprocess.Popen(
            [sys.executable, "-c", SAVES, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"saved\n"
            time.sleep(rng.uniform(0, 0.05))
            child.kill()
        found = embshare.load(folder, Model)(IDS)
        assert any(torch.equal(found, one) for one in wanted)
