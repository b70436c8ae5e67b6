"""Build checks at work: what they want to know of the context, the store and the request.

Gives:    inspection(), for `--check` and its relatives, which builds nothing; check_build(), for a build.
Not here: the rules (checks/), how findings look on the way (pybuild/cli/progress.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder.checks import BaseFacts, Facts, Report
from builder.checks.memo import check_remembered
from builder.dockerfile.instructions import Dockerfile, DockerfileError
from builder.dockerfile.memo import parse_remembered
from builder.errors import ContextError
from builder.excerpt import excerpt
from builder.ops.context import Context
from builder.plan.options import BaseImage
from registry.errors import RegistryError
from registry.model import ImageConfig, Reference
from registry.storage import ContentStore

if TYPE_CHECKING:
    from builder.build import BuildRequest
    from builder.checks.outline import Outline, Target


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
        from builder.checks.walk import check

        try:
            report = check(self.dockerfile, self._facts)
        except DockerfileError as error:
            return Report(error=error)
        fault = report.error
        if fault is None:
            return report
        shown = DockerfileError(fault.problem, at=fault.at, hint=fault.hint, excerpt=excerpt(self.text, fault.at))
        return Report(report.findings, shown, report.error_wanted)

    def outline(self) -> "Outline":
        """Raises DockerfileError."""
        from builder.checks.outline import make_outline

        return make_outline(self.dockerfile, self._facts)

    def targets(self) -> "tuple[Target, ...]":
        """Raises DockerfileError."""
        from builder.checks.outline import list_targets

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
            from registry.storage.images import find_image

            try:
                return _base_facts(find_image(store, Reference.parse(image).tagged, request.platform).config)
            except RegistryError:
                return None

        facts = _facts(request, context, base, all_stages=True)
        yield Inspection(content, name, root / "parsed", facts)


def check_build(
    dockerfile: Dockerfile,
    request: "BuildRequest",
    context: Context,
    bases: Mapping[str, BaseImage],
    memory: Path,
) -> Report:
    """The findings of a build, which sees no stages but those that it needs; `bases` are the images it stands on.

    Raises:
        DockerfileError: the check directive can't be read.
    """
    assert context.dockerfile is not None, "a main context has a Dockerfile"

    def base(image: str) -> BaseFacts | None:
        found = bases.get(image)
        return None if found is None else _base_facts(found.config)

    digests = {name: str(found.digest) for name, found in bases.items()}
    facts = _facts(request, context, base, all_stages=False)
    return check_remembered(dockerfile, context.dockerfile[0], facts, digests, memory)


def _facts(
    request: "BuildRequest", context: Context, base: Callable[[str], BaseFacts | None], *, all_stages: bool
) -> Facts:
    def is_directory(path: str) -> bool:
        try:
            return any(found.is_dir for found in context.find(path))
        except ContextError:
            return False  # the build tells

    return Facts(
        build_args=request.build_args,
        platform=request.platform,
        target=request.target,
        all_stages=all_stages,
        ignore=context.rules,
        contexts=frozenset(request.contexts),
        base=base,
        is_directory=is_directory,
    )


def _base_facts(config: ImageConfig) -> BaseFacts:
    run = config.config
    return BaseFacts(run.environment, config.platform, run.shell, run.working_dir or "/", run.on_build)
