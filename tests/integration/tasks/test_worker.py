import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MAIN = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from embshare.tasks.worker import begin_worker


def work(path):
    import os
    import torch
    with open(path, "w") as file:
        file.write(f"{os.getpid()} {torch.get_num_threads()}")
    time.sleep(600)


if __name__ == "__main__":
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=begin_worker, initargs=(1,)) as pool:
        pool.submit(work, sys.argv[1]).result()
"""


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(done: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if done():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(os.name != "posix", reason="kills a process as POSIX systems do")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_worker_ends_with_whoever_started_it(tmp_path: Path, how: str) -> None:
    script, found = tmp_path / "main.py", tmp_path / "found"
    script.write_text(MAIN)
    main = subprocess.Popen([sys.executable, str(script), str(found)])
    try:
        assert wait_until(lambda: found.exists() and found.read_text().count(" ") == 1)
        worker, threads = map(int, found.read_text().split())
        assert threads == 1
        assert alive(worker)
    finally:
        main.send_signal(getattr(signal, how))
        main.wait(30)
    assert wait_until(lambda: not alive(worker), 30)
