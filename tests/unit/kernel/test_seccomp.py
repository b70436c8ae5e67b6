"""The default filter, run by an interpreter of classic BPF as seccomp(2) describes it."""

import errno
import struct

import pytest

from runner.container.defaults import CAPABILITIES
from runner.kernel import seccomp

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32 = 0x40000000
ALLOW = seccomp.ALLOW
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
ADMIN = (*CAPABILITIES, "CAP_SYS_ADMIN")


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do with this call."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *(0,) * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x05:
                at += value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x25:
                at += if_true if accumulator > value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


DEFAULT = seccomp.compile_default(CAPABILITIES, "x86_64")


class TestOrdinaryCalls:
    @pytest.mark.parametrize(
        ("arch", "number"),
        [(X86_64, 0), (X86_64, 59), (X86_64, 231), (I386, 3), (I386, 11), (X86_64, X32 + 520)],
        ids=["read", "execve", "exit_group", "read of 32 bits", "execve of 32 bits", "execve of x32"],
    )
    def test_are_allowed(self, arch: int, number: int) -> None:
        assert verdict(DEFAULT, arch, number) == ALLOW

    @pytest.mark.parametrize(
        ("machine", "arch", "column", "offset"),
        [("x86_64", X86_64, 0, 0), ("x86_64", I386, 1, 0), ("x86_64", X86_64, 2, X32), ("aarch64", AARCH64, 3, 0)],
    )
    def test_every_number_is_decided_as_the_table_says(self, machine: str, arch: int, column: int, offset: int) -> None:
        program = seccomp.compile_default(CAPABILITIES, machine)
        open_to = {"always", *(name.removeprefix("CAP_") for name in CAPABILITIES)}
        allowed, depends = set(), set()
        for _, condition, *numbers in seccomp._table():
            if numbers[column] != "-":
                words = set(condition.split("|"))
                (allowed if words & open_to else depends).add(int(numbers[column]))
        for number in range(1024):
            if number in allowed:
                assert verdict(program, arch, number + offset) == ALLOW, number
            elif number not in depends:
                assert verdict(program, arch, number + offset) == EPERM, number

    def test_a_number_that_is_no_call_is_refused(self) -> None:
        for number in (600, 4095, 0x3FFFFFFF, 0xFFFFFFFF):
            assert verdict(DEFAULT, X86_64, number) == EPERM

    def test_another_architecture_kills(self) -> None:
        assert verdict(DEFAULT, AARCH64, 63) == seccomp.KILL_PROCESS


class TestDangerousCalls:
    @pytest.mark.parametrize(
        "number",
        [165, 166, 272, 308, 250, 321, 323, 425, 426, 427, 304, 246, 155, 101 + 1000],
        ids=[
            "mount", "umount2", "unshare", "setns", "keyctl", "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter",
            "io_uring_register", "open_by_handle_at", "kexec_load", "pivot_root", "unknown",
        ],
    )  # fmt: skip
    def test_are_refused(self, number: int) -> None:
        assert verdict(DEFAULT, X86_64, number) == EPERM

    @pytest.mark.parametrize("arch", [(X86_64, 435), (I386, 435), (X86_64, X32 + 435)])
    def test_clone3_does_not_exist_so_that_clone_is_used(self, arch: tuple[int, int]) -> None:
        assert verdict(DEFAULT, *arch) == ENOSYS

    @pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
    def test_clone_makes_no_namespace(self, flag: int) -> None:
        assert verdict(DEFAULT, X86_64, 56, flag | 17) == EPERM

    def test_clone_makes_processes_and_threads(self) -> None:
        assert verdict(DEFAULT, X86_64, 56, 17) == ALLOW
        assert verdict(DEFAULT, X86_64, 56, 0x3D0F00) == ALLOW
        assert verdict(DEFAULT, I386, 120, 17) == ALLOW


class TestSockets:
    """CVE-2026-31431: AF_ALG; and AF_VSOCK, which leads to the host of a virtual machine."""

    @pytest.mark.parametrize("domain", [1, 2, 10, 16, 17, 37, 39, 44])
    def test_of_other_families_are_allowed(self, domain: int) -> None:
        assert verdict(DEFAULT, X86_64, 41, domain, 1) == ALLOW

    @pytest.mark.parametrize("domain", [38, 40])
    @pytest.mark.parametrize("above", [0, 1 << 32, 0xFFFFFFFF << 32])
    def test_of_these_are_refused_whatever_the_upper_half_holds(self, domain: int, above: int) -> None:
        assert verdict(DEFAULT, X86_64, 41, above | domain, 1) == EPERM
        assert verdict(DEFAULT, I386, 359, domain, 1) == EPERM


class TestPersonality:
    @pytest.mark.parametrize("value", [0, 8, 0x20000, 0x20008, 0xFFFFFFFF])
    def test_ordinary_ones(self, value: int) -> None:
        assert verdict(DEFAULT, X86_64, 135, value) == ALLOW

    @pytest.mark.parametrize("value", [0x40000, 0x400000, 1])
    def test_not_one_that_weakens_protection(self, value: int) -> None:
        assert verdict(DEFAULT, X86_64, 135, value) == EPERM


class TestCapabilities:
    """Docker's profile opens a call with the capability that it takes."""

    @pytest.mark.parametrize(
        ("number", "capability"),
        [(165, "SYS_ADMIN"), (56, "SYS_ADMIN"), (435, "SYS_ADMIN"), (103, "SYSLOG"), (321, "BPF"), (298, "PERFMON"),
         (175, "SYS_MODULE"), (169, "SYS_BOOT"), (304, "DAC_READ_SEARCH"), (438, "SYS_PTRACE"), (237, "SYS_NICE")],
    )  # fmt: skip
    def test_opens_its_calls(self, number: int, capability: str) -> None:
        opened = seccomp.compile_default((*CAPABILITIES, f"CAP_{capability}"), "x86_64")
        assert verdict(DEFAULT, X86_64, number, 0x10000000) != ALLOW
        assert verdict(opened, X86_64, number, 0x10000000) == ALLOW

    def test_chroot_goes_with_sys_chroot(self) -> None:
        without = seccomp.compile_default([name for name in CAPABILITIES if name != "CAP_SYS_CHROOT"], "x86_64")
        assert verdict(DEFAULT, X86_64, 161) == ALLOW
        assert verdict(without, X86_64, 161) == EPERM

    def test_even_with_all_of_them_some_calls_stay_closed(self) -> None:
        assert verdict(seccomp.compile_default(ADMIN, "x86_64"), X86_64, 425) == EPERM  # io_uring_setup


class TestOtherMachines:
    def test_aarch64(self) -> None:
        program = seccomp.compile_default(CAPABILITIES, "aarch64")
        assert verdict(program, AARCH64, 63) == ALLOW  # read
        assert verdict(program, AARCH64, 40) == EPERM  # mount
        assert verdict(program, AARCH64, 220, 0x10000000) == EPERM  # clone
        assert verdict(program, AARCH64, 198, 38) == EPERM  # socket
        assert verdict(program, X86_64, 0) == seccomp.KILL_PROCESS

    def test_one_without_a_table_is_an_error_and_not_an_open_door(self) -> None:
        with pytest.raises(ValueError, match="riscv64"):
            seccomp.compile_default(CAPABILITIES, "riscv64")

    def test_the_program_fits_the_kernel(self) -> None:
        assert len(seccomp.compile_default(ADMIN, "x86_64")) // 8 <= 4096
