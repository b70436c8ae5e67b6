"""Detached mounts: there through a descriptor, gone with it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.kernel import calls, mounts
from runner.kernel.mounts import MountOptions
from runner.kernel.paths import create_file_in_root, read_file_in_root


def layer(path: Path, **files: str) -> str:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return str(path)


def by_mount(lower: list[str], upper: str | None = None, work: str | None = None) -> int:
    return mounts._overlay_by_mount(lower, upper, work, [("metacopy", "off")])


Overlay = Callable[..., int]


@pytest.mark.parametrize("overlay", [mounts.overlay_tree, by_mount], ids=["fsconfig", "mount"])
class TestOverlayTree:
    def test_upper_hides_lower_and_takes_what_is_written(self, ram_path: Path, overlay: Overlay) -> None:
        lower = [layer(ram_path / "top", a="top"), layer(ram_path / "base", a="base", b="base")]
        upper = layer(ram_path / "upper")
        tree = overlay(lower, upper, layer(ram_path / "work"))
        assert read_file_in_root(tree, "/a") == b"top"
        assert read_file_in_root(tree, "/b") == b"base"
        os.close(create_file_in_root(tree, "/new"))
        os.close(tree)
        assert os.listdir(upper) == ["new"]

    def test_without_upper_it_is_read_only(self, ram_path: Path, overlay: Overlay) -> None:
        tree = overlay([layer(ram_path / "top", a="1"), layer(ram_path / "base")])
        with pytest.raises(OSError, match="Read-only"):
            create_file_in_root(tree, "/new")
        os.close(tree)

    def test_nothing_is_mounted_where_others_see_it(self, ram_path: Path, overlay: Overlay) -> None:
        tree = overlay([layer(ram_path / "top"), layer(ram_path / "base")])
        assert str(ram_path) not in Path("/proc/self/mountinfo").read_text()
        os.close(tree)

    def test_names_may_hold_the_characters_of_mount_options(self, ram_path: Path, overlay: Overlay) -> None:
        lower = [layer(ram_path / r"a:b,c=d\e", file="odd"), layer(ram_path / "base")]
        tree = overlay(lower)
        assert read_file_in_root(tree, "/file") == b"odd"
        os.close(tree)

    def test_long_paths(self, ram_path: Path, overlay: Overlay) -> None:
        deep = ram_path / ("x" * 200) / ("y" * 200)
        deep.mkdir(parents=True)
        tree = overlay([layer(deep / "top", file="deep"), layer(ram_path / "base")])
        assert read_file_in_root(tree, "/file") == b"deep"
        os.close(tree)


class TestOverlayErrors:
    def test_a_missing_directory_is_named(self, ram_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="none"):
            mounts.overlay_tree([str(ram_path / "none")])

    def test_the_kernel_explains(self, ram_path: Path) -> None:
        with pytest.raises(OSError, match="overlay: overlay: Unknown parameter 'colour'"):
            mounts.overlay_tree([layer(ram_path / "base"), layer(ram_path / "top")], options=["colour=red"])

    def test_one_directory_alone_is_a_read_only_view_of_it(self, ram_path: Path) -> None:
        tree = mounts.overlay_tree([layer(ram_path / "base", file="base")])
        assert read_file_in_root(tree, "/file") == b"base"
        with pytest.raises(OSError, match="Read-only"):
            create_file_in_root(tree, "/new")
        os.close(tree)

    def test_upper_needs_work(self, ram_path: Path) -> None:
        with pytest.raises(ValueError, match="work directory"):
            mounts.overlay_tree([str(ram_path)], str(ram_path))


class TestMountOptions:
    def test_words_of_mount_8(self) -> None:
        found = MountOptions.parse(["ro", "nosuid", "noexec", "size=64k", "mode=755", "rbind", "rslave"])
        assert found.set_ == calls.MOUNT_ATTR_RDONLY | calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NOEXEC
        assert found.data == ("size=64k", "mode=755")
        assert found.recursive
        assert found.propagation == calls.MS_SLAVE

    def test_the_last_word_wins(self) -> None:
        assert MountOptions.parse(["ro", "rw"]).set_ == 0
        assert MountOptions.parse(["exec", "noexec"]).set_ == calls.MOUNT_ATTR_NOEXEC


def test_a_program_opened_read_only_can_not_be_overwritten(ram_path: Path) -> None:
    program = ram_path / "program"
    program.write_text("old")
    fd = mounts.read_only(str(program))
    with pytest.raises(OSError, match="Read-only"):
        os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    os.close(fd)
    program.write_text("new")  # the file itself is as writable as before
