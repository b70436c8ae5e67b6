"""image-spec descriptor.md, "Digests"."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DigestInvalid
from registry.model import Digest
from registry.model.digest import chain_ids, empty_digest, new_hasher
from tests.unit.model import strategies as some

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(some.digests)
def test_what_is_written_reads_the_same(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@given(st.binary())
def test_names_exactly_these_bytes(content: bytes) -> None:
    assert Digest.of(content).encoded == hashlib.sha256(content).hexdigest()
    assert Digest.of(content, "sha512").encoded == hashlib.sha512(content).hexdigest()
    hasher = new_hasher("sha256")
    hasher.update(content)
    assert Digest("sha256", hasher.hexdigest()) == Digest.of(content)


@given(st.text())
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@given(st.text(string.hexdigits + "./: \n", max_size=70))
def test_so_is_what_looks_much_like_one(encoded: str) -> None:
    if len(encoded) == 64 and set(encoded) <= set("0123456789abcdef"):
        return
    with pytest.raises(DigestInvalid):
        Digest.parse(f"sha256:{encoded}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY,
        f"sha256:{EMPTY.upper()}",
        f"sha256:{EMPTY}\n",
        f" sha256:{EMPTY}",
        f"SHA256:{EMPTY}",
        f"sha256:sha256:{EMPTY}",
        f"sha512:{EMPTY}",
        f"md5:{EMPTY[:32]}",
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:../../{EMPTY[6:]}",
        f"sha256:{'٣' * 64}",
        f"sha256+b64:{EMPTY}",
    ],
)
def test_near_misses(text: str) -> None:
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse(text)
    assert caught.value.hint


def test_a_long_wrong_one_is_not_repeated_in_full() -> None:
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse("x" * 10**6)
    assert len(str(caught.value)) < 300


def test_unknown_algorithms_are_refused() -> None:
    with pytest.raises(DigestInvalid, match="md5"):
        new_hasher("md5")


def test_short_and_empty() -> None:
    assert str(empty_digest()) == f"sha256:{EMPTY}"
    assert empty_digest().short == EMPTY[:12]


class TestChainIds:
    """image-spec config.md, "Layer ChainID"."""

    def test_of_one_layer_is_its_diff_id(self) -> None:
        assert chain_ids([empty_digest()]) == [empty_digest()]

    def test_of_more_is_the_digest_of_what_is_below_and_what_is_on_top(self) -> None:
        first, second, third = (Digest.of(text) for text in (b"1", b"2", b"3"))
        below = Digest.of(f"{first} {second}".encode())
        assert chain_ids([first, second, third]) == [first, below, Digest.of(f"{below} {third}".encode())]

    def test_of_none_is_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match="no chain ID"):
            chain_ids([])
