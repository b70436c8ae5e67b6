"""RFC 9110 conditional requests, with digests as entity tags."""

import pytest

from registry.errors import UploadInvalid
from registry.model import Digest
from registry.server.conditions import is_fresh, range_applies, tag_conditions

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


class TestConditionOfAPush:
    def test_is_none_by_default(self) -> None:
        assert tag_conditions({}) == (None, False)

    def test_names_where_the_tag_must_be(self) -> None:
        assert tag_conditions({"If-Match": f'"{DIGEST}"'}) == (DIGEST, False)

    def test_or_that_it_must_be_new(self) -> None:
        assert tag_conditions({"If-None-Match": "*"}) == (None, True)

    @pytest.mark.parametrize(
        "headers",
        [{"If-Match": "*"}, {"If-Match": ""}, {"If-Match": '"a", "b"'}, {"If-None-Match": f'"{DIGEST}"'}],
    )
    def test_that_can_not_be_checked_is_an_error(self, headers: dict[str, str]) -> None:
        with pytest.raises(UploadInvalid):
            tag_conditions(headers)
