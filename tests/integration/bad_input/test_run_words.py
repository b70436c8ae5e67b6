"""What a user gets wrong with containers: the words of `run`, names, commands, and things done to what is not there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.bad_input.conftest import Pybuild

pytestmark = pytest.mark.root
RUN = ("run", "--rm", "--network", "none")


@pytest.fixture(scope="module")
def boxes(shared_root: Path) -> Iterator[Pybuild]:
    """Containers: `up`, which runs, and `done`, which does not."""
    pybuild = Pybuild(shared_root)
    pybuild.ok("run", "-d", "--network", "none", "--name", "up", "busybox", "sleep", "1000")
    pybuild.ok("run", "--network", "none", "--name", "done", "busybox", "true")
    yield pybuild
    pybuild.end()


WORDS = [
    # words of run, exit code, what the error says, what the hint says
    (["--pull=never", "nosuch:1"], 125, "No such image: nosuch:1", "--pull"),
    (["UPPER"], 125, "must be lowercase", "write upper"),
    (["-p", "abc", "busybox"], 125, "not a port mapping: 'abc'", "8080:80"),
    (["-p", "300.1.1.1:80:80", "busybox"], 125, "not an address: 300.1.1.1", "HOST_IP"),
    (["-v", "rel/x:/x", "busybox"], 125, "'rel/x'", "letters"),
    (["-v", "/tmp:rel", "busybox"], 125, "mount path must be absolute: 'rel'", "write /rel"),
    (["-v", "/tmp:/", "busybox"], 125, "nothing can be mounted over /", "below"),
    (["--mount", "type=bind,source=/nosuch,target=/x", "busybox", "true"], 125, "/nosuch", ""),
    (["--memory", "lots", "busybox"], 125, "not a size: 'lots'", "512m"),
    (["--cpus", "nan", "busybox"], 125, "not a number of CPUs: 'nan'", "1.5"),
    (["--pids-limit", "many", "busybox"], 2, "'--pids-limit'", ""),
    (["-u", "nouser", "busybox", "true"], 125, "unable to find user nouser", "number"),
    (["-u", "99999999999", "busybox", "true"], 125, "out of range", "ids"),
    (["-w", "rel", "busybox", "true"], 125, "working directory 'rel' is not absolute", ""),
    (["-w", "/bin/busybox", "busybox", "true"], 125, "Not a directory", ""),
    (["--name", "bad name", "busybox"], 125, "'bad name'", "letters"),
    (["--name", "../x", "busybox"], 125, "'../x'", "letters"),
    (["-e", "=x", "busybox"], 125, "not an environment variable: '=x'", "NAME=value"),
    (["--env-file", "/nosuch", "busybox"], 125, "can't read /nosuch: No such file", "lines"),
    (["--env-file", "/tmp", "busybox"], 125, "can't read /tmp: Is a directory", "lines"),
    (["--env-file", "/dev/zero", "busybox"], 125, "more than 1 MiB", "lines"),
    (["--cap-add", "FOO", "busybox"], 125, "unknown capability: 'FOO'", "NET_ADMIN"),
    (["--device", "/etc/passwd", "busybox"], 125, "/etc/passwd is not a device", "-v"),
    (["--network", "nosuch", "busybox"], 125, "nosuch", ""),
    (["--network", "container:nosuch", "busybox"], 125, "No such container: nosuch", "ps -a"),
    (["--pid", "foo", "busybox", "true"], 125, "--pid foo", "host"),
    (["--ipc", "foo", "busybox", "true"], 125, "--ipc foo", "host"),
    (["--uts", "foo", "busybox", "true"], 125, "--uts foo", "host"),
    (["--cgroupns", "foo", "busybox", "true"], 125, "--cgroupns foo", "host"),
    (["--cgroup-parent", "../../x", "busybox", "true"], 125, "--cgroup-parent ../../x", ""),
    (["--dns", "foo", "busybox", "true"], 125, "--dns foo: not an address", "9.9.9.9"),
    (["--cidfile", "/nosuch/x", "busybox", "true"], 125, "/nosuch/x", ""),
    (["--stop-signal", "FOO", "busybox"], 125, "unknown signal: 'FOO'", "SIGTERM"),
    (["--memroy", "5m", "busybox"], 2, "--memory", ""),
    (["busybox", "nosuch"], 127, 'exec: "nosuch": executable file not found', ""),
    (["busybox", "/nosuch"], 127, 'exec: "/nosuch": stat /nosuch: no such file', ""),
    (["busybox", "/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied', ""),
    (["busybox", "/etc"], 126, 'exec: "/etc": is a directory', ""),
    (["busybox", ""], 125, "no command", ""),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "says", "hint"), WORDS, ids=[" ".join(words) for words, *_ in WORDS])
def test_words_of_run(boxes: Pybuild, words: list[str], code: int, says: str, hint: str) -> None:
    with boxes.unchanged():
        found = boxes.fails(*RUN, *words, code=code, says=says, hint=hint)
    assert found.out == ""
    assert found.memory < 120
    assert not os.path.lexists("/nosuch")


ELSEWHERE = [
    # command line, exit code, what the error says, what the hint says
    ("run -d --network none --name up busybox true", 125, 'name "/up" is already in use', "pybuild rm up"),
    ("exec nosuch true", 1, "No such container: nosuch", "ps -a"),
    ("exec done true", 1, "done is not running", "start"),
    ("exec up nosuch", 127, "executable file not found", ""),
    ("exec up /etc/passwd", 126, "permission denied", ""),
    ("exec -u nouser up true", 125, "unable to find user nouser", "number"),
    ("exec -w /nosuch up true", 125, "/nosuch", ""),
    ("exec -it up true", 1, "not a TTY", "-t"),
    ("exec up", 2, "Missing argument", ""),
    ("attach done", 1, "done is not running", "start"),
    ("logs nosuch", 1, "No such container", "ps -a"),
    ("logs --since soon up", 2, "not a time: 'soon'", ""),
    ("logs --tail x up", 2, "--tail", ""),
    ("stop nosuch", 1, "No such container", "ps -a"),
    ("kill done", 1, "done is not running", "start"),
    ("kill -s FOO up", 2, "unknown signal: 'FOO'", "SIGTERM"),
    ("inspect nosuch", 1, "No such container or image: nosuch", "ps -a"),
    ("rm up", 1, "container up is running", "rm -f"),
    ("rm nosuch", 1, "No such container", "ps -a"),
    ("rmi nosuch", 1, "no such image: nosuch", "images"),
    ("rmi busybox", 1, "is used by container", "remove the container"),
    ("tag nosuch x", 1, "no such image: nosuch", "images"),
    ("tag busybox UPPER", 1, "must be lowercase", "upper"),
    ("save -o /nosuch/x busybox", 1, "/nosuch/x", ""),
    ("load -i /nosuch", 1, "/nosuch", ""),
    ("load -i /etc/passwd", 1, "no tar archive", "tar"),
    ("images --filter x", 2, "not a filter", "dangling"),
    ("images --format {{.Nosuch}}", 2, "Nosuch", "there are"),
    ("ps --filter x", 2, "invalid filter 'x'", ""),
    ("image nosuch", 2, "nosuch", ""),
    ("registry serve --addr foo", 1, "not an address: 'foo'", "host:port"),
    ("registry serve --addr 0.0.0.0:5000", 2, "no accounts", "127.0.0.1"),
    ("push nosuch:1", 1, "nosuch:1", "images"),
    ("login", 2, "no terminal", "--password-stdin"),
    ("nosuch", 2, "unknown command 'nosuch'", ""),
    ("rnu", 2, "did you mean 'run'?", ""),
    ("--root", 2, "requires an argument", ""),
]


@pytest.mark.parametrize(("line", "code", "says", "hint"), ELSEWHERE, ids=[line for line, *_ in ELSEWHERE])
def test_commands(boxes: Pybuild, line: str, code: int, says: str, hint: str) -> None:
    with boxes.unchanged():
        found = boxes.fails(*line.split(), code=code, says=says, hint=hint)
    assert found.memory < 120
    assert not os.path.lexists("/nosuch")


def test_what_is_over_can_be_ended_again(boxes: Pybuild) -> None:
    assert boxes.ok("stop", "done") == "done\n"
    assert boxes.ok("rm", "-f", "nosuch") == "nosuch\n"


def test_several_go_on_after_an_error(boxes: Pybuild) -> None:
    found = boxes("stop", "nosuch", "done")
    assert (found.code, found.out) == (1, "done\n")
