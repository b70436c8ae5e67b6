"""Which words are repositories, and what of them is wanted (reference/builder §1.7, item 11)."""

import pytest

from builder.plan.gitaddress import GitAddress, GitAddressInvalid, is_git, parse_git, relative_to, shown

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class TestWhatIsARepository:
    @pytest.mark.parametrize(
        "word",
        [
            "https://host/team/app.git",
            "http://host/app.git#main",
            "https://host/app.git?ref=main",
            "HTTPS://host/app.git",
            "ssh://git@host/team/app",
            "git://host/app",
            "git@host:team/app.git",
            "deploy@host.example:app#main:docs",
        ],
    )
    def test_repositories(self, word: str) -> None:
        assert is_git(word)

    @pytest.mark.parametrize(
        "word",
        [
            "https://host/app.tar.gz",
            "https://host/x?file=app.git",
            "ext::sh -c id",
            "file:///srv/app.git",
            "/srv/app.git",
            "app.git",
            "./git@host:x",
            "-oProxyCommand=id@host:x",
            "github.com/team/app",
        ],
    )
    def test_other_things(self, word: str) -> None:
        assert not is_git(word)

    def test_a_context_may_leave_out_the_scheme_of_github(self) -> None:
        assert is_git("github.com/team/app", context=True)
        assert parse_git("github.com/team/app#main").remote == "https://github.com/team/app"


class TestWhatIsWanted:
    @pytest.mark.parametrize(
        ("word", "wanted"),
        [
            ("https://h/a.git", GitAddress("https://h/a.git")),
            ("https://h:8443/a.git#v1:x/y", GitAddress("https://h:8443/a.git", "v1", "x/y")),
            ("https://h/a.git#:x", GitAddress("https://h/a.git", "", "x")),
            ("https://h/a.git#a%2Fb", GitAddress("https://h/a.git", "a/b")),
            ("git@h:a.git#main:x", GitAddress("git@h:a.git", "main", "x")),
            ("https://h/a.git?ref=main&subdir=x", GitAddress("https://h/a.git", "main", "x")),
            ("https://h/a.git?tag=v1", GitAddress("https://h/a.git", "refs/tags/v1")),
            ("https://h/a.git?branch=refs/heads/x", GitAddress("https://h/a.git", "refs/heads/x")),
            ("git@h:a.git?branch=x", GitAddress("git@h:a.git", "refs/heads/x")),
            (f"https://h/a.git?commit={COMMIT}", GitAddress("https://h/a.git", COMMIT, checksum=COMMIT)),
            ("https://h/a.git?checksum=0123456", GitAddress("https://h/a.git", checksum="0123456")),
            ("https://h/a.git?keep-git-dir", GitAddress("https://h/a.git", keep_git_dir=True)),
            ("https://h/a.git?keep-git-dir=0", GitAddress("https://h/a.git", keep_git_dir=False)),
            ("https://h/a.git?submodules=false", GitAddress("https://h/a.git", submodules=False)),
            ("https://h/a.git?mtime=commit", GitAddress("https://h/a.git")),
        ],
    )
    def test_fragment_and_query(self, word: str, wanted: GitAddress) -> None:
        assert parse_git(word) == wanted

    def test_no_directory_leads_out_of_the_repository(self) -> None:
        assert parse_git("https://h/a.git#:../../etc").subdir == "etc"
        assert parse_git("https://h/a.git#:/etc/./x/..").subdir == "etc"

    @pytest.mark.parametrize(
        ("word", "problem"),
        [
            ("https://h/a.git?tag=a&branch=b", "branch conflicts with tag"),
            ("https://h/a.git?ref=a#b", "ref conflicts"),
            ("https://h/a.git?tag=a#a", "ref conflicts"),
            ("https://h/a.git?subdir=a#:b", "subdir conflicts"),
            ("https://h/a.git?ref=a&ref=b", "multiple values"),
            ("https://h/a.git?commit=0123456&checksum=0123457", "checksum conflicts"),
            ("https://h/a.git?commit=0123456&commit=0123456", "multiple values"),
            ("https://h/a.git?ref=", "no value"),
            ("https://h/a.git?depth=1", "unexpected query 'depth'"),
            ("https://h/a.git?submodules=maybe", "invalid submodules value"),
            ("https://h/a.git?mtime=now", "invalid mtime value"),
            ("https://h/a.git?commit=main", "is no commit"),
            ("https://h/a.git#--upload-pack=id", "can't be a branch"),
            ("https://h/a.git#a..b", "can't be a branch"),
            ("https://h/a.git#refs/*", "can't be a branch"),
            ("https://h/a.git#" + "x" * 1500, "can't be a branch"),
            ("https://h/" + "x" * 3000 + ".git", "3014 characters"),
            ("https://h/a b.git", "blanks"),
            ("https://h/a\x1b[2J.git", "control characters"),
            ("ssh://-oProxyCommand=id/a.git", "no host"),
            ("ssh://-oProxyCommand=id@h/a.git", "no host"),
            ("git@h:-x", "dash"),
            ("https:///a.git", "no host"),
            ("https://h:99999/a.git", "(?i)port"),
            ("ext::sh -c id", "(?i)no repository|blanks"),
            ("file:///srv/a.git", "no repository"),
        ],
    )
    def test_what_is_refused(self, word: str, problem: str) -> None:
        with pytest.raises(GitAddressInvalid, match=problem):
            parse_git(word)

    def test_a_full_commit_needs_nobody_to_be_asked(self) -> None:
        assert parse_git(f"https://h/a.git#{COMMIT}").is_pinned
        assert not parse_git("https://h/a.git#0123456").is_pinned

    def test_a_checksum_beside_the_address(self) -> None:
        assert parse_git("https://h/a.git#v1").with_checksum("0123456").checksum == "0123456"
        assert parse_git(f"https://h/a.git?commit={COMMIT}").with_checksum("0123456").checksum == COMMIT
        with pytest.raises(GitAddressInvalid, match="conflicts"):
            parse_git(f"https://h/a.git?commit={COMMIT}").with_checksum("fffffff")
        with pytest.raises(GitAddressInvalid, match="no commit"):
            parse_git("https://h/a.git").with_checksum("sha256:00")


def test_passwords_are_not_shown() -> None:
    assert shown("https://me:secret@host/a.git") == "https://me:xxxxx@host/a.git"
    assert shown("git@host:a\x1b.git") == "git@host:a\N{REPLACEMENT CHARACTER}.git"


@pytest.mark.parametrize(
    ("url", "parent", "meant"),
    [
        ("../lib.git", "https://h/team/app.git", "https://h/team/lib.git"),
        ("./lib.git", "https://h/team/app.git", "https://h/team/app.git/lib.git"),
        ("../../../../lib.git", "https://h/team/app.git", "https://h/lib.git"),
        ("../lib.git", "git@h:team/app.git", "git@h:team/lib.git"),
        ("../lib.git", "ssh://git@h/team/app", "ssh://git@h/team/lib.git"),
        ("https://other/lib", "https://h/team/app.git", "https://other/lib"),
        ("git@other:lib", "https://h/team/app.git", "git@other:lib"),
    ],
)
def test_where_submodules_come_from(url: str, parent: str, meant: str) -> None:
    assert relative_to(url, parse_git(parent)).remote == meant


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "/srv/lib", "file:///srv/lib", "-u./payload", "https://h/x#main", "ssh://-oX=y/z", "lib"]
)
def test_submodules_that_are_refused(url: str) -> None:
    with pytest.raises(GitAddressInvalid):
        relative_to(url, parse_git("https://h/team/app.git"))
