"""Contexts that are not a directory of this machine: repositories, web servers, layouts; and what names stand for."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Output
from builder.errors import BuilderError, ContextError
from registry.errors import RegistryError
from tests.gitserver import Hub

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = [pytest.mark.root, pytest.mark.net]
COPY_ALL = "FROM scratch\nCOPY . /d/\n"


def packed(files: Mapping[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def put(hub: Hub, name: str, content: bytes | str) -> str:
    path = hub.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return f"http://127.0.0.1:{hub.port}/{name}"


class TestRepository:
    def test_is_a_context(self, bench: "Bench", hub: Hub) -> None:
        hub.create().commit({"Dockerfile": COPY_ALL, "a": "1", "b": "2", ".dockerignore": "b\n.*\nDockerfile\n"})
        assert bench.build("", context=hub.url()).names() == ["d", "d/a"]

    def test_of_a_directory_with_another_dockerfile(self, bench: "Bench", hub: Hub) -> None:
        hub.create().commit({"sub/x/Other": "FROM scratch\nCOPY f /\n", "sub/f": "1", "Dockerfile": "broken"})
        built = bench.build("", context=f"{hub.url()}#main:sub", dockerfile="x/Other")
        assert built.names() == ["f"]

    def test_its_dockerfile_can_come_by_standard_input(self, bench: "Bench", hub: Hub) -> None:
        hub.create().commit({"f": "1"})
        built = bench.build("", context=hub.url(), dockerfile="-", stdin=io.BytesIO(b"FROM scratch\nCOPY f /\n"))
        assert built.names() == ["f"]

    def test_has_its_git_directory_only_when_asked(self, bench: "Bench", hub: Hub) -> None:
        hub.create().commit({"Dockerfile": COPY_ALL})
        assert bench.build("", context=hub.url()).names() == ["d", "d/Dockerfile"]
        built = bench.build("", context=hub.url(), build_args={"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"})
        assert "d/.git/HEAD" in built.names()

    def test_is_cached_by_its_content(self, bench: "Bench", hub: Hub) -> None:
        origin = hub.create()
        origin.commit({"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "1"})
        bench.build("", context=hub.url())
        origin.commit({"other": "2"})
        assert bench.build("", context=hub.url()).done_again == [f"load {hub.url()}"]

    def test_a_dockerfile_that_leads_out_is_not_read(self, bench: "Bench", hub: Hub, ram_path: Path) -> None:
        (ram_path / "outside").write_text("FROM scratch\nCOPY f /\n")
        hub.create().commit({"Dockerfile": f"->{ram_path}/outside", "f": "1"})
        with pytest.raises(ContextError, match="no Dockerfile"):
            bench.build("", context=hub.url())

    def test_without_a_dockerfile_nothing_is_left(self, bench: "Bench", hub: Hub) -> None:
        hub.create().commit({"f": "1"})
        with pytest.raises(ContextError, match="no Dockerfile"):
            bench.build("", context=hub.url())
        assert list((bench.root / "tmp").iterdir()) == []

    def test_one_that_is_not_there(self, bench: "Bench", hub: Hub) -> None:
        with pytest.raises(BuilderError, match="not found"):
            bench.build("", context=hub.url("nothing"))


class TestWebServer:
    def test_an_archive_is_a_context(self, bench: "Bench", hub: Hub) -> None:
        url = put(hub, "ctx.tar.gz", packed({"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "1"}))
        assert bench.build("", context=url).read("f") == b"1"

    def test_a_lone_dockerfile_is_one_without_files(self, bench: "Bench", hub: Hub) -> None:
        url = put(hub, "Dockerfile.web", "FROM scratch\nCOPY <<x /x\nhello\nx\n")
        assert bench.build("", context=url).read("x") == b"hello\n"
        with pytest.raises(ContextError, match="no archive"):
            bench.build("", context=url, dockerfile="other")

    def test_a_dockerfile_for_a_directory_of_this_machine(self, bench: "Bench", hub: Hub) -> None:
        url = put(hub, "Dockerfile.web", "FROM scratch\nCOPY f /from-the-web\n")
        built = bench.build("FROM scratch\nCOPY f /\n", dockerfile=url, files={"f": "1"})
        assert built.names() == ["from-the-web"]

    def test_a_hostile_archive_is_refused(self, bench: "Bench", hub: Hub) -> None:
        url = put(hub, "ctx.tar.gz", packed({"Dockerfile": "FROM scratch\n", "../../escaped": "1"}))
        with pytest.raises(BuilderError, match="escaped"):
            bench.build("", context=url)
        assert list((bench.root / "tmp").iterdir()) == []

    def test_one_that_is_not_there(self, bench: "Bench", hub: Hub) -> None:
        with pytest.raises(RegistryError, match="404"):
            bench.build("", context=f"http://127.0.0.1:{hub.port}/nothing")


class TestNames:
    def test_a_repository(self, bench: "Bench", hub: Hub) -> None:
        hub.create().commit({"sub/f": "1", ".dockerignore": "sub\n"})
        dockerfile = "FROM src AS tree\nFROM scratch\nCOPY --from=src /sub/f /a\nCOPY --from=tree /sub/f /b\n"
        built = bench.build(dockerfile, contexts={"src": hub.url()})
        assert (built.read("a"), built.read("b")) == (b"1", b"1")
        hub.requests.clear()
        again = bench.build(dockerfile, contexts={"src": hub.url()})
        assert [name for name in again.done_again if not name.startswith("load")] == []
        assert len(hub.requests) == 2

    def test_a_repository_can_be_mounted(self, bench: "Bench", hub: Hub, base: str) -> None:
        hub.create().commit({"f": "mounted"})
        built = bench.build(
            base + "RUN --mount=from=src,target=/src cat /src/f > /out && ! touch /src/g\n", contexts={"src": hub.url()}
        )
        assert built.read("out") == b"mounted"

    def test_an_archive_and_a_file_of_the_web(self, bench: "Bench", hub: Hub) -> None:
        places = {"tree": put(hub, "x.tar.gz", packed({"f": "1"})), "file": put(hub, "dir/name.txt", "2")}
        built = bench.build("FROM scratch\nCOPY --from=tree f /\nCOPY --from=file . /d/\n", contexts=places)
        assert (built.read("f"), built.read("d/name.txt")) == (b"1", b"2")
        assert list((bench.root / "tmp").iterdir()) == []

    @pytest.mark.parametrize("written", ["debian", "debian:latest", "docker.io/library/debian", "DEBIAN:latest"])
    @pytest.mark.parametrize("named", ["debian", "docker.io/library/debian:latest"])
    def test_one_image_has_many_spellings(self, bench: "Bench", ram_path: Path, written: str, named: str) -> None:
        (ram_path / "tree").mkdir()
        (ram_path / "tree" / "f").write_text("1")
        name = written.lower()
        assert bench.build(f"FROM {name}\n", contexts={named: str(ram_path / "tree")}).names() == ["f"]

    @pytest.mark.parametrize(
        "end", ["FROM build", "FROM scratch\nCOPY --from=0 f /", "FROM scratch\nCOPY --from=Build f /"]
    )
    def test_a_name_replaces_a_stage_with_all_it_does(self, bench: "Bench", ram_path: Path, end: str) -> None:
        (ram_path / "tree").mkdir()
        (ram_path / "tree" / "f").write_text("1")
        dockerfile = f"FROM nowhere/at/all AS build\nRUN make\n{end}\n"
        assert bench.build(dockerfile, contexts={"build": str(ram_path / "tree")}).names() == ["f"]

    def test_also_if_it_is_the_target(self, bench: "Bench", ram_path: Path) -> None:
        (ram_path / "tree").mkdir()
        (ram_path / "tree" / "f").write_text("1")
        built = bench.build("FROM x AS build\nRUN make\n", target="build", contexts={"build": str(ram_path / "tree")})
        assert built.names() == ["f"]

    def test_another_tag_is_another_image(self, bench: "Bench", ram_path: Path, netns: None) -> None:
        with pytest.raises(BuilderError, match="debian:12"):
            bench.build("FROM debian:12\n", contexts={"debian": str(ram_path)})

    def test_a_name_may_be_for_one_platform(self, bench: "Bench", ram_path: Path) -> None:
        (ram_path / "here").mkdir()
        (ram_path / "here" / "f").write_text("1")
        from registry.model.platform import native

        contexts = {f"x::{native()}": str(ram_path / "here"), "x::linux/mips": "/nonexistent", "x": "/nonexistent"}
        assert bench.build("FROM x\n", contexts=contexts).names() == ["f"]


class TestLayouts:
    @pytest.fixture
    def layout(self, bench: "Bench", ram_path: Path) -> Path:
        for number in (1, 2):
            bench.build(
                f"FROM scratch\nCOPY <<f /f\nversion {number}\nf\nENV V={number}\n",
                tags=[f"lib:{number}"],
                outputs=(Output("oci", str(ram_path / f"layout{number}"), {"tar": "false"}),),
            )
        return ram_path / "layout1"

    def test_an_image_of_one_is_a_base_and_a_source(self, bench: "Bench", layout: Path) -> None:
        built = bench.build(
            "FROM lib AS lib\nFROM lib\nCOPY --from=lib /f /g\n", contexts={"lib": f"oci-layout://{layout}"}
        )
        assert (built.read("f"), built.read("g")) == (b"version 1\n", b"version 1\n")
        assert built.config.config.environment["V"] == "1"

    def test_it_is_named_by_tag_or_digest(self, bench: "Bench", layout: Path) -> None:
        import json

        digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
        for which in (":1", f"@{digest}"):
            built = bench.build("FROM lib\n", contexts={"lib": f"oci-layout://{layout}{which}"})
            assert built.read("f") == b"version 1\n"

    def test_it_gives_no_names_to_the_store(self, bench: "Bench", layout: Path) -> None:
        before = [image.repository for image in bench.store.images()]
        bench.build("FROM lib\n", contexts={"lib": f"oci-layout://{layout}"})
        assert [image.repository for image in bench.store.images()] == before

    def test_what_is_not_in_it_is_told(self, bench: "Bench", layout: Path, ram_path: Path) -> None:
        with pytest.raises(BuilderError, match="no image 9") as caught:
            bench.build("FROM lib\n", contexts={"lib": f"oci-layout://{layout}:9"})
        assert "1" in (caught.value.hint or "")
        with pytest.raises(BuilderError, match=r"index\.json"):
            bench.build("FROM lib\n", contexts={"lib": f"oci-layout://{ram_path}/nothing"})


def test_a_directory_comes_before_a_repository_of_that_name(
    bench: "Bench", ram_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ram_path / "github.com/team/app").mkdir(parents=True)
    (ram_path / "github.com/team/app/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    monkeypatch.chdir(ram_path)
    assert bench.build("", context="github.com/team/app").names() == ["Dockerfile"]
