"""Locks between processes. Each dies with its holder, so nothing has to be cleaned up after a crash."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL = 0.05  # seconds between two looks at a lock that another holds


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process here: in a directory, or at a file that is made if need be. Waits."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if path.is_dir() else os.O_CREAT), 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def doze(holder: int) -> None:
    """Wait a moment for whoever holds a lock."""
    del holder
    time.sleep(_POLL)


@contextlib.contextmanager
def alone(path: Path, wait: Callable[[int], None] = doze) -> Iterator[None]:
    """Be the only thread of the only process on this machine that does the work which `path` stands for.

    The file is there only while somebody works, or was killed at it. After waiting, look whether the work is done.

    Args:
        path: of the lock; its directory exists.
        wait: called while another works, with that one's process ID (0: not known yet). It sleeps a moment, and may
            raise to give up.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _take(handle):
                wait(_holder(handle))
            if _still_there(path, handle):
                try:
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, str(os.getpid()).encode(), 0)
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)


def sweep(directory: Path) -> None:
    """Remove the locks of alone() that killed processes have left in a directory, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            with contextlib.suppress(BlockingIOError, FileNotFoundError), alone(directory / name, _give_up):
                pass


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> int:
    text = os.pread(handle, 20, 0)
    return int(text) if text.isdigit() else 0


def _give_up(holder: int) -> None:
    raise BlockingIOError(f"process {holder} is at it")


def _still_there(path: Path, handle: int) -> bool:
    """Whether the file that we locked still has its name; whoever held it before us has removed it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False
