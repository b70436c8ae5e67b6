"""Device rules of control groups version 2: an eBPF program in the place of version 1's devices.allow file.

Promises: what no rule allows is denied (EPERM). A rule allows only what it names in full: opening for reading and
writing needs one rule with both, as in version 1.
"""

import ctypes
import os
from collections.abc import Sequence
from struct import pack
from typing import NamedTuple

from runner.kernel import calls

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2

# What the kernel asks: struct bpf_cgroup_dev_ctx.
_ACCESS = {"m": 1, "r": 2, "w": 4}
_KIND = {"b": 1, "c": 2}

# eBPF: load a word, and, shift right, move, compare (all of 32 bits), exit.
_LOAD, _AND, _SHIFT, _MOVE, _MOVE_FROM, _IF_NOT, _EXIT = 0x61, 0x54, 0x74, 0xB4, 0xBC, 0x56, 0x95


class DeviceRule(NamedTuple):
    kind: str  # c, b
    major: int  # negative: any
    minor: int
    access: str  # of r, w, m


def program(rules: Sequence[DeviceRule]) -> bytes:
    """The rules as a program. Registers: 2 kind, 3 access, 4 major, 5 minor of the device that is asked for."""
    code = [
        _instruction(_LOAD, 2, 1, 0), _instruction(_MOVE_FROM, 3, 2), _instruction(_AND, 2, value=0xFFFF),
        _instruction(_SHIFT, 3, value=16), _instruction(_LOAD, 4, 1, 4), _instruction(_LOAD, 5, 1, 8),
    ]  # fmt: skip
    for rule in rules:
        code += _rule(rule)
    code += [_instruction(_MOVE, 0, value=0), _instruction(_EXIT)]
    return b"".join(code)


def attach(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Put the rules on a group of version 2; they go with it. Raises OSError."""
    loaded = _load(program(rules))
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            calls.bpf(_PROG_ATTACH, pack("=4I", group, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(group)
    finally:
        os.close(loaded)


def _rule(rule: DeviceRule) -> list[bytes]:
    allowed = sum(_ACCESS[letter] for letter in rule.access)
    tests = [(2, _KIND[rule.kind])]
    tests += [(4, rule.major)] if rule.major >= 0 else []
    tests += [(5, rule.minor)] if rule.minor >= 0 else []
    # each test leaps over what follows it: the other tests, three instructions for the access, two that allow
    last = len(tests) - 1
    code = [_instruction(_IF_NOT, register, 0, last - at + 5, value) for at, (register, value) in enumerate(tests)]
    code += [
        _instruction(_MOVE_FROM, 1, 3),
        _instruction(_AND, 1, value=7 & ~allowed),
        _instruction(_IF_NOT, 1, 0, 2, 0),
    ]
    return [*code, _instruction(_MOVE, 0, value=1), _instruction(_EXIT)]


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return pack("=BBhi", code, target | source << 4, offset, value)


def _load(code: bytes) -> int:
    text, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    places = (ctypes.addressof(text), ctypes.addressof(licence))
    return calls.bpf(_PROG_LOAD, pack("=IIQQIIQII", _TYPE_CGROUP_DEVICE, len(code) // 8, *places, 0, 0, 0, 0, 0))
