"""`pybuild run -it` under a real terminal: size, Ctrl-C, job control, detaching, exit codes."""

from collections.abc import Iterator

import pexpect
import pytest

from tests.integration.run.conftest import Pybuild

pytestmark = pytest.mark.root
NO_NET = ("--network", "none")


class Terminal:
    """A user at a terminal of 30 rows and 100 columns."""

    def __init__(self, pybuild: Pybuild, *words: str) -> None:
        command, *rest = pybuild.words(*words)
        self.child = pexpect.spawn(command, rest, dimensions=(30, 100), timeout=20, encoding="utf-8")

    def sees(self, pattern: str) -> str:
        self.child.expect(pattern)
        return str(self.child.match.group(0))

    def types(self, text: str) -> None:
        self.child.send(text)

    def leaves_with(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)


@pytest.fixture
def shell(pybuild: Pybuild) -> Iterator[Terminal]:
    terminal = Terminal(pybuild, "run", "--rm", "-it", "--name", "box", *NO_NET, "-e", "PS1=> ", "busybox", "sh")
    terminal.sees("> ")
    yield terminal
    terminal.child.close(force=True)


def test_is_a_terminal_of_our_size_and_follows_it(shell: Terminal) -> None:
    shell.types("tty; stty size; echo $TERM\r")
    shell.sees("/dev/pts/0\r\n30 100\r\nxterm\r\n> ")
    shell.child.setwinsize(50, 132)
    shell.types("sleep 0.2; stty size\r")
    shell.sees("50 132\r\n> ")


def test_ctrl_c_interrupts_what_runs_and_not_the_shell(shell: Terminal) -> None:
    shell.types("sleep 600\r")
    shell.sees("sleep 600\r\n")
    shell.types("\x03")
    shell.sees("> ")
    shell.types("echo $?\r")
    shell.sees("130\r\n> ")


def test_jobs_can_be_stopped_and_continued(shell: Terminal) -> None:
    shell.types("sleep 600\r")
    shell.sees("sleep 600\r\n")
    shell.types("\x1a")
    shell.sees("Stopped")
    shell.sees("> ")
    shell.types("jobs\r")
    shell.sees("Stopped.*sleep 600\r\n> ")


def test_the_shells_exit_code_is_ours(shell: Terminal) -> None:
    shell.types("exit 9\r")
    assert shell.leaves_with() == 9


def test_ctrl_d_ends_the_shell(shell: Terminal) -> None:
    shell.types("\x04")
    assert shell.leaves_with() == 0


def test_detach_and_attach_again(pybuild: Pybuild, shell: Terminal) -> None:
    shell.types("x=kept\r")
    shell.sees("> ")
    shell.types("\x10\x11")
    assert shell.leaves_with() == 0
    assert pybuild.inspect("box")["State"]["Running"] is True
    again = Terminal(pybuild, "attach", "--detach-keys", "ctrl-a,d", "box")
    again.types("\recho $x\r")
    again.sees("\nkept\r\n> ")
    again.types("\x01d")
    assert again.leaves_with() == 0
    assert pybuild.inspect("box")["State"]["Running"] is True


def test_exec_with_a_terminal(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "box", *NO_NET, "busybox", "sleep", "600")
    terminal = Terminal(pybuild, "exec", "-it", "box", "sh", "-c", "stty size; read line; echo got $line; exit 4")
    terminal.sees("30 100\r\n")
    terminal.types("words\r")
    terminal.sees("got words\r\n")
    assert terminal.leaves_with() == 4
