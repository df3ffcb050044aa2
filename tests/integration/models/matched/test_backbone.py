"""Each backbone as a function: what it may see, and that reading in pieces changes nothing."""

import pytest
import torch
from torch import Tensor

from embshare.models.matched import (
    ARCHITECTURES,
    Architecture,
    Backbone,
    MatchedConfig,
    reorder_state,
)

WIDTH, LENGTH = 16, 11


def config(architecture: Architecture, kernel_size: int = 3) -> MatchedConfig:
    """Layers enough that two of them differ in dilation; dropout is on, for tests to turn off."""
    return MatchedConfig(
        architecture=architecture,
        vocab_size=20,
        width=WIDTH,
        layers=3,
        heads=2,
        kernel_size=kernel_size,
        dilations=(1, 2),
    )


def backbone(
    architecture: Architecture, *, causal: bool, memory: bool = False, positions: bool = False
) -> Backbone:
    return Backbone(config(architecture), causal=causal, memory=memory, positions=positions).eval()


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    found: Architecture = request.param
    return found


@pytest.mark.parametrize("causal", [True, False])
def test_the_shape_stays(architecture: Architecture, causal: bool) -> None:
    x = torch.randn(3, LENGTH, WIDTH)
    hidden, _ = backbone(architecture, causal=causal)(x)
    assert hidden.shape == x.shape
    assert hidden.isfinite().all()


@pytest.mark.parametrize("changed", [1, 5, LENGTH - 1])
def test_a_causal_position_sees_no_later_one_and_all_else(
    architecture: Architecture, changed: int
) -> None:
    model = backbone(architecture, causal=True)
    x = torch.randn(2, LENGTH, WIDTH)
    other = x.clone()
    other[:, changed] = torch.randn(2, WIDTH)
    before, after = model(x)[0], model(other)[0]
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.allclose(before[:, changed], after[:, changed])


def test_an_encoder_sees_both_sides(architecture: Architecture) -> None:
    model = backbone(architecture, causal=False)
    x = torch.randn(1, LENGTH, WIDTH, requires_grad=True)
    (model(x)[0][0, 5] @ torch.randn(WIDTH)).backward()
    assert x.grad is not None
    assert x.grad[0, 4].any()
    assert x.grad[0, 6].any()


def test_padding_changes_nothing_real(architecture: Architecture) -> None:
    model = backbone(architecture, causal=False)
    short, real = torch.randn(2, 6, WIDTH), torch.ones(2, 6, dtype=torch.bool)
    padded = torch.cat((short, torch.randn(2, 5, WIDTH)), dim=1)
    mask = torch.cat((real, torch.zeros(2, 5, dtype=torch.bool)), dim=1)
    torch.testing.assert_close(model(padded, mask)[0][:, :6], model(short)[0])


def test_rows_of_several_lengths_do_not_disturb_each_other(architecture: Architecture) -> None:
    model = backbone(architecture, causal=False)
    x = torch.randn(3, LENGTH, WIDTH)
    lengths = (LENGTH, 4, 7)
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    together, _ = model(x, mask)
    for row, length in enumerate(lengths):
        alone, _ = model(x[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0])


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("pieces", [(1,) * LENGTH, (4, 7), (1, 3, 1, 6), (2, 8, 1)])
def test_reading_in_pieces_is_reading_at_once(
    architecture: Architecture, pieces: tuple[int, ...], positions: bool
) -> None:
    model = backbone(architecture, causal=True, memory=True, positions=positions)
    x, memory = torch.randn(2, LENGTH, WIDTH), torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    whole, _ = model(x, memory=memory, memory_mask=mask)
    parts, state = [], None
    for piece in torch.split(x, list(pieces), dim=1):
        part, state = model(piece, memory=None if state else memory, memory_mask=mask, state=state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("positions", [False, True])
def test_a_state_can_be_reordered_as_beams_are(architecture: Architecture, positions: bool) -> None:
    model = backbone(architecture, causal=True, memory=True, positions=positions)
    x, memory = torch.randn(3, LENGTH, WIDTH), torch.randn(3, 4, WIDTH)
    rows = torch.tensor([2, 2, 0, 1])
    _, state = model(x[:, :6], memory=memory)
    after, _ = model(x[rows, 6:], state=reorder_state(state, rows))
    whole, _ = model(x, memory=memory)
    torch.testing.assert_close(after, whole[rows, 6:])


def test_with_positions_the_same_words_further_on_are_read_differently() -> None:
    words = torch.randn(1, 1, WIDTH).expand(1, 40, WIDTH)
    encoded = backbone("conv", causal=True, positions=True)(words)[0][0]
    untold = backbone("conv", causal=True)(words)[0][0]
    torch.testing.assert_close(untold[20], untold[30])
    assert not torch.allclose(encoded[20], encoded[30])


def test_the_memory_is_read_and_its_padding_is_not(architecture: Architecture) -> None:
    model = backbone(architecture, causal=True, memory=True)
    x, memory = torch.randn(1, LENGTH, WIDTH), torch.randn(1, 5, WIDTH)
    mask = torch.tensor([[1, 1, 1, 0, 0]]).bool()
    other = memory.clone()
    other[:, 3:] = torch.randn(1, 2, WIDTH)

    def read(values: Tensor) -> Tensor:
        hidden: Tensor = model(x, memory=values, memory_mask=mask)[0]
        return hidden

    assert torch.equal(read(memory), read(other))
    assert not torch.allclose(read(memory), read(memory.flip(1)))


def test_a_memory_that_is_missing_or_too_many_is_refused(architecture: Architecture) -> None:
    x = torch.randn(1, LENGTH, WIDTH)
    with pytest.raises(ValueError, match=r"^`memory` must be a tensor \[B, S, D\] for the first"):
        backbone(architecture, causal=True, memory=True)(x)
    with pytest.raises(ValueError, match=r"Build it with memory=True\.$"):
        backbone(architecture, causal=True)(x, memory=x)


@pytest.mark.parametrize("causal", [True, False])
def test_every_parameter_is_trained(architecture: Architecture, causal: bool) -> None:
    model = Backbone(config(architecture), causal=causal, memory=True)
    hidden, _ = model(torch.randn(2, LENGTH, WIDTH), memory=torch.randn(2, 4, WIDTH))
    hidden.square().mul(torch.randn_like(hidden)).sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
