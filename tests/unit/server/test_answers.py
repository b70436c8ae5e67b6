"""How answers look on the wire, and which error becomes which status."""

import io
import json

import pytest

from registry.errors import (
    BlobUnknown,
    ChunkOutOfOrder,
    Denied,
    DigestInvalid,
    DiskFull,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    RegistryError,
    SizeInvalid,
    TagConflict,
    Unauthorized,
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registry.server.answers import Answer, FileParts, error_answer, fault_answer
from registry.server.problems import MethodUnsupported, RangeUnsatisfiable
from registry.server.ranges import Span


class TestHead:
    def test_is_a_status_line_and_fields_and_says_the_length(self) -> None:
        head = Answer(201, {"Location": "/v2/x"}, b"12345").head().decode()
        assert head.startswith("HTTP/1.1 201 Created\r\nDate: ")
        assert "\r\nLocation: /v2/x\r\nContent-Length: 5\r\n\r\n" in head
        assert "Docker-Distribution-API-Version: registry/2.0\r\n" in head

    @pytest.mark.parametrize("status", [204, 304])
    def test_of_an_answer_without_a_body_has_no_length(self, status: int) -> None:
        assert b"Content-Length" not in Answer(status).head()

    def test_of_a_head_request_has_the_length_of_the_body_that_a_get_has(self) -> None:
        assert b"Content-Length: 77\r\n" in Answer(200, length=77).head()

    def test_of_parts_of_a_file_counts_what_frames_them(self) -> None:
        parts = FileParts(io.BytesIO(), (Span(0, 10), Span(50, 5)), (b"aa", b"bbb"), b"c")
        assert b"Content-Length: 21\r\n" in Answer(206, {}, parts).head()

    def test_says_when_the_connection_ends(self) -> None:
        assert b"\r\nConnection: close\r\n" in Answer().head(close=True)
        assert b"\r\nConnection: keep-alive\r\n" in Answer().head(keep_alive_1_0=True)

    @pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
    def test_never_lets_stored_text_add_a_line(self, text: str) -> None:
        with pytest.raises(ValueError, match="line break"):
            Answer(200, {"Content-Type": text}).head()


class TestError:
    @pytest.mark.parametrize(
        ("kind", "code", "status"),
        [
            (BlobUnknown, "BLOB_UNKNOWN", 404), (UploadInvalid, "BLOB_UPLOAD_INVALID", 400),
            (ChunkOutOfOrder, "BLOB_UPLOAD_INVALID", 416), (UploadUnknown, "BLOB_UPLOAD_UNKNOWN", 404),
            (DigestInvalid, "DIGEST_INVALID", 400), (ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN", 404),
            (ManifestInvalid, "MANIFEST_INVALID", 400), (ManifestTooLarge, "MANIFEST_INVALID", 413),
            (ManifestUnknown, "MANIFEST_UNKNOWN", 404), (NameInvalid, "NAME_INVALID", 400),
            (NameUnknown, "NAME_UNKNOWN", 404), (SizeInvalid, "SIZE_INVALID", 400),
            (Unauthorized, "UNAUTHORIZED", 401), (Denied, "DENIED", 403), (Unsupported, "UNSUPPORTED", 405),
            (TagConflict, "DENIED", 412), (DiskFull, "UNKNOWN", 507),
        ],
    )  # fmt: skip
    def test_has_the_code_and_status_of_the_specification(
        self, kind: type[RegistryError], code: str, status: int
    ) -> None:
        answer = error_answer(kind("what is wrong", hint="what to do"))
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
        assert isinstance(answer.body, bytes)
        entry = {"code": code, "message": "what is wrong", "detail": "what to do"}
        assert json.loads(answer.body) == {"errors": [entry]}

    def test_of_a_method_lists_the_right_ones(self) -> None:
        assert error_answer(MethodUnsupported("no", allowed=("GET", "PUT"))).headers["Allow"] == "GET, PUT"

    def test_of_a_range_says_how_large_the_blob_is(self) -> None:
        assert error_answer(RangeUnsatisfiable("9-", 5)).headers["Content-Range"] == "bytes */5"

    def test_of_ours_says_nothing_of_its_inside(self) -> None:
        answer = fault_answer()
        assert answer.status == 500
        assert isinstance(answer.body, bytes)
        assert json.loads(answer.body)["errors"][0]["code"] == "UNKNOWN"
