"""Build checks at work: what they want to know of the context, the store and the request.

Gives:    inspection(), for `--check` and its relatives, which builds nothing; check_build(), for a build.
Not here: the rules (checks/), how findings look on the way (pybuild/cli/progress.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.checks import BaseFacts, Facts, Report
from builder.checks.memo import check_remembered
from builder.dockerfile.instructions import Dockerfile
from builder.dockerfile.memo import parse_remembered
from builder.errors import ContextError
from builder.ops.context import Context
from builder.plan.options import BaseImage
from registry.errors import RegistryError
from registry.model import ImageConfig, Reference
from registry.storage import ContentStore

if TYPE_CHECKING:
    from builder.build import BuildRequest
    from builder.checks.outline import Outline, Target


@dataclass(frozen=True, slots=True)
class Inspection:
    """A Dockerfile that is looked at but not built."""

    dockerfile: Dockerfile
    content: bytes
    facts: Facts

    def report(self) -> Report:
        from builder.checks.walk import check

        return check(self.dockerfile, self.facts)

    def outline(self) -> "Outline":
        from builder.checks.outline import make_outline

        return make_outline(self.dockerfile, self.facts)

    def targets(self) -> "tuple[Target, ...]":
        from builder.checks.outline import list_targets

        return list_targets(self.dockerfile)


@contextmanager
def inspection(root: Path, store: ContentStore, request: "BuildRequest") -> Iterator[Inspection]:
    """Open the context and read the Dockerfile. Of base images only those in the store are known.

    Raises:
        DockerfileError: it can't be read.
        ContextError: the context can't.
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
        yield Inspection(parse_remembered(content, name, root / "parsed"), content, facts)


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
