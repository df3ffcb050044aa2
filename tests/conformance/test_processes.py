"""Two processes compute what one does, for every model."""

from __future__ import annotations

import socket

import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from tests._support.processes import WAYS, worker

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="needs torch with gloo"
)


@pytest.mark.parametrize("config", ["veps", "factor", "own", "own-relaxed"])
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_compute_what_one_does(way: str, config: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(worker, (port, way, config), nprocs=2)
