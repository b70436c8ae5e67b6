"""Build contexts from elsewhere: a repository, or an archive or a lone file from a web server.

Gives:    Elsewhere.main() for the context of a build, named() for one of --build-context.
Promises: only what the command line names is fetched; what comes is as hostile as any archive (intake.py).
Not here: contexts of this machine (context.py).
"""

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from builder.errors import ContextError
from builder.ops import intake
from builder.ops.context import Context
from builder.ops.files import ContextFiles, LateFiles
from builder.ops.gitfiles import late_files, repositories_of
from builder.ops.repositories import Repositories
from builder.ops.web import download
from builder.ops.workshop import Secret
from builder.plan.gitaddress import GitAddress, is_git, parse_git, shown
from builder.progress import Reporter, Step
from registry.client.fetch import FetchedFile
from registry.storage import ContentStore


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What fetching needs."""

    root: Path  # of the state
    store: ContentStore
    secrets: Mapping[str, Secret]
    agents: Mapping[str, str]
    reporter: Reporter

    def main(self, source: str, *, dockerfile: str | intake.Found | None = None, keep_git_dir: bool = False) -> Context:
        """The context of a build, with its Dockerfile.

        Args:
            source: what is_elsewhere() says is one.
            dockerfile: a path within the context; None looks for the usual names; or itself.
            keep_git_dir: whether a repository comes with `.git`.

        Raises:
            ContextError, GitError, GitAddressInvalid, RegistryError: it can't be had, or is no context.
        """
        title = shown(source)
        with self._step(f"[internal] load {title}") as step:
            if is_git(source, context=True):
                address = parse_git(source)
                repositories = self._repositories()
                commit = repositories.resolve(address)
                step.update("", commit.sha)
                top, root = repositories.check_out(commit, keep_git_dir=keep_git_dir)
                return Context.unpacked(root, top=top, title=title, dockerfile=dockerfile)
            with self._fetched(source, step) as (_, stream):
                start, whole = intake.peek(stream)
                if intake.is_archive(start):
                    return Context.archive(whole, title, dockerfile=dockerfile, temporary=self._temporary())
                if dockerfile is not None:
                    raise ContextError(f"{title} is no archive, and -f names a Dockerfile in it", hint="leave -f out")
                return Context.lone(intake.read_text(whole, _name(source)), title, temporary=self._temporary())

    def dockerfile(self, url: str) -> intake.Found:
        """A Dockerfile alone, as `-f https://…` names it. Raises RegistryError, ContextError."""
        with self._step(f"[internal] load {shown(url)}") as step, self._fetched(url, step) as (_, stream):
            return intake.Found(intake.read_text(stream, _name(url)))

    def named(self, name: str, source: str) -> ContextFiles | LateFiles:
        """A context of --build-context: a repository's files, what an archive holds, or a directory with one file."""
        with self._step(f"[internal] load {name} context from {shown(source)}") as step:
            if is_git(source, context=True):
                return self._commit(parse_git(source), step)
            with self._fetched(source, step) as (file, stream):
                start, whole = intake.peek(stream)
                if intake.is_archive(start):
                    return ContextFiles(Context.archive(whole, shown(source), named=True, temporary=self._temporary()))
                root = intake.one_file(whole, _name(source), file.modified, self._temporary())
                return ContextFiles(Context(root, title=shown(source), to_remove=root))

    def _commit(self, address: GitAddress, step: Step) -> LateFiles:
        repositories = self._repositories()
        commit = repositories.resolve(address)
        step.update("", commit.sha)
        return late_files(repositories, commit, keep_git_dir=bool(address.keep_git_dir))

    def _repositories(self) -> Repositories:
        return repositories_of(self.root, self.secrets, self.agents)

    @contextmanager
    def _fetched(self, url: str, step: Step) -> Iterator[tuple[FetchedFile, BinaryIO]]:
        with self.store.lease() as lease:
            file, _ = download(url, self.store, self.secrets, lease=lease, step=step)
            with self.store.open_blob(file.digest) as stream:
                yield file, stream

    def _temporary(self) -> Path:
        path = self.root / "tmp"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @contextmanager
    def _step(self, title: str) -> Iterator[Step]:
        step = self.reporter.start(title)
        try:
            yield step
        except Exception as error:
            step.failed(str(error).partition("\n")[0])
            raise
        except BaseException:
            step.canceled()
            raise
        step.done()


def _name(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    name = posixpath.basename(unquote(urlsplit(url).path))
    return name if name not in {"", ".", ".."} and "\0" not in name else "context"
