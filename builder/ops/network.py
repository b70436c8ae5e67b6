"""Network namespaces for RUN steps, each used by one step at a time and by several one after the other.

A step in the sandbox has no right to change its network, so the next step finds it as new; to make and remove one
costs ten times as much as a step.
Promises: all that was attached is detached when the build ends; what killed builds left is detached by the next one.
"""

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.storage.processes import Owner
from runner.network import Attachment, Networks

_PREFIX = "build"


class NetworkPool:
    """The networks of one build. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._networks = Networks(root / "networks")
        self._lock = threading.Lock()
        self._free: list[tuple[str, Attachment]] = []
        self._swept = False

    @contextmanager
    def borrowed(self, *, again: bool = True) -> Iterator[Attachment]:
        """A namespace on the bridge; it goes to another step afterwards only if `again` says so."""
        name, attachment = self._take()
        try:
            yield attachment
        finally:
            if again:
                with self._lock:
                    self._free.append((name, attachment))
            else:
                self._detach(name, attachment)

    def close(self) -> None:
        with self._lock:
            free, self._free = self._free, []
        for name, attachment in free:
            self._detach(name, attachment)

    def _take(self) -> tuple[str, Attachment]:
        with self._lock:
            if self._free:
                return self._free.pop()
            if not self._swept:
                self._sweep()
                self._swept = True
            name = f"{_PREFIX}-{Owner.self()}-{secrets.token_hex(4)}"
            return name, self._networks.attach(name)

    def _detach(self, name: str, attachment: Attachment) -> None:
        os.close(attachment.netns)
        self._networks.detach(name)

    def _sweep(self) -> None:
        for name in self._networks.attached():
            kind, _, rest = name.partition("-")
            owner = Owner.parse(rest.partition("-")[0]) if kind == _PREFIX else None
            if owner is not None and owner.is_dead():
                self._networks.detach(name)
