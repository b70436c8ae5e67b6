"""The rules that are our own: they guess, so what they must not say is tested as much as what they say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.checks.facts import BaseFacts, Facts
from builder.checks.findings import Finding
from builder.checks.rules import RULES

Found = Callable[..., list[Finding]]
PAGES = Path(__file__).parents[3]
OURS = [rule for rule in RULES.values() if rule.ours]


class Rule:
    rule = ""

    def of(self, found: Found, text: str, given: Facts | None = None) -> list[int]:
        """The lines of which the rule speaks."""
        assert self.rule in RULES
        return [one.at.line for one in found(text, given or Facts(all_stages=True)) if one.rule == self.rule]

    def silenced(self, found: Found, text: str) -> bool:
        above = "".join(f"# check=skip={self.rule}\n{line}\n" for line in text.splitlines() if "<<" not in text)
        return not self.of(found, f"# check=skip={self.rule}\n{text}") and not (above and self.of(found, above))


class TestUnknownOwner(Rule):
    rule = "PybuildUnknownOwner"

    @pytest.mark.parametrize(
        "text",
        [
            "FROM scratch\nCOPY --chown=app a /\n",
            "FROM scratch\nADD --chown=0:www a /\n",
            "FROM scratch\nARG U=app\nCOPY --chown=$U a /\n",
            "FROM debian\nCOPY --link --chown=app a /\n",
        ],
    )
    def test_speaks(self, found: Found, text: str) -> None:
        assert self.of(found, text) == [text.count("\n")]
        assert self.silenced(found, text)

    @pytest.mark.parametrize(
        "text",
        [
            "FROM scratch\nCOPY --chown=1000:1000 a /\n",
            "FROM scratch\nCOPY --chown=root:root a /\n",
            "FROM debian\nCOPY --chown=app a /\n",
            "FROM scratch\nCOPY --from=x /etc/passwd /etc/\nCOPY --chown=app a /\n",
            "FROM unknown\nCOPY --chown=$APP_USER a /\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []

    def test_tells_the_name(self, found: Found) -> None:
        (one,) = found("FROM scratch\nCOPY --chown=app:1 a /\n")
        assert one.detail == '--chown=app:1: this stage has no /etc/passwd yet; write the number of "app"'


class TestHeredocErrexit(Rule):
    rule = "PybuildHeredocErrexit"

    @pytest.mark.parametrize(
        "run",
        [
            "RUN <<EOF\nmake\nmake install\nEOF",
            "RUN <<-'EOF'\n\tcd /x || true\n\tmake\nEOF",
            "RUN <<EOF\n# why\nset -x\n\nmake\nmake install\nEOF",
            "RUN <<EOF\n#!/bin/bash\nmake\nmake install\nEOF",
            "RUN <<EOF\n#!/usr/bin/env bash\nmake\nmake install\nEOF",
            "RUN bash <<EOF\nmake\nmake install\nEOF",
            "RUN <<EOF\nmake &&\n  make test\nmake install\nEOF",
        ],
    )
    def test_speaks(self, found: Found, run: str) -> None:
        assert self.of(found, f"FROM a\n{run}\n") == [2]
        assert self.silenced(found, f"FROM a\n{run}\n")

    @pytest.mark.parametrize(
        "run",
        [
            "RUN <<EOF\nmake\nEOF",
            "RUN <<EOF\nset -e\nmake\nmake install\nEOF",
            "RUN <<EOF\nset -x\nA=b\nset -euo pipefail\nmake\nmake install\nEOF",
            "RUN <<EOF\nset -o errexit\nmake\nmake install\nEOF",
            "RUN <<EOF\nset -eo pipefail\nmake\nmake install\nEOF",
            "RUN <<EOF\nmake && \\\n  make install\nEOF",
            "RUN <<EOF\nmake &&\n\tmake install\nEOF",
            "RUN <<EOF\n#!/bin/sh -e\nmake\nmake install\nEOF",
            "RUN <<EOF\n#!/usr/bin/env python3\nimport os\nos.listdir()\nEOF",
            "RUN python3 <<EOF\nimport os\nos.listdir()\nEOF",
            "RUN bash -e <<EOF\nmake\nmake install\nEOF",
            "RUN cat <<EOF > /etc/x\na\nb\nEOF",
            "COPY <<EOF /etc/x\na\nb\nEOF",
            "RUN make; make install",
        ],
    )
    def test_is_silent(self, found: Found, run: str) -> None:
        assert self.of(found, f"FROM a\n{run}\n") == []

    @pytest.mark.parametrize("shell", ['["/bin/bash", "-ec"]', '["/bin/sh", "-o", "errexit", "-c"]', '["pwsh", "-c"]'])
    def test_the_shell_of_the_stage_counts(self, found: Found, shell: str) -> None:
        assert self.of(found, f"FROM a\nSHELL {shell}\nRUN <<EOF\na\nb\nEOF\n") == []

    def test_so_does_that_of_the_base_image(self, found: Found) -> None:
        given = Facts(base=lambda name: BaseFacts(shell=("/bin/bash", "-e", "-c")))
        assert self.of(found, "FROM a\nRUN <<EOF\na\nb\nEOF\n", given) == []


class TestManySourcesOneFile(Rule):
    rule = "PybuildManySourcesOneFile"

    @pytest.mark.parametrize(
        "text",
        [
            "FROM debian\nCOPY a b /app\n",
            'FROM debian\nCOPY ["a", "b", "/app"]\n',
            "FROM debian\nADD a b /app\n",
            "FROM debian\nCOPY a <<b /app\nx\nb\n",
            "FROM debian\nWORKDIR /x\nCOPY a b app\n",
        ],
    )
    def test_speaks(self, found: Found, text: str) -> None:
        assert len(self.of(found, text)) == 1
        assert self.silenced(found, text)

    @pytest.mark.parametrize(
        "text",
        [
            "FROM debian\nCOPY a b /app/\n",
            "FROM debian\nCOPY a b .\n",
            "FROM debian\nCOPY a b ./\n",
            "FROM debian\nCOPY a /app\n",
            "FROM debian\nCOPY * /app\n",
            "FROM debian\nWORKDIR /app\nCOPY a b /app\n",
            "FROM debian\nWORKDIR /app/x\nCOPY a b /app\n",
            "FROM debian\nCOPY a b /usr/local/bin\n",
            "FROM debian\nRUN mkdir -p /srv/app\nCOPY a b /srv/app\n",
            "FROM debian\nCOPY dir/ /app\nCOPY a b /app\n",
            "FROM debian\nCOPY a /app/a\nCOPY b c /app\n",
            "FROM debian AS x\nWORKDIR /app\nFROM x\nCOPY a b /app\n",
            "FROM unknown\nCOPY a b $APP_DIR\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []

    def test_where_the_base_image_works_is_a_directory(self, found: Found) -> None:
        given = Facts(base=lambda name: BaseFacts(workdir="/var/www/html"))
        assert self.of(found, "FROM php\nCOPY a b /var/www/html\n", given) == []
        assert self.of(found, "FROM php\nCOPY a b ../html\n", given) == []


class TestDirectoryMode(Rule):
    rule = "PybuildDirectoryMode"

    @pytest.mark.parametrize(
        "copy",
        ["--chmod=644 . /app/", "--chmod=0600 conf/ /etc/x", "--chmod=u=rw,go=r ./ /app", "--chmod=a=r conf/. /x"],
    )
    def test_speaks(self, found: Found, copy: str) -> None:
        assert self.of(found, f"FROM debian\nCOPY {copy}\n") == [2]
        assert self.silenced(found, f"FROM debian\nCOPY {copy}\n")

    def test_asks_the_context_what_is_a_directory(self, found: Found) -> None:
        given = Facts(is_directory=lambda path: path == "conf")
        assert self.of(found, "FROM debian\nCOPY --chmod=644 conf /etc/x\n", given) == [2]
        assert self.of(found, "FROM debian\nCOPY --chmod=644 a.conf /etc/x\n", given) == []

    def test_speaks_of_directories_that_the_copy_makes(self, found: Found) -> None:
        given = Facts(is_directory=lambda path: False)
        assert self.of(found, "FROM scratch\nCOPY --chmod=644 a.conf /etc/app/a.conf\n", given) == [2]
        assert self.of(found, "FROM scratch\nCOPY --chmod=644 a.conf /etc/app/\n", given) == [2]
        assert self.of(found, "FROM scratch\nWORKDIR /etc/app\nCOPY --chmod=644 a.conf .\n", given) == []
        assert self.of(found, "FROM scratch\nCOPY --chmod=644 a.conf /\n", given) == []

    @pytest.mark.parametrize(
        "copy",
        [
            "--chmod=755 . /app/",
            "--chmod=u=rwX,go=rX . /app/",
            "--chmod=go=r . /app/",
            "--chmod=a+r . /app/",
            "--chmod=644 a.conf /etc/app/a.conf",
            "--chmod=644 *.conf /etc/app/",
            ". /app/",
        ],
    )
    def test_is_silent(self, found: Found, copy: str) -> None:
        assert self.of(found, f"FROM debian\nCOPY {copy}\n") == []


class TestArgHidesEnv(Rule):
    rule = "PybuildArgHidesEnv"

    @pytest.mark.parametrize(
        "text",
        [
            "FROM debian\nENV V=2\nARG V=1\n",
            "ARG V=1\nFROM debian\nENV V=2\nARG V\n",
            "FROM debian AS a\nENV V=2\nFROM a\nARG V=1\n",
        ],
    )
    def test_speaks(self, found: Found, text: str) -> None:
        assert self.of(found, text) == [text.count("\n")]
        assert self.silenced(found, text)

    def test_the_base_image_sets_variables_too(self, found: Found) -> None:
        given = Facts({"V": "1"}, base=lambda name: BaseFacts({"V": "2"}))
        assert self.of(found, "FROM a\nARG V\n", given) == [2]

    @pytest.mark.parametrize(
        "text",
        [
            "FROM debian\nARG V=1\nENV V=$V\n",
            "FROM debian\nENV V=2\nARG V\n",
            "FROM debian\nENV V=2\nARG V=$V\n",
            "FROM debian AS a\nENV V=2\nFROM debian\nARG V=1\n",
            "FROM debian\nARG V=1\nARG V=2\n",
        ],
    )
    def test_is_silent(self, found: Found, text: str) -> None:
        assert self.of(found, text) == []


class TestSecretInLayer(Rule):
    rule = "PybuildSecretInLayer"

    @pytest.mark.parametrize(
        "name",
        [
            "id_rsa", "keys/id_ed25519", "~/.ssh", ".ssh/", ".aws/credentials", "server.key", "cert.p12", ".netrc",
            "private-key.pem", "tls/privkey.pem", ".git-credentials", ".env", "home/.docker/config.json",
        ],
    )  # fmt: skip
    def test_speaks_of_files(self, found: Found, name: str) -> None:
        assert self.of(found, f"FROM a\nCOPY {name} /x/\n") == [2]
        assert self.silenced(found, f"FROM a\nCOPY {name} /x/\n")

    @pytest.mark.parametrize(
        "copy",
        [
            "id_rsa.pub /x/", "cert.pem /x/", "nginx_signing.key /x/", "example.key /x/key.pub",
            "a.key /etc/apt/trusted.gpg.d/", "key.js /x/", "keys/ /x/", ".env.example /x/", "environment /x/",
            "https://example.com/release.key /x/", ".npmrc /x/",
        ],
    )  # fmt: skip
    def test_is_silent_of_files(self, found: Found, copy: str) -> None:
        assert self.of(found, f"FROM a\nADD {copy}\n") == []

    @pytest.mark.parametrize(
        "line",
        [
            f"ENV X=ghp_{'a1' * 18}",
            f"ARG X=AKIA{'A1' * 8}",
            f"LABEL x=glpat-{'a1' * 10}",
            f"RUN curl -H 'Authorization: token ghp_{'a1' * 18}' https://example.com",
            "RUN git clone https://user:s3cretword@example.com/x.git",
            "ENV DATABASE=postgres://app:s3cretword@db/app",
            "COPY <<E /k\n-----BEGIN RSA PRIVATE KEY-----\nE",
        ],
    )
    def test_speaks_of_what_looks_like_one(self, found: Found, line: str) -> None:
        assert self.of(found, f"FROM a\n{line}\n") == [2]

    @pytest.mark.parametrize(
        "line",
        [
            "RUN git clone https://user:$TOKEN@example.com/x.git",
            "RUN git clone https://$USER:${TOKEN}@example.com/x.git",
            "ENV DATABASE=postgres://postgres:postgres@db/app",
            "ENV X=https://example.com:8080/@scope/x",
            "RUN echo a:b@c",
            "ENV KEY_FILE=/run/secrets/x",
            "RUN --mount=type=secret,id=k x",
        ],
    )
    def test_is_silent_of_the_rest(self, found: Found, line: str) -> None:
        assert self.of(found, f"FROM a\n{line}\n") == []

    def test_does_not_repeat_the_secret(self, found: Found) -> None:
        token = f"ghp_{'a1' * 18}"
        (one,) = found(f"FROM a\nENV X={token}\n")
        assert one.detail == "ENV X has a GitHub token in it: mount it with RUN --mount=type=secret"


@pytest.mark.parametrize("rule", OURS, ids=lambda rule: rule.name)
def test_each_has_a_page_that_shows_bad_and_good(rule: object, found: Found) -> None:
    """The examples on the page are held against the rule."""
    name = rule.name  # type: ignore[attr-defined]  # pytest does not know the type
    page = (PAGES / "docs" / "checks" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    bad, good = (
        page.split(f"## {title}\n")[1].split("```dockerfile\n")[1].split("```")[0] for title in ("Bad", "Good")
    )
    assert name in {one.rule for one in found(bad)}
    assert name not in {one.rule for one in found(good)}
    assert [part.split("\n")[0] for part in page.split("\n## ")[1:]] == ["Bad", "Good", "Why"]


def test_all_rules_are_tested_here() -> None:
    tested = {kind.rule for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Rule)}
    assert tested - {""} == {rule.name for rule in OURS}
