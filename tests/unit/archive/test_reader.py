"""Headers as others read them, and as a reader must survive them."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.archive.reader import TarReader, starts_archive
from registry.archive.tarformat import END, Entry, Kind, encode
from registry.archive.unpacking import Limits, unpacked
from registry.errors import ArchiveError

NAMES = (
    st.lists(st.binary(min_size=1, max_size=120), min_size=1, max_size=5)
    .map(lambda parts: b"/".join(part.replace(b"/", b"_").replace(b"\0", b"_") for part in parts))
    .filter(lambda name: not name.startswith(b"/"))
)
XATTRS = st.dictionaries(
    st.text("abcdefghij.", min_size=1, max_size=20).map(lambda name: b"user." + name.encode()),
    st.binary(max_size=60),
    max_size=3,
)
ENTRIES = st.builds(
    Entry,
    NAMES,
    st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.FIFO]),
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    st.just(0),
    st.integers(-(2**33), 2**34).map(lambda seconds: seconds * 10**9),
    xattrs=XATTRS,
)


def read(data: bytes, chunk: int = 1000) -> list[Entry]:
    chunks = (data[at : at + chunk] for at in range(0, len(data), chunk))
    return list(TarReader(chunks, Limits()).entries())


class TestEncode:
    @settings(max_examples=200, deadline=None)
    @given(ENTRIES)
    def test_is_read_back_by_ourselves_and_by_tarfile(self, entry: Entry) -> None:
        data = encode(entry) + END
        (ours,) = read(data)
        ours.name = ours.name.removesuffix(b"/")
        assert ours == entry
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
            (theirs,) = tar.getmembers()
        assert theirs.name.encode(errors="surrogateescape") == entry.name.rstrip(b"/")
        assert (theirs.mode, theirs.uid, theirs.gid) == (entry.mode, entry.uid, entry.gid)
        assert theirs.mtime == entry.mtime_ns // 10**9

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**40))
    def test_holds_any_size(self, size: int) -> None:
        header = encode(Entry(b"big", Kind.FILE, size=size))
        info = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict")
        assert info.size == (size if size < 2**33 else 0)
        assert (b" size=%d\n" % size in header) == (size >= 2**33)

    def test_of_an_ordinary_file_is_one_block(self) -> None:
        assert len(encode(Entry(b"a" * 100, Kind.FILE, 0o644))) == 512
        assert len(encode(Entry(b"d" * 100 + b"/" + b"f" * 100, Kind.FILE, 0o644))) == 512


def sample(shape: int) -> bytes:
    """A bit of all, made by Python's own tarfile, which shares no code with ours."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=shape) as archive:
        for name, kind, fields in (
            ("d", tarfile.DIRTYPE, {}),
            ("d/file", tarfile.REGTYPE, {"size": 1200}),
            ("n" * 150, tarfile.SYMTYPE, {"linkname": "x" * 150}),
            ("p", tarfile.REGTYPE, {"pax_headers": {"mtime": "1.5", "SCHILY.xattr.user.a": "b"}}),
            ("z", tarfile.REGTYPE, {"size": 3}),
        ):
            info = tarfile.TarInfo(name)
            info.type = kind
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


SAMPLE = sample(tarfile.PAX_FORMAT)


class TestReader:
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=6), st.integers(1, 3000))
    def test_of_damaged_archives_tells_or_reads_but_never_breaks(
        self, changes: list[tuple[int, int]], chunk: int
    ) -> None:
        data = bytearray(SAMPLE)
        for at, value in changes:
            data[at] = value
        try:
            read(bytes(data), chunk)
        except ArchiveError:
            pass

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=2000))
    def test_of_nonsense_tells(self, data: bytes) -> None:
        try:
            assert read(data) == []
        except ArchiveError:
            pass

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from([SAMPLE, sample(tarfile.GNU_FORMAT)]), st.binary(max_size=1500), st.integers(0, 3000))
    def test_of_archives_overwritten_by_noise_tells_or_reads(self, archive: bytes, noise: bytes, at: int) -> None:
        try:
            read(archive[:at] + noise + archive[at + len(noise) :])
        except ArchiveError:
            pass

    def test_tells_what_to_do_about_every_cut(self) -> None:
        for cut in range(0, len(SAMPLE.rstrip(b"\0")), 100):  # each within an entry
            with pytest.raises(ArchiveError) as caught:
                read(SAMPLE[:cut])
            assert caught.value.hint

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 2000))
    def test_reads_the_same_in_pieces_of_any_size(self, chunk: int) -> None:
        assert read(SAMPLE, chunk) == read(SAMPLE, len(SAMPLE))

    def test_gives_the_content_in_pieces_or_skips_it(self) -> None:
        reader = TarReader(iter([SAMPLE[:2000], SAMPLE[2000:]]), Limits())
        taken = {entry.name: b"".join(reader.pieces()) for entry in reader.entries() if entry.name != b"z"}
        assert taken[b"d/file"] == b"x" * 1200


class _Trickle(io.RawIOBase):
    """A pipe whose other end writes one byte at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 1))


PACKERS = [bytes, gzip.compress, zstandard.compress, bz2.compress, lzma.compress]


class TestUnpacking:
    @pytest.mark.parametrize("pack", PACKERS)
    def test_knows_how_a_stream_is_packed_however_slowly_it_comes(self, pack: Callable[[bytes], bytes]) -> None:
        assert b"".join(unpacked(cast("BinaryIO", _Trickle(pack(SAMPLE))), Limits())) == SAMPLE
        assert starts_archive(io.BytesIO(pack(SAMPLE)))
        assert not starts_archive(io.BytesIO(pack(b"no archive" * 100)))

    @pytest.mark.parametrize("pack", PACKERS[1:])
    def test_reads_what_was_packed_in_parts(self, pack: Callable[[bytes], bytes]) -> None:
        both = pack(b"a" * 1000) + pack(b"b" * 1000)
        assert b"".join(unpacked(io.BytesIO(both), Limits())) == b"a" * 1000 + b"b" * 1000

    @pytest.mark.parametrize("pack", PACKERS[1:])
    def test_tells_what_to_do_about_damage(self, pack: Callable[[bytes], bytes]) -> None:
        packed = pack(SAMPLE)
        for broken in (packed[:-9], packed + b"what is this"):
            with pytest.raises(ArchiveError) as caught:
                list(unpacked(io.BytesIO(broken), Limits()))
            assert caught.value.hint
