"""Real containers for tests: a busybox image on tmpfs, run by the runner itself, everything gone afterwards."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from runner.container import defaults, launch
from runner.container.spec import ContainerSpec, Mount, Process, RootFilesystem

APPLETS = (
    "cat", "chmod", "echo", "env", "false", "grep", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod",
    "mount",
    "mv", "ps", "pwd", "readlink", "rm", "sh", "sleep", "stat", "stty", "test", "touch", "true", "tty", "umount",
)  # fmt: skip
PASSWD = "root:x:0:0:root:/root:/bin/sh\nbin:x:2:2:bin:/home/bin:/bin/sh\n"
GROUP = "root:x:0:\nbin:x:2:\nextra:x:77:root,bin\nlast:x:78:\n"


@dataclass(frozen=True)
class Ended:
    code: int
    output: str  # both streams
    warnings: tuple[str, ...]
    stubs: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


@dataclass
class Boxes:
    """Makes containers from `image`, a directory that a test may change first."""

    path: Path
    image: Path
    _count: int = 0
    _running: list[launch.Created] = field(default_factory=list)

    def spec(self, *args: str, process: dict[str, object] | None = None, **options: object) -> ContainerSpec:
        self._count += 1
        upper, work = self.path / f"upper{self._count}", self.path / f"work{self._count}"
        upper.mkdir()
        work.mkdir()
        wanted: dict[str, object] = {
            "id": f"test-{os.getpid()}-{self._count}",
            "root": RootFilesystem((str(self.image),), str(upper), str(work)),
            "process": Process(
                args,
                **{"env": defaults.default_env(hostname="box"), "capabilities": defaults.CAPABILITIES}
                | (process or {}),
            ),
            "mounts": defaults.default_mounts(),
            "namespaces": defaults.default_namespaces(),
            "hostname": "box",
            "masked_paths": defaults.MASKED_PATHS,
            "readonly_paths": defaults.READONLY_PATHS,
            "sysctls": defaults.default_sysctls(),
        }
        return ContainerSpec(**wanted | options)

    def run(self, *args: str, fds: Sequence[int] = (), **options: object) -> Ended:
        return self.finish(self.spec(*args, **options), fds)

    def sh(self, script: str, **options: object) -> Ended:
        return self.run("sh", "-c", script, **options)

    def finish(self, spec: ContainerSpec, fds: Sequence[int] = ()) -> Ended:
        """Run to the end."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open(os.devnull, "rb") as nothing, open(reading, "rb") as output:
            try:
                created = launch.create(spec, launch.Stdio(nothing.fileno(), writing, writing), fds)
            finally:
                os.close(writing)
            self._begin(created)
            text = _typed(created.console) if created.console is not None else output.read()
            return self._end(created, text)

    def start(self, *args: str, **options: object) -> tuple[launch.Created, ContainerSpec]:
        """A container that goes on; ended with the test."""
        spec = self.spec(*args, **options)
        with open(os.devnull, "r+b") as nothing:
            created = launch.create(spec, launch.Stdio(*(nothing.fileno(),) * 3))
        self._begin(created)
        self._running.append(created)
        return created, spec

    def exec(self, running: tuple[launch.Created, ContainerSpec], *args: str, **process: object) -> Ended:
        created, spec = running
        wanted = replace(spec.process, args=args, **process)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open(os.devnull, "rb") as nothing, open(reading, "rb") as output:
            try:
                entered = launch.enter(created.pid, spec, wanted, launch.Stdio(nothing.fileno(), writing, writing))
            finally:
                os.close(writing)
            self._begin(entered)
            text = _typed(entered.console) if entered.console is not None else output.read()
            return self._end(entered, text, keep=True)

    def end(self, running: tuple[launch.Created, ContainerSpec]) -> int:
        """Wait for a container that was started."""
        self._running.remove(running[0])
        code = _reap(running[0])
        launch.destroy(running[0])
        return code

    def probe(self, code: str, **options: object) -> Ended:
        """Run Python code inside, by an interpreter of the host that is bound there read-only."""
        for link in ("lib", "lib64"):
            if not (self.image / link).exists():
                (self.image / link).symlink_to(f"usr/{link}")
        mounts = [Mount(place, "bind", place, ("rbind", "ro")) for place in dict.fromkeys(("/usr", sys.base_prefix))]
        python = os.path.realpath(sys.executable)
        return self.run(
            python, "-I", "-S", "-c", code, **{"mounts": (*defaults.default_mounts(), *mounts)} | options
        )  # fmt: skip

    def upper(self) -> Path:
        """Of the latest container."""
        return self.path / f"upper{self._count}"

    def close(self) -> None:
        for created in self._running:
            launch.destroy(created)
            _reap(created)

    def _begin(self, created: launch.Created) -> None:
        try:
            created.start()
        except BaseException:
            created.discard()
            raise

    def _end(self, created: launch.Created, output: bytes, *, keep: bool = False) -> Ended:
        code = _reap(created)
        if not keep:
            launch.destroy(created)
        return Ended(code, output.decode(errors="replace").replace("\r\n", "\n"), created.warnings, created.stubs)


def _reap(created: launch.Created) -> int:
    found = os.waitid(os.P_PIDFD, created.pidfd, os.WEXITED)
    os.close(created.pidfd)
    if created.console is not None:
        os.close(created.console)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status


def _typed(console: int) -> bytes:
    """All that the terminal shows until its last user is gone, which Linux tells as EIO."""
    shown = b""
    while True:
        try:
            part = os.read(console, 65536)
        except OSError:
            return shown
        if not part:
            return shown
        shown += part


@pytest.fixture
def boxes(ram_path: Path) -> Iterator[Boxes]:
    image = ram_path / "image"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (image / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", image / "bin/busybox")
    for name in APPLETS:
        (image / "bin" / name).symlink_to("busybox")
    (image / "etc/passwd").write_text(PASSWD)
    (image / "etc/group").write_text(GROUP)
    made = Boxes(ram_path, image)
    yield made
    made.close()
