"""Byte ranges, of blobs that are read (RFC 9110 "Range") and of chunks that are written (distribution-spec). Pure.

Positions count from 0. Requests and answers name both ends of a range; a Span here has an offset and a length.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from registry.errors import ChunkOutOfOrder, UploadInvalid
from registry.server.problems import RangeUnsatisfiable

MAX_RANGES = 2048  # podman asks for up to 1024 chunks of a zstd:chunked layer at once
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})")
_MAX_DIGITS = 19  # more than any file's size has; bounds the cost of int()


class Span(NamedTuple):
    offset: int
    length: int

    def content_range(self, size: int) -> str:
        """The value of Content-Range when the blob has `size` bytes in all."""
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{size}"


def spans_of(header: str, size: int) -> tuple[Span, ...] | None:
    """Read a Range header for a blob of `size` bytes.

    Returns:
        The parts to send, in the order asked; None: ignore the header and send everything.

    Raises:
        RangeUnsatisfiable: nothing that is asked for exists. Also for a range that ends before it starts, as the
            conformance suite wants; RFC 9110 would ignore it.
    """
    unit, equals, wanted = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals or size == 0:
        return (
            None  # an empty blob has no ranges, yet clients that always send one must get it: 200, as Go's servers do
        )
    asked = wanted.split(",", MAX_RANGES)
    if len(asked) > MAX_RANGES:
        return None
    spans = []
    for one in asked:
        match = _RANGE.fullmatch(one.strip())
        if match is None or match[0] == "-" or len(match[0]) > 2 * _MAX_DIGITS + 1:
            return None
        if (span := _span(match[1], match[2], size)) is not None:
            spans.append(span)
    if not spans:
        raise RangeUnsatisfiable(wanted, size)
    merged = _without_overlap(spans)
    # Asking for more bytes than there are only makes work: RFC 9110 "Range" allows to send the whole instead.
    return merged if sum(span.length for span in merged) <= size else None


def _span(first: str, last: str, size: int) -> Span | None:
    """One `first-last`, `first-` or `-count`; None when no byte of it exists."""
    if not first:
        count = min(int(last), size)
        return Span(size - count, count) if count else None
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    return Span(start, end - start + 1) if start <= end else None


def _without_overlap(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Join ranges that overlap, which only an attacker sends.

    Neighbours with a small gap stay apart although RFC 9110 allows to join them: podman pairs the parts of the answer
    with what it asked by their position alone.
    """
    in_order = sorted(spans)
    if all(left.offset + left.length <= right.offset for left, right in pairwise(in_order)):
        return tuple(spans)
    joined = [in_order[0]]
    for span in in_order[1:]:
        top = joined[-1]
        if span.offset < top.offset + top.length:
            joined[-1] = Span(top.offset, max(top.length, span.offset + span.length - top.offset))
        else:
            joined.append(span)
    return tuple(joined)


def part_heads(spans: Sequence[Span], size: int, boundary: str, media_type: str) -> tuple[list[bytes], bytes]:
    """What stands before each part of a multipart/byteranges body, and what closes it (RFC 9110, 14.6)."""
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {span.content_range(size)}\r\n\r\n".encode()
        for span in spans
    ]
    return heads, f"\r\n--{boundary}--\r\n".encode()


def check_chunk(stands_at: int, content_range: str, length: int | None) -> None:
    """Refuse a chunk that does not continue the upload.

    Args:
        stands_at: bytes that the upload has.
        content_range: the chunk's header, `first-last`.
        length: Content-Length of the chunk; None when it comes without.

    Raises:
        ChunkOutOfOrder: it starts elsewhere. UploadInvalid: the header is malformed or contradicts `length`.
    """
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise UploadInvalid(f"not a chunk's range: {content_range[:60]!r}", hint="write Content-Range: first-last")
    first, last = int(match[1]), int(match[2])
    if first != stands_at:
        raise ChunkOutOfOrder(
            f"upload stands at byte {stands_at}, the chunk starts at {first}",
            hint="ask for the upload's status (GET) and go on from there",
        )
    if length is not None and last - first + 1 != length:
        raise UploadInvalid(f"chunk claims bytes {content_range[:60]} but has {length}")


def received(size: int) -> str:
    """The Range header of an upload that has `size` bytes; an empty one says 0-0 too, as docker expects."""
    return f"0-{max(size - 1, 0)}"
