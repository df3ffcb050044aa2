"""How large classifiers are made shorter."""

import pytest
from torch import nn

pytest.importorskip("torchvision")

from tests.architectures.vision_models import LARGE, _shortened, torchvision_architectures


def test_equal_blocks_in_a_row_are_cut_to_two() -> None:
    widths = (8, 8, 8, 8, 4)
    equal = nn.Sequential(*(nn.Linear(8, width) for width in widths), *[nn.ReLU()] * 3)
    turns = nn.ModuleList(nn.Linear(8, width) for width in (8, 4, 8, 4, 8))
    model = nn.ModuleDict({"equal": equal, "turns": turns})
    first, last = equal[0], equal[4]
    assert _shortened(model) is model
    assert [type(layer).__name__ for layer in equal] == ["Linear"] * 3 + ["ReLU"] * 3
    assert equal[0] is first and equal[2] is last
    assert len(turns) == 5


def test_a_large_classifier_is_shared_from_a_table_of_its_own() -> None:
    found = {made.name: made for made in torchvision_architectures()}
    large, small = found["vit_b_32"], found["resnet18"]
    assert large.source != small.source == "fc.weight"
    model = large.build()
    assert sum(parameter.numel() for parameter in model.parameters()) < LARGE
