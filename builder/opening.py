"""The context of a build, and those that --build-context names, wherever they are."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from builder.ops.context import Context
from builder.ops.files import ContextFiles, LateFiles
from builder.ops.intake import Found, given_dockerfile
from builder.ops.statcache import StatCache
from builder.plan.contexts import is_elsewhere
from builder.progress import Reporter
from registry.storage import ContentStore

if TYPE_CHECKING:
    from builder.build import BuildRequest
    from builder.ops.elsewhere import Elsewhere

_YES = {"1", "true", "t"}


class Opening(Struct, frozen=True):
    """What opening them needs."""

    root: Path  # of the state
    store: ContentStore
    request: "BuildRequest"
    reporter: Reporter

    def main(self, cache: StatCache | None = None) -> Context:
        """The caller closes it. Raises ContextError, GitError, RegistryError: it can't be had, or has no Dockerfile."""
        request, source = self.request, self.request.context
        asked = request.dockerfile or ""
        dockerfile: str | Found | None = request.dockerfile
        if asked.startswith(("http://", "https://")):
            dockerfile = self._elsewhere().dockerfile(asked)
        if _is_fetched(source):
            if asked == "-":
                dockerfile = given_dockerfile(request.stdin)
            keep = request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "").lower() in _YES
            return self._elsewhere().main(source, dockerfile=dockerfile, keep_git_dir=keep)
        temporary = self.root / "tmp"
        temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Context.open(source, dockerfile=dockerfile, stdin=request.stdin, cache=cache, temporary=temporary)

    def named(self, name: str, place: str, cache: StatCache | None = None) -> ContextFiles | LateFiles:
        """The caller closes it. Raises as main()."""
        if _is_fetched(place):
            return self._elsewhere().named(name, place)
        return ContextFiles(Context.directory(place, cache=cache))

    def _elsewhere(self) -> "Elsewhere":
        from builder.ops.elsewhere import Elsewhere  # brings the HTTP client along

        return Elsewhere(self.root, self.store, self.request.secrets, self.request.agents, self.reporter)


def _is_fetched(place: str) -> bool:
    """As docker: a directory that there is comes before a repository of that name."""
    return is_elsewhere(place) and not os.path.isdir(place)
