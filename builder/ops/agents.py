"""`RUN --mount=type=ssh`: a socket of the step's own, which hands each connection on to the user's agent.

The agent's own socket is the user's, and no step's to change: here mode and owner are what the step asked for.
Promises: when the step is over no connection and no thread of it is left.
"""

import os
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from builder.plan.vertices import RunMount

_MOST = 64  # connections of one step at a time
_PATIENCE = 10.0  # seconds for the other side to take what it is sent
_PIECE = 64 * 1024


@contextmanager
def forwarded(agent: str, mount: RunMount, directory: str) -> Iterator[str]:
    """The path of a socket that stands for the one at `agent`, in a directory made below `directory`."""
    with ExitStack() as undo:
        place = undo.enter_context(tempfile.TemporaryDirectory(prefix=".pybuild-", dir=directory))
        path = os.path.join(place, "agent")
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(path)
        os.chown(path, mount.uid, mount.gid)
        os.chmod(path, 0o600 if mount.mode is None else mount.mode)
        listener.listen(_MOST)
        undo.callback(_Forwarder(agent, listener).close)
        yield path


class _Forwarder:
    """One thread looks after all connections: what an agent says is short."""

    def __init__(self, agent: str, listener: socket.socket) -> None:
        self._agent = agent
        self._listener = listener
        self._peers: dict[socket.socket, socket.socket] = {}
        self._waiting = selectors.DefaultSelector()
        self._stop, self._stopped = socket.socketpair()
        self._waiting.register(self._stopped, selectors.EVENT_READ)
        self._waiting.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        self._stopped.close()

    def _serve(self) -> None:
        with self._waiting:
            while True:
                for key, _ in self._waiting.select():
                    if key.fileobj is self._stopped:
                        for one in [*self._peers]:
                            one.close()
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                        self._hand_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if len(self._peers) >= 2 * _MOST:
                raise OSError("too many connections")
            agent.connect(self._agent)
        except OSError:  # the agent has gone; the client is told by the end of its connection
            agent.close()
            client.close()
            return
        for one, other in ((client, agent), (agent, client)):
            one.settimeout(_PATIENCE)
            self._peers[one] = other
            self._waiting.register(one, selectors.EVENT_READ)

    def _hand_on(self, source: socket.socket) -> None:
        target = self._peers[source]
        try:
            data = source.recv(_PIECE)
            target.sendall(data)
        except OSError:
            data = b""
        if not data:
            for one in (source, target):
                self._waiting.unregister(one)
                del self._peers[one]
                one.close()
