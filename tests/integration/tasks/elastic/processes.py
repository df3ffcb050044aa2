"""One of two processes that train all sub-networks together; importable, because it is spawned."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from embshare.tasks.elastic.objective import DEPTH_STAGE, ElasticObjective
from tests.integration.models.dynabert.examples import batch, model


def row(rank: int) -> dict[str, Tensor]:
    """Each process's own sentence."""
    return {name: tensor[rank : rank + 1] for name, tensor in batch().items()}


def worker(rank: int, port: int, way: str, sharing: str) -> None:
    """An assertion that fails here fails the test."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    alone = ElasticObjective(model(sharing=sharing).train(), DEPTH_STAGE, model())
    for other in range(2):
        (alone(**row(other))["loss"] / 2).backward()
    both = ElasticObjective(model(sharing=sharing).train(), DEPTH_STAGE, model())
    wrapped: Any = DistributedDataParallel(both) if way == "ddp" else fully_shard(both)
    for _ in range(2):  # the second step waits for what the first has left
        wrapped.zero_grad()
        wrapped(**row(rank))["loss"].backward()
    wanted = dict(alone.named_parameters())
    for name, parameter in both.named_parameters():
        found: Any = parameter.grad
        whole = found.full_tensor() if hasattr(found, "full_tensor") else found
        if (expected := wanted[name].grad) is not None:
            torch.testing.assert_close(whole, expected, rtol=1e-3, atol=1e-4, msg=name)
    dist.barrier()
    dist.destroy_process_group()
    sys.stderr.flush()
    os._exit(0)  # past the destructors of torch's threads, which now and then abort
