import json
import platform
import subprocess
import sys

import pytest

from embshare.tasks.heap import keep_freed_memory

FAULTS = """
import json, resource
import torch
from embshare.tasks.heap import keep_freed_memory


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24).sum()  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


returned = faults()
changed = keep_freed_memory()
# Small blocks can come to lie between the large ones, so that the first few are mapped anew.
print(json.dumps([returned, changed, min(faults() for _ in range(5))]))
"""
GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="these are options of the GNU C library's allocator")
def test_blocks_of_a_step_are_those_of_the_step_before() -> None:
    said = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout
    returned, changed, kept = json.loads(said)
    assert changed
    assert kept < returned / 4


def test_systems_without_that_allocator_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # musl
    assert not keep_freed_memory()
