"""Waiting for descriptors, moments and clients in one thread: the machinery under the supervisor.

Promises: nothing here blocks; what a slow reader has not taken is kept up to a limit, and whoever feeds it is told to
          stop and to go on.
Not here: what the packets mean.
"""

import heapq
import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from runner.container.protocol import CHUNK, MESSAGE, Message, Packet, ProtocolError, receive
from runner.errors import RunnerError

QUEUE_LIMIT = 256 * 1024  # bytes waiting for a slow reader before its source is not read any more

Callback = Callable[[int], None]


class Loop:
    """Descriptors and moments to wait for, and what to do then."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def watch(self, fd: int, callback: Callback, events: int = select.EPOLLIN) -> None:
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Before closing: a copy in a forked child would keep the descriptor in the epoll set."""
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._serial, callback))

    def turn(self) -> None:
        """Wait for something to happen, and see to it."""
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for fd, events in self._epoll.poll(timeout):
            if callback := self._callbacks.get(fd):
                callback(events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()


class Outlet:
    """Bytes on their way into a pipe or terminal that may not take them yet. Owns its descriptor."""

    def __init__(self, loop: Loop, fd: int, on_room: Callable[[], None]) -> None:
        self._loop, self.fd, self._on_room = loop, fd, on_room
        self._queue: deque[bytes] = deque()
        self._ending = False
        self._size = 0

    @property
    def congested(self) -> bool:
        return self._size > QUEUE_LIMIT

    def write(self, data: bytes) -> None:
        if self.fd >= 0 and not self._ending:
            self._queue.append(data)
            self._size += len(data)
            self._flush(0)

    def end(self) -> None:
        """Close when everything is written."""
        self._ending = True
        self._flush(0)

    def abandon(self) -> None:
        """Close now."""
        if self.fd >= 0:
            self._loop.forget(self.fd)
            os.close(self.fd)
            self.fd = -1
        self._queue.clear()
        self._size = 0

    def _flush(self, events: int) -> None:
        del events
        was_congested = self.congested
        try:
            self._write_what_fits()
        except OSError:  # the process closed its input: what else is typed has no reader
            self.abandon()
        if self._ending and not self._queue:
            self.abandon()
        if was_congested and not self.congested:
            self._on_room()

    def _write_what_fits(self) -> None:
        try:
            while self._queue and self.fd >= 0:
                written = os.write(self.fd, self._queue[0])
                self._size -= written
                rest = self._queue.popleft()[written:]
                if rest:
                    self._queue.appendleft(rest)
        except BlockingIOError:
            self._loop.watch(self.fd, self._flush, select.EPOLLOUT)
            return
        if self.fd >= 0:
            self._loop.forget(self.fd)


class Conversation:
    """One client's socket: a request at first, afterwards what the request opened."""

    def __init__(self, loop: Loop, sock: socket.socket, on_packet: Callable[[Packet], None]) -> None:
        self._loop, self._sock = loop, sock
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._reading = True
        self._closing = False
        self.closed = False
        self.stays_open = False  # `finish` leaves it open: the client has something to say after the end
        self.on_packet = on_packet
        self.on_close: list[Callable[[], None]] = []
        self.on_room: list[Callable[[], None]] = []
        sock.setblocking(False)
        self._watch()

    @property
    def congested(self) -> bool:
        return self._queued > QUEUE_LIMIT

    def send(self, message: Message) -> None:
        self._push(MESSAGE + json.dumps(message, separators=(",", ":")).encode())

    def send_data(self, kind: bytes, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self._push(kind + data[start : start + CHUNK])

    def fail(self, error: RunnerError) -> None:
        self.send({"error": {"kind": type(error).__name__, "message": str(error), "hint": error.hint}})

    def finish(self) -> None:
        """Close when everything is sent."""
        self._closing = not self.stays_open
        self._flush()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._queue.clear()
        self._queued = 0
        for callback in [*self.on_close, *self.on_room]:
            callback()

    def pause(self) -> None:
        """Read no more packets until `resume`: what the client sends can't be taken further now."""
        self._reading = False
        self._watch()

    def resume(self) -> None:
        if not self.closed:
            self._reading = True
            self._watch()

    def _push(self, packet: bytes) -> None:
        if not self.closed:
            self._queue.append(packet)
            self._queued += len(packet)
            self._flush()

    def _flush(self) -> None:
        was_congested = self.congested
        try:
            while self._queue:
                self._sock.send(self._queue[0])
                self._queued -= len(self._queue.popleft())
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._closing and not self._queue:
            self.close()
            return
        self._watch()
        if was_congested and not self.congested:
            for callback in list(self.on_room):
                callback()

    def _watch(self) -> None:
        if self.closed:
            return
        events = (select.EPOLLIN if self._reading else 0) | (select.EPOLLOUT if self._queue else 0)
        self._loop.watch(self._sock.fileno(), self._ready, events)

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if self.closed:
            return
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            try:
                packet = receive(self._sock)
            except BlockingIOError:
                return
            except (OSError, ProtocolError):
                packet = None
            if packet is None:
                self.close()
            else:
                self.on_packet(packet)
