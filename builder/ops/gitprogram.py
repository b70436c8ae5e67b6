"""The git program, run so that neither this machine's settings nor a hostile repository make it do anything else.

Gives:    Git.run(), Git.output().
Promises: no configuration, hook, credential helper or key of this machine is used; nobody is asked for a password; only
          the transports of gitaddress.py; a silent or endless server ends in an error; no process outlives a call.
Not here: what is fetched and how it is kept (repositories.py).
"""

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from builder.errors import BuilderError
from builder.plan.gitaddress import TRANSPORTS
from builder.solver.scheduler import Cancellation

_OUTPUT_LIMIT = 16 << 20
_KEPT = 16 << 10  # of what it says on standard error: the end
_STALLED = 60  # seconds after which a transfer that does not move is given up
_INHERITED = (
    "PATH", "TMPDIR", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
    "NO_PROXY", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_EMPTY_WORDS = ("hint:", "warning:", "Please make sure you have the correct access", "and the repository exists")
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.symlinks": "true",
    "core.logAllRefUpdates": "false",
    "core.askPass": "",
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": str(_STALLED),
    "safe.directory": "*",
    "transfer.bundleURI": "false",
}


class GitError(BuilderError):
    """The git program failed; the message has the end of what it said."""


class GitTimeout(GitError):
    """It took too long; trying in another way would too."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a run works on: a bare repository, a directory for its files, a file for its index."""

    repository: Path | None = None
    tree: Path | None = None
    index: Path | None = None


_NOWHERE = Place()


