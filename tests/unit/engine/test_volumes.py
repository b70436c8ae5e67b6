"""Volumes: made once, filled from the image, gone with their container if nobody named them."""

import os
from pathlib import Path

import pytest

from pybuild.engine.options import MountOption, parse_volume
from pybuild.engine.volumes import Volumes
from pybuild.errors import UsageError

pytestmark = pytest.mark.root


@pytest.fixture
def image(ram_path: Path) -> Path:
    """A lower directory with something at /data."""
    lower = ram_path / "lower"
    (lower / "data" / "sub").mkdir(parents=True)
    (lower / "data" / "file").write_text("from the image")
    (lower / "data" / "file").chmod(0o4750)
    os.chown(lower / "data" / "sub", 7, 8)
    os.setxattr(lower / "data" / "file", "user.note", b"kept")
    (lower / "data" / "link").symlink_to("/etc/shadow")
    os.mkfifo(lower / "data" / "pipe")
    (lower / "way-out").symlink_to("/etc")
    return lower


def test_a_new_volume_gets_what_the_image_has_there(ram_path: Path, image: Path) -> None:
    (point,) = Volumes(ram_path).mount_points([parse_volume("stock:/data")], (), (str(image),))
    data = Path(point.source)
    assert sorted(os.listdir(data)) == ["file", "link", "pipe", "sub"]
    assert (data / "file").read_text() == "from the image"
    assert (data / "file").stat().st_mode & 0o7777 == 0o4750
    assert ((data / "sub").stat().st_uid, (data / "sub").stat().st_gid) == (7, 8)
    assert os.getxattr(data / "file", "user.note") == b"kept"
    assert os.readlink(data / "link") == "/etc/shadow"


def test_one_with_content_is_left_alone(ram_path: Path, image: Path) -> None:
    volumes = Volumes(ram_path)
    (volumes.create("stock") / "mine").write_text("x")
    (point,) = volumes.mount_points([parse_volume("stock:/data")], (), (str(image),))
    assert os.listdir(point.source) == ["mine"]


def test_nothing_of_the_host_is_copied_through_a_link_of_the_image(ram_path: Path, image: Path) -> None:
    (point,) = Volumes(ram_path).mount_points([parse_volume("stock:/way-out")], (), (str(image),))
    assert os.listdir(point.source) == []


def test_the_images_volumes_are_anonymous_unless_the_user_mounts_there(ram_path: Path, image: Path) -> None:
    volumes = Volumes(ram_path)
    wanted = [MountOption(type="tmpfs", target="/data")]
    found = {point.destination: point for point in volumes.mount_points(wanted, ("/data", "/cache/"), (str(image),))}
    assert found["/data"].type == "tmpfs"
    assert found["/cache"].anonymous
    volumes.remove_anonymous(found.values())
    assert os.listdir(ram_path / "volumes") == []


def test_a_missing_host_path_is_made_for_v_and_refused_for_mount(ram_path: Path, image: Path) -> None:
    volumes = Volumes(ram_path)
    volumes.mount_points([parse_volume(f"{ram_path}/new:/data")], (), (str(image),))
    assert (ram_path / "new").is_dir()
    missing = MountOption(type="bind", source=f"{ram_path}/other", target="/data")
    with pytest.raises(UsageError, match="does not exist"):
        volumes.mount_points([missing], (), (str(image),))
