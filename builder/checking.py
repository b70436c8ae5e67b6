"""Build checks at work: what they want to know of the context, the images and the request.

Not here: the rules (checks/), how findings look (pybuild/cli/progress.py), checks without a build (inspection.py).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builder.checks import BaseFacts, Facts, Report
from builder.checks.memo import check_remembered
from builder.dockerfile.instructions import Dockerfile
from builder.errors import ContextError
from builder.ops.context import Context
from builder.plan.options import BaseImage
from registry.model import ImageConfig

if TYPE_CHECKING:
    from builder.build import BuildRequest


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
        return None if found is None else base_facts(found.config)

    digests = {name: str(found.digest) for name, found in bases.items()}
    facts = facts_for(request, context, base, all_stages=False)
    return check_remembered(dockerfile, context.dockerfile[0], facts, digests, memory)


def facts_for(
    request: "BuildRequest", context: Context, base: Callable[[str], BaseFacts | None], *, all_stages: bool
) -> Facts:
    """What a request and its context tell; `base` tells what is known of an image."""

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


def base_facts(config: ImageConfig) -> BaseFacts:
    """What an image's config tells."""
    run = config.config
    return BaseFacts(run.environment, config.platform, run.shell, run.working_dir or "/", run.on_build)
