"""distribution-spec "Listing Tags": n, last, Link."""

import pytest

from registry.server.pages import MAX_PAGE, Page, next_link, page_of
from registry.server.problems import PageInvalid


class TestPage:
    def test_without_parameters_is_the_whole_list(self) -> None:
        assert page_of({}) == Page(None, "")

    def test_starts_after_last_even_without_n(self) -> None:
        assert page_of({"last": "v1"}) == Page(None, "v1")

    def test_of_zero_entries_is_legal(self) -> None:
        assert page_of({"n": "0"}) == Page(0, "")

    def test_is_never_larger_than_the_cap(self) -> None:
        """CVE-2023-2253: the client's number is no reason to allocate."""
        assert page_of({"n": str(2**31)}).limit == MAX_PAGE

    @pytest.mark.parametrize("n", ["-1", "abc", "1.5", "0x10", "٣", "1" * 19, " 1"])
    def test_size_must_be_a_number(self, n: str) -> None:
        with pytest.raises(PageInvalid):
            page_of({"n": n})


def test_link_leaves_out_what_is_not_set_and_encodes_the_rest() -> None:
    link = next_link("/v2/a/tags/list", n=2, last="a b", artifactType=None)
    assert link == '</v2/a/tags/list?n=2&last=a+b>; rel="next"'
