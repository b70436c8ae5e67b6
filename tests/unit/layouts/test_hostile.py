"""Archives that were made to do harm, or got damaged: refused with advice, and nothing of them stays."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.archive.reader import TarReader
from registry.archive.unpacking import Limits
from registry.errors import DigestInvalid, ManifestInvalid, RegistryError, SizeInvalid
from registry.layouts import ArchiveError, load_archive, write_docker_archive, write_oci_layout
from registry.layouts import sources as sources_module
from registry.model import Digest, ImageConfig, Manifest, MediaType, Platform, Reference, RootFs
from registry.storage import ContentStore
from tests.unit.layouts.conftest import layer_tar

APP = Reference.parse("app:1")
LAYER = layer_tar("file")


@pytest.fixture
def refused(store: ContentStore) -> Callable[..., RegistryError]:
    def run(kind: type[RegistryError], archive: bytes | Path) -> RegistryError:
        with pytest.raises(kind) as caught:
            load_archive(store, io.BytesIO(archive) if isinstance(archive, bytes) else archive)
        assert caught.value.hint
        assert store.images() == store.untagged() == []
        store.collect(grace_seconds=0)
        assert not [path for path in (store.root / "blobs").rglob("*") if path.is_file()]
        return caught.value

    return run


def config_for(*layers: bytes) -> bytes:
    return ImageConfig(Platform("linux", "amd64"), rootfs=RootFs(tuple(map(Digest.of, layers)))).to_bytes()


def docker_archive(entry: dict[str, object] | None = None, *extra: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    found = {"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"]} | (entry or {})
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, content in extra:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, content in (
            ("config.json", config_for(LAYER)), ("layer.tar", LAYER), ("manifest.json", json.dumps([found]).encode())
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def linked(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def named(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def test_the_archive_that_these_tests_spoil_is_good(store: ContentStore) -> None:
    assert load_archive(store, io.BytesIO(docker_archive())) == [APP]


class TestNamesThatLeadOut:
    @pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "a/../../b", ".."])
    def test_of_files(self, refused: Callable[..., RegistryError], name: str) -> None:
        assert "leads out" in str(refused(ArchiveError, docker_archive(None, named(name))))

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    @pytest.mark.parametrize("target", ["../../../etc/passwd", "/etc/passwd"])
    def test_of_links(self, refused: Callable[..., RegistryError], kind: bytes, target: str) -> None:
        refused(ArchiveError, docker_archive(None, linked("a/link", target, kind)))

    @pytest.mark.parametrize("key", ["Config", "Layers"])
    def test_in_the_manifest(self, refused: Callable[..., RegistryError], key: str) -> None:
        path = "../../../../etc/passwd"
        refused(ArchiveError, docker_archive({key: [path] if key == "Layers" else path}))

    def test_links_in_a_circle(self, refused: Callable[..., RegistryError]) -> None:
        circle = (linked("a", "b"), linked("b", "a"))
        refused(ArchiveError, docker_archive({"Layers": ["a"]}, *circle))

    def test_a_device(self, refused: Callable[..., RegistryError]) -> None:
        member = tarfile.TarInfo("null")
        member.type = tarfile.CHRTYPE
        refused(ArchiveError, docker_archive(None, (member, b"")))

    def test_two_files_of_one_name(self, refused: Callable[..., RegistryError]) -> None:
        refused(ArchiveError, docker_archive(None, named("config.json", b"{}")))


class TestLies:
    def test_a_layer_that_its_config_does_not_know(self, refused: Callable[..., RegistryError]) -> None:
        archive = docker_archive({"Layers": ["other"]}, named("other", layer_tar("evil")))
        refused(DigestInvalid, archive)

    def test_another_number_of_layers(self, refused: Callable[..., RegistryError]) -> None:
        refused(ArchiveError, docker_archive({"Layers": []}))

    def test_a_config_that_is_none(self, refused: Callable[..., RegistryError]) -> None:
        refused(ManifestInvalid, docker_archive({"Config": "junk"}, named("junk", b"[[[[")))

    def test_a_file_that_is_not_there(self, refused: Callable[..., RegistryError]) -> None:
        refused(ArchiveError, docker_archive({"Layers": ["missing"]}))

    @pytest.mark.parametrize("content", [b"[" * 100_000, b"{}", b"null", b'[{"Config": 5}]', b"\xff\xfe"])
    def test_a_manifest_that_is_none(self, refused: Callable[..., RegistryError], content: bytes) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            member = tarfile.TarInfo("manifest.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        refused(ArchiveError, out.getvalue())

    def test_a_huge_manifest(self, refused: Callable[..., RegistryError]) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            member = tarfile.TarInfo("manifest.json")
            member.size = 6 * 1024 * 1024
            archive.addfile(member, io.BytesIO(b" " * member.size))
        refused(SizeInvalid, out.getvalue())


class TestLayouts:
    @pytest.fixture
    def layout(self, other: ContentStore, new_image: Callable[..., Manifest], tmp_path: Path) -> Path:
        new_image(other, str(APP))
        write_oci_layout(other, [(APP, other.manifest("app", "1").digest)], tmp_path / "layout")
        return tmp_path / "layout"

    def blob(self, layout: Path, kind: str) -> Path:
        """The file of the manifest, config or layer."""
        index = json.loads((layout / "index.json").read_text())
        manifest = layout / "blobs/sha256" / index["manifests"][0]["digest"].removeprefix("sha256:")
        if kind == "manifest":
            return manifest
        body = json.loads(manifest.read_text())
        descriptor = body["config"] if kind == "config" else body["layers"][0]
        return layout / "blobs/sha256" / str(descriptor["digest"]).removeprefix("sha256:")

    @pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
    def test_a_blob_with_other_bytes(self, layout: Path, refused: Callable[..., RegistryError], kind: str) -> None:
        path = self.blob(layout, kind)
        path.chmod(0o600)
        path.write_bytes(bytes(len(path.read_bytes())))
        refused(DigestInvalid, layout)

    @pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
    def test_a_blob_that_is_not_there(self, layout: Path, refused: Callable[..., RegistryError], kind: str) -> None:
        self.blob(layout, kind).unlink()
        refused(ArchiveError, layout)

    def test_a_blob_that_is_a_link_to_something_else(self, layout: Path, refused: Callable[..., RegistryError]) -> None:
        path = self.blob(layout, "layer")
        path.unlink()
        path.symlink_to("/etc/passwd")
        refused(ArchiveError, layout)

    def test_a_pipe_that_nobody_writes_into(self, layout: Path, refused: Callable[..., RegistryError]) -> None:
        path = self.blob(layout, "layer")
        path.unlink()
        os.mkfifo(path)
        refused(ArchiveError, layout)

    def test_a_size_that_lies(self, layout: Path, refused: Callable[..., RegistryError]) -> None:
        index = json.loads((layout / "index.json").read_text())
        index["manifests"][0]["size"] += 1
        (layout / "index.json").write_text(json.dumps(index))
        refused(SizeInvalid, layout)

    @pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "A" * 64, "../x:y"])
    def test_a_digest_that_is_none(self, layout: Path, refused: Callable[..., RegistryError], digest: str) -> None:
        """CVE-2024-3727."""
        index = json.loads((layout / "index.json").read_text())
        index["manifests"][0]["digest"] = digest
        (layout / "index.json").write_text(json.dumps(index))
        refused(DigestInvalid, layout)

    def test_a_name_that_is_none(self, layout: Path, refused: Callable[..., RegistryError]) -> None:
        index = json.loads((layout / "index.json").read_text())
        index["manifests"][0]["annotations"]["io.containerd.image.name"] = "../../../x:1"
        (layout / "index.json").write_text(json.dumps(index))
        refused(RegistryError, layout)

    def test_of_two_images_the_second_one_broken(
        self, layout: Path, refused: Callable[..., RegistryError], other: ContentStore,
        new_image: Callable[..., Manifest],
    ) -> None:  # fmt: skip
        image = new_image(other, "app:2", [layer_tar("second")])
        both = [(Reference.parse(f"app:{tag}"), other.manifest("app", tag).digest) for tag in "12"]
        write_oci_layout(other, both, layout)
        (layout / "blobs/sha256" / image.layers[0].digest.encoded).unlink()
        refused(ArchiveError, layout)


class TestDamagedTar:
    def test_nothing_at_all(self, refused: Callable[..., RegistryError]) -> None:
        refused(ArchiveError, b"")

    def test_no_tar(self, refused: Callable[..., RegistryError]) -> None:
        refused(ArchiveError, b"hello, world\n" * 100)

    def test_cut_anywhere(self, refused: Callable[..., RegistryError]) -> None:
        archive = docker_archive()
        for at in (100, 512, 700, 1024, len(archive) // 2 + 17):
            refused(ArchiveError, archive[:at])

    def test_a_size_beyond_the_end(self, refused: Callable[..., RegistryError]) -> None:
        member = tarfile.TarInfo("manifest.json")
        member.size = 8 * 1024**4
        refused(ArchiveError, member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)

    def test_an_extended_header_without_end(self, refused: Callable[..., RegistryError]) -> None:
        for kind in (b"x", b"L"):
            member = tarfile.TarInfo("name")
            member.type, member.size = kind, 4 * 1024**3
            refused(ArchiveError, member.tobuf(tarfile.GNU_FORMAT) + b"x" * 10_000)

    def test_a_sparse_file(self, refused: Callable[..., RegistryError]) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            member = tarfile.TarInfo("layer")
            member.pax_headers = {"GNU.sparse.realsize": str(2**40)}
            archive.addfile(member)
        refused(ArchiveError, out.getvalue())

    def test_names_without_end(self, refused: Callable[..., RegistryError], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources_module, "_NAMES_BUDGET", 100_000)
        assert "too many" in str(refused(ArchiveError, docker_archive(None, *(named(f"{n}" * 50) for n in range(400)))))

    def test_a_bomb(self, refused: Callable[..., RegistryError], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources_module, "_LIMITS", Limits(ratio=200, free=4 << 20))
        member = tarfile.TarInfo("layer.tar")
        member.size = 64 * 1024 * 1024
        bomb = gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(member.size))
        assert "times its size" in str(refused(ArchiveError, bomb))


def test_what_we_write_is_what_tarfile_reads(store: ContentStore, new_image: Callable[..., Manifest]) -> None:
    new_image(store, str(APP), [layer_tar("x")])
    out = io.BytesIO()
    write_docker_archive(store, [(APP, store.manifest("app", "1").digest)], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        names = archive.getnames()
    ours = TarReader(iter([out.getvalue()]), Limits()).entries()
    assert [os.fsdecode(entry.name) for entry in ours] == names


def test_media_types_of_layers_are_told_by_their_bytes(store: ContentStore) -> None:
    packed = gzip.compress(LAYER, mtime=0)
    archive = docker_archive({"Layers": ["packed"]}, named("packed", packed))
    load_archive(store, io.BytesIO(archive))
    manifest = json.loads(store.manifest("app", "1").content)
    assert manifest["layers"][0]["mediaType"] == MediaType.OCI_LAYER_GZIP
