"""Limits as files of the control group, version 1 and version 2."""

import pytest

from runner.container.limits import device_rule, settings, swap_limit, weight
from runner.container.spec import Device, Resources

EVERYTHING = Resources(
    memory=64 << 20, memory_reservation=32 << 20, cpu_shares=512, cpu_quota=50_000, cpu_period=100_000,
    cpuset_cpus="0-1", cpuset_mems="0", pids=100, blkio_weight=300,
)  # fmt: skip


def written(resources: Resources, driver: str) -> dict[str, str]:
    return {setting.file: setting.value for setting in settings(resources, driver)}


def test_no_limit_writes_nothing() -> None:
    for driver in ("v1", "hybrid", "v2", "none"):
        assert settings(Resources(), driver) == []


@pytest.mark.parametrize("driver", ["v1", "hybrid"])
def test_version_1(driver: str) -> None:
    assert written(EVERYTHING, driver) == {
        "memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "134217728",
        "memory.soft_limit_in_bytes": "33554432", "cpu.shares": "512", "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000", "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "100", "blkio.weight": "300",
    }  # fmt: skip


def test_version_1_limits_memory_before_memory_and_swap() -> None:
    files = list(written(EVERYTHING, "v1"))
    assert files.index("memory.limit_in_bytes") < files.index("memory.memsw.limit_in_bytes")


def test_version_2() -> None:
    assert written(EVERYTHING, "v2") == {
        "memory.max": "67108864", "memory.swap.max": "67108864", "memory.low": "33554432", "cpu.weight": "20",
        "cpu.max": "50000 100000", "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "100",
        "io.weight": "default 300",
    }  # fmt: skip


def test_swap_is_as_much_as_memory_unless_told_otherwise() -> None:
    assert swap_limit(Resources(memory=10)) == 20
    assert swap_limit(Resources(memory=10, memory_swap=15)) == 15
    assert swap_limit(Resources(memory=10, memory_swap=-1)) == -1
    assert swap_limit(Resources()) == 0


def test_swap_of_version_2_does_not_count_memory() -> None:
    assert written(Resources(memory=10, memory_swap=15), "v2")["memory.swap.max"] == "5"
    assert written(Resources(memory=10, memory_swap=10), "v2")["memory.swap.max"] == "0"
    assert written(Resources(memory=10, memory_swap=-1), "v2")["memory.swap.max"] == "max"


def test_a_quota_without_a_period_is_of_the_kernels_own() -> None:
    assert written(Resources(cpu_quota=20_000), "v2") == {"cpu.max": "20000 100000"}


@pytest.mark.parametrize("pids", [0, -1])
def test_unlimited_processes(pids: int) -> None:
    assert written(Resources(pids=pids), "v1") == {}


@pytest.mark.parametrize(("shares", "expected"), [(2, 1), (1024, 39), (262_144, 10_000), (1, 1), (999_999, 10_000)])
def test_shares_as_weight(shares: int, expected: int) -> None:
    assert weight(shares) == expected


def test_device_rules_as_version_1_writes_them() -> None:
    assert device_rule(Device("/dev/null", "c", 1, 3)) == "c 1:3 rwm"
    assert device_rule(Device("", "b", -1, -1, access="m")) == "b *:* m"
