"""Locks that die with their holder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import runner
from runner.kernel.locks import alone, sweep

HOLDER = """
import sys
from pathlib import Path
from runner.kernel.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(ram_path: Path) -> Path:
    return ram_path / "work.lock"


class GaveUp(Exception):
    pass


def give_up(holder: int) -> None:
    raise GaveUp(holder)


def hold(lock: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock],
        env={**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_two_are_never_at_it_together(lock: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(50):
            with alone(lock, lambda holder: None):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(most), max(most)) == (200, 1)
    assert not lock.exists()


def test_who_waits_is_told_for_whom_and_may_give_up(lock: Path) -> None:
    process = hold(lock)
    with process, pytest.raises(GaveUp, match=str(process.pid)), alone(lock, give_up):
        pass


def test_a_holder_that_is_killed_holds_nothing(lock: Path) -> None:
    with hold(lock) as process:
        process.kill()
    assert lock.exists()
    with alone(lock, give_up):
        pass
    assert not lock.exists()


def test_a_sweep_removes_what_killed_holders_left_and_nothing_else(lock: Path) -> None:
    other = lock.with_name("other.lock")
    with hold(other) as dead:
        dead.kill()
    with hold(lock):
        sweep(lock.parent)
        assert list(lock.parent.iterdir()) == [lock]
        with pytest.raises(GaveUp), alone(lock, give_up):
            pass
