"""The learned weights, as numbers and as a plot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from embshare.errors import InvalidValueError, MissingPackageError
from embshare.models.elc_bert import (
    ElcBertForMaskedLM,
    ElcBertModel,
    draw_layer_weights,
    layer_weights,
)
from embshare.models.elc_bert.plot import make_figure
from tests.integration.models.elc_bert.official import config


def test_the_base_variant_starts_near_the_last_output() -> None:
    found = layer_weights(ElcBertForMaskedLM(config("base")))
    assert found.shape == (3, 3)
    torch.testing.assert_close(found[1], torch.tensor([0.2689414, 0.7310586, 0.0]))
    torch.testing.assert_close(found.sum(1), torch.ones(3))


@pytest.mark.parametrize("variant", ["zero", "normalized"])
def test_the_others_start_with_equal_parts(variant: str) -> None:
    found = layer_weights(ElcBertModel(config(variant)))
    torch.testing.assert_close(found, torch.ones(3, 3).tril() / torch.arange(1, 4)[:, None])


def test_the_output_has_a_row_of_its_own() -> None:
    found = layer_weights(ElcBertModel(config("weighted_output")))
    torch.testing.assert_close(found[3], torch.full((4,), 0.25))


def test_a_picture_shows_every_weight() -> None:
    weights = layer_weights(ElcBertModel(config("weighted_output")))
    (axes, _) = make_figure(weights, outputs=True).axes
    assert len(axes.texts) == 10
    assert {text.get_text() for text in axes.texts} == {"1.00", "0.50", "0.33", "0.25"}
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["1", "2", "3", "output"]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["words", "1", "2", "3"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_weights_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    model = ElcBertModel(config("base"))
    paths = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for path in paths:
        draw_layer_weights(model, path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second and len(first) > 1000


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="'ltg' reads the last output alone"):
        layer_weights(ElcBertModel(config("ltg")))
    with pytest.raises(InvalidValueError, match=r"draw_layer_weights is not valid: `path` must"):
        draw_layer_weights(ElcBertModel(config()), tmp_path / "weights.gif")


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError) as caught:
        draw_layer_weights(ElcBertModel(config()), tmp_path / "weights.svg")
    assert str(caught.value) == "`matplotlib` is not installed: pip install 'embshare[plot]'"
