"""The Python of the page on DynaBERT runs, block after block."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from embshare.models import dynabert
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.runs import loading
from tests.integration.models.dynabert.examples import batch, model
from tests.integration.models.dynabert.make_official import SPECIAL, WORDS
from tests.integration.models.dynabert.official import arrays, masked_lm

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "dynabert.md"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def accuracy(found: nn.Module) -> dict[str, float]:
    data = batch()
    with torch.no_grad():
        hits = found(input_ids=data["input_ids"]).logits.argmax(-1) == data["labels"]
    return {"accuracy": float(hits.float().mean())}


def test_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vectors.txt").write_text(arrays()["augmentation/vectors"])
    words = {word: index for index, word in enumerate([*SPECIAL, *WORDS, ",", "."])}
    data = batch()
    names: dict[str, Any] = {
        "__name__": "page",
        "model": model(sharing="tied"),
        "batches": [data],
        "inputs": batch(labels=False),
        "rows": [
            {"input_ids": ids, "labels": int(label)}
            for ids, label in zip(data["input_ids"], data["labels"], strict=True)
        ],
        "folder": tmp_path,
        "accuracy": accuracy,
        "masked_lm": masked_lm(),
        "tokenizer": BertTokenizer(vocab=words),
        "vectors": tmp_path / "vectors.txt",
    }
    made = {Path("runs/mrpc-elastic"): lambda: SimpleNamespace(model=names["model"])}
    monkeypatch.setattr(loading, "load_run", lambda folder: made[folder]())
    for block in FENCE.findall(PAGE.read_text()):
        exec(block, names)
    assert {path.name for path in tmp_path.iterdir()} >= {"small", "half", "sub-networks.json"}
    assert "accuracy" in capsys.readouterr().out
    assert names["settings"] == ElasticConfig().training
    assert dynabert.size_of(names["model"]) == dynabert.Size()


def test_its_table_has_the_published_counts() -> None:
    """Of BERT base with two labels, also as `extract` makes it."""
    with torch.device("meta"):
        base = BertForSequenceClassification(BertConfig())
    table = {
        float(line.split("|")[1]): line.split("|")[2:5]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| [\d.]+ \| [\d,]+, ", line)
    }
    assert set(table) == set(dynabert.WIDTHS)
    for size in dynabert.sub_networks():
        cell = table[size.width][dynabert.DEPTHS.index(size.depth)]
        count = dynabert.count_parameters(base, **dict(size))
        billions = dynabert.count_operations(base, **dict(size)) / 1e9
        assert cell.strip() == f"{count:,}, {billions:.2f} G"
        small = dynabert.extract(base, **dict(size))
        assert sum(parameter.numel() for parameter in small.parameters()) == count
