"""The scheduler: once each, inputs first, several at a time, and a clean end whatever happens."""

import threading
from collections.abc import Sequence

import pytest

from builder.plan.vertices import MkdirOp, ScratchOp, Vertex
from builder.solver.scheduler import Canceled, Cancellation, run_graph


def mkdir(path: str, *inputs: Vertex) -> Vertex:
    return Vertex(MkdirOp(path), inputs, name=path)


SCRATCH = Vertex(ScratchOp())


def test_solves_each_vertex_once_after_its_inputs() -> None:
    left, right = mkdir("/left", SCRATCH), mkdir("/right", SCRATCH)
    top = mkdir("/top", left, right)
    order: list[str] = []

    def solve(vertex: Vertex, inputs: Sequence[str]) -> str:
        order.append(vertex.name)
        return f"({vertex.name} {' '.join(inputs)})"

    results = run_graph(top, solve, workers=1)
    assert order == ["", "/left", "/right", "/top"]
    assert results[top.digest] == "(/top (/left ( )) (/right ( )))"


def test_equal_work_is_done_once_for_all_who_need_it() -> None:
    top = mkdir("/top", mkdir("/same", SCRATCH), mkdir("/same", Vertex(ScratchOp())))
    count: list[str] = []
    run_graph(top, lambda vertex, inputs: count.append(vertex.name), workers=2)
    assert sorted(count) == ["", "/same", "/top"]


def test_a_long_chain_needs_no_deep_recursion() -> None:
    vertex = SCRATCH
    for number in range(3000):
        vertex = mkdir(f"/{number}", vertex)
    results = run_graph(vertex, lambda vertex, inputs: sum(inputs) + 1, workers=2)
    assert results[vertex.digest] == 3001


def test_independent_vertices_run_at_the_same_time() -> None:
    both_here = threading.Barrier(2, timeout=20)

    def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
        if vertex.name in {"/a", "/b"}:
            both_here.wait()

    run_graph(mkdir("/top", mkdir("/a", SCRATCH), mkdir("/b", SCRATCH)), solve, workers=2)


def test_the_first_failure_stops_what_runs_and_is_what_the_caller_sees() -> None:
    cancellation = Cancellation()
    waiting = threading.Event()
    stopped: list[str] = []

    def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
        if vertex.name == "/fails":
            waiting.wait(20)
            raise ValueError("broken")
        if vertex.name == "/waits":
            done = threading.Event()
            with cancellation.stopping(done.set):
                waiting.set()
                assert done.wait(20)
            stopped.append(vertex.name)
            cancellation.check()

    top = mkdir("/top", mkdir("/waits", SCRATCH), mkdir("/fails", SCRATCH))
    with pytest.raises(ValueError, match="broken"):
        run_graph(top, solve, workers=2, cancellation=cancellation)
    assert stopped == ["/waits"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("build-")]


def test_nothing_starts_after_a_failure() -> None:
    started: list[str] = []

    def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
        started.append(vertex.name)
        if vertex.name == "/first":
            raise ValueError

    with pytest.raises(ValueError):
        run_graph(mkdir("/second", mkdir("/first", SCRATCH)), solve, workers=4)
    assert "/second" not in started


def test_what_is_asked_to_stop_too_late_is_stopped_at_once() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    stopped: list[int] = []
    with cancellation.stopping(lambda: stopped.append(1)):
        assert stopped == [1]
    with pytest.raises(Canceled):
        cancellation.check()
