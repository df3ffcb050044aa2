import math

import pytest
import torch

from embshare.models.matched.positions import rotate, sinusoids


def test_rotated_vectors_meet_by_their_distance() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 8)
    here = rotate(query.expand(9, 8)) @ rotate(key.expand(9, 8)).T
    for distance in range(-8, 9):
        diagonal = here.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert not torch.allclose(here[0, 0], here[0, 3])


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_sinusoids_are_those_of_the_paper(width: int) -> None:
    found = sinusoids(torch.zeros(5, width), start=3)
    half = width // 2
    for row, place in enumerate(range(3, 8)):
        for i in range(half):
            angle = place / 10_000 ** (i / half)
            assert found[row, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[row, half + i].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert not found[:, 2 * half :].any()


def test_sinusoids_are_of_the_kind_of_what_they_are_added_to() -> None:
    x = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    assert sinusoids(x).dtype == torch.bfloat16
    assert sinusoids(x).shape == (3, 4)
