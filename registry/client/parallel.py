"""A few jobs at once, in threads; the first failure ends them all."""

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from registry.client.transport import Cancelled

_PATIENCE = 2.0  # seconds for the others to notice that it is over
_IMPATIENCE = 0.3  # the same, for a person who pressed Ctrl-C


def run_all(jobs: Sequence[Callable[[], None]], workers: int, stop: threading.Event) -> None:
    """Run all jobs, `workers` at a time. Raises the first failure, after the rest has stopped.

    The threads are daemons: a job that hangs in a system call cannot hold up Ctrl-C.
    """
    queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
    for job in jobs:
        queue.put(job)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(queue, done, stop), name=f"transfer-{number}", daemon=True)
        for number in range(min(workers, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    failure: BaseException | None = None
    patience = _PATIENCE
    try:
        for _ in jobs:
            found = done.get()
            if found is not None and (failure is None or isinstance(failure, Cancelled)):
                failure = found
                stop.set()
    except BaseException:
        stop.set()
        patience = _IMPATIENCE
        raise
    finally:
        deadline = time.monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()) if stop.is_set() else None)
    if failure is not None:
        raise failure


def _work(
    queue: "SimpleQueue[Callable[[], None]]", done: "SimpleQueue[BaseException | None]", stop: threading.Event
) -> None:
    while True:
        try:
            job = queue.get_nowait()
        except Empty:
            return
        try:
            if stop.is_set():
                raise Cancelled
            job()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            done.put(error)
        else:
            done.put(None)
