"""Without the rights that containers need: which one is missing, and what to do; nothing is begun."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.bad_input.conftest import Contexts, Pybuild

pytestmark = pytest.mark.root

_PR_CAPBSET_DROP = 24
CAP_SYS_ADMIN, CAP_MKNOD, CAP_NET_ADMIN, CAP_SETUID = 21, 27, 12, 7


def without(*capabilities: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def curtail() -> None:
        for capability in capabilities:
            assert libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0

    return curtail


@pytest.fixture(scope="module")
def theirs(busybox_archive: Path) -> Iterator[Pybuild]:
    """A root of the user called nobody, with busybox in it."""
    home = Path(tempfile.mkdtemp(prefix="pybuild-bad-", dir="/dev/shm"))
    os.chown(home, 65534, 65534)
    pybuild = Pybuild(home / "root").as_nobody()
    pybuild.ok("load", stdin=busybox_archive.read_bytes())
    yield pybuild
    shutil.rmtree(home)


class TestNobody:
    def test_is_told_whose_root_it_is(self, pybuild: Pybuild, contexts: Contexts) -> None:
        contexts.path.chmod(0o755)
        context = str(contexts("FROM scratch\nCOPY Dockerfile /\n"))
        pybuild.root.chmod(0o700)
        for words, code in [(["images"], 1), (["build", context], 1), (["tag", "a", "b"], 1)]:
            pybuild.as_nobody().fails(*words, code=code, says=str(pybuild.root), hint="root")

    def test_may_keep_images_of_his_own(self, theirs: Pybuild) -> None:
        assert "busybox" in theirs.ok("images")
        theirs.ok("tag", "busybox", "mine:1")
        theirs.ok("rmi", "mine:1")

    def test_may_not_run_containers(self, theirs: Pybuild) -> None:
        for words in (["run", "--rm", "busybox", "true"], ["run", "-d", "busybox", "true"]):
            found = theirs.fails(*words, code=125, hint="root")
            assert found.err.count("\n") == 2, found.err
        assert theirs.ok("ps", "-aq") == ""

    @pytest.mark.parametrize("dockerfile", ["FROM scratch\nCOPY Dockerfile /\n", "FROM busybox\nRUN true\n"])
    def test_may_not_build(self, theirs: Pybuild, contexts: Contexts, dockerfile: str) -> None:
        contexts.path.chmod(0o755)
        context = contexts(dockerfile)
        found = theirs.fails("build", "--network", "none", str(context), code=4, hint="root")
        assert "SYS_ADMIN" in found.err or "overlay" in found.err

    def test_without_a_home_is_told(self) -> None:
        pybuild = Pybuild(Path("/nosuch/root")).as_nobody()
        pybuild.fails("images", code=1, says="/nosuch", hint="--root")

    def test_may_serve_a_registry_but_not_on_a_privileged_port(self, theirs: Pybuild, netns: None) -> None:
        words = ("registry", "serve", "--addr", "127.0.0.1:80")
        theirs.fails(*words, code=1, says="127.0.0.1:80", hint="")


class TestACurtailedRoot:
    def test_without_mounts_is_told_which_right_is_missing(self, pybuild: Pybuild, contexts: Contexts) -> None:
        curtail = without(CAP_SYS_ADMIN)
        pybuild.ok("run", "--rm", "--network", "none", "busybox", "true")  # with a supervisor there or without
        pybuild.end()
        with pybuild.unchanged():
            pybuild.fails("run", "--rm", "busybox", "true", code=125, says="SYS_ADMIN", preexec_fn=curtail)
            context = str(contexts(f"FROM busybox\nRUN echo {contexts.path}\n"))
            found = pybuild.fails("build", context, code=4, preexec_fn=curtail)
        assert "SYS_ADMIN" in found.err
        pybuild.ok("run", "--rm", "--network", "none", "busybox", "true")  # no supervisor without rights is left
        pybuild.end()

    def test_without_network_rights_is_told(self, pybuild: Pybuild) -> None:
        with pybuild.unchanged():
            pybuild.fails(
                "run", "--rm", "busybox", "true", code=125, hint="CAP_NET_ADMIN", preexec_fn=without(CAP_NET_ADMIN)
            )
