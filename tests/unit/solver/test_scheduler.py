"""The scheduler: once each, inputs first, several at a time, and a clean end whatever happens."""

import signal
import threading
from collections.abc import Sequence

import pytest

from builder.plan.vertices import CopyOp, MkdirOp, ScratchOp, SourcePath, Vertex
from builder.solver.scheduler import Canceled, Cancellation, Early, VertexFailed, run_graph


def mkdir(path: str, *inputs: Vertex) -> Vertex:
    return Vertex(MkdirOp(path), inputs, name=path)


def copy(name: str, below: Vertex, *sources: Vertex, link: bool = False) -> Vertex:
    op = CopyOp(tuple(SourcePath(number, name) for number in range(1, len(sources) + 1)), name, link=link)
    return Vertex(op, (below, *sources), name=name)


SCRATCH = Vertex(ScratchOp())


def test_solves_each_vertex_once_after_its_inputs() -> None:
    left, right = mkdir("/left", SCRATCH), mkdir("/right", SCRATCH)
    top = mkdir("/top", left, right)
    order: list[str] = []

    def solve(vertex: Vertex, inputs: Sequence[str]) -> str:
        order.append(vertex.name)
        return f"({vertex.name} {' '.join(inputs)})"

    results = run_graph([top], solve, workers=1)
    assert order == ["", "/left", "/right", "/top"]
    assert results[top.digest] == "(/top (/left ( )) (/right ( )))"


def test_equal_work_is_done_once_for_all_who_need_it() -> None:
    top = mkdir("/top", mkdir("/same", SCRATCH), mkdir("/same", Vertex(ScratchOp())))
    count: list[str] = []
    run_graph([top], lambda vertex, inputs: count.append(vertex.name), workers=2)
    assert sorted(count) == ["", "/same", "/top"]


def test_a_long_chain_needs_no_deep_recursion() -> None:
    vertex = SCRATCH
    for number in range(3000):
        vertex = mkdir(f"/{number}", vertex)
    results = run_graph([vertex], lambda vertex, inputs: sum(inputs) + 1, workers=2)
    assert results[vertex.digest] == 3001


def test_independent_vertices_run_at_the_same_time() -> None:
    both_here = threading.Barrier(2, timeout=20)

    def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
        if vertex.name in {"/a", "/b"}:
            both_here.wait()

    run_graph([mkdir("/top", mkdir("/a", SCRATCH), mkdir("/b", SCRATCH))], solve, workers=2)


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
        run_graph([top], solve, workers=2, cancellation=cancellation)
    assert stopped == ["/waits"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("build-")]


def test_nothing_starts_after_a_failure() -> None:
    started: list[str] = []

    def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
        started.append(vertex.name)
        if vertex.name == "/first":
            raise ValueError

    with pytest.raises(ValueError):
        run_graph([mkdir("/second", mkdir("/first", SCRATCH))], solve, workers=4)
    assert "/second" not in started


def test_what_is_asked_to_stop_too_late_is_stopped_at_once() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    stopped: list[int] = []
    with cancellation.stopping(lambda: stopped.append(1)):
        assert stopped == [1]
    with pytest.raises(Canceled):
        cancellation.check()


def test_an_interrupt_stops_what_runs_and_a_second_one_changes_nothing() -> None:
    cancellation = Cancellation()
    main = threading.main_thread().ident or 0
    canceled = threading.Event()

    def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
        if vertex.name == "/waits":
            with cancellation.stopping(canceled.set):
                signal.pthread_kill(main, signal.SIGINT)
                assert canceled.wait(20)
            signal.pthread_kill(main, signal.SIGINT)
            cancellation.check()

    with pytest.raises(KeyboardInterrupt):
        run_graph([mkdir("/waits", SCRATCH)], solve, workers=2, cancellation=cancellation)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("build-")]


