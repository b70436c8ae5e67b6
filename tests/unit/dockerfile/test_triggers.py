"""ONBUILD triggers out of the config of a base image."""

import pytest

from builder.dockerfile import parse_trigger
from builder.dockerfile.instructions import Copy, DockerfileError, Position, Run

AT = Position("Dockerfile", 7, 1, 7)


def test_stands_at_the_from_that_brought_it_in() -> None:
    found = parse_trigger("COPY --from=x . /src", AT)
    assert isinstance(found, Copy)
    assert (found.at, found.sources, found.destination) == (AT, (".",), "/src")


def test_heredocs_survive_the_way_through_the_config() -> None:
    found = parse_trigger("RUN <<EOF\necho x\nEOF", AT)
    assert isinstance(found, Run)
    assert found.heredocs[0].content == "echo x\n"


def test_a_comment_that_looks_like_a_directive_is_none() -> None:
    assert parse_trigger("# escape=`\nRUN a\\\nb", AT).source == "RUN ab"


@pytest.mark.parametrize("text", ["FROM x", "ONBUILD RUN x", "RUN a\nRUN b", "COPPY a b", "", "RUN <<EOF\nx"])
def test_what_is_no_trigger_is_told_at_the_from(text: str) -> None:
    with pytest.raises(DockerfileError, match=r"^Dockerfile:7:1: .*ONBUILD trigger") as caught:
        parse_trigger(text, AT)
    assert caught.value.at == AT