@dataclass(frozen=True)
class Git:
    """How to run it.

    Attributes:
        home: an empty directory: ~ for git and whom it starts.
        agent: the socket of the SSH agent that the user offers; empty for none.
        settings: more settings; they are handed over in the environment, where no other user sees them.
        cancellation: ends a call early.
    """

    home: Path
    agent: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    cancellation: Cancellation | None = None

    def output(self, *args: str, at: Place = _NOWHERE, timeout: float = 60, limit: int = _OUTPUT_LIMIT) -> bytes:
        """Run it, and give what it prints. Raises GitError: it failed, took too long, or prints more than `limit`."""
        with self._started(args, at, subprocess.DEVNULL, subprocess.PIPE) as process:
            printed = bytearray()

            def keep(data: bytes) -> None:
                printed.extend(data)
                if len(printed) > limit:
                    raise GitError(f"git {args[0]} tells more than {limit >> 20} MiB", hint="is it a repository?")

            _Talk(process, args[0], time.monotonic() + timeout, keep).listen()
            return bytes(printed)

    def feed(self, consume: Callable[[bytes], None], *args: str, at: Place = _NOWHERE, timeout: float = 600) -> None:
        """Run it, and hand on what it prints piece by piece; what `consume` raises ends it. Raises GitError."""
        with self._started(args, at, subprocess.DEVNULL, subprocess.PIPE) as process:
            _Talk(process, args[0], time.monotonic() + timeout, consume).listen()

    def run(
        self,
        *args: str,
        at: Place = _NOWHERE,
        timeout: float = 3600,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> None:
        """Run it, with files or nothing as its input and output. Raises GitError."""
        with self._started(args, at, stdin, stdout) as process:
            _Talk(process, args[0], time.monotonic() + timeout, lambda _: None).listen()

    def _started(self, args: Sequence[str], at: Place, stdin: int, stdout: int) -> "_Process":
        environment = self._environment()
        names = {"GIT_DIR": at.repository, "GIT_WORK_TREE": at.tree, "GIT_INDEX_FILE": at.index}
        environment.update({name: str(path) for name, path in names.items() if path is not None})
        try:
            # Of its own session, so that what it starts (ssh, git-remote-https) ends with it.
            process = subprocess.Popen(
                [_program(), *args], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd=at.tree or "/",
                env=environment, start_new_session=True, umask=0o022,
            )  # fmt: skip
        except OSError as error:
            raise GitError(f"can't run git: {error.strerror}") from error
        return _Process(process, self.cancellation)

    def _environment(self) -> dict[str, str]:
        settings = {**_SETTINGS, **self.settings}
        found = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        found.update(
            HOME=str(self.home),
            XDG_CONFIG_HOME=str(self.home),
            LC_ALL="C",
            GIT_CONFIG_NOSYSTEM="1",
            GIT_CONFIG_GLOBAL="/dev/null",
            GIT_ATTR_NOSYSTEM="1",
            GIT_TERMINAL_PROMPT="0",
            GIT_ALLOW_PROTOCOL=":".join(TRANSPORTS),
            GIT_LITERAL_PATHSPECS="1",
            GIT_NO_REPLACE_OBJECTS="1",
            GIT_SSH_COMMAND=self._ssh(),
            GIT_SSH_VARIANT="ssh",
            GIT_CONFIG_COUNT=str(len(settings)),
        )
        for number, (name, value) in enumerate(settings.items()):
            found[f"GIT_CONFIG_KEY_{number}"] = name
            found[f"GIT_CONFIG_VALUE_{number}"] = value
        return found

    def _ssh(self) -> str:
        """Whoever writes a Dockerfile must not get at the keys of whoever builds it, but for the agent of --ssh."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "IdentityFile": "none",
            "IdentityAgent": self.agent or "none",
            "GSSAPIAuthentication": "no",
            "HostbasedAuthentication": "no",
            "ForwardAgent": "no",
            "ConnectTimeout": str(_STALLED),
            "ServerAliveInterval": "30",
        }
        return shlex.join(["ssh", "-F", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())])


def _program() -> str:
    found = shutil.which("git")
    if found is None:
        raise GitError(
            "git sources need the git program, which is not installed", hint="install it, for example: apt install git"
        )
    return found


class _Process:
    """One run; leaving it ends what still runs."""

    def __init__(self, process: subprocess.Popen[bytes], cancellation: Cancellation | None) -> None:
        self.popen = process
        self.cancellation = cancellation
        self._stopping: AbstractContextManager[None] = (
            cancellation.stopping(self.kill) if cancellation else nullcontext()
        )

    def kill(self) -> None:
        if self.popen.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        self._stopping.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.__exit__(None, None, None)
        self.kill()
        self.popen.wait()
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()


class _Talk:
    """Reads what a run says until it ends, and no more of it than is wanted."""

    def __init__(self, process: _Process, command: str, deadline: float, consume: Callable[[bytes], None]) -> None:
        self._process = process
        self._command = command
        self._deadline = deadline
        self._consume = consume
        self._said = bytearray()

    def listen(self) -> None:
        popen = self._process.popen
        with selectors.DefaultSelector() as selector:
            for pipe, keep in ((popen.stdout, self._consume), (popen.stderr, self._say)):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, keep)
            while selector.get_map():
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise GitTimeout(f"git {self._command} took too long", hint="is the server there, and well?")
                for key, _ in selector.select(left):
                    self._read(selector, key)
        with suppress(subprocess.TimeoutExpired):
            popen.wait(max(0.1, self._deadline - time.monotonic()))
        if self._process.cancellation is not None:
            self._process.cancellation.check()
        if popen.returncode != 0:
            raise GitError(f"git {self._command}: {self._complaint()}")

    def _read(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]  # typeshed: anything that has a descriptor
        if data := os.read(pipe.fileno(), 65536):
            key.data(data)
        else:
            selector.unregister(pipe)

    def _say(self, data: bytes) -> None:
        self._said += data
        del self._said[:-_KEPT]

    def _complaint(self) -> str:
        """The lines that matter, without what a server could draw on the terminal."""
        lines = self._said.decode(errors="replace").splitlines()
        matter = [line for line in lines if not line.startswith(_EMPTY_WORDS)]
        text = "; ".join(line.strip() for line in matter[-4:] if line.strip())[:600]
        return "".join(letter for letter in text if letter.isprintable()) or "it failed and said nothing"
