"""Work in other processes: each result by its name, and what happens where one is ended."""

import os
import signal
import time
from pathlib import Path

import pytest

from embshare.errors import EmbshareError
from embshare.tasks.studies.workers import LostWorkerError, Workers


def doubled(number: int) -> int:
    return 2 * number


def work(folder: Path, name: str) -> None:
    """The first is done; the second and the third wait for each other, and one is ended."""
    (folder / name).touch()
    if name == "first":
        return
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.02)
    if name == "second":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_comes_back_by_its_name(jobs: int) -> None:
    with Workers(jobs) as workers:
        found = dict(workers.each(doubled, "0123", lambda name: (int(name),)))
    assert found == {"0": 0, "1": 2, "2": 4, "3": 6}


def test_a_process_that_is_ended_is_one_message(tmp_path: Path) -> None:
    names = ("first", "second", "third", "fourth")
    with pytest.raises(EmbshareError, match=r"--resume, and train fewer .* --jobs") as caught:
        with Workers(2) as workers:
            list(workers.each(work, names, lambda name: (tmp_path, name)))
    assert isinstance(caught.value, LostWorkerError)
    assert caught.value.names == ("second", "third")
    assert not (tmp_path / "fourth").exists()


def halved(number: int) -> int:
    """An odd number has no half."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_fails_stops_only_what_needs_it(jobs: int) -> None:
    needs = {"4": ("3",), "6": ("2",), "8": ("6", "2")}
    with Workers(jobs) as workers:
        each = workers.each(
            halved, "86432", lambda name: (int(name),), needs=needs, fail_fast=False
        )
        found = dict(each)
        assert str(found.pop("3")) == "3 is odd"
        assert found == {"2": 1, "6": 3, "8": 4}
        with pytest.raises(ValueError, match="3 is odd"):
            list(workers.each(halved, "23", lambda name: (int(name),)))
