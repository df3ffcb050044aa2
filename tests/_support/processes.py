"""One of two processes that train together; importable, because it is spawned."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import embshare
from tests._support.layer_examples import MODELS, VOCABULARY, Example
from tests.conformance.cases import shared

STEPS, RATE = 2, 0.1
WAYS = ("ddp", "fsdp", "fsdp-layers")


def batch(example: Example, rank: int) -> dict[str, Tensor]:
    """Each rank's own input."""
    return {name: (ids + 31 * rank) % VOCABULARY for name, ids in example.inputs.items()}


def loss(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """A scalar of the whole output."""
    found = model(**inputs)
    scores: Tensor = found if isinstance(found, Tensor) else found.logits
    return scores.square().mean()


def train(model: nn.Module, example: Example, ranks: list[int]) -> None:
    """Steps whose gradient is the mean over ranks."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = [loss(model, batch(example, rank)) for rank in ranks]
        (torch.stack(losses).sum() / len(ranks)).backward()
        optimizer.step()


def worker(rank: int, port: int, way: str, config: str) -> None:
    """One of two processes; an assertion that fails here fails the test."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    for example in MODELS:
        reference: Any = shared((example, config)).eval()
        train(reference, example, [0, 1])
        model: Any = shared((example, config)).eval()
        wrapped: Any = model
        if way == "ddp":
            wrapped = DistributedDataParallel(model)
        else:
            least = {"fsdp": 10**9, "fsdp-layers": 0}[way]
            for module in embshare.fsdp_groups(model, min_parameters=least):
                fully_shard(module)
        train(wrapped, example, [rank])
        wanted = dict(reference.named_parameters())
        for name, parameter in model.named_parameters():
            found = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            torch.testing.assert_close(
                found, wanted[name], rtol=1e-3, atol=1e-4, msg=f"{example.name} {name}"
            )
    dist.barrier()
    dist.destroy_process_group()
    sys.stderr.flush()
    os._exit(0)  # past the destructors of torch's threads, which now and then abort
