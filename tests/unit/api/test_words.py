"""Docker's words, as requests bring them."""

import pytest

from pybuild.api.calls import parse_filters
from pybuild.api.create import (
    Binding,
    Body,
    DeviceAsked,
    HostConfig,
    LogConfig,
    MountAsked,
    Networking,
    Restart,
    options_of,
)
from pybuild.api.dispatch import find
from pybuild.api.problems import ApiError, BadRequest, NoSuchThing, NotYet, message_of, status_of
from pybuild.api.transfers import Login, credentials_of
from pybuild.api.versions import ANNOUNCED, MINIMUM, split
from pybuild.errors import Conflict, EngineError, NotFound, UsageError
from registry.client import Credentials
from registry.errors import ManifestUnknown, TransferError
from runner.errors import CommandNotFound, RunnerError


class TestVersions:
    def test_no_prefix_means_the_newest(self) -> None:
        assert split("/containers/json") == (ANNOUNCED, "/containers/json")

    def test_both_ends_are_spoken(self) -> None:
        assert split("/v1.24/info") == (MINIMUM, "/info")
        assert split("/v1.51/info") == (ANNOUNCED, "/info")

    @pytest.mark.parametrize("path", ["/v1.52/info", "/v2.0/info", "/v1.23/info", "/v0.99/info"])
    def test_beyond_them_nothing_is(self, path: str) -> None:
        with pytest.raises(BadRequest):
            split(path)


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path", "name"),
        [
            ("GET", "/images/registry.example.com:5000/a/b:1/json", "registry.example.com:5000/a/b:1"),
            ("DELETE", "/images/a/b", "a/b"),
            ("POST", "/images/a/push/push", "a/push"),
            ("GET", "/containers/x/json", "x"),
        ],
    )
    def test_names_of_images_have_slashes(self, method: str, path: str, name: str) -> None:
        assert find(method, path)[1]["name"] == name

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/"), ("PUT", "/containers/json"), ("GET", "/containers/a/b/json")]
    )
    def test_all_else_is_not_found(self, method: str, path: str) -> None:
        with pytest.raises(NoSuchThing, match="page not found"):
            find(method, path)


class TestProblems:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (NotFound("x"), 404), (Conflict("x"), 409), (UsageError("x"), 400), (EngineError("x"), 500),
            (ManifestUnknown("x"), 404), (TransferError("x"), 500),
            (CommandNotFound("x"), 400), (RunnerError("x"), 500),
            (OSError(28, "No space left on device"), 500), (NotYet("x"), 501),
        ],
    )  # fmt: skip
    def test_each_kind_has_a_status(self, error: Exception, status: int) -> None:
        assert status_of(error) == status

    def test_a_fault_of_ours_has_none(self) -> None:
        assert status_of(KeyError("x")) is None

    def test_advice_about_our_command_line_is_left_out(self) -> None:
        assert message_of(EngineError("wrong", hint="run `pybuild ps`")) == "wrong"
        assert message_of(EngineError("wrong", hint="free some space")) == "wrong; free some space"


class TestFilters:
    def test_values_that_are_not_chosen_do_not_count(self) -> None:
        assert parse_filters('{"name": {"a": true, "b": false}}', ("name",)) == {"name": ["a"]}

    @pytest.mark.parametrize("text", ["[[", '{"name": {"a": []}}x', "7", "null", '"name"', "[" * 100_000])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(BadRequest):
            parse_filters(text, ("name",))


