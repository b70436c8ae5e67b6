"""Paths of a root filesystem never lead out of it (openat2(2), RESOLVE_IN_ROOT)."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.kernel import paths


@pytest.fixture
def root(ram_path: Path) -> Iterator[tuple[int, Path]]:
    inside = ram_path / "root"
    inside.mkdir()
    (ram_path / "outside").write_text("host")
    fd = paths.open_root(inside)
    yield fd, inside
    os.close(fd)


class TestOpen:
    @pytest.mark.parametrize("path", ["/../outside", "../outside", "/a/../../outside"])
    def test_dots_stop_at_the_root(self, root: tuple[int, Path], path: str) -> None:
        fd, inside = root
        (inside / "a").mkdir()
        with pytest.raises(FileNotFoundError):
            paths.open_in_root(fd, path, os.O_RDONLY)

    @pytest.mark.parametrize("target", ["/file", "../../../file", "./file"])
    def test_links_are_followed_within_the_root(self, root: tuple[int, Path], target: str) -> None:
        fd, inside = root
        (inside / "file").write_text("container")
        (inside / "link").symlink_to(target)
        assert paths.read_file_in_root(fd, "/link") == b"container"

    def test_a_magic_link_of_proc_is_refused(self) -> None:
        host = paths.open_root("/")
        with pytest.raises(OSError, match="link") as refused:
            paths.open_in_root(host, f"/proc/{os.getpid()}/exe", os.O_RDONLY)
        assert refused.value.errno == errno.ELOOP
        os.close(host)

    def test_the_empty_path_is_the_root(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        opened = paths.open_in_root(fd, "", os.O_PATH)
        assert os.fstat(opened).st_ino == inside.stat().st_ino
        os.close(opened)

    def test_an_error_names_call_and_path(self, root: tuple[int, Path]) -> None:
        with pytest.raises(FileNotFoundError) as failed:
            paths.open_in_root(root[0], "/none", os.O_RDONLY)
        assert failed.value.strerror == "openat2: No such file or directory"
        assert failed.value.filename == "/none"


class TestMakeDirectory:
    def test_makes_what_is_missing_and_keeps_what_is_there(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        (inside / "a").mkdir(mode=0o700)
        os.close(paths.mkdir_in_root(fd, "/a/b/c", 0o755))
        assert stat.S_IMODE((inside / "a").stat().st_mode) == 0o700
        assert stat.S_IMODE((inside / "a/b/c").stat().st_mode) == 0o755

    @pytest.mark.parametrize("target", ["/run/app", "../run/app", "run/app"])
    def test_a_link_to_what_is_missing_is_made_inside(self, root: tuple[int, Path], target: str) -> None:
        fd, inside = root
        (inside / "link").symlink_to(target)
        os.close(paths.mkdir_in_root(fd, "/link/below"))
        assert (inside / "run/app/below").is_dir()
        assert not Path("/run/app").exists()

    def test_a_link_out_of_the_root_makes_nothing_outside(self, root: tuple[int, Path], ram_path: Path) -> None:
        fd, inside = root
        (inside / "link").symlink_to(f"{ram_path}/made")
        os.close(paths.mkdir_in_root(fd, "/link/below"))
        assert not (ram_path / "made").exists()

    def test_a_loop_of_links_ends(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        (inside / "a").symlink_to("b/x")
        (inside / "b").symlink_to("a/x")
        with pytest.raises(OSError, match="symbolic links"):
            paths.mkdir_in_root(fd, "/a/c")

    def test_a_file_in_the_way_is_an_error(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        (inside / "file").write_text("")
        with pytest.raises(NotADirectoryError):
            paths.mkdir_in_root(fd, "/file/below")

    def test_no_name_after_dots(self, root: tuple[int, Path]) -> None:
        with pytest.raises(OSError, match="no name"):
            paths.mkdir_in_root(root[0], "/none/..")


class TestCreateFile:
    def test_makes_directories_above(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        os.close(paths.create_file_in_root(fd, "/etc/app/hosts", 0o600))
        assert stat.S_IMODE((inside / "etc/app/hosts").stat().st_mode) == 0o600

    def test_never_through_a_link(self, root: tuple[int, Path], ram_path: Path) -> None:
        fd, inside = root
        (inside / "hosts").symlink_to(ram_path / "made")
        with pytest.raises(FileExistsError):
            paths.create_file_in_root(fd, "/hosts")
        assert not (ram_path / "made").exists()


class TestReadFile:
    def test_not_more_than_the_limit(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        (inside / "file").write_bytes(b"x" * 100)
        assert paths.read_file_in_root(fd, "/file", limit=100) == b"x" * 100
        with pytest.raises(OSError, match="larger than 99"):
            paths.read_file_in_root(fd, "/file", limit=99)

    def test_a_fifo_is_refused_and_not_waited_for(self, root: tuple[int, Path]) -> None:
        """CVE-2024-9676: a FIFO in the place of /etc/passwd must not hang whoever reads it."""
        fd, inside = root
        os.mkfifo(inside / "passwd")
        with pytest.raises(OSError, match="not a regular file"):
            paths.read_file_in_root(fd, "/passwd")

    def test_a_device_is_not_opened(self, root: tuple[int, Path]) -> None:
        fd, inside = root
        os.mknod(inside / "tape", stat.S_IFCHR | 0o600, os.makedev(9, 0))
        with pytest.raises(OSError, match="not a regular file"):
            paths.read_file_in_root(fd, "/tape")
