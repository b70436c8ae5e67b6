"""One build's ledger from beginning to end: opened with what the build is called, closed with a report."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.cache.ledger import Ledger, identity
from builder.cache.report import SKIPPED, Reason, Report, StepReport, printable, write
from builder.dockerfile.instructions import Arg, Dockerfile, DockerfileError, Env
from builder.plan.stages import Stages, touches_files
from builder.plan.vertices import Vertex, in_order
from registry.errors import StoreError
from registry.storage import ContentStore

Explain = Callable[[Report], None]


@contextmanager
def recording(
    store: ContentStore,
    dockerfile: Dockerfile,
    results: Sequence[Vertex],
    *,
    context: str,
    file: str,
    target: str,
    tags: Sequence[str],
    logs: Callable[[], Path],
    explain: Explain | None = None,
) -> Iterator[Ledger]:
    """A ledger for the body to fill. However the body ends, what it knew is kept, reported and explained.

    Args:
        store: keeps records for the next build.
        dockerfile: as written.
        results: the vertices that the build is for.
        context: as the command line names it, as are the next three.
        file: the Dockerfile.
        target: the stage.
        tags: the names of the image.
        logs: gives the directory for the report.
        explain: gets the report.
    """
    place = context if context == "-" else os.path.realpath(context)
    names = [identity("context", place, file, target)]
    if tags:
        names.insert(0, identity("tags", *sorted(tags), file, target))
    vertices = list(in_order(results))
    began = time.time()
    ledger = Ledger(store, names, vertices, declared(dockerfile))
    try:
        yield ledger
    finally:
        steps = [*ledger.steps(), *unneeded(dockerfile, vertices)]
        report = Report(printable(context), printable(file), target, tuple(tags), began, tuple(steps))
        with suppress(StoreError, OSError):  # a full disk: the build's own error is told
            ledger.keep()
            write(report, logs())
        if explain is not None:
            explain(report)


def declared(dockerfile: Dockerfile) -> dict[str, str]:
    """Which instruction makes a variable; ENV, if both do."""
    found: dict[str, str] = {}
    for instruction in dockerfile.instructions:
        if isinstance(instruction, Env):
            found |= {name: "ENV" for name, _ in instruction.pairs}
        elif isinstance(instruction, Arg):
            found = {name: "ARG" for name, _ in instruction.pairs} | found
    return found


def unneeded(dockerfile: Dockerfile, vertices: Sequence[Vertex]) -> Iterator[StepReport]:
    """Steps of stages that the target does not need. A stage whose steps equal another's is not among them."""
    lines = {vertex.at.line for vertex in vertices if vertex.at is not None}
    texts = {vertex.name.partition("] ")[2] for vertex in vertices}
    with suppress(DockerfileError):
        for stage in Stages.split(dockerfile).definitions:
            steps = [each for each in stage.instructions if touches_files(each)]
            told = [" ".join(each.source.split()) for each in steps]
            if not any(each.at.line in lines or text in texts for each, text in zip(steps, told, strict=True)):
                why = (Reason("unneeded", "the target does not need it"),)
                for each, text in zip(steps, told, strict=True):
                    yield StepReport(0, f"[{stage.name}] {text}", each.at.line, SKIPPED, why)
