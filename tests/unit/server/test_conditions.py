"""RFC 9110 conditional requests, with digests as entity tags."""

import pytest

from registry.errors import TagConflict, UploadInvalid
from registry.model import Digest
from registry.server.conditions import is_fresh, must_match, precondition_of, range_applies
from registry.server.problems import PreconditionFailed

DIGEST = Digest.of(b"it")
OTHER = Digest.of(b"other")


class TestIfNoneMatch:
    @pytest.mark.parametrize("tags", [f'"{DIGEST}"', f'W/"{DIGEST}"', f'"{OTHER}" , "{DIGEST}"', "*", f"{DIGEST}"])
    def test_that_names_it_means_the_client_has_it(self, tags: str) -> None:
        assert is_fresh({"If-None-Match": tags}, DIGEST)

    @pytest.mark.parametrize("headers", [{}, {"If-None-Match": ""}, {"If-None-Match": f'"{OTHER}"'}])
    def test_that_does_not_means_it_is_sent(self, headers: dict[str, str]) -> None:
        assert not is_fresh(headers, DIGEST)


def test_if_range_of_other_content_sends_all_of_it() -> None:
    assert range_applies({}, DIGEST)
    assert range_applies({"If-Range": f'"{DIGEST}"'}, DIGEST)
    assert not range_applies({"If-Range": f'"{OTHER}"'}, DIGEST)
    assert not range_applies({"If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"}, DIGEST)


class TestIfMatch:
    @pytest.mark.parametrize("tags", [f'"{DIGEST}"', f'"{OTHER}", "{DIGEST}"', "*"])
    def test_that_names_it_lets_the_request_pass(self, tags: str) -> None:
        must_match({"If-Match": tags}, DIGEST)

    @pytest.mark.parametrize("tags", [f'"{OTHER}"', f'W/"{DIGEST}"', '"junk"', ""])
    def test_that_does_not_fails_it(self, tags: str) -> None:
        with pytest.raises(PreconditionFailed):
            is_fresh({"If-Match": tags}, DIGEST)


class TestConditionOfAPush:
    @pytest.mark.parametrize(
        ("headers", "passes_at"),
        [
            ({}, {None, DIGEST, OTHER}),
            ({"If-Match": f'"{DIGEST}"'}, {DIGEST}),
            ({"If-Match": f'"{DIGEST}", "{OTHER}"'}, {DIGEST, OTHER}),
            ({"If-Match": f'W/"{DIGEST}"'}, set()),
            ({"If-Match": '"junk"'}, set()),
            ({"If-Match": "*"}, {DIGEST, OTHER}),
            ({"If-None-Match": "*"}, {None}),
            ({"If-None-Match": f'"{DIGEST}"'}, {None, OTHER}),
            ({"If-None-Match": '"junk"'}, {None, DIGEST, OTHER}),
            ({"If-Match": "*", "If-None-Match": f'W/"{DIGEST}"'}, {OTHER}),
        ],
    )
    def test_says_where_the_tag_may_be(self, headers: dict[str, str], passes_at: set[Digest | None]) -> None:
        def passes(now: Digest | None) -> bool:
            try:
                precondition_of(headers).check("it", now)
            except TagConflict:
                return False
            return True

        assert {now for now in (None, DIGEST, OTHER) if passes(now)} == passes_at

    @pytest.mark.parametrize("headers", [{"If-Match": ""}, {"If-None-Match": " , "}])
    def test_that_can_not_be_read_is_an_error(self, headers: dict[str, str]) -> None:
        with pytest.raises(UploadInvalid):
            precondition_of(headers)
