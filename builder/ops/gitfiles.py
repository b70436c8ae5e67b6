"""ADD of a repository, and contexts that are one: asked for its commit at once, checked out when somebody looks.

A step whose layer is known by the commit's name fetches and writes nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from builder.ops.context import Context
from builder.ops.files import LateFiles
from builder.ops.mounts import read_secret
from builder.ops.repositories import Commit, Repositories
from builder.ops.workshop import Secret, Workshop
from builder.plan.gitaddress import shown
from builder.plan.vertices import GitOp
from builder.solver.scheduler import Cancellation


def git_files(op: GitOp, shop: Workshop) -> tuple[LateFiles, bool]:
    """The files, and whether this very commit was there already. Raises GitError."""
    repositories = repositories_of(shop.root, shop.secrets, shop.agents, shop.cancellation)
    commit = repositories.resolve(op.address)
    files = late_files(repositories, commit, keep_git_dir=op.keep_git_dir)
    shop.at_the_end(files.close)
    return files, repositories.has(commit)


def late_files(repositories: Repositories, commit: Commit, *, keep_git_dir: bool) -> LateFiles:
    """The caller closes them."""

    def check_out() -> Context:
        top, root = repositories.check_out(commit, keep_git_dir=keep_git_dir)
        return Context.unpacked(root, top=top, title=shown(commit.address.remote), named=True)

    return LateFiles(commit.name(keep_git_dir=keep_git_dir), check_out)


def repositories_of(
    root: Path, secrets: Mapping[str, Secret], agents: Mapping[str, str], cancellation: Cancellation | None = None
) -> Repositories:
    """The mirrors of a state root, as one build may use them."""

    def value(name: str) -> str | None:
        return read_secret(secrets[name]).decode() if name in secrets else None

    temporary = root / "tmp"
    temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    agent = agents.get("default", "")
    return Repositories(root / "git", temporary, secrets=value, agent=agent, cancellation=cancellation)
