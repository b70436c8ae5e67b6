"""Build checks at work: what they want to know of the context, the images and the request.

Not here: the rules (checks/), how findings look (pybuild/cli/progress.py), checks without a build (inspection.py).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builder.checks.findings import Report
from builder.checks.memo import IsDirectory, remembered
from builder.dockerfile.instructions import Dockerfile
from builder.errors import ContextError
from builder.ops.context import Context
from builder.plan.options import BaseImage
from registry.model import ImageConfig

if TYPE_CHECKING:
    from builder.build import BuildRequest
    from builder.checks.facts import BaseFacts


def check_build(
    dockerfile: Dockerfile,
    request: "BuildRequest",
    context: Context,
    bases: Mapping[str, BaseImage],
    memory: Path,
) -> Report:
    """The findings of a build, which sees no stages but those that it needs; `bases` are the images it stands on.

    A cached build pays for reading one small file: nothing is loaded for what was said before.

    Raises:
        DockerfileError: the check directive can't be read.
    """

    def check(is_directory: IsDirectory) -> Report:
        from builder.checks.facts import Facts
        from builder.checks.walk import check

        def base(image: str) -> "BaseFacts | None":
            found = bases.get(image)
            return None if found is None else base_facts(found.config)

        facts = Facts(
            request.build_args, request.platform, request.target, ignore=context.rules,
            contexts=frozenset(request.contexts), base=base, is_directory=is_directory,
        )  # fmt: skip
        return check(dockerfile, facts)

    known = (
        context.dockerfile, sorted(request.build_args.items()), str(request.platform), request.target,
        [(rule.pattern, rule.keeps) for rule in context.rules.rules], sorted(request.contexts),
        sorted((name, str(found.digest)) for name, found in bases.items()),
    )  # fmt: skip
    return remembered(known, asking(context), check, memory)


def asking(context: Context) -> IsDirectory:
    """A way to ask whether a source of COPY is a directory."""

    def is_directory(path: str) -> bool:
        try:
            return any(found.is_dir for found in context.find(path))
        except ContextError:
            return False  # the build tells

    return is_directory


def base_facts(config: ImageConfig) -> "BaseFacts":
    """What an image's config tells."""
    from builder.checks.facts import BaseFacts

    run = config.config
    return BaseFacts(run.environment, config.platform, run.shell, run.working_dir or "/", run.on_build)
