"""Which processors' programs this kernel runs: its own, and those for which binfmt_misc has a handler.

Gives:    check_runnable(), for a step about to run; find_handler(), the decision over binfmt_misc's text (pure).
Source:   linux Documentation/admin-guide/binfmt-misc.rst; elf(5) for the header that handlers look at.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from builder.errors import BuilderError
from registry.model import Platform
from registry.model.platform import native

_FOLDER = "/proc/sys/fs/binfmt_misc"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OWN_32_BIT = {("amd64", "386"), ("arm64", "arm")}
# by the name that GOARCH has for it: class (1: 32 bits, 2: 64), byte order (1: little, 2: big), e_machine
_MACHINES = {
    "386": (1, 1, 3), "amd64": (2, 1, 62), "arm": (1, 1, 40), "arm64": (2, 1, 183), "loong64": (2, 1, 258),
    "mips": (1, 2, 8), "mipsle": (1, 1, 8), "mips64": (2, 2, 8), "mips64le": (2, 1, 8), "ppc64": (2, 2, 21),
    "ppc64le": (2, 1, 21), "riscv64": (2, 1, 243), "s390x": (2, 2, 22),
}  # fmt: skip
_HEADER = 64  # bytes of an ELF header of either class that we make up; what is not set is 0
_EXECUTABLE = 2  # ET_EXEC


@dataclass(frozen=True, slots=True)
class Handler:
    """An interpreter for foreign programs; `anywhere`: it was opened at registration, so every root has it."""

    name: str
    interpreter: str
    anywhere: bool


def find_handler(architecture: str, entries: Mapping[str, str]) -> Handler | None:
    """The handler for an architecture's programs.

    Args:
        architecture: as GOARCH has it.
        entries: the text of each entry of binfmt_misc, by its name.
    """
    header = _header(architecture)
    found = [handler for name, text in sorted(entries.items()) if (handler := _matching(name, text, header))]
    return next((handler for handler in found if handler.anywhere), found[0] if found else None)


def _header(architecture: str) -> bytes:
    bits, order, machine = _MACHINES.get(architecture, (0, 0, 0))
    start = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    return (start + struct.pack("<HH" if order == 1 else ">HH", _EXECUTABLE, machine)).ljust(_HEADER, b"\0")


def _matching(name: str, text: str, header: bytes) -> Handler | None:
    lines = text.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines)
    try:
        offset, magic = int(fields["offset"]), bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
    except (KeyError, ValueError):  # by a file name's extension, or the control files
        return None
    seen = header[offset : offset + len(magic)]
    if lines[0] != "enabled" or len(seen) < len(magic):
        return None
    if any((here ^ wanted) & bits for here, wanted, bits in zip(seen, magic, mask, strict=False)):
        return None
    return Handler(name, fields.get("interpreter", ""), "F" in fields.get("flags:", ""))


def check_runnable(platform: str) -> None:
    """Raises BuilderError: a program for `platform` can't run here, and how that can be changed."""
    wanted = Platform.parse(platform)
    own = native().architecture
    if wanted.architecture == own or (own, wanted.architecture) in _OWN_32_BIT:
        return
    handler = find_handler(wanted.architecture, read_entries())
    if handler is None:
        raise BuilderError(
            f"this machine ({native()}) can't run programs for {platform}",
            hint=(
                "register an emulator: apt-get install qemu-user-static binfmt-support (Debian, Ubuntu), or "
                f"docker run --privileged --rm tonistiigi/binfmt --install {wanted.architecture}"
            ),
        )
    if not handler.anywhere:
        raise BuilderError(
            f"the emulator for {platform}, {handler.interpreter}, is not to be had inside of a step",
            hint=f"register it with the flag F (fix binary): /proc/sys/fs/binfmt_misc/{handler.name} has none",
        )


def read_entries() -> dict[str, str]:
    """The text of each entry of binfmt_misc, mounted or not; none if the kernel does not have it."""
    try:
        folder = os.open(_FOLDER, _DIRECTORY) if os.path.exists(f"{_FOLDER}/status") else _unattached()
    except OSError:
        return {}
    try:
        return {name: _read(name, folder) for name in os.listdir(folder) if name not in {"register", "status"}}
    finally:
        os.close(folder)


def _unattached() -> int:
    """The file system, mounted for us alone and nowhere to be seen."""
    from runner.kernel.mounts import filesystem

    mount = filesystem("binfmt_misc")
    try:
        return os.open(".", _DIRECTORY, dir_fd=mount)
    finally:
        os.close(mount)


def _read(name: str, folder: int) -> str:
    try:
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), encoding="utf-8") as file:
            return file.read()
    except OSError:  # unregistered meanwhile
        return ""
