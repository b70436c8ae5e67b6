"""A Dockerfile looked at but not built: what `--check`, `--call=outline` and `--call=targets` answer from.

Gives:    inspection(), which opens the context of a request.
Not here: the rules and the outline (checks/), what the answers look like (checks/show.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder.checking import asking, base_facts
from builder.checks.facts import BaseFacts, Facts
from builder.checks.findings import Report
from builder.checks.outline import Outline, Target, list_targets, make_outline
from builder.checks.walk import check, check_above
from builder.dockerfile.instructions import Dockerfile, DockerfileError, Position
from builder.dockerfile.memo import parse_remembered
from builder.errors import NotYet
from builder.excerpt import excerpt
from builder.opening import Opening
from builder.ops.context import Context
from builder.plan.options import BaseImage, PlanOptions
from builder.plan.planner import make_plan
from builder.plan.stages import Stages
from builder.progress import Reporter
from registry.errors import RegistryError
from registry.model import Platform, Reference
from registry.storage import ContentStore
from registry.storage.images import find_image

if TYPE_CHECKING:
    from builder.build import BuildRequest


class Inspection:
    """A Dockerfile that is looked at but not built. What it can't be read for shows when it is asked for something."""

    def __init__(self, store: ContentStore, request: "BuildRequest", context: Context, memory: Path) -> None:
        assert context.dockerfile is not None, "a main context has a Dockerfile"
        self.content, self._name = context.dockerfile
        self.text = self.content.decode(errors="replace")
        self._memory = memory
        self._request = request
        self._images = _Images(store, request.platform)
        self._facts = Facts(
            request.build_args, request.platform, request.target, all_stages=True, ignore=context.rules,
            contexts=frozenset(request.contexts), base=self._images.facts, is_directory=asking(context),
        )  # fmt: skip

    @cached_property
    def dockerfile(self) -> Dockerfile:
        return parse_remembered(self.content, self._name, self._memory)

    def report(self) -> Report:
        """All findings, and the error if there is one: it has the lines around its place."""
        try:
            dockerfile = self.dockerfile
        except DockerfileError as error:
            return check_above(self.content, error, self._facts)
        try:
            report = check(dockerfile, self._facts)
        except DockerfileError as error:
            return Report(error=error)
        fault = report.error or self._fault_of_the_plan()
        if fault is None:
            return report
        shown = DockerfileError(fault.problem, at=fault.at, hint=fault.hint, excerpt=excerpt(self.text, fault.at))
        return Report(report.findings, shown, report.error_wanted)

    def _fault_of_the_plan(self) -> DockerfileError | None:
        """What a build would end with before its first step. Stages on images that are not here have no plan."""
        request = self._request
        count = len(Stages.split(self.dockerfile).definitions)
        for target in [request.target] if request.target else map(str, range(count)):
            options = PlanOptions(
                target=target, build_args=request.build_args, platform=request.platform, network=request.network,
                contexts=request.contexts, allow=request.allow,
            )  # fmt: skip
            try:
                make_plan(self.dockerfile, options, self._images)
            except DockerfileError as error:
                return error
            except (RegistryError, NotYet):
                continue
        return None

    def outline(self) -> Outline:
        """Raises DockerfileError."""
        return make_outline(self.dockerfile, self._facts)

    def targets(self) -> tuple[Target, ...]:
        """Raises DockerfileError."""
        return list_targets(self.dockerfile)


@dataclass(frozen=True, slots=True)
class _Images:
    """Base images, as far as they are in the store."""

    store: ContentStore
    platform: Platform

    def resolve(self, name: str, at: Position, platform: Platform) -> BaseImage:
        """Raises RegistryError: it is not here."""
        del at
        reference = Reference.parse(name).tagged
        found = find_image(self.store, reference, platform)
        return BaseImage(str(reference), found.digest, found.manifest.layers, found.config)

    def facts(self, name: str) -> BaseFacts | None:
        try:
            return base_facts(find_image(self.store, Reference.parse(name).tagged, self.platform).config)
        except RegistryError:
            return None


@contextmanager
def inspection(root: Path, store: ContentStore, request: "BuildRequest") -> Iterator[Inspection]:
    """Open the context and find the Dockerfile. Of base images only those in the store are known.

    Raises ContextError: there is no such context or Dockerfile.
    """
    with Opening(root, store, request, Reporter()).main() as context:
        yield Inspection(store, request, context, root / "parsed")
