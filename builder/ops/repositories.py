"""Git repositories: which commit an address means, mirrors of what was fetched, and trees of files made from them.

    commit = repositories.resolve(parse_git("https://host/app.git#v1:docs"))
    top, files = repositories.check_out(commit, keep_git_dir=False)

Gives:    Repositories.resolve() (one question to the server, none for a full commit), check_out().
Promises: a commit that is in the mirror is not fetched again; the same commit gives the same files, modes and times
          always; a token goes to the host it is for, encrypted, and nowhere else; submodules use the same transports.
Not here: running the git program (gitprogram.py); what an address means (builder/plan/gitaddress.py).
"""

import base64
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from builder.errors import BuilderError
from builder.ops.gitprogram import Git, GitError, GitTimeout, Place
from builder.plan.gitaddress import GitAddress, relative_to, shown
from builder.solver.scheduler import Cancellation
from builder.times import NANOSECONDS
from registry.archive.unpacking import Limits
from registry.client.trust import is_loopback

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{4,}")
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--force")
_ALL = ("+refs/heads/*:refs/pybuild/heads/*", "+refs/tags/*:refs/pybuild/tags/*")
_GITLINK = b"160000"
_DEEPEST = 10  # submodules of submodules
_MOST = 500  # of one repository
_LATEST = 1 << 33  # seconds; file systems know no time that is much later
_POLL = 0.1

Secrets = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Commit:
    """What an address means now."""

    address: GitAddress
    sha: str
    ref: str = ""  # the full name of the ref that it was found under

    def name(self, *, keep_git_dir: bool) -> str:
        """Stands for the files that a checkout gives: equal names, equal files."""
        address = self.address
        words = [f"git {self.sha} {address.subdir}"]
        if address.submodules:
            words.append(f"submodules of {address.remote}")  # some are named relative to it
        if keep_git_dir:
            words.append(f"kept {address.remote} {self.ref}")
        return "\0".join(words)


