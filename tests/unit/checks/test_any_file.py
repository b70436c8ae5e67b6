"""Checks stand any Dockerfile that can be read, in time that grows with it."""

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.checks.facts import Facts
from builder.checks.walk import check
from builder.checks.words import suggestion
from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError

WORDS = st.sampled_from(
    ["a", "$a", "${a:-$b}", "${a:?x}", "/", ".", "a/", "'", '"', "\\\\", "<<E", "--chmod=644", "--chown=u", "--from=a",
     "--from=1", "--mount=type=cache,target=$a", "--platform=$a", "=", "a=b", "$$", "80/TCP", "1:2", "AS", "as", "\\\n",
     "#", '["a"]', "scratch", "https://x/y.key", "*", "\n# check=skip=all\n", "é", "${a//b/c}"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["FROM", "from", "ARG", "ENV", "LABEL", "RUN", "COPY", "ADD", "WORKDIR", "USER", "VOLUME", "EXPOSE", "CMD", "cmd",
     "ENTRYPOINT", "SHELL", "HEALTHCHECK CMD", "STOPSIGNAL", "ONBUILD", "ONBUILD COPY", "MAINTAINER", "# a"]
)  # fmt: skip
LINES = st.builds(lambda name, words: " ".join([name, *words]), NAMES, st.lists(WORDS, min_size=1, max_size=5))


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=8), st.booleans())
def test_a_report_comes_out(lines: list[str], ignoring: bool) -> None:
    text = "\n".join(["FROM scratch AS a", *lines, "E", ""])
    try:
        dockerfile = parse_dockerfile(text)
    except DockerfileError:
        return
    report = check(dockerfile, Facts(all_stages=ignoring))
    last = text.count("\n") + 1
    assert all(1 <= one.at.line <= max(one.at.end_line, one.at.line) <= last for one in report.findings)
    assert [one.at.line for one in report.findings] == sorted(one.at.line for one in report.findings)


@given(st.text("ab_", max_size=8), st.text("ab_", max_size=8))
def test_a_suggestion_is_at_most_two_letters_away(word: str, other: str) -> None:
    far = _distance(word, other)
    assert suggestion(word, [other]) == (other if 0 < far < 3 else "")


@cache
def _distance(one: str, other: str) -> int:
    """Levenshtein's, as the books have it."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        _distance(one[1:], other) + 1,
        _distance(one, other[1:]) + 1,
        _distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


class TestLargeFiles:
    """Each would take minutes if something were done for every pair of them; the time limit of a test is far below."""

    def test_names_that_are_nearly_alike(self) -> None:
        names = [f"{'x' * 80}{number}" for number in range(300)]
        text = "FROM scratch\n" + "".join(f"ENV {name}=1\n" for name in names)
        text += "".join(f"LABEL a{number}=${{{name}y}}\n" for number, name in enumerate(names))
        assert len(check(parse_dockerfile(text)).findings) == 300

    def test_a_name_that_nobody_typed(self) -> None:
        assert suggestion("x" * 60_000, ["x" * 59_999]) == ""

    def test_a_file_name_that_no_file_has(self) -> None:
        text = f"FROM scratch\nCOPY {'privkey' * 9_000}.pub /x\n"
        assert len(check(parse_dockerfile(text)).findings) == 1

    def test_a_text_that_almost_has_a_secret_everywhere(self) -> None:
        body = "a://b:" * 8_000 + "-----BEGIN A A A " * 2_000 + "AKIA0" * 4_000
        lines = "\n".join(body[at : at + 60_000] for at in range(0, len(body), 60_000))
        assert check(parse_dockerfile(f"FROM scratch\nCOPY <<E /x\n{lines}\nE\n")).findings == ()
