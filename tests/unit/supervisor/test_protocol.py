"""Packets between clients and the supervisor."""

import os
import socket
from collections.abc import Iterator

import pytest

from runner.container.protocol import (
    STDOUT,
    ProtocolError,
    close_all,
    receive,
    send,
    send_data,
    spec_from_json,
    to_json,
)
from runner.container.spec import ContainerSpec, Device, Mount, Namespaces, Process, Resources, Rlimit, RootFilesystem

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


SPEC = ContainerSpec(
    id="a" * 64,
    root=RootFilesystem(lower=("/l2", "/l1"), upper="/u", work="/w"),
    process=Process(
        args=("sh", "-c", "echo \udcff ü"), env=("A=1",), umask=0, oom_score_adj=0, rlimits=(Rlimit("nofile", 1, 2),)
    ),
    mounts=(Mount("/proc", "proc", options=("nosuid",)),),
    namespaces=Namespaces(net="fd:0"),
    resources=Resources(memory=1 << 30),
    devices=(Device("/dev/fuse", "c", 10, 229),),
    sysctls=(("net.a", "0"),),
)


def test_a_specification_arrives_as_it_was_sent(pair: Pair) -> None:
    send(pair[0], {"spec": to_json(SPEC)})
    packet = receive(pair[1])
    assert packet is not None
    assert packet.message is not None
    assert spec_from_json(packet.message["spec"]) == SPEC


def test_a_message_larger_than_a_packet_arrives_whole_with_its_descriptors(pair: Pair) -> None:
    reader, writer = os.pipe()
    send(pair[0], {"env": ["x" * 1_000_000]}, [writer])
    os.close(writer)
    packet = receive(pair[1])
    assert packet is not None
    assert packet.message == {"env": ["x" * 1_000_000]}
    (received,) = packet.fds
    assert not os.get_inheritable(received)
    os.write(received, b"through")
    assert os.read(reader, 10) == b"through"
    close_all([reader, received])


def test_stream_data_keeps_its_kind_and_an_empty_packet_ends_the_stream(pair: Pair) -> None:
    send_data(pair[0], STDOUT, b"hello")
    send_data(pair[0], STDOUT, b"")
    assert [receive(pair[1])[:3] for _ in range(2)] == [(STDOUT, None, b"hello"), (STDOUT, None, b"")]  # type: ignore[index]  # a None would fail the test as well


def test_the_end_of_the_other_side_is_none(pair: Pair) -> None:
    pair[0].close()
    assert receive(pair[1]) is None


@pytest.mark.parametrize("packet", [b"J[1]", b"J{", b"Zx", b"J{}" + b" " * 70_000])
def test_what_is_no_packet_is_refused(pair: Pair, packet: bytes) -> None:
    pair[0].send(packet)
    with pytest.raises(ProtocolError):
        receive(pair[1])


@pytest.mark.parametrize(
    "found", [{}, {"id": "a", "root": {}, "process": {}}, {"id": "a", "root": {"evil": 1}, "process": {"args": []}}]
)
def test_a_specification_with_missing_or_unknown_fields_is_refused(found: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        spec_from_json(found)
