"""Recurrent layers on a GPU: cuDNN runs, from one chunk of memory, packed once per derivation."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import embshare

pytestmark = pytest.mark.gpu

Recurrent = nn.LSTM | nn.GRU | nn.RNN


class Model(nn.Module):
    def __init__(self, kind: type[Recurrent]) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 32)
        self.rnn = kind(32, 32, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.rnn(self.embed(ids))[0]
        return found


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_cudnn_is_kept_and_agrees_with_the_processor(kind: type[Recurrent]) -> None:
    model = embshare.share_from_embedding(Model(kind))
    ids = torch.randint(200, (3, 7))
    wanted = model(ids)
    wanted.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where weights are not in one chunk
        found = model(ids.cuda())
    assert "Cudnn" in type(found.grad_fn).__name__ or "Cudnn" in str(found.grad_fn)
    found.square().sum().backward()
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.cpu(), gradients[name], rtol=1e-3, atol=1e-4)


def test_weights_are_packed_once_per_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = embshare.share_from_embedding(Model(nn.LSTM)).cuda().eval()
    calls, pack = [0], torch._cudnn_rnn_flatten_weight

    def counted(*args: object) -> Tensor:
        calls[0] += 1
        found: Tensor = pack(*args)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", counted)
    ids = torch.randint(200, (3, 7), device="cuda")
    with torch.no_grad(), embshare.cached(model):
        model(ids)
        model.rnn(model.embed(ids))
    assert calls[0] <= 2, "at most once per outermost call"
