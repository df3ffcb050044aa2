"""A layer's own weight as a table: of two dimensions, or of more and read as a matrix."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from tests._support.reference import reference_weight

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

IMAGES = torch.arange(2 * 3 * 16 * 16).float().sin().view(2, 3, 16, 16)


class Patches(nn.Module):
    """A patch embedding, a mixing convolution, two layers and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 4, stride=4)
        self.mix = nn.Conv2d(24, 24, 3, padding=1, groups=4)
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(2))
        self.head = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.mix(self.patch(images)).flatten(2).mean(2)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        scores: Tensor = self.head(hidden)
        return scores


def shared(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = ShareConfig(**{"source": "patch.weight", **settings})
    return embshare.share_from_embedding(Patches(), config)


def test_a_convolution_is_read_as_its_first_dimension_by_the_others() -> None:
    model = shared(tie="none")
    bank = model.embshare_bank
    (source,) = bank.plan.sources
    assert (source.rows, source.dim) == (24, 3 * 4 * 4)
    columns = model.patch.weight.detach().flatten(1) @ bank.sources[0].projection.detach().t()
    for slot in bank.plan.slots:
        wanted = reference_weight(slot, columns, source.rows, "row")
        layer = model.get_submodule(slot.weights[0].rpartition(".")[0])
        torch.testing.assert_close(layer.weight.detach(), wanted, rtol=1e-4, atol=1e-6)
    assert isinstance(dict(model.named_parameters())["patch.weight"], nn.Parameter)


def test_gradients_reach_it_from_every_layer_also_under_no_grad_and_twice() -> None:
    model = shared()
    with torch.no_grad():
        model(IMAGES)
        with torch.enable_grad():
            first, second = model.layers[0].weight.sum(), model.layers[1].weight.square().sum()
    first.backward()
    assert model.patch.weight.grad.abs().sum() > 0
    second.backward()
    before = model(IMAGES).detach()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(model(IMAGES), before)
    with embshare.cached(model), torch.no_grad():
        evaluations = model.embshare_bank.evaluations
        assert torch.equal(model(IMAGES), model(IMAGES))
        assert model.embshare_bank.evaluations == evaluations + 1


@pytest.mark.parametrize("settings", [{}, {"tie": "none"}, {"anchor": 2.0}, {"residual_rank": 1}])
def test_it_is_saved_loaded_and_made_plain(settings: dict[str, Any], tmp_path: Path) -> None:
    model = shared(**settings)
    wanted = model(IMAGES)
    assert torch.equal(embshare.load(embshare.save(model, tmp_path), Patches)(IMAGES), wanted)
    torch.testing.assert_close(embshare.materialize(model)(IMAGES), wanted, rtol=1e-4, atol=1e-5)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(IMAGES), wanted)


def test_channels_last_changes_nothing() -> None:
    model = shared()
    wanted = model(IMAGES)
    again = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(again(IMAGES), wanted, rtol=1e-4, atol=1e-5)


def test_trained_weights_start_it_too() -> None:
    torch.manual_seed(0)
    dense = Patches()
    wanted = dense(IMAGES)
    config = ShareConfig(source="patch.weight", tie="none", init="svd", exclude=("head.*",))
    model = embshare.share_from_embedding(dense, config, inplace=False)
    torch.testing.assert_close(model(IMAGES), wanted, rtol=1e-3, atol=1e-4)  # 48 columns, 24 rows
