"""From the address of a repository to its files: what is asked, what is fetched, what comes out."""

import os
import stat
from pathlib import Path

import pytest

from builder.ops.gitprogram import GitError
from builder.ops.repositories import Commit, Repositories, mirrors, remove_mirror
from builder.plan.gitaddress import parse_git
from registry.archive.unpacking import Limits
from tests.gitserver import MOMENT, Hub, Origin, git
from tests.unit.git.conftest import Cache


def files(top: Path) -> dict[str, str]:
    return {
        str(path.relative_to(top)): f"->{os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in sorted(top.rglob("*"))
        if (path.is_symlink() or path.is_file()) and ".git" not in path.relative_to(top).parts
    }


def checked_out(cache: Repositories, word: str, *, keep_git_dir: bool = False) -> Path:
    return cache.check_out(cache.resolve(parse_git(word)), keep_git_dir=keep_git_dir)[1]


@pytest.fixture
def app(hub: Hub) -> Origin:
    origin = hub.create()
    origin.commit({"a": "1", "docs/b": "2"})
    return origin


class TestWhichCommit:
    def test_without_a_ref_it_is_what_the_server_has_as_head(self, hub: Hub, app: Origin, cache: Cache) -> None:
        head = app.commit({"a": "2"})
        assert cache().resolve(parse_git(hub.url())).sha == head

    def test_branches_tags_and_full_names(self, hub: Hub, app: Origin, cache: Cache) -> None:
        first = git("rev-parse", "HEAD", cwd=app.path)
        git("tag", "light", cwd=app.path)
        git("tag", "-a", "-m", "x", "heavy", cwd=app.path)
        git("branch", "feature/x", cwd=app.path)
        git("update-ref", "refs/pull/1/head", first, cwd=app.path)
        second = app.commit({"a": "2"})
        found = {
            ref: cache().resolve(parse_git(f"{hub.url()}#{ref}")).sha
            for ref in ("main", "light", "heavy", "refs/tags/heavy", "feature/x", "heads/main", "pull/1/head")
        }
        assert found == {
            "main": second, "light": first, "heavy": first, "refs/tags/heavy": first, "feature/x": first,
            "heads/main": second, "pull/1/head": first,
        }  # fmt: skip

    def test_a_branch_counts_before_a_tag_of_the_same_name(self, hub: Hub, app: Origin, cache: Cache) -> None:
        git("tag", "same", cwd=app.path)
        tagged = git("rev-parse", "HEAD", cwd=app.path)
        newer = app.commit({"a": "2"})
        git("branch", "same", cwd=app.path)
        assert cache().resolve(parse_git(f"{hub.url()}#same")).sha == newer
        assert cache().resolve(parse_git(f"{hub.url()}?tag=same")).sha == tagged

    def test_a_name_that_only_ends_alike_is_another(self, hub: Hub, app: Origin, cache: Cache) -> None:
        git("branch", "x/feature", cwd=app.path)
        with pytest.raises(GitError, match="no branch or tag 'feature'"):
            cache().resolve(parse_git(f"{hub.url()}#feature"))

    def test_an_abbreviated_commit_is_told_to_be_written_out(self, hub: Hub, app: Origin, cache: Cache) -> None:
        short = git("rev-parse", "--short", "HEAD", cwd=app.path)
        with pytest.raises(GitError) as caught:
            cache().resolve(parse_git(f"{hub.url()}#{short}"))
        assert "all its 40 digits" in (caught.value.hint or "")

    def test_an_empty_repository(self, hub: Hub, cache: Cache) -> None:
        hub.create("empty")
        with pytest.raises(GitError, match="has no commits"):
            cache().resolve(parse_git(hub.url("empty")))

    def test_a_checksum_holds_the_commit(self, hub: Hub, app: Origin, cache: Cache) -> None:
        sha = git("rev-parse", "HEAD", cwd=app.path)
        assert cache().resolve(parse_git(hub.url()).with_checksum(sha[:10])).sha == sha
        with pytest.raises(GitError, match="expected checksum to match deadbeef"):
            cache().resolve(parse_git(f"{hub.url()}?checksum=deadbeef"))

    def test_no_such_repository(self, hub: Hub, cache: Cache) -> None:
        with pytest.raises(GitError, match=r"nothing\.git.*not found"):
            cache().resolve(parse_git(hub.url("nothing")))

    def test_nobody_answers(self, netns: None, cache: Cache) -> None:
        with pytest.raises(GitError, match=r"(?i)127.0.0.1.*connect"):
            cache().resolve(parse_git("http://127.0.0.1:1/app.git"))


