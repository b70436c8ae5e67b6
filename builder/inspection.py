"""A Dockerfile looked at but not built: what `--check`, `--call=outline` and `--call=targets` answer from.

Gives:    inspection(), which opens the context of a request.
Not here: the rules and the outline (checks/), what the answers look like (checks/show.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder.checking import base_facts, facts_for
from builder.checks import BaseFacts, Facts, Report
from builder.checks.outline import Outline, Target, list_targets, make_outline
from builder.checks.walk import check
from builder.dockerfile.instructions import Dockerfile, DockerfileError
from builder.dockerfile.memo import parse_remembered
from builder.excerpt import excerpt
from builder.ops.context import Context
from registry.errors import RegistryError
from registry.model import Reference
from registry.storage import ContentStore
from registry.storage.images import find_image

if TYPE_CHECKING:
    from builder.build import BuildRequest


class Inspection:
    """A Dockerfile that is looked at but not built. What it can't be read for shows when it is asked for something."""

    def __init__(self, content: bytes, name: str, memory: Path, facts: Facts) -> None:
        self.content = content
        self.text = content.decode(errors="replace")
        self._name = name
        self._memory = memory
        self._facts = facts

    @cached_property
    def dockerfile(self) -> Dockerfile:
        return parse_remembered(self.content, self._name, self._memory)

    def report(self) -> Report:
        """All findings, and the error if there is one: it has the lines around its place."""
        try:
            report = check(self.dockerfile, self._facts)
        except DockerfileError as error:
            return Report(error=error)
        fault = report.error
        if fault is None:
            return report
        shown = DockerfileError(fault.problem, at=fault.at, hint=fault.hint, excerpt=excerpt(self.text, fault.at))
        return Report(report.findings, shown, report.error_wanted)

    def outline(self) -> Outline:
        """Raises DockerfileError."""
        return make_outline(self.dockerfile, self._facts)

    def targets(self) -> tuple[Target, ...]:
        """Raises DockerfileError."""
        return list_targets(self.dockerfile)


@contextmanager
def inspection(root: Path, store: ContentStore, request: "BuildRequest") -> Iterator[Inspection]:
    """Open the context and find the Dockerfile. Of base images only those in the store are known.

    Raises ContextError: there is no such context or Dockerfile.
    """
    with Context.open(request.context, dockerfile=request.dockerfile, stdin=request.stdin) as context:
        assert context.dockerfile is not None, "a main context has a Dockerfile"
        content, name = context.dockerfile

        def base(image: str) -> BaseFacts | None:
            try:
                return base_facts(find_image(store, Reference.parse(image).tagged, request.platform).config)
            except RegistryError:
                return None

        facts = facts_for(request, context, base, all_stages=True)
        yield Inspection(content, name, root / "parsed", facts)
