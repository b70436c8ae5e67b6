"""RFC 9110 "Range" for reading, distribution-spec Content-Range for writing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ChunkOutOfOrder, UploadInvalid
from registry.server.problems import RangeUnsatisfiable
from registry.server.ranges import MAX_RANGES, Span, check_chunk, part_heads, received, spans_of


class TestOneRange:
    @pytest.mark.parametrize(
        ("header", "span"),
        [
            ("bytes=0-0", Span(0, 1)),
            ("bytes=500-1499", Span(500, 1000)),
            ("bytes=500-", Span(500, 1548)),
            ("bytes=-500", Span(1548, 500)),
            ("bytes=-5000", Span(0, 2048)),
            ("bytes=2000-5000", Span(2000, 48)),
            ("bytes= 1 ", None),
            ("Bytes=1-2", Span(1, 2)),
            ("bytes=0-99999999999999999", Span(0, 2048)),
        ],
    )
    def test_of_a_blob_of_2048_bytes(self, header: str, span: Span | None) -> None:
        assert spans_of(header, 2048) == (None if span is None else (span,))

    @pytest.mark.parametrize(
        "header", ["bytes=2048-", "bytes=500-0", "bytes=-0", "bytes=9999-10000", "bytes=5-4,9000-"]
    )
    def test_without_a_byte_in_it_can_not_be_satisfied(self, header: str) -> None:
        with pytest.raises(RangeUnsatisfiable) as caught:
            spans_of(header, 2048)
        assert caught.value.size == 2048

    @pytest.mark.parametrize(
        "header", ["lines=1-2", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1-2-3", "bytes=1", "bytes=0x1-2",
                   "bytes=٣-٤", "bytes=1-" + "9" * 5000]
    )  # fmt: skip
    def test_that_is_malformed_is_ignored(self, header: str) -> None:
        assert spans_of(header, 2048) is None

    @pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
    def test_of_an_empty_blob_is_ignored(self, header: str) -> None:
        assert spans_of(header, 0) is None


class TestSeveralRanges:
    def test_keep_the_order_of_the_request(self) -> None:
        assert spans_of("bytes=100-199, 0-9", 2048) == (Span(100, 100), Span(0, 10))

    def test_that_touch_stay_apart_because_podman_counts_the_parts(self) -> None:
        assert spans_of("bytes=0-9,10-19,21-30", 2048) == (Span(0, 10), Span(10, 10), Span(21, 10))

    def test_that_overlap_are_joined(self) -> None:
        assert spans_of("bytes=50-99,0-59,200-300", 2048) == (Span(0, 100), Span(200, 101))

    def test_beyond_the_end_are_left_out(self) -> None:
        assert spans_of("bytes=0-9,5000-6000", 2048) == (Span(0, 10),)

    def test_as_many_as_podman_asks_for_are_served(self) -> None:
        header = "bytes=" + ",".join(f"{at}-{at + 1}" for at in range(0, 4096, 4))
        assert len(spans_of(header, 4096) or ()) == 1024

    def test_beyond_the_cap_the_whole_blob_is_sent(self) -> None:
        header = "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 2 * MAX_RANGES + 2, 2))
        assert spans_of(header, 10_000) is None

    @given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120)), min_size=1, max_size=20), st.integers(1, 100))
    def test_never_send_more_than_the_blob_nor_a_byte_outside_it(self, pairs: list[tuple[int, int]], size: int) -> None:
        try:
            spans = spans_of("bytes=" + ",".join(f"{first}-{last}" for first, last in pairs), size)
        except RangeUnsatisfiable:
            assert all(last < first or first >= size for first, last in pairs)
            return
        sent = [at for span in spans or () for at in range(span.offset, span.offset + span.length)]
        wanted = {at for first, last in pairs for at in range(first, min(last, size - 1) + 1)}
        assert set(sent) == wanted
        assert len(sent) == len(wanted) <= size

    def test_frame_their_parts(self) -> None:
        heads, tail = part_heads([Span(0, 2), Span(5, 1)], 9, "XX", "application/octet-stream")
        assert heads[1] == b"\r\n--XX\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 5-5/9\r\n\r\n"
        assert tail == b"\r\n--XX--\r\n"


class TestChunk:
    def test_that_continues_is_welcome(self) -> None:
        check_chunk(100, "100-199", 100)
        check_chunk(0, "0-0", None)

    @pytest.mark.parametrize("claimed", ["0-99", "101-200"])
    def test_that_starts_elsewhere_is_out_of_order(self, claimed: str) -> None:
        with pytest.raises(ChunkOutOfOrder, match="stands at byte 100"):
            check_chunk(100, claimed, 100)

    @pytest.mark.parametrize("claimed", ["", "100", "-100", "100-", "a-b", "199-100", "100-199/300", "100--199"])
    def test_with_a_malformed_range_is_refused(self, claimed: str) -> None:
        with pytest.raises(UploadInvalid):
            check_chunk(100, claimed, 100)

    def test_of_another_length_than_claimed_is_refused(self) -> None:
        with pytest.raises(UploadInvalid, match="has 5"):
            check_chunk(100, "100-199", 5)


class TestProgress:
    @pytest.mark.parametrize(("size", "said"), [(0, "0-0"), (1, "0-0"), (1024, "0-1023")])
    def test_is_said_as_an_inclusive_range(self, size: int, said: str) -> None:
        assert received(size) == said