class Repositories:
    """The mirrors below `root`. Safe to use from several threads and processes.

    Args:
        root: where mirrors are kept from build to build.
        temporary: where checkouts are made.
        secrets: the value of a secret by its name: GIT_AUTH_TOKEN, GIT_AUTH_HEADER, both maybe with `.<host>`.
        agent: the socket of the SSH agent that may be used; empty for none.
        cancellation: ends what is going on.
        limits: of how much a commit may be: a few trees that hold each other many times are endless files.
    """

    def __init__(
        self,
        root: Path,
        temporary: Path,
        *,
        secrets: Secrets = lambda _: None,
        agent: str = "",
        cancellation: Cancellation | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._root = root
        self._temporary = temporary
        self._secrets = secrets
        self._agent = agent
        self._cancellation = cancellation
        self._home = root / "home"
        self.limits = limits or Limits()

    def resolve(self, address: GitAddress) -> Commit:
        """Which commit it is. Raises GitError: there is none, it is not the one of the checksum, nobody answers."""
        commit = Commit(address, address.ref) if address.is_pinned else self._asked(address)
        if not commit.sha.startswith(address.checksum):
            raise GitError(
                f"{shown(address.remote)}: expected checksum to match {address.checksum}, got {commit.sha}",
                hint="somebody moved the branch or tag, or the checksum is wrong",
            )
        return commit

    def has(self, commit: Commit) -> bool:
        """Whether it is in the mirror: a checkout fetches nothing but maybe submodules."""
        # A name, and not the commit itself, says that all of it is there: a fetch may have been killed.
        return (self._mirror(commit) / _kept(commit.sha)).exists()

    def check_out(self, commit: Commit, *, keep_git_dir: bool = False) -> tuple[Path, Path]:
        """A new directory that is the caller's, and in it the one with the files.

        Files are 0644 or 0755 and directories 0755; all have the time of the commit.

        Raises:
            GitError: it can't be fetched, there is no such directory in it, a submodule can't be had.
        """
        top = Path(tempfile.mkdtemp(prefix="pybuild-git-", dir=self._temporary))
        try:
            tree = top / "tree"
            tree.mkdir(0o755)
            tree.chmod(0o755)
            _Checkout(self, top).fill(commit, tree)
            if keep_git_dir:
                self._keep(commit, tree, top)
            self._date(commit, tree)
            return top, tree / commit.address.subdir
        except BaseException:
            shutil.rmtree(top, ignore_errors=True)
            raise

    # asking and fetching

    def git(self, address: GitAddress | None = None) -> Git:
        """The program, ready to speak to the server of `address`, or to none."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings: dict[str, str] = {}
        if address is not None:
            if header := self._authorization(address):
                settings["http.extraHeader"] = f"Authorization: {header}"
            if header or address.has_password:
                # git sends its headers to wherever a redirect leads.
                settings["http.followRedirects"] = "false"
        return Git(self._home, self._agent, settings, self._cancellation)

    def _authorization(self, address: GitAddress) -> str | None:
        host = address.host
        if address.transport != "https" and not (address.transport == "http" and is_loopback(host)):
            return None
        for suffix in (f".{host}", ""):
            if header := self._secrets(f"GIT_AUTH_HEADER{suffix}"):
                return _one_line(header)
            if token := self._secrets(f"GIT_AUTH_TOKEN{suffix}"):
                return "basic " + base64.b64encode(f"x-access-token:{_one_line(token)}".encode()).decode()
        return None

    def _asked(self, address: GitAddress) -> Commit:
        wanted = _names(address.ref)
        with _explained(address):
            answer = self.git(address).output("ls-remote", "--quiet", "--", address.remote, *wanted)
        found: dict[str, str] = {}
        for line in answer.decode(errors="replace").splitlines():
            sha, _, name = line.partition("\t")
            if _SHA.fullmatch(sha):
                found.setdefault(name, sha)
        for name in wanted:
            if name in found:
                return Commit(address, found[name], name.removesuffix("^{}"))
        if not address.ref:
            raise GitError(f"{shown(address.remote)} has no commits")
        hint = "name a commit by all its 40 digits" if _HEX.fullmatch(address.ref) else "check its name"
        raise GitError(f"{shown(address.remote)} has no branch or tag {address.ref!r}", hint=hint)

    @contextmanager
    def mirror(self, commit: Commit) -> Iterator[Path]:
        """The mirror with the commit in it; nobody removes it meanwhile."""
        mirror = self._mirror(commit)
        lock = mirror.with_suffix(".lock")
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with self._locked(lock, fcntl.LOCK_SH):
                if self.has(commit):
                    yield mirror
                    return
            with self._locked(lock, fcntl.LOCK_EX):
                if not self.has(commit):
                    self._fill(mirror, commit)

    def _fill(self, mirror: Path, commit: Commit) -> None:
        if not (mirror / "HEAD").exists():
            kind = "sha1" if len(commit.sha) == 40 else "sha256"
            self.git().run("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(mirror))
            (mirror / "description").write_text(shown(commit.address.remote))
        with _explained(commit.address):
            self._fetch(mirror, commit)

    def _mirror(self, commit: Commit) -> Path:
        return self._root / hashlib.sha256(f"{len(commit.sha)} {commit.address.remote}".encode()).hexdigest()[:32]

    def _fetch(self, mirror: Path, commit: Commit) -> None:
        """The one commit if the server gives it by its name, or by its ref; else all branches and tags."""
        git, sha, remote = self.git(commit.address), commit.sha, commit.address.remote
        shallow = ["--unshallow"] if (mirror / "shallow").exists() else []
        attempts = [[*shallow, "--", remote, *_ALL]]
        for name in (commit.ref, sha):
            if name:
                attempts.insert(0, ["--depth=1", "--", remote, f"+{name}:refs/pybuild/new"])
        error = GitError("nothing was fetched")
        for words in attempts:
            try:
                git.run(*_FETCH, *words, at=Place(mirror))
                git.run("cat-file", "-e", f"{sha}^{{commit}}", at=Place(mirror))
            except GitTimeout:
                raise
            except GitError as failed:
                error = failed
            else:
                git.run("update-ref", _kept(sha), sha, at=Place(mirror))
                return
        raise error

    @contextmanager
    def _locked(self, path: Path, kind: int) -> Iterator[None]:
        """One fetch at a time for each mirror. The lock's own time says when it was used."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._pause()
            os.utime(file)
            yield
        finally:
            os.close(file)

    def _pause(self) -> None:
        if self._cancellation is not None:
            self._cancellation.wait(_POLL)
        else:
            time.sleep(_POLL)

    # what is made of it

    def _keep(self, commit: Commit, tree: Path, top: Path) -> None:
        """`.git`: this commit alone, packed the same way always, with nothing in it that tells when or where."""
        where, sha = tree / ".git", commit.sha
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
            (where / name).mkdir(parents=True)
        with self.mirror(commit) as mirror:
            if _pack(self.git(), Place(mirror), sha, where, top):
                (where / "shallow").write_text(f"{sha}\n")
        version, extension = (0, "") if len(sha) == 40 else (1, "[extensions]\n\tobjectformat = sha256\n")
        (where / "config").write_text(
            f"[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n"
            f"\tlogallrefupdates = true\n{extension}"
            f'[remote "origin"]\n\turl = {_quoted(_without_password(commit.address.remote))}\n'
            "\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
        )
        (where / "HEAD").write_text(f"{sha}\n")
        if commit.ref.startswith("refs/tags/"):
            (where / "packed-refs").write_text(f"{sha} {commit.ref}\n")
        for path in (where, *where.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def _date(self, commit: Commit, tree: Path) -> None:
        with self.mirror(commit) as mirror:
            text = self.git().output("show", "--no-patch", "--format=%ct", commit.sha, "--", at=Place(mirror))
        moment = min(max(int(text.strip() or 0), 0), _LATEST) * NANOSECONDS
        for _, directories, files, handle in os.fwalk(tree, topdown=False):
            for name in (*directories, *files):
                os.utime(name, ns=(moment, moment), dir_fd=handle, follow_symlinks=False)
        os.utime(tree, ns=(moment, moment))


class _Link(NamedTuple):
    """A submodule as a commit has it."""

    path: str
    url: str
    sha: str


class _Measure:
    """Adds up a listing of files as it comes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files = 0
        self._bytes = 0
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *records, self._rest = (self._rest + data).split(b"\0")
        self._files += len(records)
        self._bytes += sum(int(size) for record in records if (size := record.split(b"\t", 1)[0].split()[-1]).isdigit())
        if self._files > self._limits.entries or self._bytes > self._limits.size:
            most = f"{self._limits.entries} files or {self._limits.size >> 30} GiB"
            raise GitError(f"the commit has more than {most}", hint="it was made to fill disks")


class _Checkout:
    """The files of a repository and of its submodules."""

    def __init__(self, repositories: Repositories, top: Path) -> None:
        self._repositories = repositories
        self._index = top / "index"
        self._count = 0

    def fill(self, commit: Commit, tree: Path, depth: int = 0) -> None:
        with self._repositories.mirror(commit) as mirror:
            links = self._write(commit, mirror, tree)
        for link in links:
            self._submodule(commit, tree, link, depth)

    def _write(self, commit: Commit, mirror: Path, tree: Path) -> list[_Link]:
        """The files; tells the submodules that belong to them."""
        git, subdir = self._repositories.git(), commit.address.subdir
        if subdir:
            self._must_be_directory(git, mirror, commit)
        git.feed(_Measure(self._repositories.limits), "ls-tree", "-r", "-l", "-z", commit.sha, at=Place(mirror))
        self._index.unlink(missing_ok=True)
        at = Place(mirror, tree, self._index)
        git.run("read-tree", commit.sha, at=Place(mirror, index=self._index))
        if subdir:
            with tempfile.TemporaryFile(dir=self._index.parent) as names:
                git.run("ls-files", "-z", "--", subdir, stdout=names.fileno(), at=at)
                names.seek(0)
                git.run("checkout-index", "--quiet", "--force", "-z", "--stdin", stdin=names.fileno(), at=at)
        else:
            git.run("checkout-index", "--quiet", "--force", "--all", at=at)
        if not commit.address.submodules:
            return []
        links = self._submodules(git, mirror, commit)
        return [link for link in links if not subdir or link.path.startswith(f"{subdir}/")]

    def _submodule(self, commit: Commit, tree: Path, link: _Link, depth: int) -> None:
        self._count += 1
        if depth >= _DEEPEST or self._count > _MOST:
            raise GitError(f"{shown(commit.address.remote)} has too many submodules", hint="add ?submodules=false")
        place = tree / link.path
        place.mkdir(0o755, parents=True, exist_ok=True)
        if os.path.realpath(place) != os.path.join(os.path.realpath(tree), link.path):
            raise GitError(f"the submodule {shown(link.path)} lies behind a link", hint="add ?submodules=false")
        try:
            address = relative_to(link.url, commit.address)
            self.fill(Commit(GitAddress(address.remote, link.sha), link.sha), place, depth + 1)
        except GitTimeout:
            raise
        except BuilderError as error:
            hint = error.hint or "to do without it, add ?submodules=false to the address"
            raise GitError(f"submodule {shown(link.path)}: {error}", hint=hint) from error

    def _submodules(self, git: Git, mirror: Path, commit: Commit) -> list[_Link]:
        """Each one that .gitmodules tells of; of that file no other word counts than path and URL."""
        if not _entries(git, mirror, commit.sha, [".gitmodules"], (b"100644", b"100755")):
            return []
        listing = git.output(
            "config", "--null", "--no-includes", "--blob", f"{commit.sha}:.gitmodules", "--list", at=Place(mirror)
        )
        told: dict[str, dict[str, str]] = {}
        for record in listing.decode("utf-8", "surrogateescape").split("\0"):
            key, _, value = record.partition("\n")
            section, _, word = key.rpartition(".")
            if section.startswith("submodule.") and word in {"path", "url"}:
                told.setdefault(section, {})[word] = value
        urls = {words["path"]: words["url"] for words in told.values() if words.get("path") and words.get("url")}
        links = _entries(git, mirror, commit.sha, sorted(urls)[: _MOST + 1], (_GITLINK,))
        return [_Link(path, urls[path], sha) for path, sha in links if path in urls]

    def _must_be_directory(self, git: Git, mirror: Path, commit: Commit) -> None:
        subdir = commit.address.subdir
        if not _entries(git, mirror, commit.sha, [subdir], (b"040000",)):
            raise GitError(
                f"{shown(commit.address.remote)} has no directory {shown(subdir)} in {commit.sha[:12]}",
                hint="check what stands behind the colon",
            )


def _pack(git: Git, at: Place, sha: str, where: Path, top: Path) -> bool:
    """Fill `.git` with the objects of a commit, and an index that has no file's inode or time. Has it parents?"""
    with (top / "objects").open("w+b") as file:
        git.run("rev-list", "--objects", "--no-walk", sha, "--", at=at, stdout=file.fileno())
        file.seek(0)
        git.run(
            "pack-objects", "-q", "--threads=1", "--no-reuse-delta", "--no-reuse-object", "--window=10",
            str(where / "objects/pack/pack"), at=at, stdin=file.fileno(),
        )  # fmt: skip
    git.run("read-tree", sha, at=Place(at.repository, index=where / "index"))
    return b"\nparent " in git.output("cat-file", "commit", sha, at=at).partition(b"\n\n")[0]


class Mirror(NamedTuple):
    """A mirror, for those who look after the disk."""

    path: Path
    remote: str
    used: float  # seconds since 1970


def mirrors(root: Path) -> list[Mirror]:
    """All that Repositories keeps below its root."""
    found: list[Mirror] = []
    for lock in sorted(root.glob("*.lock")):
        path = lock.with_suffix("")
        with suppress(OSError):
            found.append(Mirror(path, (path / "description").read_text(errors="replace"), lock.stat().st_mtime))
    return found


def remove_mirror(mirror: Mirror) -> bool:
    """Whether it could be: not while it is used."""
    with open(mirror.path.with_suffix(".lock"), "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(mirror.path, ignore_errors=True)
        return True


def _entries(git: Git, mirror: Path, sha: str, paths: Sequence[str], modes: tuple[bytes, ...]) -> list[tuple[str, str]]:
    """Those of the paths that are of such a mode in a commit, with the names of their objects. No link is followed."""
    paths = [path for path in paths if "\0" not in path and not {"", ".", ".."} & set(path.split("/"))]
    if not paths:
        return []
    listing = git.output("ls-tree", "-z", "--full-tree", sha, "--", *paths, at=Place(mirror))
    found: list[tuple[str, str]] = []
    for record in listing.split(b"\0"):
        described, _, path = record.partition(b"\t")
        words = described.split()
        if len(words) == 3 and words[0] in modes:
            found.append((path.decode("utf-8", "surrogateescape"), words[2].decode()))
    return found


def _kept(sha: str) -> str:
    return f"refs/pybuild/{sha}"


def _names(ref: str) -> list[str]:
    """The refs that a name may mean, the first one that there is counts; a tag means what it stands on."""
    if not ref or ref == "HEAD":
        return ["HEAD"]
    if ref.startswith("refs/"):
        return [f"{ref}^{{}}", ref]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/{ref}^{{}}", f"refs/{ref}"]


@contextmanager
def _explained(address: GitAddress) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        raise type(error)(f"{shown(address.remote)}: {error}", hint=error.hint or _hint(str(error), address)) from error


def _hint(text: str, address: GitAddress) -> str:
    host = address.host
    if "Host key verification" in text:
        return f"this machine does not know {host}: ssh-keyscan {host} >> ~/.ssh/known_hosts, and check the key"
    if "Permission denied" in text:
        return "offer an SSH agent that has the key: --ssh default"
    if re.search(r"redirect|returned error: 30", text):
        return "write the address that it leads to: no redirect is followed with a token or password"
    if "could not read Username" in text or "Authentication failed" in text or "terminal prompts disabled" in text:
        return f"there is none, or it is private: give --secret id=GIT_AUTH_TOKEN.{host},env=TOKEN"
    return "check the address"


def _one_line(secret: str) -> str:
    text = secret.strip()
    if not text.isprintable():
        raise GitError("the secret for a git server has control characters in it")
    return text


def _without_password(remote: str) -> str:
    return re.sub(r"://[^/@]*@", "://", remote) if remote.startswith("http") else remote


def _quoted(value: str) -> str:
    """A value for git's configuration."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
