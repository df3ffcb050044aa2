"""What all tests share: seeds, one thread for each worker, and the folder of published data."""

import os
import random
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Set before any test imports a library that reads them: nothing is fetched, no window is opened,
# and no test sees what another one left in the user's cache.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["EMBSHARE_CACHE"] = "off"  # a test that wants the cache names a folder of its own

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("tests", deadline=None)  # a first call may compile, machines are shared
settings.load_profile("tests")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers are the parallelism


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and say so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of published data sets; a test that asks for it is skipped where it is absent."""
    folder = Path(os.environ.get("EMBSHARE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}: name their folder in EMBSHARE_DATA")
    return folder
