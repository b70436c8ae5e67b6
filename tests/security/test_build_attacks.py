"""Attacks by a Dockerfile, its context or its base image on the machine that builds (reference runner.md §4).

Each is named by the advisory of the builder that had it. The author of a Dockerfile may do all inside of the image and
nothing outside: `outside` stands for the machine, and is the same afterwards.
"""

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import BuilderError, BuildFailed
from builder.ops.workshop import Secret
from registry.errors import RegistryError
from registry.model import Digest
from tests.gitserver import serving

if TYPE_CHECKING:
    from tests.gitserver import Hub
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root
MARK = "secret of the host"


@dataclass(frozen=True)
class Outside:
    """A directory of the machine. An image knows its path, and can say where it is from anywhere."""

    path: Path
    before: Mapping[str, tuple[object, ...]]

    def is_untouched(self) -> bool:
        return _state(self.path) == self.before


def _state(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in (top, *top.rglob("*")):
        stat = path.lstat()
        text = path.read_text() if path.is_file() else ""
        found[str(path)] = (stat.st_mode, stat.st_uid, stat.st_mtime_ns, text)
    return found


@pytest.fixture
def outside(ram_path: Path) -> Iterator[Outside]:
    top = ram_path / "outside"
    (top / "b/c").mkdir(parents=True)
    (top / "mark").write_text(MARK)
    (top / "empty").write_text("")
    found = Outside(top, _state(top))
    yield found
    assert found.is_untouched()


def refused_or_inside(bench: "Bench", dockerfile: str, **words: object) -> str:
    """Build; whether it is refused does not matter here, but nothing of the machine may show."""
    try:
        told = bench.build(dockerfile, no_cache=True, **words).output
    except BuilderError as error:
        told = f"{error}\n{bench.told}"
    assert f"{MARK}\n" not in f"{told}\n"
    assert not any(line.strip() == MARK for line in told.splitlines())
    return told


class TestMountSources:
    """CVE-2024-1753: buildah mounted what a link in the source led to, on the host."""

    @pytest.mark.parametrize("up", ["", "/../../../../../.."])
    def test_links_of_a_stage_lead_nowhere_else(self, bench: "Bench", base: str, outside: Outside, up: str) -> None:
        stage = f"{base}RUN ln -s {up}{outside.path} /way\nFROM base\n"
        refused_or_inside(bench, f"{stage}RUN --mount=from=base,source=/way,target=/m,rw cat /m/mark; touch /m/new\n")

    def test_links_of_the_context_lead_nowhere_else(self, bench: "Bench", base: str, outside: Outside) -> None:
        (bench.context / "way").symlink_to(outside.path)
        refused_or_inside(bench, f"{base}RUN --mount=source=way,target=/m,rw cat /m/mark; touch /m/new\n")
        refused_or_inside(bench, f"{base}RUN --mount=source=way/mark,target=/m cat /m\n")

    @pytest.mark.parametrize("source", ["../../outside", "/../../../outside", "..", "way/../../outside"])
    def test_dots_end_at_the_top(self, bench: "Bench", base: str, outside: Outside, source: str) -> None:
        told = refused_or_inside(bench, f"{base}RUN --mount=source={source},target=/m cat /m/mark /m/outside/mark\n")
        assert "No such file" in told or "not found" in told

    def test_a_source_that_changes_while_it_is_mounted(self, bench: "Bench", base: str, outside: Outside) -> None:
        """CVE-2024-11218, CVE-2024-23651: one step swaps a link in while another's mount is made."""
        swap = (
            "FROM base AS swaps\nRUN --mount=type=cache,id=s,target=/s i=0; while [ $i -lt 300 ]; do i=$((i+1)); "
            f"rm -rf /s/x; mkdir -p /s/x; rm -rf /s/x; ln -s {outside.path} /s/x; done; touch /done\n"
        )
        mounts = "".join(
            f"RUN --mount=type=cache,id=s,target=/s --mount=type=tmpfs,target=/s/x/b{number} "
            f"cat /s/x/mark 2>/dev/null; echo {number} > /n\n"
            for number in range(6)
        )
        last = "FROM scratch\nCOPY --from=swaps /done /\nCOPY --from=mounts /n /\n"
        refused_or_inside(bench, f"{base}{swap}FROM base AS mounts\n{mounts}{last}")


class TestMountPoints:
    """CVE-2024-23652: BuildKit removed what a link led to that a step had put above its mount point."""

    def test_a_parent_that_becomes_a_link_is_not_followed_when_it_is_cleaned(
        self, bench: "Bench", base: str, outside: Outside
    ) -> None:
        refused_or_inside(
            bench, f"{base}RUN --mount=type=tmpfs,target=/a/b/c mv /a /z && ln -s {outside.path} /a && ls /a\n"
        )
        refused_or_inside(
            bench, f"{base}RUN --mount=type=tmpfs,target=/a/b/c mv /a/b /y && ln -s {outside.path}/b /a/b\n"
        )

    @pytest.mark.parametrize("kind", ["tmpfs", "cache", "secret,id=s", "bind"])
    @pytest.mark.parametrize("target", ["/way/new/deep", "/way/b/c", "/file"])
    def test_links_on_the_way_stay_in_the_image(
        self, bench: "Bench", base: str, outside: Outside, ram_path: Path, kind: str, target: str
    ) -> None:
        (ram_path / "secret").write_text("given")
        links = f"RUN ln -s {outside.path} /way && ln -s {outside.path}/empty /file\n"
        told = refused_or_inside(
            bench, f"{base}{links}RUN --mount=type={kind},target={target} ls -d {target}; cat /way/mark\n",
            secrets={"s": Secret("s", ram_path / "secret")},
        )  # fmt: skip
        assert MARK not in told.replace("RUN", "")

    def test_proc_and_dev_of_an_image_may_be_links(self, bench: "Bench", base: str, outside: Outside) -> None:
        """CVE-2019-19921, CVE-2025-31133, CVE-2026-41579: mounts and nodes went where they led."""
        for name in ("proc", "dev", "sys"):
            stage = f"{base}FROM scratch AS bad\nCOPY --from=base /bin /bin\nCOPY links /\n"
            links = bench.context / "links"
            links.mkdir(exist_ok=True)
            (links / name).symlink_to(outside.path)
            refused_or_inside(bench, f'{stage}RUN ["/bin/busybox", "ls", "/{name}/mark"]\n')
            (links / name).unlink()


class TestCacheIds:
    """CVE-2024-9675: buildah's cache mounts left their directory by the dots of an id."""

    @pytest.mark.parametrize(
        "word", ["id=../../../outside", "id=/abs/../../outside", "id=..", "id=.", "id=a%2f..", "id=a/b"]
    )
    def test_an_id_is_a_name_and_no_path(self, bench: "Bench", base: str, outside: Outside, word: str) -> None:
        beside = {path.name for path in bench.root.parent.iterdir()}
        refused_or_inside(bench, f"{base}RUN --mount=type=cache,{word},target=/c cat /c/mark; echo x > /c/written\n")
        assert {path.name for path in bench.root.parent.iterdir()} == beside
        written = [path for path in bench.root.parent.rglob("written") if path.is_file()]
        assert all(path.relative_to(bench.root).parts[0] == "cache-mounts" for path in written), written

    def test_a_target_gives_no_better_one(self, bench: "Bench", base: str, outside: Outside) -> None:
        refused_or_inside(bench, f"{base}RUN --mount=type=cache,target=/../../../outside cat /outside/mark\n")


class TestWords:
    @pytest.mark.parametrize(
        "words",
        [
            "bind-propagation=shared", "type=bind,bind-propagation=../../x", "type=bind,Z", "type=devpts,target=/d",
            "type=bind,target=/", "type=cache,target=/c,sharing=mine", "type=tmpfs,target=/t,size=-1",
            "type=cache,target=/c,mode=99999999999", "type=secret,target=/s,uid=-1",
            'type=bind,"target=/x', "type=tmpfs,target=/t,size=99999999999999999999999g",
        ],
    )  # fmt: skip
    def test_what_a_mount_does_not_know_is_refused(self, bench: "Bench", base: str, words: str) -> None:
        """CVE-2024-9407 (propagation went to mount(2)), CVE-2024-23650 (a panic)."""
        with pytest.raises(BuilderError) as caught:
            bench.build(f"{base}RUN --mount={words} true\n")
        assert not isinstance(caught.value, BuildFailed)

    @pytest.mark.parametrize("flag", ["--security=insecure", "--network=host"])
    def test_rights_are_given_by_whoever_builds(self, bench: "Bench", base: str, flag: str) -> None:
        """CVE-2024-23653: entitlements were not checked on one way."""
        with pytest.raises(BuilderError, match="allow"):
            bench.build(f"{base}RUN {flag} true\n")
        with pytest.raises(BuilderError, match="allow"):
            bench.build(f"{base}FROM base AS t\nONBUILD RUN {flag} true\nFROM t\n")


class TestSteps:
    def test_nothing_of_the_builders_environment_is_in_a_step(
        self, bench: "Bench", base: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """CVE-2021-3602: buildah's chroot isolation handed its own on, with the tokens of CI in it."""
        for name in ("CI_TOKEN", "AWS_SECRET_ACCESS_KEY", "HTTP_PROXY", "no_proxy", "LD_PRELOAD", "SSH_AUTH_SOCK"):
            monkeypatch.setenv(name, f"/{MARK}/{name}")
        built = bench.build(f"{base}RUN env && cat /proc/1/environ && cat /proc/self/environ\n")
        assert MARK not in built.output
        assert MARK not in str(built.config)

    @pytest.mark.parametrize("number", [*range(3, 20)][::4])
    def test_a_working_directory_is_none_of_the_builders(self, bench: "Bench", base: str, number: int) -> None:
        """CVE-2024-21626: an open directory of the host was reached by /proc/self/fd."""
        told = refused_or_inside(bench, f"{base}WORKDIR /proc/self/fd/{number}\nRUN ls ../../outside . && cat mark\n")
        assert "meta.db" not in told

    def test_accounts_are_the_images_own(self, bench: "Bench", base: str, outside: Outside) -> None:
        """CVE-2019-14271 and its kin: names are looked up in the image, whatever its files lead to."""
        stage = f"{base}COPY passwd {outside.path}/users\nRUN ln -s {outside.path}/users /etc/passwd\n"
        built = bench.build(f"{stage}COPY --chown=me f /f\n", files={"passwd": "me:x:77:78::/:/bin/sh\n", "f": ""})
        assert [(entry.uid, entry.gid) for entry in built.layer(-1) if entry.name == "f"] == [(77, 78)]
        with pytest.raises(BuilderError):
            bench.build(f"{base}RUN ln -s /etc/shadow /etc/passwd\nUSER daemon\nRUN true\n")

    def test_accounts_that_never_answer_are_an_error(self, bench: "Bench", base: str) -> None:
        """CVE-2024-9676: a pipe in the place of /etc/passwd made the builder wait for ever."""
        stage = f"{base}RUN mkdir -p /etc && mkfifo /etc/passwd\n"
        with pytest.raises(BuilderError):
            bench.build(f"{stage}COPY --chown=me f /f\n", files={"f": ""})
        with pytest.raises(BuilderError):
            bench.build(f"{stage}USER me\nRUN true\n")

    def test_a_copy_follows_links_within_the_image(self, bench: "Bench", base: str, outside: Outside) -> None:
        links = f"{base}RUN ln -s {outside.path} /way && ln -s {outside.path}/empty /file && ln -s ../../.. /up\n"
        copies = "COPY f /way/new\nCOPY f /file\nCOPY f /up/etc/x\nADD f /way/b/c/\nWORKDIR /way/work\n"
        bench.build(links + copies, files={"f": "evil"})
        told = refused_or_inside(bench, f"{links}FROM scratch\nCOPY --from=base /way/mark /\n")
        assert "not found" in told

    def test_what_an_archive_holds_lands_within_the_image(self, bench: "Bench", outside: Outside) -> None:
        """Zip slip, in an archive of the context."""
        for name, link in (("../../outside/new", ""), ("way/new", str(outside.path)), ("hard", f"{outside.path}/mark")):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as tar:
                if link:
                    member = tarfile.TarInfo(name.partition("/")[0])
                    member.type = tarfile.LNKTYPE if name == "hard" else tarfile.SYMTYPE
                    member.linkname = link
                    tar.addfile(member)
                member = tarfile.TarInfo(name)
                member.size = 4
                tar.addfile(member, io.BytesIO(b"evil"))
            refused_or_inside(bench, "FROM scratch\nADD a.tar /\n", files={"a.tar": content.getvalue()})


class TestContexts:
    def test_ignore_files_and_dockerfiles_of_an_archive_do_not_lead_out(self, bench: "Bench", outside: Outside) -> None:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name in ("Dockerfile.dockerignore", ".dockerignore", "Dockerfile", "f"):
                member = tarfile.TarInfo(name)
                if name == "Dockerfile":
                    text = b"FROM scratch\nCOPY . /\n"
                    member.size = len(text)
                    tar.addfile(member, io.BytesIO(text))
                else:
                    member.type, member.linkname = tarfile.SYMTYPE, str(outside.path / "mark")
                    tar.addfile(member)
        content.seek(0)
        try:
            built = bench.build("", context="-", stdin=content)
        except BuilderError as error:
            told = str(error)
        else:
            told = "".join(built.read(entry.name).decode() for entry in built.layer(-1) if entry.isreg())
        assert MARK not in told

    def test_links_of_a_context_are_copied_and_not_followed_out(self, bench: "Bench", outside: Outside) -> None:
        (bench.context / "way").symlink_to(outside.path)
        (bench.context / "up").symlink_to("../outside/mark")
        assert "not found" in refused_or_inside(bench, "FROM scratch\nCOPY way/mark /\n")
        told = refused_or_inside(bench, "FROM scratch\nCOPY up /\n")
        assert "dangling" in told or "not found" in told

    @pytest.mark.parametrize(
        "url",
        ["ext::sh -c touch% {}", "file://{}", "-u./{}", "ssh://-oProxyCommand=touch%20{}/x.git", "{}/.git#main:../.."],
    )
    def test_git_addresses_run_nothing(self, bench: "Bench", outside: Outside, url: str) -> None:
        """CVE-2017-1000117, CVE-2022-24439: an address that is an option, or a command."""
        told = refused_or_inside(bench, f"FROM scratch\nADD {url.format(outside.path / 'new')} /\n")
        assert told


@pytest.fixture
def hub(netns: None, ram_path: Path) -> "Iterator[Hub]":
    with serving(ram_path / "origins") as hub:
        yield hub


class TestRedirects:
    @pytest.mark.parametrize("target", ["file://{}", "ftp://127.0.0.1/{}", "unix://{}", "gopher://127.0.0.1:1/{}"])
    def test_of_the_web_stay_in_the_web(self, bench: "Bench", hub: "Hub", outside: Outside, target: str) -> None:
        hub.redirects["/f"] = target.format(outside.path / "mark")
        with pytest.raises((BuilderError, RegistryError)) as caught:
            bench.build(f"FROM scratch\nADD http://127.0.0.1:{hub.port}/f /f\n")
        assert MARK not in str(caught.value)

    def test_without_end_come_to_one(self, bench: "Bench", hub: "Hub") -> None:
        hub.redirects["/f"] = f"http://127.0.0.1:{hub.port}/f"
        with pytest.raises((BuilderError, RegistryError)):
            bench.build(f"FROM scratch\nADD http://127.0.0.1:{hub.port}/f /f\n")
        assert hub.asked_for("/f") < 50

    def test_take_no_secret_to_another_server(self, bench: "Bench", hub: "Hub", ram_path: Path) -> None:
        """CVE-2018-1000007 and its kin: the header went along to wherever the first server said."""
        (ram_path / "token").write_text("the-token")
        hub.root.mkdir(parents=True, exist_ok=True)
        (hub.root / "g").write_text("x")
        hub.redirects["/f"] = f"http://127.0.0.2:{hub.port}/g"
        secret = Secret("HTTP_AUTH_TOKEN_127.0.0.1", ram_path / "token")
        bench.build(f"FROM scratch\nADD http://127.0.0.1:{hub.port}/f /f\n", secrets={secret.id: secret})
        assert hub.authorizations == ["Bearer the-token", None]

    def test_do_not_pass_by_a_checksum(self, bench: "Bench", hub: "Hub") -> None:
        hub.root.mkdir(parents=True, exist_ok=True)
        (hub.root / "evil").write_text("evil")
        hub.redirects["/f"] = f"http://127.0.0.1:{hub.port}/evil"
        with pytest.raises((BuilderError, RegistryError), match="sha256"):
            bench.build(f"FROM scratch\nADD --checksum={Digest.of(b'good')} http://127.0.0.1:{hub.port}/f /f\n")

    def test_of_git_do_not_lead_to_files(self, bench: "Bench", hub: "Hub", outside: Outside) -> None:
        origin = hub.create("own")
        origin.commit({"mark": MARK})
        hub.redirects["/moved.git"] = f"file://{origin.path}"
        refused_or_inside(bench, f"FROM scratch\nADD {hub.url('moved')} /\n")

    def test_of_a_repository_its_links_and_modules_stay_inside(
        self, bench: "Bench", hub: "Hub", outside: Outside
    ) -> None:
        """CVE-2018-17456, CVE-2024-32002: a module's path or address; and a link in place of a directory."""
        origin = hub.create("app")
        origin.commit({"way": f"->{outside.path}", "f": "x"})
        refused_or_inside(bench, f"FROM scratch\nADD {hub.url('app')}#main:way /\n")
        built = bench.build(f"FROM scratch\nADD {hub.url('app')} /\n")
        assert "f" in built.names()
        assert os.listdir(outside.path) == os.listdir(outside.path)
