"""What `benchmarks/sharebert_speed.py` compares computes the same."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.integration.models.sharebert.official import arrays, config, distance, model

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The benchmark as a module, which finds its neighbours as a script does."""
    path = ROOT / "benchmarks" / "sharebert_speed.py"
    spec = importlib.util.spec_from_file_location("sharebert_speed", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    yield module


def test_slices_compute_what_the_bank_does(script: ModuleType) -> None:
    body: Any = model("mlm").bert
    ids = arrays()["batch/input_ids"]
    sliced = script.Sliced(body)
    gradients = []
    for run, more in ((sliced, {}), (body, {"return_dict": False})):
        body.zero_grad()
        sequence, pooled = run(ids, **more)
        (sequence.pow(2).mean() + pooled.pow(2).mean()).backward()
        grads = {name: p.grad.clone() for name, p in body.named_parameters() if p.grad is not None}
        gradients.append((sequence, pooled, grads))
    (first, second, grads), (*outputs, expected) = gradients
    assert distance(first, outputs[0]) < 1e-12
    assert distance(second, outputs[1]) < 1e-12
    assert grads.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(grads[name], expected[name])


def test_it_measures_and_tells(script: ModuleType) -> None:
    found = script.measure(config(), batch=2, length=5, runs=2)
    assert all(len(times) == 2 for times in found["times_ms"].values())
    *_, row = script.table([found]).splitlines()
    assert row.startswith("| 24 | 3 | 2 × 5 | ") and row.count("|") == 9
    assert script.settings(512, 12).num_attention_heads == 4
