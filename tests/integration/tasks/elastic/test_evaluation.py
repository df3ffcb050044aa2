"""All sub-networks in one table, of numbers that were measured."""

from __future__ import annotations

import math
from io import StringIO
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.tasks.elastic.evaluation import (
    SubNetworkReport,
    make_table,
    measure_sub_networks,
)
from tests.integration.models.dynabert.examples import batch, model


def norm_of_scores(found: nn.Module) -> dict[str, float]:
    assert not found.training and not torch.is_grad_enabled()
    return {"norm": float(found(**batch(labels=False)).logits.norm()), "other": 1.0}


@pytest.fixture(scope="module", params=["plain", "tied"])
def report(request: pytest.FixtureRequest) -> SubNetworkReport:
    made = model(sharing=request.param).train()
    found = measure_sub_networks(made, batch(labels=False), evaluate=norm_of_scores, repeats=3)
    assert made.training and dynabert.size_of(made) == dynabert.Size()
    return found


def test_every_sub_network_has_a_row(report: SubNetworkReport) -> None:
    assert [(row.depth, row.width) for row in report.rows] == [
        (size.depth, size.width) for size in dynabert.sub_networks()
    ]
    made = model()
    for row in report.rows:
        size: dict[str, Any] = {"width": row.width, "depth": row.depth}
        assert row.parameters == dynabert.count_parameters(made, **size)
        assert row.operations == 3 * dynabert.count_operations(made, positions=7, **size)
        low, high = row.latency_spread_ms
        assert 0 < low <= row.latency_ms <= high
        assert row.weights_mib * 2**20 > 4 * row.parameters
        assert row.working_mib >= 0
    assert len({row.metrics["norm"] for row in report.rows}) == 12
    assert report.total == pytest.approx(sum(row.metrics["norm"] for row in report.rows))


def test_it_says_what_it_was_measured_with(report: SubNetworkReport) -> None:
    assert report.batch == {"input_ids": (3, 7), "attention_mask": (3, 7)}
    assert report.repeats == 3 and report.memory_source
    assert report.provenance.packages["torch"] == torch.__version__.partition("+")[0]
    assert SubNetworkReport.from_json(report.to_json()) == report
    row = report.rows[0].model_copy(update={"metrics": {"norm": math.inf}})  # of equal answers
    bad = report.model_copy(update={"rows": (row,)})
    assert SubNetworkReport.from_json(bad.to_json()) == bad


def test_the_table_is_for_people(report: SubNetworkReport) -> None:
    out = StringIO()
    Console(file=out, width=100).print(make_table(report))
    text = out.getvalue()
    for row in report.rows:
        assert f"{row.parameters:,}" in text and f"{row.latency_ms:.4g}" in text
    assert "norm" in text and "3 x 7 tokens" in text
    assert ("derives its" in text) == report.shared


def test_a_part_of_them_without_a_metric() -> None:
    sizes = [dynabert.Size(width=0.5), dynabert.Size(width=0.3, rounding="official")]
    found = measure_sub_networks(model(), batch(labels=False), sizes=sizes, repeats=1)
    assert [row.width for row in found.rows] == [0.5, 0.3]
    assert found.rows[0].metrics == {} and found.total == 0
    assert found.rows[0].latency_spread_ms == (found.rows[0].latency_ms,) * 2
    assert make_table(found).row_count == 2


def test_what_cannot_be_measured() -> None:
    with pytest.raises(InvalidValueError, match="`repeats` must be at least 1, but is 0"):
        measure_sub_networks(model(), batch(labels=False), repeats=0)
    with pytest.raises(InvalidValueError, match="whole number of the 4 heads"):
        measure_sub_networks(model(), batch(labels=False), sizes=[dynabert.Size(width=0.3)])
