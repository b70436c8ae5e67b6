"""What people write after docker's options, and what it means."""

import signal

import pytest

from pybuild.engine.options import (
    MountOption,
    parse_detach_keys,
    parse_device,
    parse_env,
    parse_env_file,
    parse_mount,
    parse_pairs,
    parse_resources,
    parse_security,
    parse_signal,
    parse_size,
    parse_tmpfs,
    parse_ulimit,
    parse_volume,
)
from pybuild.errors import UsageError
from runner.container.spec import Resources, Rlimit


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("64k", 65536), ("512m", 512 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "12x", "-1", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


class TestResources:
    def test_cpus_become_a_quota(self) -> None:
        assert parse_resources(cpus="1.5") == Resources(cpu_quota=150_000, cpu_period=100_000)

    def test_unlimited_swap_and_processes(self) -> None:
        assert parse_resources(memory="64m", memory_swap="-1", pids_limit=-1) == Resources(
            memory=64 << 20, memory_swap=-1
        )

    @pytest.mark.parametrize(
        "limits",
        [
            {"memory": "1m"},
            {"memory_swap": "1g"},
            {"memory": "1g", "memory_swap": "1m"},
            {"cpus": "0"},
            {"cpus": "lots"},
            {"cpus": "1", "cpu_quota": 5},
        ],
    )
    def test_contradictions_are_refused(self, limits: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            parse_resources(**limits)  # type: ignore[arg-type]  # as the table has them


class TestVolumes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("/srv:/data", MountOption(type="bind", source="/srv", target="/data", create_source=True)),
            (
                "./here:/data:ro",
                MountOption(type="bind", source="/home/me/here", target="/data", read_only=True, create_source=True),
            ),
            (
                "stock:/data/:nocopy",
                MountOption(type="volume", source="stock", target="/data", create_source=True, no_copy=True),
            ),
            ("/data", MountOption(type="volume", target="/data", create_source=True)),
            (
                "/a:/b:z,rshared",
                MountOption(type="bind", source="/a", target="/b", options=("rshared",), create_source=True),
            ),
        ],
    )
    def test_short_form(self, text: str, expected: MountOption) -> None:
        assert parse_volume(text, "/home/me") == expected

    @pytest.mark.parametrize("text", ["", "/a:", ":/a", "/a:b", "/a:/", "a b:/x", "/a:/b:odd", "/a:/b:ro:rw"])
    def test_what_is_no_volume(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_volume(text)

    def test_long_form(self) -> None:
        found = parse_mount("type=bind,src=sub,dst=/data,readonly,bind-propagation=rslave", "/home/me")
        assert found == MountOption(
            type="bind", source="/home/me/sub", target="/data", read_only=True, options=("rslave",)
        )
        assert parse_mount("source=stock,target=/data") == MountOption(type="volume", source="stock", target="/data")
        tmpfs = parse_mount("type=tmpfs,target=/run,tmpfs-size=1m,tmpfs-mode=700")
        assert tmpfs.options == ("nosuid", "nodev", "noexec", "size=1048576", "mode=700")

    @pytest.mark.parametrize(
        "text", ["type=bind,target=/x", "type=nfs,target=/x", "source=a", "type=bind,source=/a,target=/b,odd=1"]
    )
    def test_what_is_no_long_form(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_mount(text)

    def test_tmpfs_is_careful_unless_told_otherwise(self) -> None:
        assert parse_tmpfs("/run").options == ("nosuid", "nodev", "noexec")
        assert parse_tmpfs("/run:size=64m,exec,ro") == MountOption(
            type="tmpfs", target="/run", read_only=True, options=("nosuid", "nodev", "size=64m")
        )
        with pytest.raises(UsageError):
            parse_tmpfs("/run:lazy")


class TestEnvironment:
    def test_a_name_alone_takes_the_hosts_value_or_takes_the_images_away(self) -> None:
        assert parse_env(["A=1", "HOME", "NONE", "E="], {"HOME": "/me"}) == ("A=1", "HOME=/me", "NONE", "E=")

    def test_files_are_taken_as_they_are(self) -> None:
        assert parse_env_file('# no\n\nA="quoted"\n  B=x # y\nC\n', "env") == ['A="quoted"', "B=x # y", "C"]

    @pytest.mark.parametrize("line", ["=x", "two words=x"])
    def test_a_fault_is_told_with_its_line(self, line: str) -> None:
        with pytest.raises(UsageError, match="env:2"):
            parse_env_file(f"A=1\n{line}\n", "env")


def test_ulimits() -> None:
    assert parse_ulimit("nofile=1024:2048") == Rlimit("nofile", 1024, 2048)
    assert parse_ulimit("core=-1") == Rlimit("core", -1, -1)
    for text in ("nofile", "nofile=x", "odd=1", "nofile=2:1", "nofile=-1:5"):
        with pytest.raises(UsageError):
            parse_ulimit(text)


def test_devices() -> None:
    assert parse_device("/dev/fuse").target == "/dev/fuse"
    assert parse_device("/dev/sda:/dev/x:r").access == "r"
    assert parse_device("/dev/sda:r").target == "/dev/sda"
    for text in ("fuse", "/dev/a:b", "/dev/a:/dev/b:q"):
        with pytest.raises(UsageError):
            parse_device(text)


def test_signals() -> None:
    assert [parse_signal(text) for text in ("9", "TERM", "sigint", "RTMIN+3")] == [9, 15, 2, signal.SIGRTMIN + 3]
    for text in ("0", "NOSUCH", "", "99"):
        with pytest.raises(UsageError):
            parse_signal(text)


def test_detach_keys() -> None:
    assert parse_detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-[") == b"a\x1b"
    with pytest.raises(UsageError):
        parse_detach_keys("ctrl-")


def test_security_options() -> None:
    assert parse_security(["seccomp=unconfined", "no-new-privileges", "label=disable"]) == {
        "seccomp": "unconfined",
        "no_new_privileges": True,
    }
    with pytest.raises(UsageError):
        parse_security(["everything=on"])


def test_pairs() -> None:
    assert parse_pairs(["db:10.0.0.1", "six:[::1]"], "add-host", ":=") == (("db", "10.0.0.1"), ("six", "::1"))
    with pytest.raises(UsageError):
        parse_pairs(["db"], "add-host", ":=")
