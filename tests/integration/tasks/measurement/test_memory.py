"""The peak of memory: seen while it lasts, forgotten afterwards."""

import sys
from pathlib import Path

import pytest
import torch

from embshare.tasks.measurement import memory as memory_module
from embshare.tasks.measurement.memory import PeakMemory

MIB = 2**20


def use(mib: int) -> float:
    return torch.ones(mib * MIB // 4).sum().item()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's peak is Linux's")
def test_a_peak_is_seen_and_does_not_outlive_its_block() -> None:
    with PeakMemory() as large:
        use(200)
    with PeakMemory() as small:
        use(10)
    assert 190 < large.peak_mib - large.before_mib < 260
    assert small.peak_mib - small.before_mib < 60
    assert large.source == "VmHWM, reset before training"


def test_where_the_kernel_does_not_tell_the_fallback_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory_module, "CLEAR", tmp_path / "missing" / "clear_refs")
    with PeakMemory() as found:
        pass
    assert found.peak_mib > 50
    assert found.source.startswith("ru_maxrss of the process since it started")
