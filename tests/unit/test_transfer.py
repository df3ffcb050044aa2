"""A shared model's table and layers in a model with another head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.errors import CheckpointError
from embshare.transfer import load_part

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


class Trunk(nn.Module):
    """A table and two blocks, with whatever head."""

    def __init__(self, head: dict[str, nn.Module], width: int = 8) -> None:
        super().__init__()
        self.table = nn.Embedding(40, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        for name, module in head.items():
            self.add_module(name, module)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return torch.as_tensor(x)


CONFIGS: list[dict[str, Any]] = [
    {"method": "eps", "tie": "all"},
    {"method": "veps", "tie": "all", "anchor": 2.0},
    {"method": "veps", "tie": "none", "factor": 4, "gain": "channel", "residual_rank": 2},
    {"method": "veps", "tie": "none", "factor": 4, "factor_norm": True, "column_bias": True},
    {"method": "own", "tie": "all"},
    {"method": "own", "tie": "none", "gain": "channel"},
]


def pretrained(folder: Path, **fields: Any) -> nn.Module:
    """Its head is shared as well, and comes before the blocks in the plan's order of readers."""
    model = Trunk({})
    model.mixer = nn.Linear(8, 8)
    model._modules = {name: model._modules[name] for name in ("table", "mixer", "blocks")}
    embshare.share_from_embedding(model, embshare.ShareConfig(**fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    embshare.save(model, folder)
    return model


@pytest.mark.parametrize("fields", CONFIGS)
def test_table_and_layers_are_those_of_the_saved_model(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    saved = pretrained(tmp_path, **fields)
    head = nn.Linear(8, 3)
    model, before = Trunk({"head": head}), head.weight.detach().clone()
    assert load_part(tmp_path, model) == ("head.weight", "head.bias")
    ids = torch.randint(0, 40, (2, 5))
    wanted = Trunk.forward(saved, ids)  # type: ignore[arg-type]
    torch.testing.assert_close(model(ids), wanted)
    assert torch.equal(head.weight, before)
    assert "head.weight" in dict(model.named_parameters())
    assert "blocks.0.weight" not in dict(model.named_parameters())
    model(ids).sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "head" not in n)


def test_a_head_of_the_same_name_can_be_left_out(tmp_path: Path) -> None:
    saved = Trunk({"head": nn.Linear(8, 5)})
    embshare.share_from_embedding(saved, embshare.ShareConfig())
    embshare.save(saved, tmp_path)
    for outputs in (5, 3):
        head = nn.Linear(8, outputs)
        model, before = Trunk({"head": head}), head.bias.detach().clone()
        taken = load_part(tmp_path, model, parts=("table", "blocks"))
        assert taken == ("head.weight", "head.bias")
        assert torch.equal(head.bias, before)
        ids = torch.randint(0, 40, (2, 5))
        assert torch.equal(model(ids), saved(ids))
    with pytest.raises(CheckpointError, match=r"`head\.weight` must be of shape"):
        load_part(tmp_path, Trunk({"head": nn.Linear(8, 3)}))


def test_what_was_transferred_is_saved_and_loaded(tmp_path: Path) -> None:
    pretrained(tmp_path / "one", method="veps", tie="all")
    model = Trunk({"head": nn.Linear(8, 3)})
    load_part(tmp_path / "one", model)
    embshare.save(model, tmp_path / "two")
    again = embshare.load(tmp_path / "two", Trunk({"head": nn.Linear(8, 3)}))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_another_size_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    pretrained(tmp_path, method="veps", tie="all")
    model = Trunk({}, width=12)
    names = set(model.state_dict())
    with pytest.raises(CheckpointError, match=r"must be of shape \(8, 8\)"):
        load_part(tmp_path, model)
    assert set(model.state_dict()) == names


def test_a_bias_of_another_size_is_refused(tmp_path: Path) -> None:
    pretrained(tmp_path, method="veps", tie="all")
    model = Trunk({})
    model.blocks[0].bias = nn.Parameter(torch.zeros(1))
    with pytest.raises(CheckpointError, match=r"`blocks\.0\.bias` is \(8,\)"):
        load_part(tmp_path, model)


def test_a_model_without_a_layer_in_common_is_refused(tmp_path: Path) -> None:
    pretrained(tmp_path, method="veps", tie="all")
    with pytest.raises(CheckpointError, match="Build a model whose table"):
        load_part(tmp_path, nn.Linear(8, 8))
