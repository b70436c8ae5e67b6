"""The command line as a user meets it, given what is wrong; and eyes for all that may not change by it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybuild.engine.roots import runtime_dir
from registry.storage import ContentStore

_PASSWD = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"
_DOCKERFILE = """FROM scratch
COPY --chmod=755 busybox /bin/busybox
COPY passwd /etc/passwd
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
CMD ["sh"]
"""
_AS_NOBODY = """
import os, pkgutil, sys
import builder, pybuild, registry, runner
for package in (builder, pybuild, registry, runner):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        __import__(module.name)
import encodings.ascii, encodings.idna, encodings.latin_1, click.shell_completion
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(pybuild.cli.main.main())
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str
    seconds: float
    memory: int  # MiB at most, of the command itself


def own_peak() -> int:
    """KiB of memory that this process had at most."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


@dataclass
class Pybuild:
    """The command line on one state root."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pybuild.cli.main", "--root", str(self.root), *words]

    def as_nobody(self) -> "Pybuild":
        """The same for another user of this machine, who may not even read where Python and this project lie."""
        return AsNobody(self.root, {**self.env, "HOME": "/nonexistent"})

    def popen(self, *words: str, **settings: object) -> "subprocess.Popen[str]":
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        return subprocess.Popen(self.words(*words), text=True, env={**os.environ, **self.env}, **given)  # type: ignore[call-overload,no-any-return]  # passed on as given

    def __call__(self, *words: str, stdin: bytes | None = None, timeout: float = 30, **settings: object) -> Result:
        began = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
            given.write(stdin or b"")
            given.seek(0)
            process = subprocess.Popen(
                self.words(*words), env={**os.environ, **self.env},
                **{"stdin": given, "stdout": out, "stderr": err, **settings},  # type: ignore[call-overload]
            )  # fmt: skip
            alarm = signal.signal(signal.SIGALRM, lambda *_: process.kill())
            signal.setitimer(signal.ITIMER_REAL, timeout)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, alarm)
            process.returncode = os.waitstatus_to_exitcode(status)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode(errors="replace"))
        # The kernel counts the process that forked for the one that was executed, so what is not above our own peak
        # tells nothing: in a long run of the suite only a command that takes more than that is seen.
        memory = 0 if usage.ru_maxrss <= own_peak() else usage.ru_maxrss // 1024
        return Result(process.returncode, *texts, time.monotonic() - began, memory)

    def ok(self, *words: str, **settings: object) -> str:
        found = self(*words, **settings)  # type: ignore[arg-type]
        assert found.code == 0, found.err
        return found.out

    def fails(self, *words: str, code: int, says: str = "", hint: str = "", **settings: object) -> Result:
        """It ends as documented, tells what is wrong and what to do, and never shows its inside."""
        found = self(*words, **settings)  # type: ignore[arg-type]
        assert found.code == code, found
        self.told(found.err, says, hint)
        return found

    @staticmethod
    def told(err: str, says: str = "", hint: str = "") -> None:
        assert "Traceback" not in err
        assert "internal fault" not in err
        if says:
            assert says in "\n".join(line for line in err.splitlines() if not line.startswith("hint: ")), err
        if hint:
            assert [line for line in err.splitlines() if line.startswith("hint: ") and hint in line], err

    def state(self) -> dict[str, object]:
        """What must be the same before and after a failure. Blobs may stay until the next collection."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        with ContentStore.open(self.root) as store:
            images = [(str(image.repository), str(image.tag), str(image.digest)) for image in store.images()]
        return {
            "images": sorted(images),
            "containers": sorted(
                path.name for path in (self.root / "containers").glob("*") if path.name not in {".lock", "names"}
            ),
            "uploads": sorted(path.name for path in (self.root / "uploads").glob("*")),
            "snapshots": sorted(
                path.name
                for path in (self.root / "snapshots").glob("*")
                if not path.name.startswith(("index", "empty"))
            ),
            "volumes": sorted(path.name for path in (self.root / "volumes").glob("*")),
            "mounts": [line for line in mounts if str(self.root) in line],
            "bridge": os.path.exists(f"/sys/class/net/pb-{runtime_dir(self.root).name}"),
        }

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        before = self.state()
        yield
        assert self.state() == before

    def running(self) -> list[str]:
        return self.ok("ps", "-q").split()

    def end(self) -> None:
        """Remove its containers, and end its supervisor."""
        if names := self.ok("ps", "-aq").split():
            self.ok("rm", "-f", "-v", *names)
        directory = runtime_dir(self.root)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "fd/2").readlink() == directory / "supervisor.log":
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    continue
        shutil.rmtree(directory, ignore_errors=True)


class AsNobody(Pybuild):
    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-c", _AS_NOBODY, "--root", str(self.root), *words]


@dataclass
class Contexts:
    """Makes build contexts."""

    path: Path
    count: int = 0

    def __call__(self, dockerfile: str | bytes | None, files: Mapping[str, str | bytes] | None = None) -> Path:
        self.count += 1
        made = self.path / f"context{self.count}"
        made.mkdir()
        for name, content in {**(files or {}), **({} if dockerfile is None else {"Dockerfile": dockerfile})}.items():
            target = made / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return made


@pytest.fixture(scope="session")
def busybox_archive() -> Iterator[Path]:
    """An image of busybox, saved."""
    with tempfile.TemporaryDirectory(prefix="pybuild-bad-", dir="/dev/shm") as directory:
        space = Path(directory)
        context = Contexts(space)(_DOCKERFILE, {"busybox": Path("/bin/busybox").read_bytes(), "passwd": _PASSWD})
        pybuild = Pybuild(space / "root")
        pybuild.ok("build", "--network", "none", "-t", "busybox", str(context))
        pybuild.ok("save", "-o", str(space / "busybox.tar"), "busybox")
        yield space / "busybox.tar"


@pytest.fixture(scope="session")
def shared_root(busybox_archive: Path) -> Iterator[Path]:
    """A root for all: what its users do wrong may not change it, which each of them checks."""
    root = Path(tempfile.mkdtemp(prefix="pybuild-bad-", dir="/dev/shm"))
    Pybuild(root).ok("load", "-i", str(busybox_archive))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def pybuild(shared_root: Path) -> Pybuild:
    return Pybuild(shared_root)


@pytest.fixture
def contexts(ram_path: Path) -> Contexts:
    return Contexts(ram_path)