class TestWhatIsFetched:
    def test_a_known_commit_costs_one_question(self, hub: Hub, app: Origin, cache: Cache) -> None:
        checked_out(cache(), hub.url())
        before = hub.asked_for("POST")
        checked_out(cache(), hub.url())
        assert hub.asked_for("POST") - before <= 1  # ls-refs

    def test_a_known_full_commit_costs_nothing(self, hub: Hub, app: Origin, cache: Cache) -> None:
        sha = git("rev-parse", "HEAD", cwd=app.path)
        checked_out(cache(), f"{hub.url()}#{sha}")
        hub.requests.clear()
        checked_out(cache(), f"{hub.url()}#{sha}")
        assert hub.requests == []

    def test_history_is_not_fetched(self, hub: Hub, app: Origin, cache: Cache) -> None:
        app.commit({"a": "2"})
        repositories = cache()
        with repositories.mirror(repositories.resolve(parse_git(hub.url()))) as mirror:
            assert git("rev-list", "--all", "--count", cwd=mirror) == "1"

    @pytest.mark.parametrize("manner", ["newer protocol", "older protocol", "plain files"])
    def test_any_commit_of_a_branch_can_be_had(self, hub: Hub, app: Origin, cache: Cache, manner: str) -> None:
        old = git("rev-parse", "HEAD", cwd=app.path)
        app.commit({"a": "2"})
        app.commit({"a": "3"})
        hub.version = manner == "newer protocol"
        hub.dumb = manner == "plain files"
        git("update-server-info", cwd=app.path)
        assert files(checked_out(cache(), hub.url()))["a"] == "3"
        assert files(checked_out(cache(), f"{hub.url()}#{old}"))["a"] == "1"

    def test_a_commit_that_was_never_pushed(self, hub: Hub, app: Origin, cache: Cache) -> None:
        with pytest.raises(GitError):
            checked_out(cache(), f"{hub.url()}#{'1' * 40}")

    def test_a_branch_that_moves_is_fetched_anew(self, hub: Hub, app: Origin, cache: Cache) -> None:
        checked_out(cache(), f"{hub.url()}#main")
        app.commit({"a": "2"})
        git("commit", "-q", "--amend", "-m", "rewritten", cwd=app.path)
        assert files(checked_out(cache(), f"{hub.url()}#main"))["a"] == "2"


class TestMirrors:
    def test_they_can_be_listed_and_removed(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path) -> None:
        checked_out(cache(), hub.url().replace("//", "//me:s3cret@"))
        (mirror,) = mirrors(ram_path / "git")
        assert mirror.remote == hub.url().replace("//", "//me:xxxxx@")
        assert remove_mirror(mirror)
        assert mirrors(ram_path / "git") == []
        assert files(checked_out(cache(), hub.url())) == {"a": "1", "docs/b": "2"}

    def test_one_that_is_read_stays(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path) -> None:
        repositories = cache()
        with repositories.mirror(repositories.resolve(parse_git(hub.url()))):
            (mirror,) = mirrors(ram_path / "git")
            assert not remove_mirror(mirror)

    def test_a_repository_may_have_itself_at_another_commit_as_a_submodule(
        self, hub: Hub, app: Origin, cache: Cache
    ) -> None:
        old = git("rev-parse", "HEAD", cwd=app.path)
        app.add_submodule("old", hub.url(), old)
        assert files(checked_out(cache(), hub.url()))["old/a"] == "1"