class TestCreate:
    def options(self, host: HostConfig | None = None, **fields: object) -> object:
        return options_of(Body(image="busybox", host_config=host, **fields)).options  # type: ignore[arg-type]  # as JSON brings it

    def test_ports_are_bound_as_with_p(self) -> None:
        bindings = {
            "80/tcp": [Binding("127.0.0.1", "8080")],
            "53/udp": [Binding("", "53")],
            "81/tcp": [Binding("", "")],
            "82/tcp": [Binding("127.0.0.1", "")],
            "83/tcp": None,
        }
        found = self.options(HostConfig(port_bindings=bindings))
        expected = ("127.0.0.1:8080:80/tcp", "53:53/udp", "81/tcp", "127.0.0.1::82/tcp", "83/tcp")
        assert found.publish == expected  # type: ignore[attr-defined]

    def test_mounts_come_in_four_forms(self) -> None:
        host = HostConfig(
            binds=["/host:/a:ro", "name:/b"], mounts=[MountAsked("/c", "bind", "/host2", read_only=True)],
            tmpfs={"/d": "size=1m"},
        )  # fmt: skip
        found = self.options(host, volumes={"/e": {}}).mounts  # type: ignore[attr-defined]
        assert {(mount.type, mount.source, mount.target, mount.read_only) for mount in found} == {
            ("bind", "/host", "/a", True), ("volume", "name", "/b", False), ("bind", "/host2", "/c", True),
            ("tmpfs", "", "/d", False), ("volume", "", "/e", False),
        }  # fmt: skip

    def test_cpus_are_a_quota(self) -> None:
        found = self.options(HostConfig(nano_cpus=1_500_000_000)).resources  # type: ignore[attr-defined]
        assert (found.cpu_quota, found.cpu_period) == (150_000, 100_000)

    def test_a_command_may_be_one_word(self) -> None:
        assert self.options(cmd="ls", entrypoint=["sh", "-c"]).command == ("ls",)  # type: ignore[attr-defined]

    def test_empty_lists_of_paths_unmask(self) -> None:
        assert self.options(HostConfig(masked_paths=[], readonly_paths=[])).unmasked  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "host",
        [
            HostConfig(memory=1 << 20), HostConfig(memory=-1), HostConfig(memory_swap=1 << 30),
            HostConfig(memory=1 << 30, memory_swap=1 << 29), HostConfig(nano_cpus=1),
            HostConfig(nano_cpus=10**9, cpu_quota=5000),
            HostConfig(binds=["a:b:c:d"]), HostConfig(pid_mode="nosuch"), HostConfig(devices=[DeviceAsked("relative")]),
            HostConfig(mounts=[MountAsked("/a", "nosuch")]), HostConfig(mounts=[MountAsked("/a,b", "volume")]),
            HostConfig(restart_policy=Restart("nosuch")), HostConfig(restart_policy=Restart("always", 3)),
            HostConfig(restart_policy=Restart("always"), auto_remove=True), HostConfig(dns=["nosuch"]),
            HostConfig(cgroup_parent="/../x"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, host: HostConfig) -> None:
        with pytest.raises((ApiError, UsageError)) as raised:
            self.options(host)
        assert status_of(raised.value) == 400

    @pytest.mark.parametrize(
        "host",
        [
            HostConfig(device_cgroup_rules=["c 1:1 rwm"]),
            HostConfig(links=["a:b"]),
            HostConfig(userns_mode="keep-id"),
            HostConfig(device_requests=[{}]),
        ],
    )
    def test_what_is_not_there_is_never_ignored(self, host: HostConfig) -> None:
        with pytest.raises(NotYet):
            self.options(host)

    def test_what_has_no_effect_is_told(self) -> None:
        host = HostConfig(runtime="kata", log_config=LogConfig("journald"), oom_kill_disable=True, memory_swappiness=-1)
        warnings = options_of(Body(image="busybox", host_config=host)).warnings
        assert [word.split()[0] for word in warnings] == ["log", "Runtime", "OomKillDisable"]
        assert (
            options_of(Body(image="busybox", host_config=HostConfig(log_config=LogConfig("json-file")))).warnings == ()
        )

    def test_a_network_of_one_s_own_is_never_ignored(self) -> None:
        networking = Networking({"mine": {}})
        with pytest.raises(NotYet):
            self.options(HostConfig(network_mode="bridge"), networking_config=networking)


class TestCredentials:
    @pytest.mark.parametrize(
        ("address", "domain", "sent"),
        [
            ("reg.example.com", "reg.example.com", True),
            ("https://reg.example.com/v2/", "reg.example.com", True),
            ("", "reg.example.com", True),
            ("https://index.docker.io/v1/", "docker.io", True),
            ("other.example.com", "reg.example.com", False),
            ("reg.example.com:444", "reg.example.com", False),
            ("https://index.docker.io/v1/", "reg.example.com", False),
        ],
    )
    def test_go_to_the_registry_that_they_are_for(self, address: str, domain: str, *, sent: bool) -> None:
        found = credentials_of(Login("user", "password", serveraddress=address), domain)
        assert isinstance(found, Credentials) == sent
