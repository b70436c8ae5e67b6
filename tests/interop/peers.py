"""How a test drives a real program: a command line, a server in the background, a poll until it is ready."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Tool:
    """A command line with its fixed first words; a failure shows what it printed."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 180) -> str:
        done = self.run(*words, stdin=stdin, timeout=timeout)
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(self.words + words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def run(self, *words: str, stdin: str | None = None, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.words, *words],
            input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
            env={**os.environ, **self.env},
        )  # fmt: skip


@contextlib.contextmanager
def serving(command: Sequence[str], log: Path, url: str) -> Iterator[None]:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            return False

    with background(command, log):
        wait_until(answers, f"{command[0]} did not answer on {url}", log=log)
        yield


@contextlib.contextmanager
def background(command: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until(holds: Callable[[], bool], otherwise: str, *, log: Path, seconds: float = 30) -> None:
    """Poll a peer that has no other way to say that it is ready."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{otherwise}\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)


def remove_cgroups(name: str) -> None:
    """The directories that a peer leaves below each hierarchy."""
    for top in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