class TestWhatComesOut:
    def test_files_have_plain_modes_and_the_time_of_the_commit(self, hub: Hub, app: Origin, cache: Cache) -> None:
        app.commit({"run": "#!", "secret": "x", "link": "->run"}, modes={"run": 0o700, "secret": 0o600})
        before = os.umask(0o077)
        try:
            tree = checked_out(cache(), hub.url())
        finally:
            os.umask(before)
        found = {str(path.relative_to(tree)): path.lstat() for path in tree.rglob("*")} | {".": tree.lstat()}
        modes = {name: stat.S_IMODE(seen.st_mode) for name, seen in found.items() if name != "link"}
        assert modes == {".": 0o755, "a": 0o644, "docs": 0o755, "docs/b": 0o644, "run": 0o755, "secret": 0o644}
        assert {seen.st_mtime for seen in found.values()} == {MOMENT}
        assert os.readlink(tree / "link") == "run"
        assert not (tree / ".git").exists()

    def test_a_directory_of_it(self, hub: Hub, app: Origin, cache: Cache) -> None:
        tree = checked_out(cache(), f"{hub.url()}#main:docs")
        assert files(tree) == {"b": "2"}

    @pytest.mark.parametrize("subdir", ["nothing", "a", "link", "link/x", "-x"])
    def test_a_directory_that_is_none(self, hub: Hub, app: Origin, cache: Cache, subdir: str) -> None:
        app.commit({"link": "->/etc"})
        with pytest.raises(GitError, match="has no directory"):
            checked_out(cache(), f"{hub.url()}?subdir={subdir}")

    def test_links_that_lead_out_are_only_content(self, hub: Hub, app: Origin, cache: Cache) -> None:
        app.commit({"passwd": "->/etc/passwd", "up": "->../../../.."})
        assert files(checked_out(cache(), hub.url()))["passwd"] == "->/etc/passwd"

    def test_nothing_of_the_repository_is_run(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path) -> None:
        trap = ram_path / "trap"
        app.commit(
            {
                ".gitattributes": "* filter=evil diff=evil\n",
                ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {trap}\n',
                "hooks/post-checkout": f"#!/bin/sh\ntouch {trap}\n",
            },
            modes={"hooks/post-checkout": 0o755},
        )
        checked_out(cache(), hub.url())
        assert not trap.exists()

    def test_nothing_of_this_machines_settings_counts(
        self, hub: Hub, app: Origin, cache: Cache, ram_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = ram_path / "home"
        home.mkdir()
        (home / ".gitconfig").write_text('[url "http://127.0.0.1:1/"]\n\tinsteadOf = http://127.0.0.1:\n')
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("GIT_DIR", "/nonexistent")
        monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.symlinks=false'")
        assert files(checked_out(cache(), hub.url())) == {"a": "1", "docs/b": "2"}

    def test_the_checkout_is_gone_when_it_fails(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path) -> None:
        with pytest.raises(GitError):
            checked_out(cache(), f"{hub.url()}#main:nothing")
        assert list((ram_path / "tmp").iterdir()) == []

    def test_git_must_be_installed(self, hub: Hub, app: Origin, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(GitError, match="not installed") as caught:
            cache().resolve(parse_git(hub.url()))
        assert "apt install git" in (caught.value.hint or "")


class TestTheGitDirectory:
    def test_it_is_a_working_repository_of_that_commit(self, hub: Hub, app: Origin, cache: Cache) -> None:
        git("tag", "v1", cwd=app.path)
        sha = app.commit({"a": "2", "run": "#!"}, modes={"run": 0o755})
        git("tag", "v2", cwd=app.path)
        tree = checked_out(cache(), f"{hub.url()}#v2", keep_git_dir=True)
        assert git("rev-parse", "HEAD", cwd=tree) == sha
        assert git("status", "--porcelain", cwd=tree) == ""
        assert git("log", "--format=%s", cwd=tree) == "a change"
        assert git("describe", "--tags", cwd=tree) == "v2"
        assert git("remote", "get-url", "origin", cwd=tree) == hub.url()
        assert git("fsck", cwd=tree) == ""

    def test_it_is_the_same_always(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path) -> None:
        sha = app.commit({f"f{number}": "text\n" * number for number in range(40)})

        def seen(repositories: Repositories) -> dict[str, bytes]:
            tree = checked_out(repositories, hub.url(), keep_git_dir=True)
            return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}

        first = seen(cache())
        app.commit({"f1": "other"})
        other = Repositories(ram_path / "other", ram_path / "tmp")
        with other.mirror(other.resolve(parse_git(hub.url()))):
            pass
        tree = other.check_out(Commit(parse_git(hub.url()), sha, "refs/heads/main"), keep_git_dir=True)[1]
        assert first == {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}

    def test_no_password_is_kept(self, hub: Hub, app: Origin, cache: Cache) -> None:
        url = hub.url().replace("http://", "http://me:secret@")
        tree = checked_out(cache(), url, keep_git_dir=True)
        assert not [path for path in (tree / ".git").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


class TestSubmodules:
    def test_they_come_along(self, hub: Hub, app: Origin, cache: Cache) -> None:
        deep, lib = hub.create("team/deep"), hub.create("team/lib")
        old = lib.commit({"l": "1"})
        lib.commit({"l": "2"})
        sha = lib.add_submodule("deep", "../deep.git", deep.commit({"d": "1"}))
        app.add_submodule("vendor/lib", hub.url("team/lib"), sha)
        app.add_submodule("vendor/old", hub.url("team/lib"), old)
        assert files(checked_out(cache(), hub.url())) == {
            "a": "1", "docs/b": "2", "vendor/lib/l": "2", "vendor/lib/deep/d": "1", "vendor/old/l": "1",
            ".gitmodules": (app.path / ".gitmodules").read_text(),
            "vendor/lib/.gitmodules": (lib.path / ".gitmodules").read_text(),
        }  # fmt: skip

    def test_they_may_be_left_out(self, hub: Hub, app: Origin, cache: Cache) -> None:
        app.add_submodule("lib", hub.url("nowhere"), "1" * 40)
        tree = checked_out(cache(), f"{hub.url()}?submodules=false")
        assert list((tree / "lib").iterdir()) == []

    @pytest.mark.parametrize(
        "url",
        [
            "ext::sh -c 'touch %s'",
            "-u./trap",
            "/etc",
            "file:///etc",
            "ssh://-oProxyCommand=touch%%20%s/x",
            "../../..//-x:y",
        ],
    )
    def test_urls_that_are_traps(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path, url: str) -> None:
        trap = ram_path / "trap"
        app.add_submodule("lib", url % trap if "%" in url else url, "1" * 40)
        with pytest.raises(GitError, match="submodule lib"):
            checked_out(cache(), hub.url())
        assert not trap.exists()

    def test_no_command_of_gitmodules_is_run(self, hub: Hub, app: Origin, cache: Cache, ram_path: Path) -> None:
        lib = hub.create("lib")
        sha = lib.commit({"l": "1"})
        with (app.path / ".gitmodules").open("w") as file:
            file.write(
                f'[submodule "../../x"]\n\tpath = lib\n\turl = {hub.url("lib")}\n\tupdate = !touch {ram_path}/trap\n'
            )
        git("add", "-A", cwd=app.path)
        git("update-index", "--add", "--cacheinfo", f"160000,{sha},lib", cwd=app.path)
        git("commit", "-q", "-m", "x", cwd=app.path)
        assert files(checked_out(cache(), hub.url()))["lib/l"] == "1"
        assert not (ram_path / "trap").exists()

    def test_one_that_contains_itself_comes_to_an_end(self, hub: Hub, app: Origin, cache: Cache) -> None:
        sha = git("rev-parse", "HEAD", cwd=app.path)
        for _ in range(11):
            sha = app.add_submodule("x", hub.url(), sha)
            git("rm", "-q", "--cached", "x", cwd=app.path)
            (app.path / ".gitmodules").unlink()
        with pytest.raises(GitError, match="too many submodules"):
            checked_out(cache(), f"{hub.url()}#{sha}")


class TestCredentials:
    TOKEN = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"

    @pytest.mark.parametrize(
        "secrets",
        [
            {"GIT_AUTH_TOKEN": "s3cret\n"},
            {"GIT_AUTH_TOKEN.127.0.0.1": "s3cret", "GIT_AUTH_TOKEN": "other"},
            {"GIT_AUTH_HEADER.127.0.0.1": TOKEN},
        ],
    )
    def test_a_token_opens_a_private_repository(
        self, hub: Hub, app: Origin, cache: Cache, secrets: dict[str, str]
    ) -> None:
        hub.token = self.TOKEN
        assert files(checked_out(cache(secrets), hub.url())) == {"a": "1", "docs/b": "2"}

    def test_without_one_the_user_is_told(self, hub: Hub, app: Origin, cache: Cache) -> None:
        hub.token = self.TOKEN
        with pytest.raises(GitError) as caught:
            cache().resolve(parse_git(hub.url()))
        assert "--secret id=GIT_AUTH_TOKEN.127.0.0.1" in (caught.value.hint or "")

    @pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.2"])
    def test_no_redirect_is_followed_with_one(self, hub: Hub, app: Origin, cache: Cache, target: str) -> None:
        hub.redirects["/moved.git"] = hub.url("app", target)
        with pytest.raises(GitError) as caught:
            cache({"GIT_AUTH_TOKEN": "s3cret"}).resolve(parse_git(hub.url("moved")))
        assert "no redirect is followed" in (caught.value.hint or "")
        assert hub.asked_for("app.git") == 0

    def test_nor_with_a_password_in_the_address(self, hub: Hub, app: Origin, cache: Cache) -> None:
        hub.redirects["/moved.git"] = hub.url("app", "127.0.0.2")
        with pytest.raises(GitError) as caught:
            cache().resolve(parse_git(hub.url("moved").replace("//", "//me:secret@")))
        assert "secret" not in str(caught.value)
        assert hub.asked_for("app.git") == 0

    def test_without_credentials_redirects_are_followed(self, hub: Hub, app: Origin, cache: Cache) -> None:
        hub.redirects["/moved.git"] = hub.url("app")
        assert files(checked_out(cache(), hub.url("moved"))) == {"a": "1", "docs/b": "2"}

    def test_a_submodule_elsewhere_does_not_get_the_token_of_a_host(self, hub: Hub, app: Origin, cache: Cache) -> None:
        lib = hub.create("lib")
        app.add_submodule("lib", hub.url("lib", "127.0.0.2"), lib.commit({"l": "1"}))
        checked_out(cache({"GIT_AUTH_TOKEN.127.0.0.1": "s3cret"}), hub.url())
        seen = dict(zip(hub.requests, hub.authorizations, strict=True))
        assert {value for request, value in seen.items() if "/lib.git" in request} == {None}

    def test_a_token_does_not_travel_unencrypted(self, cache: Cache) -> None:
        repositories = cache({"GIT_AUTH_TOKEN": "s3cret"})
        assert "http.extraHeader" in repositories.git(parse_git("https://host/app.git")).settings
        assert "http.extraHeader" not in repositories.git(parse_git("http://host/app.git")).settings


class TestHostileServers:
    def test_what_it_says_does_not_reach_the_terminal(self, hub: Hub, app: Origin, cache: Cache) -> None:
        hub.redirects["/moved.git"] = "http://127.0.0.1:1/\x1b[2J"
        with pytest.raises(GitError) as caught:
            cache().resolve(parse_git(hub.url("moved")))
        assert "\x1b" not in str(caught.value)

    def test_a_redirect_to_a_file_is_not_followed(self, hub: Hub, app: Origin, cache: Cache) -> None:
        hub.redirects["/moved.git"] = f"file://{app.path}"
        with pytest.raises(GitError):
            cache().resolve(parse_git(hub.url("moved")))

    def test_very_many_refs_are_no_trouble(self, hub: Hub, app: Origin, cache: Cache) -> None:
        hub.version = False  # the older protocol always tells all of them
        sha = git("rev-parse", "HEAD", cwd=app.path)
        names = "".join(f"create refs/heads/{'x' * 200}{number} {sha}\n" for number in range(5000))
        git("update-ref", "--stdin", cwd=app.path, stdin=names)
        assert cache().resolve(parse_git(f"{hub.url()}#main")).sha == sha

    def test_a_few_trees_that_are_endless_files(self, hub: Hub, app: Origin, ram_path: Path) -> None:
        entry = f"100644 blob {git('hash-object', '-w', '--stdin', cwd=app.path, stdin='x')}"
        for _ in range(6):
            listing = "".join(f"{entry}\t{number}\n" for number in range(10))
            entry = f"040000 tree {git('mktree', cwd=app.path, stdin=listing)}"
        commit = git("commit-tree", "-m", "x", entry.split()[-1], cwd=app.path)
        git("update-ref", "refs/heads/main", commit, cwd=app.path)
        (ram_path / "tmp").mkdir()
        repositories = Repositories(ram_path / "git", ram_path / "tmp", limits=Limits(entries=1000))
        with pytest.raises(GitError, match="more than 1000 files"):
            checked_out(repositories, hub.url())
        assert list((ram_path / "tmp").iterdir()) == []

    def test_large_files_packed_to_nothing(self, hub: Hub, app: Origin, ram_path: Path) -> None:
        app.commit({"zeros": bytes(2 << 20)})
        (ram_path / "tmp").mkdir()
        repositories = Repositories(ram_path / "git", ram_path / "tmp", limits=Limits(size=1 << 20))
        with pytest.raises(GitError, match="more than"):
            checked_out(repositories, hub.url())
