"""Images to archives and back: the same images, the same bytes."""

import gzip
import io
import json
import lzma
import tarfile
from bz2 import compress as bzip2
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from registry.errors import BlobUnknown, ManifestUnknown
from registry.layouts import UNNAMED, ArchiveError, load_archive, write_docker_archive, write_oci_layout
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, Platform, Reference
from registry.storage import ContentStore
from tests.unit.layouts.conftest import layer_tar

APP = Reference.parse("example.com/team/app:1")
NewImage = Callable[..., Manifest]


def digest_of(store: ContentStore, reference: Reference = APP) -> Digest:
    return store.manifest(reference.repository, reference.tag or "").digest


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened if member.isfile()}


class TestOciLayout:
    def test_a_folder_there_and_back(
        self, store: ContentStore, other: ContentStore, new_image: NewImage, tmp_path: Path
    ) -> None:
        new_image(store, str(APP))
        write_oci_layout(store, [(APP, digest_of(store))], tmp_path / "layout")
        assert json.loads((tmp_path / "layout/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
        assert load_archive(other, tmp_path / "layout") == [APP]
        assert digest_of(other) == digest_of(store)

    def test_a_stream_there_and_back(self, store: ContentStore, other: ContentStore, new_image: NewImage) -> None:
        new_image(store, str(APP))
        out = io.BytesIO()
        write_oci_layout(store, [(APP, digest_of(store))], out)
        assert load_archive(other, io.BytesIO(out.getvalue())) == [APP]
        assert digest_of(other) == digest_of(store)

    def test_the_names_that_others_look_for(self, store: ContentStore, new_image: NewImage) -> None:
        new_image(store, "app:1")
        out = io.BytesIO()
        app = Reference.parse("app:1")
        write_oci_layout(store, [(app, digest_of(store, app))], out)
        (entry,) = json.loads(members(out.getvalue())["index.json"])["manifests"]
        assert entry["annotations"] == {
            "io.containerd.image.name": "docker.io/library/app:1",
            "org.opencontainers.image.ref.name": "1",
        }

    def test_equal_images_give_equal_archives(self, store: ContentStore, new_image: NewImage) -> None:
        new_image(store, str(APP))
        first, second = io.BytesIO(), io.BytesIO()
        write_oci_layout(store, [(APP, digest_of(store))], first)
        write_oci_layout(store, [(APP, digest_of(store))], second)
        assert first.getvalue() == second.getvalue()

    def test_an_image_without_a_name_comes_back_by_its_digest(
        self, store: ContentStore, other: ContentStore, new_image: NewImage
    ) -> None:
        new_image(store, str(APP))
        out = io.BytesIO()
        write_oci_layout(store, [(None, digest_of(store))], out)
        assert load_archive(other, io.BytesIO(out.getvalue())) == [digest_of(store)]
        assert other.manifest(UNNAMED, digest_of(store))

    def test_an_index_keeps_the_platforms_that_are_here(
        self, store: ContentStore, other: ContentStore, new_image: NewImage
    ) -> None:
        children = [new_image(store, "example.com/team/app", None, arch) for arch in ("amd64", "arm64")]
        entries = tuple(
            Descriptor(c.media_type, Digest.of(c.to_bytes()), len(c.to_bytes()), platform=Platform("linux", arch))
            for c, arch in zip(children, ("amd64", "arm64"), strict=True)
        )
        absent = Descriptor(MediaType.OCI_MANIFEST, Digest.of(b"absent"), 6, platform=Platform("linux", "s390x"))
        index = Index(MediaType.OCI_INDEX, (*entries, absent))
        store.put_manifest(APP.repository, index.to_bytes(), index.media_type, tags=["1"], sparse=True)
        out = io.BytesIO()
        write_oci_layout(store, [(APP, digest_of(store))], out)
        assert load_archive(other, io.BytesIO(out.getvalue())) == [APP]
        assert digest_of(other) == Digest.of(index.to_bytes())
        for entry in entries:
            assert other.manifest(APP.repository, entry.digest)

    @pytest.mark.parametrize(
        ("annotations", "name"),
        [
            ({"org.opencontainers.image.ref.name": "docker.io/library/app:1"}, "app:1"),  # podman
            ({"org.opencontainers.image.ref.name": "app:1"}, "app:1"),  # skopeo
            ({"io.containerd.image.name": "quay.io/a/b:2", "org.opencontainers.image.ref.name": "2"}, "quay.io/a/b:2"),
            ({"org.opencontainers.image.ref.name": "latest"}, None),
        ],
    )
    def test_how_others_write_names(
        self, store: ContentStore, new_image: NewImage, tmp_path: Path, annotations: dict[str, str], name: str | None
    ) -> None:
        new_image(store, str(APP))
        write_oci_layout(store, [(None, digest_of(store))], tmp_path)
        index = json.loads((tmp_path / "index.json").read_text())
        index["manifests"][0]["annotations"] = annotations
        (tmp_path / "index.json").write_text(json.dumps(index))
        assert load_archive(store, tmp_path) == [Reference.parse(name) if name else digest_of(store)]

    def test_what_the_store_lacks_is_an_error(self, store: ContentStore) -> None:
        with pytest.raises(ManifestUnknown):
            write_oci_layout(store, [(APP, Digest.of(b"x"))], io.BytesIO())


class TestDockerArchive:
    def test_there_and_back(self, store: ContentStore, other: ContentStore, new_image: NewImage) -> None:
        image = new_image(store, str(APP), [layer_tar("one"), layer_tar("two")])
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store))], out)
        (entry,) = json.loads(members(out.getvalue())["manifest.json"])
        assert entry["RepoTags"] == [str(APP)]
        assert load_archive(other, io.BytesIO(out.getvalue())) == [APP]
        assert other.read(image.config.digest) == store.read(image.config.digest)

    def test_several_images_share_their_layers(
        self, store: ContentStore, other: ContentStore, new_image: NewImage
    ) -> None:
        base = layer_tar("base")
        second = Reference.parse("app:2")
        new_image(store, str(APP), [base])
        new_image(store, str(second), [base, layer_tar("more")])
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store)), (second, digest_of(store, second))], out)
        assert len([name for name in members(out.getvalue()) if name.endswith(".tar")]) == 2
        assert load_archive(other, io.BytesIO(out.getvalue())) == [APP, second]

    def test_several_names_of_one_image(self, store: ContentStore, other: ContentStore, new_image: NewImage) -> None:
        new_image(store, str(APP))
        again = Reference.parse("app:again")
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store)), (again, digest_of(store))], out)
        assert load_archive(other, io.BytesIO(out.getvalue())) == [APP, again]

    def test_zstd_layers_are_written_plain_for_older_daemons(self, store: ContentStore, new_image: NewImage) -> None:
        plain = layer_tar("file", b"zeros" * 100_000)
        new_image(store, str(APP), [(zstandard.compress(plain), plain, MediaType.OCI_LAYER_ZSTD)])
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store))], out)
        assert plain in members(out.getvalue()).values()

    def test_gzip_layers_stay(self, store: ContentStore, other: ContentStore, new_image: NewImage) -> None:
        plain = layer_tar("file")
        packed = gzip.compress(plain, mtime=0)
        new_image(store, str(APP), [(packed, plain, MediaType.OCI_LAYER_GZIP)])
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store))], out)
        load_archive(other, io.BytesIO(out.getvalue()))
        assert digest_of(other) == digest_of(store)

    def test_a_file_appears_when_it_is_whole(self, store: ContentStore, new_image: NewImage, tmp_path: Path) -> None:
        image = new_image(store, str(APP))
        store.path(image.layers[0].digest).unlink()
        with pytest.raises(BlobUnknown):
            write_docker_archive(store, [(APP, digest_of(store))], tmp_path / "app.tar")
        assert list(tmp_path.iterdir()) == []

    def test_old_dockers_link_equal_layers(self, store: ContentStore, new_image: NewImage) -> None:
        layer = layer_tar("one")
        image = new_image(store, str(APP), [layer, layer])
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            add(archive, "abc/layer.tar", layer)
            link = tarfile.TarInfo("def/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, "../abc/layer.tar"
            archive.addfile(link)
            add(archive, "config.json", store.read(image.config.digest))
            entry = {"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["abc/layer.tar", "def/layer.tar"]}
            add(archive, "manifest.json", json.dumps([entry]).encode())
        assert load_archive(store, io.BytesIO(out.getvalue())) == [Reference.parse("app:1")]

    def test_without_a_name(self, store: ContentStore, other: ContentStore, new_image: NewImage) -> None:
        new_image(store, str(APP))
        out = io.BytesIO()
        write_docker_archive(store, [(None, digest_of(store))], out)
        assert load_archive(other, io.BytesIO(out.getvalue())) == [digest_of(store)]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class TestCompressedArchives:
    @pytest.mark.parametrize(
        "compress", [gzip.compress, zstandard.compress, lzma.compress, bzip2], ids=["gzip", "zstd", "xz", "bzip2"]
    )
    def test_are_unpacked_on_the_way(
        self, store: ContentStore, other: ContentStore, new_image: NewImage, compress: Callable[[bytes], bytes]
    ) -> None:
        new_image(store, str(APP), [layer_tar("big", bytes(3_000_000))])
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store))], out)
        assert load_archive(other, io.BytesIO(compress(out.getvalue()))) == [APP]

    @pytest.mark.parametrize(
        "compress", [gzip.compress, zstandard.compress, lzma.compress, bzip2], ids=["gzip", "zstd", "xz", "bzip2"]
    )
    def test_cut_short_are_refused(
        self, store: ContentStore, other: ContentStore, new_image: NewImage, compress: Callable[[bytes], bytes]
    ) -> None:
        new_image(store, str(APP))
        out = io.BytesIO()
        write_docker_archive(store, [(APP, digest_of(store))], out)
        packed = compress(out.getvalue())
        with pytest.raises(ArchiveError):
            load_archive(other, io.BytesIO(packed[: len(packed) // 2]))
        assert other.images() == []
