"""Work in other processes: each result by its name, and what happens where one is ended."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embshare.errors import EmbshareError
from embshare.tasks.studies.workers import LostWorkerError, Pool, Processes, ThisProcess, each

POOLS: list[Callable[[], Pool]] = [ThisProcess, lambda: Processes(1), lambda: Processes(2)]


def doubled(number: int) -> int:
    return 2 * number


def work(folder: Path, name: str, deaths: int) -> str:
    """Be ended from outside, the first times."""
    before = len(list(folder.glob(f"{name}-*")))
    (folder / f"{name}-{before}").touch()
    if before < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


@pytest.mark.parametrize("pool", POOLS)
def test_each_comes_back_by_its_name(pool: Callable[[], Pool]) -> None:
    with pool() as workers:
        found = dict(each(workers, doubled, "0123", lambda name: (int(name),)))
    assert found == {"0": 0, "1": 2, "2": 4, "3": 6}


def test_a_process_that_is_ended_takes_no_other_with_it(tmp_path: Path) -> None:
    deaths = {"first": 0, "second": 2, "third": 9, "fourth": 1}
    with Processes(2) as pool:
        found = dict(
            each(
                pool,
                work,
                deaths,
                lambda name: (tmp_path, name, deaths[name]),
                fail_fast=False,
                retries=2,
            )
        )
        lost = found.pop("third")
        assert isinstance(lost, LostWorkerError) and lost.times == 3
        assert found == {name: name for name in ("first", "second", "fourth")}
        with pytest.raises(EmbshareError, match="but that of third was ended from outside 1 time,"):
            list(each(pool, work, ["third"], lambda name: (tmp_path, name, 9)))


def halved(number: int) -> int:
    """An odd number has no half."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


@pytest.mark.parametrize("pool", POOLS)
def test_what_fails_stops_only_what_says_so(pool: Callable[[], Pool]) -> None:
    needs, ended = {"4": ("3",), "6": ("2",), "8": ("6", "2")}, dict[str, object]()

    def arguments(name: str) -> tuple[int]:
        assert all(need in ended for need in needs.get(name, ()))
        if any(isinstance(ended[need], Exception) for need in needs.get(name, ())):
            raise EmbshareError("needs what failed")
        return (int(name),)

    with pool() as workers:
        for name, found in each(workers, halved, "86432", arguments, needs=needs, fail_fast=False):
            ended[name] = found
        assert str(ended.pop("3")) == "3 is odd"
        assert isinstance(ended.pop("4"), EmbshareError)
        assert ended == {"2": 1, "6": 3, "8": 4}
        with pytest.raises(ValueError, match="3 is odd"):
            list(each(workers, halved, "23", lambda name: (int(name),)))


@given(data=st.data(), count=st.integers(0, 12))
def test_all_are_done_once_and_none_before_what_it_needs(data: st.DataObject, count: int) -> None:
    names = [str(number) for number in range(count)]
    needs = {
        name: data.draw(st.sets(st.sampled_from(names[:place]))) if place else set()
        for place, name in enumerate(names)
    }
    order = data.draw(st.permutations(names))
    done = [
        name
        for name, _ in each(ThisProcess(), doubled, order, lambda name: (int(name),), needs=needs)
    ]
    assert sorted(done, key=int) == names
    assert all(done.index(need) < done.index(name) for name in names for need in needs[name])


def test_fewer_work_at_once_where_memory_is_too_small() -> None:
    with Processes(8) as pool:
        assert pool.jobs == 8
        pool.learn(1.0)
        assert pool.jobs == 8
        pool.learn(1e9)
        assert pool.jobs == 1
