"""Two processes compute the gradients that one does."""

from __future__ import annotations

import socket

import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from tests.integration.tasks.elastic.processes import worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not dist.is_available() or not dist.is_gloo_available(), reason="needs torch with gloo"
    ),
]


@pytest.mark.parametrize("sharing", ["plain", "tied"])
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_compute_what_one_does(way: str, sharing: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(worker, (port, way, sharing), nprocs=2)
