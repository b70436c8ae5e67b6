"""System call filters (seccomp(2)): docker's default profile as a classic BPF program.

Gives:    compile_default(): bytes for calls.seccomp_load().
Promises: what the profile does not name fails with EPERM; clone3 fails with ENOSYS, so that the C library falls back to
          clone, whose flags can be seen; an architecture that is not this machine's kills the process.

The profile is a table (seccomp.tbl). A condition is "always", or words of which one must hold: the name of a capability
that the container has in its bounding set, "arguments" (see _ARGUMENTS), "ENOSYS" (that error in place of EPERM).
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from struct import pack
from typing import NamedTuple

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

_X32_BIT = 0x40000000
_ARCHES = {  # by machine: the kernel's AUDIT_ARCH number, and the columns of the table with what is added to numbers
    "x86_64": ((0xC000003E, ((0, 0), (2, _X32_BIT))), (0x40000003, ((1, 0),))),
    "aarch64": ((0xC00000B7, ((3, 0),)),),
}

# Offsets in struct seccomp_data.
_NR, _ARCH, _ARG0 = 0, 4, 16

# Classic BPF, as linux/bpf_common.h composes it.
_LOAD, _JUMP, _JEQ, _JGT, _JGE, _JSET, _RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06
_FAR = 255  # a conditional jump reaches no farther

_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
_AF_ALG, _AF_VSOCK = 38, 40


class Instruction(NamedTuple):
    code: int
    jump_true: int
    jump_false: int
    value: int


def _allow_if_none_of(flags: int) -> list[Instruction]:
    return [
        Instruction(_LOAD, 0, 0, _ARG0),
        Instruction(_JSET, 1, 0, flags),
        Instruction(_RET, 0, 0, ALLOW),
        Instruction(_RET, 0, 0, _ERRNO | errno.EPERM),
    ]


def _allow_values(values: Sequence[int]) -> list[Instruction]:
    tests = [Instruction(_JEQ, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [
        Instruction(_LOAD, 0, 0, _ARG0),
        *tests,
        Instruction(_RET, 0, 0, _ERRNO | errno.EPERM),
        Instruction(_RET, 0, 0, ALLOW),
    ]


def _refuse_values(values: Sequence[int]) -> list[Instruction]:
    tests = [Instruction(_JEQ, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [
        Instruction(_LOAD, 0, 0, _ARG0),
        *tests,
        Instruction(_RET, 0, 0, ALLOW),
        Instruction(_RET, 0, 0, _ERRNO | errno.EPERM),
    ]


# Each looks at the lower half of its argument only, for the kernel takes an int there: a test of all 64 bits would let
# 2**32 + AF_ALG pass, and the kernel would open an AF_ALG socket.
_ARGUMENTS = {
    "clone": _allow_if_none_of(_NAMESPACE_FLAGS),
    "personality": _allow_values((0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)),
    "socket": _refuse_values((_AF_ALG, _AF_VSOCK)),
}

_Leaf = list[Instruction]


def compile_default(capabilities: Iterable[str], machine: str | None = None) -> bytes:
    """The default profile for a container with these capabilities (full names) in its bounding set.

    ValueError: there is no table for this machine.
    """
    return _compiled(frozenset(capabilities), machine or os.uname().machine)


@lru_cache(maxsize=32)
def _compiled(capabilities: frozenset[str], machine: str) -> bytes:
    if machine not in _ARCHES:
        raise ValueError(f"no seccomp profile for {machine}")
    program: list[Instruction] = [Instruction(_LOAD, 0, 0, _ARCH)]
    rows = [(numbers, _action(name, condition, capabilities)) for name, condition, *numbers in _table()]
    for arch, columns in _ARCHES[machine]:
        calls: dict[int, _Leaf] = {}
        for numbers, leaf in rows:
            for column, offset in columns:
                if leaf and numbers[column] != "-":
                    calls[int(numbers[column]) + offset] = leaf
        section = [Instruction(_LOAD, 0, 0, _NR), *_search(_intervals(calls))]
        program += [Instruction(_JEQ, 1, 0, arch), Instruction(_JUMP, 0, 0, len(section)), *section]
    program.append(Instruction(_RET, 0, 0, KILL_PROCESS))
    return b"".join(pack("=HBBI", *instruction) for instruction in program)


def _action(name: str, condition: str, capabilities: frozenset[str]) -> _Leaf | None:
    for word in condition.split("|"):
        if word == "always" or f"CAP_{word}" in capabilities:
            return _ALLOWED
        if word == "arguments":
            return _ARGUMENTS[name]
        if word == "ENOSYS":
            return [Instruction(_RET, 0, 0, _ERRNO | errno.ENOSYS)]
    return None


_ALLOWED = [Instruction(_RET, 0, 0, ALLOW)]
_REFUSED = [Instruction(_RET, 0, 0, _ERRNO | errno.EPERM)]


def _table() -> Iterator[list[str]]:
    with open(os.path.join(os.path.dirname(__file__), "seccomp.tbl")) as file:
        for line in file:
            if not line.startswith("#"):
                yield line.split()


def _intervals(calls: dict[int, _Leaf]) -> list[tuple[int, _Leaf]]:
    """Numbers with one fate as one interval, each by its first number; together they cover all numbers."""
    found: list[tuple[int, _Leaf]] = [(0, _REFUSED)]
    for number in sorted(calls):
        if found[-1][0] == number:
            found.pop()
        if not found or found[-1][1] != calls[number]:
            found.append((number, calls[number]))
        if number + 1 not in calls:
            found.append((number + 1, _REFUSED))
    return found


def _search(intervals: Sequence[tuple[int, _Leaf]]) -> list[Instruction]:
    """A binary search by number; the accumulator holds it."""
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    below, above = _search(intervals[:middle]), _search(intervals[middle:])
    start = intervals[middle][0]
    if len(below) <= _FAR:
        return [Instruction(_JGE, len(below), 0, start), *below, *above]
    return [Instruction(_JGE, 0, 1, start), Instruction(_JUMP, 0, 0, len(below)), *below, *above]
