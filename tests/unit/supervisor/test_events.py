"""One thread that waits for everybody: slow readers hold up nobody else, and lose nothing."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from runner.container.events import QUEUE_LIMIT, Conversation, Loop, Outlet
from runner.container.protocol import STDOUT, Packet, receive, send, send_data


@pytest.fixture
def loop() -> Loop:
    return Loop()


def turns(loop: Loop, count: int = 50) -> None:
    """Let the loop do what is to be done now; a timer keeps it from waiting for more."""
    for _ in range(count):
        loop.after(0, lambda: None)
        loop.turn()


def drained(fd: int) -> bytes:
    found = b""
    os.set_blocking(fd, False)
    while True:
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


class TestOutlet:
    """Input on its way to a container that may not read."""

    @pytest.fixture
    def pipe(self) -> Iterator[tuple[int, int]]:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        yield reader, writer
        os.close(reader)

    def test_keeps_what_does_not_fit_and_tells_when_there_is_room_again(
        self, loop: Loop, pipe: tuple[int, int]
    ) -> None:
        told: list[bool] = []
        outlet = Outlet(loop, pipe[1], lambda: told.append(True))
        sent = os.urandom(QUEUE_LIMIT + 200_000)
        outlet.write(sent)
        assert outlet.congested
        found = b""
        while len(found) < len(sent):
            found += drained(pipe[0])
            turns(loop, 3)
        assert found == sent
        assert told == [True]
        assert not outlet.congested
        outlet.abandon()

    def test_ends_after_the_last_byte(self, loop: Loop, pipe: tuple[int, int]) -> None:
        outlet = Outlet(loop, pipe[1], lambda: None)
        outlet.write(b"x" * 100_000)
        outlet.end()
        outlet.write(b"too late")
        found = b""
        for _ in range(10):
            found += drained(pipe[0])
            turns(loop, 2)
        assert found == b"x" * 100_000
        os.set_blocking(pipe[0], True)
        assert os.read(pipe[0], 1) == b""

    def test_a_reader_that_closed_is_no_fault(self, loop: Loop) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        outlet = Outlet(loop, writer, lambda: None)
        outlet.write(b"nobody reads this")
        outlet.write(b"nor this")
        assert not outlet.congested


class TestConversation:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        yield ours, theirs
        ours.close()
        theirs.close()

    def test_hands_on_packets_and_tells_of_the_end(self, loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
        heard: list[object] = []
        conversation = Conversation(loop, pair[0], lambda packet: heard.append(packet.message))
        conversation.on_close.append(lambda: heard.append("closed"))
        send(pair[1], {"op": "hello"})
        turns(loop, 2)
        pair[1].close()
        turns(loop, 2)
        assert heard == [{"op": "hello"}, "closed"]

    def test_one_that_reads_late_gets_everything_in_order(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        conversation = Conversation(loop, pair[0], lambda packet: None)
        pieces = [bytes([number]) * 30_000 for number in range(60)]
        for piece in pieces:
            conversation.send_data(STDOUT, piece)
        conversation.send({"exit": {"code": 0}})
        conversation.finish()
        assert conversation.congested
        found: list[Packet] = []

        def read() -> None:
            while packet := receive(pair[1]):
                found.append(packet)

        reader = threading.Thread(target=read)
        reader.start()
        while not conversation.closed:
            turns(loop, 1)
        reader.join()
        assert b"".join(packet.data for packet in found) == b"".join(pieces)
        assert found[-1].message == {"exit": {"code": 0}}

    def test_a_paused_one_waits_with_what_it_has_to_say(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        heard: list[bytes] = []
        conversation = Conversation(loop, pair[0], lambda packet: heard.append(packet.data))
        conversation.pause()
        send_data(pair[1], STDOUT, b"typed")
        turns(loop, 3)
        assert heard == []
        conversation.resume()
        turns(loop, 3)
        assert heard == [b"typed"]
        conversation.close()


def test_timers_come_in_their_order(loop: Loop) -> None:
    heard: list[int] = []
    loop.after(0.02, lambda: heard.append(2))
    loop.after(0.01, lambda: heard.append(1))
    while len(heard) < 2:
        loop.turn()
    assert heard == [1, 2]
