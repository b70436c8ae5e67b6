"""The words about the cache: mounts that go in and out, and what pruning is asked for."""

from pathlib import Path

import pytest

from builder.cache.transfer import Port
from pybuild.cli.build import parse_cache_mount
from pybuild.cli.builder import parse_size, parse_time
from pybuild.errors import UsageError


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("id=pip,dest=/ci/pip.tar.zst", Port("pip", Path("/ci/pip.tar.zst"))),
        ("dest=/ci,id=/root/.cache/pip", Port("/root/.cache/pip", Path("/ci"))),
        ("dest=ci", Port("", Path("ci"))),
        ("ci", Port("", Path("ci"))),
        ('id=a,"dest=/with,comma"', Port("a", Path("/with,comma"))),
    ],
)
def test_cache_mounts(text: str, port: Port) -> None:
    assert parse_cache_mount(text, "--cache-mount-to", "dest") == port


@pytest.mark.parametrize("text", ["", "id=a", "id=a,src=b", "id=a,dest=b,colour=red", "dest=all.tar", "all.tar.zst"])
def test_what_is_no_cache_mount(text: str) -> None:
    with pytest.raises(UsageError):
        parse_cache_mount(text, "--cache-mount-to", "dest")


@pytest.mark.parametrize(
    ("text", "size"),
    [("5", 5), ("10GB", 10**10), ("10g", 10**10), ("1.5k", 1500), ("2GiB", 2**31), ("512 MB", 512 * 10**6), ("7b", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "5x", "1,5GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90m", 5400), ("24h", 86400), ("7d", 604800), ("1h30m", 5400), ("2w", 1209600)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "5y", "-5m", "5 m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)
