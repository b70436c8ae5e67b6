"""Headers as others read them, and as a reader must survive them."""

import io
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import LayerError
from builder.layers.compression import Limits
from builder.layers.reader import TarReader
from builder.layers.tarformat import END, Entry, Kind, encode

from .conftest import archive, member

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


class TestReader:
    SAMPLE = archive(
        "d/", ("d/file", "text" * 300), member("l", tarfile.SYMTYPE, linkname="x" * 150),
        member("p", pax_headers={"mtime": "1.5", "SCHILY.xattr.user.a": "b"}), ("z", "end"),
    )  # fmt: skip

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=6), st.integers(1, 3000))
    def test_of_damaged_archives_tells_or_reads_but_never_breaks(
        self, changes: list[tuple[int, int]], chunk: int
    ) -> None:
        data = bytearray(self.SAMPLE)
        for at, value in changes:
            data[at] = value
        try:
            read(bytes(data), chunk)
        except LayerError:
            pass

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=2000))
    def test_of_nonsense_tells(self, data: bytes) -> None:
        try:
            assert read(data) == []
        except LayerError:
            pass

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 2000))
    def test_reads_the_same_in_pieces_of_any_size(self, chunk: int) -> None:
        assert read(self.SAMPLE, chunk) == read(self.SAMPLE, len(self.SAMPLE))
