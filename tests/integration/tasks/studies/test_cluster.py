"""Trials on a Ray cluster: three nodes of this machine, one of which is killed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embshare.errors import EmbshareError
from embshare.tasks.studies.cluster import ClusterError, RayPool
from embshare.tasks.studies.engine import run_study
from embshare.tasks.studies.workers import each
from tests.integration.tasks.studies.conftest import Small

pytest.importorskip("ray", reason="the extra `sweep` is not installed")
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made: Any = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


def halved(number: int) -> int:
    """Take a while; an odd number has no half."""
    time.sleep(1)
    if number % 2:
        raise EmbshareError(f"{number} must be even")
    return number // 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray leaves sockets and files open
def test_what_a_lost_node_did_is_done_by_another(cluster: Any, tmp_path: Path) -> None:
    found: dict[str, object] = {}
    with RayPool(cluster.address, tmp_path) as pool:
        numbers = [str(number) for number in range(24)]
        done = each(pool, halved, numbers, lambda n: (int(n),), fail_fast=False, retries=3)
        for name, result in done:
            found[name] = result
            if len(found) == 6:
                node = next(n for n in cluster.worker_nodes)
                cluster.remove_node(node, allow_graceful=False)
    for number in range(24):
        ended = found[str(number)]
        if number % 2:
            assert isinstance(ended, EmbshareError) and str(ended) == f"{number} must be even"
        else:
            assert ended == number // 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_study_gives_on_nodes_what_it_gives_here(
    cluster: Any, small: Small, out: Path, tmp_path: Path
) -> None:
    study = small(share=("none", "veps"), seed=(0, 1))
    here = run_study(study, tmp_path / "here", jobs=0)
    nodes = run_study(study, out, pool=RayPool(cluster.address, out.parent))
    assert [t.id for t in nodes.trials] == [t.id for t in here.trials]
    assert [t.result.metrics for t in nodes.trials] == [t.result.metrics for t in here.trials]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_not_there_is_one_message(small: Small, out: Path) -> None:
    with pytest.raises(ClusterError, match=r"must be the address of a Ray cluster that answers"):
        run_study(small(), out, pool=RayPool("127.0.0.1:1", out.parent))
    assert not out.exists()
