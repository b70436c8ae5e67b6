"""Image and user together: docker's rules of precedence."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pybuild.engine.options import RunOptions
from pybuild.engine.records import MountPoint, Record
from pybuild.engine.specs import Placement, capabilities_of, command_of, exec_process, make_record, make_spec, merge_env
from pybuild.errors import UsageError
from registry.model.image_config import RunConfig
from runner.container.defaults import CAPABILITIES, MASKED_PATHS


@dataclass(frozen=True)
class Tree:
    lower: tuple[str, ...] = ("/l",)
    upper: str = "/u"
    work: str = "/w"


IMAGE = RunConfig(entrypoint=("/entry",), cmd=("serve",), env=("PATH=/bin", "A=image"), working_dir="/app", user="web")


def record(config: RunConfig = IMAGE, **options: object) -> Record:
    return make_record(
        RunOptions(image="app", **options),  # type: ignore[arg-type]  # each test names its own
        config, container_id="c" * 64, image_id="sha256:" + "i" * 64, created="2026-01-01T00:00:00Z",
        platform="linux/amd64",
    )  # fmt: skip


def spec(made: Record, **placement: object):
    return make_spec(made, Placement(root=Tree(), directory=Path("/nowhere"), net="fd:0", **placement))  # type: ignore[arg-type]


class TestCommand:
    @pytest.mark.parametrize(
        ("entrypoint", "command", "argv"),
        [
            (None, (), ("/entry", "serve")),
            (None, ("other",), ("/entry", "other")),
            (("/mine",), (), ("/mine",)),
            (("/mine",), ("x",), ("/mine", "x")),
            (("",), ("x",), ("x",)),
        ],
    )
    def test_an_entrypoint_of_the_user_drops_the_images_command(
        self, entrypoint: tuple[str, ...] | None, command: tuple[str, ...], argv: tuple[str, ...]
    ) -> None:
        first, rest = command_of(RunOptions(image="app", entrypoint=entrypoint, command=command), IMAGE)
        assert (*first, *rest) == argv

    def test_nothing_to_run_is_refused(self) -> None:
        with pytest.raises(UsageError):
            record(RunConfig())


class TestEnvironment:
    def test_user_over_image_and_names_alone_take_away(self) -> None:
        assert merge_env(("A=1", "B=2"), ("A=3", "B", "C=4")) == ("A=3", "C=4")

    def test_the_process_gets_defaults_below_the_images(self) -> None:
        process = spec(record(tty=True, env=("A=user",))).process
        assert set(process.env) == {"PATH=/bin", f"HOSTNAME={'c' * 12}", "TERM=xterm", "A=user"}


class TestCapabilities:
    @pytest.mark.parametrize(
        ("add", "drop", "expected"),
        [
            ((), (), set(CAPABILITIES)),
            (("net_admin",), (), {*CAPABILITIES, "CAP_NET_ADMIN"}),
            ((), ("CAP_KILL",), {*CAPABILITIES} - {"CAP_KILL"}),
            (("SYS_TIME",), ("ALL",), {"CAP_SYS_TIME"}),
        ],
    )
    def test_add_and_drop(self, add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
        assert set(capabilities_of(RunOptions(image="app", cap_add=add, cap_drop=drop))) == expected

    def test_all_is_what_we_have_ourselves(self) -> None:
        everything = set(capabilities_of(RunOptions(image="app", cap_add=("ALL",), cap_drop=("SYS_ADMIN",))))
        assert everything > set(CAPABILITIES)
        assert "CAP_SYS_ADMIN" not in everything

    def test_unknown_ones_are_refused_when_the_container_is_made(self) -> None:
        with pytest.raises(UsageError, match="CAP_NOPE"):
            record(cap_drop=("CAP_NOPE",))


class TestSpec:
    def test_a_default_container_is_confined(self) -> None:
        made = spec(record())
        assert made.masked_paths == MASKED_PATHS
        assert made.seccomp == "default"
        assert made.hostname == "c" * 12
        assert (made.process.user, made.process.cwd, made.root.read_only) == ("web", "/app", False)

    def test_a_privileged_one_is_not(self) -> None:
        made = spec(record(privileged=True))
        assert (made.masked_paths, made.readonly_paths, made.seccomp, made.all_devices) == ((), (), "unconfined", True)
        assert {"/dev/null", "/dev/tty"}.isdisjoint(device.path for device in made.devices)

    def test_mounts_over_the_defaults_replace_them_and_outer_ones_come_first(self) -> None:
        points = (
            MountPoint("bind", "/host/b", "/data/inner", read_only=True),
            MountPoint("tmpfs", "", "/dev/shm", options=("size=1m",)),
            MountPoint("volume", "/v/_data", "/data", "v"),
        )
        mounts = spec(replace(record(), mounts=points)).mounts
        places = [mount.destination for mount in mounts]
        assert places.count("/dev/shm") == 1
        assert places.index("/data") < places.index("/data/inner")
        assert mounts[places.index("/data/inner")].options == ("rbind", "rprivate", "ro")

    def test_the_hosts_network_gets_no_sysctls_of_its_own(self) -> None:
        assert spec(record(network="host")).sysctls == ()
        with pytest.raises(UsageError):
            record(network="host", sysctls=(("net.ipv4.ip_forward", "1"),))
        assert dict(spec(record()).sysctls)["net.ipv4.ip_unprivileged_port_start"] == "0"


def test_an_exec_takes_what_the_first_process_has_unless_told_otherwise() -> None:
    made = record(env=("A=1",), group_add=("extra",))
    plain = exec_process(made, ["ls"])
    assert (plain.cwd, plain.user, plain.additional_groups) == ("/app", "web", ("extra",))
    other = exec_process(made, ["ls"], env=("A=2", "B=3"), user="0", working_dir="/tmp")
    assert {"A=2", "B=3"} <= set(other.env)
    assert (other.cwd, other.user, other.additional_groups) == ("/tmp", "0", ())
