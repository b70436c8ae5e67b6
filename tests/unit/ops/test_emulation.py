"""Which foreign programs the kernel runs: the decision over the text of binfmt_misc."""

import pytest

from builder.ops.emulation import find_handler

ARM64 = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
S390X = """enabled
interpreter /usr/bin/qemu-s390x-static
flags: F
offset 0
magic 7f454c4602020100000000000000000000020016
mask ffffffffffffff00fffffffffffffffffffeffff
"""
JAVA = "enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic cafebabe\n"
BY_NAME = "enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n"


def test_a_handler_is_known_by_the_header_that_it_looks_for_and_not_by_its_name() -> None:
    entries = {"any-name": ARM64, "other": S390X, "jexec": JAVA, "wine": BY_NAME}
    found = {name: find_handler(name, entries) for name in ("arm64", "s390x", "riscv64", "arm", "ppc64le")}
    assert {name: handler.name if handler else None for name, handler in found.items()} == {
        "arm64": "any-name", "s390x": "other", "riscv64": None, "arm": None, "ppc64le": None,
    }  # fmt: skip


def test_only_a_handler_opened_at_registration_is_there_in_every_root() -> None:
    opened, by_path = find_handler("arm64", {"a": ARM64}), find_handler("arm64", {"a": ARM64.replace("POCF", "OC")})
    assert opened is not None
    assert opened.anywhere
    assert by_path is not None
    assert not by_path.anywhere
    assert by_path.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"


def test_of_two_the_one_that_is_there_in_every_root_is_chosen() -> None:
    found = find_handler("arm64", {"a": ARM64.replace("POCF", "OC"), "b": ARM64})
    assert found is not None
    assert found.name == "b"


@pytest.mark.parametrize("entries", [{}, {"a": ARM64.replace("enabled", "disabled")}, {"a": ""}, {"a": "enabled\n"}])
def test_a_handler_that_is_off_or_makes_no_sense_is_none(entries: dict[str, str]) -> None:
    assert find_handler("arm64", entries) is None


def test_an_unknown_architecture_has_none() -> None:
    assert find_handler("z80", {"a": ARM64, "b": S390X}) is None