class TestKeepGoing:
    def test_what_does_not_need_the_failed_one_is_done(self) -> None:
        bad, good = mkdir("/bad", SCRATCH), mkdir("/good", SCRATCH)
        top = mkdir("/top", mkdir("/above-bad", bad), mkdir("/above-good", good))
        done: list[str] = []

        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            done.append(vertex.name)
            if vertex.name == "/bad":
                raise VertexFailed(vertex, ValueError("broken"))

        with pytest.raises(VertexFailed, match="broken") as told:
            run_graph([top], solve, workers=1, keep_going=True)
        assert sorted(done) == ["", "/above-good", "/bad", "/good"]
        assert told.value.others == ()

    def test_all_failures_are_told_with_the_first_one_in_front(self) -> None:
        top = mkdir("/top", mkdir("/one", SCRATCH), mkdir("/two", SCRATCH))

        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            if vertex.name in {"/one", "/two"}:
                raise VertexFailed(vertex, ValueError(vertex.name))

        with pytest.raises(VertexFailed, match="/one") as told:
            run_graph([top], solve, workers=1, keep_going=True)
        assert [str(other) for other in told.value.others] == ["/two"]

    def test_a_fault_of_ours_ends_it_all_the_same(self) -> None:
        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError):
            run_graph([mkdir("/top", SCRATCH)], solve, workers=1, keep_going=True)


class TestBeginningEarly:
    """What a step can do before the file system is there that it stands on."""

    def test_it_is_begun_while_what_it_stands_on_is_made(self) -> None:
        begun = threading.Event()
        order: list[str] = []

        def solve(vertex: Vertex, inputs: Sequence[str]) -> str:
            if vertex.name == "/slow":
                assert begun.wait(20)
            order.append(vertex.name)
            return vertex.name

        def begin(vertex: Vertex, others: Sequence[str]) -> None:
            order.append(f"begin {vertex.name} with {list(others)}")
            begun.set()

        source = mkdir("/source", Vertex(ScratchOp()))
        run_graph([copy("/copy", mkdir("/slow", SCRATCH), source)], solve, workers=2, early=Early(begin))
        assert order == ["", "/source", "begin /copy with ['/source']", "/slow", "/copy"]

    def test_a_linked_copy_of_a_heredoc_needs_nothing_to_begin(self) -> None:
        begun = threading.Event()

        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            assert vertex.name != "/slow" or begun.wait(20)

        top = copy("/linked", mkdir("/slow", SCRATCH), link=True)
        run_graph([top], solve, workers=2, early=Early(lambda vertex, others: begun.set()))

    def test_it_is_not_solved_before_its_beginning_is_over(self) -> None:
        begins, slow_done, order = threading.Event(), threading.Event(), list[str]()

        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            order.append(vertex.name)
            if vertex.name == "/slow":
                assert begins.wait(20)
                slow_done.set()

        def begin(vertex: Vertex, others: Sequence[None]) -> None:
            begins.set()
            assert slow_done.wait(20)
            order.append("begun")

        run_graph([copy("/linked", mkdir("/slow", SCRATCH), link=True)], solve, workers=2, early=Early(begin))
        assert order.index("begun") < order.index("/linked")

    def test_nothing_is_begun_early_while_something_can_be_solved(self) -> None:
        begun: list[str] = []
        top = copy("/linked", mkdir("/below", SCRATCH), link=True)
        run_graph(
            [top], lambda vertex, inputs: None, workers=1, early=Early(lambda vertex, others: begun.append(vertex.name))
        )
        assert begun == []

    def test_nothing_is_begun_before_it_is_time(self) -> None:
        begun: list[str] = []
        asked = threading.Event()

        def may_begin() -> bool:
            asked.set()
            return False

        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            assert vertex.name != "/slow" or asked.wait(20)

        top = copy("/linked", mkdir("/slow", SCRATCH), link=True)
        run_graph([top], solve, workers=2, early=Early(lambda vertex, others: begun.append(vertex.name), may_begin))
        assert begun == []

    def test_a_failure_there_is_one_of_the_step(self) -> None:
        done: list[str] = []
        failed = threading.Event()

        def solve(vertex: Vertex, inputs: Sequence[None]) -> None:
            assert vertex.name != "/slow" or failed.wait(20)
            done.append(vertex.name)

        def begin(vertex: Vertex, others: Sequence[None]) -> None:
            failed.set()
            raise VertexFailed(vertex, ValueError("no such file"))

        top = copy("/linked", mkdir("/slow", SCRATCH), link=True)
        with pytest.raises(VertexFailed, match="no such file"):
            run_graph([top], solve, workers=2, early=Early(begin), keep_going=True)
        assert done == ["", "/slow"]
