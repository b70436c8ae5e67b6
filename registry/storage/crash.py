"""Places where a test may kill this process, to prove that a crash there loses nothing.

Each step that changes the disk calls `crash_point` with its name; PYBUILD_CRASH_AT=<name> makes that call the process's
last. SIGKILL, because nothing may clean up: no `finally`, no `atexit`, no buffered write.
"""

import os
import signal

_ARMED = os.environ.get("PYBUILD_CRASH_AT", "")


def crash_point(name: str) -> None:
    """Die here if the environment asks for it; otherwise nothing."""
    if _ARMED and name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
