"""Which repository `?ns=` means, and the form of warnings."""

import pytest

from registry.errors import NameInvalid
from registry.server.mirroring import repository_of
from registry.server.warnings import MAX_BYTES, warning_header


class TestSource:
    @pytest.mark.parametrize(
        ("source", "name", "found"),
        [
            ("docker.io", "library/debian", "debian"),
            ("index.docker.io", "library/debian", "debian"),
            ("docker.io", "team/app", "team/app"),
            ("quay.io", "team/app", "quay.io/team/app"),
            ("localhost:5000", "app", "localhost:5000/app"),
        ],
    )
    def test_leads_to_where_a_pull_has_put_it(self, source: str, name: str, found: str) -> None:
        assert repository_of(source, name) == found

    @pytest.mark.parametrize("source", ["", "docker", "docker.io/library", "a b.io", "..", "x.io?", "@x.io", "é.io"])
    def test_that_is_no_registry_is_refused(self, source: str) -> None:
        with pytest.raises(NameInvalid):
            repository_of(source, "app")


class TestWarning:
    def test_has_code_299_no_agent_and_quoted_text(self) -> None:
        assert warning_header(['a "b" \\', "c\r\nX: y"]) == {"Warning": '299 - "a \\"b\\" \\\\", 299 - "c??X: y"'}

    def test_is_left_out_when_there_is_none(self) -> None:
        assert warning_header([]) == {}

    def test_never_grows_beyond_what_clients_take(self) -> None:
        assert len(warning_header(["x" * 1000] * 10)["Warning"]) <= MAX_BYTES
