"""The commands about images that are here: what docker's users expect of them."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.engine.images import Images, Removed
from pybuild.engine.options import RunOptions
from pybuild.engine.records import Record, Records
from pybuild.errors import Conflict, NotFound
from registry.layouts import UNNAMED
from registry.model import Descriptor, Digest, History, ImageConfig, Index, Manifest, MediaType, Platform, Reference
from registry.storage import ContentStore
from tests.unit.cli_images.conftest import Typed

AddImage = Callable[..., Manifest]
AddIndex = Callable[..., Index]
Command = Callable[..., Typed]


def image_id(manifest: Manifest) -> Digest:
    return manifest.config.digest


class TestImages:
    def test_a_table(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("localhost:5000/team/app:1", (b"x" * 1500, b"y" * 500))
        head, row = pybuild("images").lines
        assert head.split("   ")[0] == "REPOSITORY"
        assert row.split()[:3] == ["localhost:5000/team/app", "1", image_id(image).short]
        assert row.endswith("ago   2kB")

    def test_nothing_but_the_head_when_there_is_none(self, pybuild: Command) -> None:
        assert len(pybuild("images").lines) == 1

    def test_only_ids_each_once(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("app:1")
        add_image("app:2")
        assert pybuild("images", "-q").lines == [image_id(image).short]
        assert pybuild("images", "-q", "--no-trunc").lines == [str(image_id(image))]

    def test_only_one_repository_or_name(self, pybuild: Command, add_image: AddImage) -> None:
        for name in ("app:1", "app:2", "other:1"):
            add_image(name)
        form = "{{.Repository}}:{{.Tag}}"
        assert sorted(pybuild("images", "--format", form, "app").lines) == ["app:1", "app:2"]
        assert pybuild("images", "--format", form, "app:2").lines == ["app:2"]

    @pytest.mark.parametrize(
        ("wanted", "names"),
        [
            ("dangling=true", ["<none>"]),
            ("dangling=false", ["a/app", "b/app"]),
            ("reference=a/*", ["a/app"]),
            ("reference=*:2", ["b/app"]),
            ("label=who=us", ["<none>", "a/app", "b/app"]),
            ("label=whose", []),
        ],
    )
    def test_filters(self, pybuild: Command, add_image: AddImage, wanted: str, names: list[str]) -> None:
        add_image("a/app:1", (b"1",))
        add_image("b/app:2", (b"2",))
        add_image(UNNAMED, (b"3",), tagged=False)
        assert sorted(pybuild("images", "-f", wanted, "--format", "{{.Repository}}").lines) == names

    def test_a_filter_that_is_none(self, pybuild: Command, add_image: AddImage) -> None:
        add_image("app:1")
        assert "reference=PATTERN" in pybuild("images", "-f", "nope=1", fails=2).err

    def test_as_json(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("app:1")
        found = json.loads(pybuild("images", "--format", "json").out)
        assert found["Repository"] == "app"
        assert found["ID"] == image_id(image).short
        assert found["Digest"] == str(Digest.of(image.to_bytes()))

    def test_artifacts_are_no_images(self, pybuild: Command, store: ContentStore) -> None:
        chart = store.put(b"{}")
        config = Descriptor("application/vnd.cncf.helm.config.v1+json", chart, 2)
        artifact = Manifest(MediaType.OCI_MANIFEST, config, ())
        store.put_manifest("charts/app", artifact.to_bytes(), artifact.media_type, tags=["1"], adopt=True)
        assert len(pybuild("images").lines) == 1
        assert pybuild("rmi", "charts/app:1").lines == ["Untagged: charts/app:1"]

    def test_without_a_name(self, pybuild: Command, add_image: AddImage) -> None:
        add_image(UNNAMED, tagged=False)
        assert pybuild("images").lines[1].split()[:2] == ["<none>", "<none>"]

    def test_an_index_is_one_row_and_with_all_a_row_for_each_platform(
        self, pybuild: Command, add_index: AddIndex
    ) -> None:
        add_index("app:1", "amd64", "arm64")
        assert len(pybuild("images").lines) == 2
        assert sorted(pybuild("images", "-a", "--format", "{{.Platform}}").lines) == ["linux/amd64", "linux/arm64"]

    def test_a_format_that_asks_for_too_much(self, pybuild: Command, add_image: AddImage) -> None:
        add_image("app:1")
        err = pybuild("images", "--format", "{{.Nope}}", fails=2).err
        assert "there is no Nope" in err
        assert "Repository" in err


class TestTag:
    def test_another_name_for_the_same_image(self, pybuild: Command, add_image: AddImage, store: ContentStore) -> None:
        image = add_image("app:1")
        pybuild("tag", "app:1", "localhost:5000/team/app:2")
        assert store.manifest("localhost:5000/team/app", "2").digest == Digest.of(image.to_bytes())

    def test_by_id(self, pybuild: Command, add_image: AddImage, store: ContentStore) -> None:
        image = add_image("app:1")
        pybuild("tag", image_id(image).short, "second")
        assert store.manifest("second", "latest").digest == Digest.of(image.to_bytes())

    def test_an_index_comes_whole(self, pybuild: Command, add_index: AddIndex, store: ContentStore) -> None:
        index = add_index("app:1", "amd64", "arm64")
        pybuild("tag", "app:1", "other:1")
        assert store.manifest("other", "1").digest == Digest.of(index.to_bytes())
        for entry in index.manifests:
            assert store.manifest("other", entry.digest)

    def test_a_first_name_for_one_that_had_none(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image(UNNAMED, tagged=False)
        pybuild("tag", image_id(image).short, "app:1")
        assert pybuild("images", "--format", "{{.Repository}}:{{.Tag}}").lines == ["app:1"]

    def test_of_nothing(self, pybuild: Command) -> None:
        assert "no such image: app:1" in pybuild("tag", "app:1", "b:1", fails=1).err

    def test_names_that_are_none(self, pybuild: Command, add_image: AddImage) -> None:
        add_image("app:1")
        pybuild("tag", "app:1", "UPPER:1", fails=1)
        pybuild("tag", "app:1", f"b@sha256:{'0' * 64}", fails=2)


class TestRemove:
    def test_one_name_of_several(self, pybuild: Command, add_image: AddImage) -> None:
        add_image("app:1")
        add_image("app:2")
        assert pybuild("rmi", "app:1").lines == ["Untagged: app:1"]

    def test_the_last_name_takes_the_image_along(
        self, pybuild: Command, add_image: AddImage, store: ContentStore
    ) -> None:
        image = add_image("app:1")
        assert pybuild("rmi", "app:1").lines == ["Untagged: app:1", f"Deleted: {image_id(image)}"]
        assert len(pybuild("images", "-a").lines) == 1
        store.collect(grace_seconds=0)
        assert not store.has(image.layers[0].digest)

    def test_what_other_images_need_stays(self, pybuild: Command, add_image: AddImage, store: ContentStore) -> None:
        add_image("base:1", (b"base",))
        add_image("app:1", (b"base", b"more"))
        pybuild("rmi", "app:1")
        store.collect(grace_seconds=0)
        assert store.has(Digest.of(b"base"))
        assert not store.has(Digest.of(b"more"))

    def test_by_id_means_all_its_names(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("app:1")
        add_image("app:2")
        assert len(pybuild("rmi", image_id(image).short).lines) == 3

    def test_by_id_with_names_in_several_repositories_wants_force(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("app:1")
        add_image("other:1")
        assert "app, other" in pybuild("rmi", image_id(image).short, fails=1).err
        assert len(pybuild("rmi", "-f", image_id(image).short).lines) == 3

    def test_an_index_takes_its_images_along(self, pybuild: Command, add_index: AddIndex, store: ContentStore) -> None:
        add_index("app:1", "amd64", "arm64")
        assert len(pybuild("rmi", "app:1").lines) == 3
        assert store.untagged() == []

    def test_an_image_of_an_index_that_has_a_name_of_its_own_stays(
        self, pybuild: Command, add_index: AddIndex, store: ContentStore
    ) -> None:
        index = add_index("app:1", "amd64", "arm64")
        store.tag("app", "arm", index.manifests[1].digest)
        pybuild("rmi", "app:1")
        assert store.manifest("app", "arm").digest == index.manifests[1].digest

    def test_several_go_on_after_an_error(self, pybuild: Command, add_image: AddImage) -> None:
        add_image("app:1")
        add_image("app:2")
        typed = pybuild("rmi", "app:1", "nope:1", "app:2", fails=1)
        assert typed.lines[:2] == ["Untagged: app:1", "Untagged: app:2"]
        assert "nope:1" in typed.err

    def test_an_image_that_a_container_uses_stays(self, store: ContentStore, add_image: AddImage) -> None:
        image = add_image("app:1")
        images = Images(store, lambda found: "web" if found == image_id(image) else None)
        for name in ("app:1", image_id(image).short):
            with pytest.raises(Conflict, match="container web") as caught:
                images.remove(name)
            assert "pybuild rm web" in str(caught.value.hint)
        assert images.remove("app:1", force=True)[0] == Removed("Untagged", "app:1")

    def test_but_may_lose_a_name_while_it_has_another(self, store: ContentStore, add_image: AddImage) -> None:
        add_image("app:1")
        add_image("app:2")
        images = Images(store, lambda _: "web")
        assert images.remove("app:1") == [Removed("Untagged", "app:1")]

    def test_prune_takes_what_has_no_name(self, pybuild: Command, add_image: AddImage) -> None:
        add_image("app:1", (b"old",))
        old = image_id(add_image("app:1", (b"old",)))
        add_image("app:1", (b"new",))
        typed = pybuild("image", "prune", "-f")
        assert typed.lines[0] == f"Deleted: {old}"
        assert typed.lines[-1].startswith("Total reclaimed space: ")
        assert len(pybuild("images").lines) == 2
        pybuild("image", "prune", "-a", "-f")
        assert len(pybuild("images").lines) == 1


class TestInspect:
    def test_docker_s_shape(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("localhost:5000/app:1", (b"one", b"two"))
        pybuild("tag", "localhost:5000/app:1", "app:1")
        (found,) = json.loads(pybuild("image", "inspect", "app:1").out)
        assert found["Id"] == str(image_id(image))
        assert found["RepoTags"] == ["app:1", "localhost:5000/app:1"]
        assert f"localhost:5000/app@{Digest.of(image.to_bytes())}" in found["RepoDigests"]
        assert found["Config"]["Env"] == ["A=1", "B=2"]
        assert found["Config"]["Entrypoint"] is None
        assert found["Config"]["ExposedPorts"] == {"80/tcp": {}}
        assert found["RootFS"] == {"Type": "layers", "Layers": [str(Digest.of(b"one")), str(Digest.of(b"two"))]}
        assert (found["Os"], found["Architecture"], found["Size"]) == ("linux", "amd64", 6)

    @pytest.mark.parametrize(
        ("form", "line"),
        [
            ("{{.Os}}/{{.Architecture}}", "linux/amd64"),
            ("{{json .Config.Env}}", '["A=1", "B=2"]'),
            ('{{index .Config.Labels "who"}}', "us"),
            ("{{range .RepoTags}}{{.}} {{end}}", "app:1 "),
            ("{{if .Config.Entrypoint}}yes{{else}}no{{end}}", "no"),
            ("{{.Config.Env}}", "[A=1 B=2]"),
            ('{{join .Config.Cmd ","}}', "sh"),
            ("{{len .RootFS.Layers}}", "1"),
        ],
    )
    def test_formats(self, pybuild: Command, add_image: AddImage, form: str, line: str) -> None:
        add_image("app:1")
        assert pybuild("image", "inspect", "-f", form, "app:1").out == f"{line}\n"

    @pytest.mark.parametrize(
        "form", ["{{", "{{nope .Os}}", "{{range .RepoTags}}", "{{end}}", "{{index .Os 5}}", "{{}}"]
    )
    def test_formats_that_are_none(self, pybuild: Command, add_image: AddImage, form: str) -> None:
        add_image("app:1")
        assert "hint: try {{json .}}" in pybuild("image", "inspect", "-f", form, "app:1", fails=2).err

    def test_by_a_part_of_its_id(self, store: ContentStore, add_image: AddImage) -> None:
        image = add_image("app:1")
        images = Images(store)
        for name in (image_id(image).short, str(image_id(image)), image_id(image).encoded, "app:1", "app:1"):
            assert images.find(name).config_digest == image_id(image)
        with pytest.raises(NotFound):
            images.find("app:2")

    def test_history(self, pybuild: Command, add_image: AddImage) -> None:
        image = add_image("app:1", (b"one", b"twotwo"))
        rows = pybuild("image", "history", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "app:1").lines
        assert rows == [
            f'{image_id(image).short}|CMD ["sh"]|0B|buildkit',
            "<missing>|RUN make 1|6B|",
            "<missing>|RUN make 0|3B|",
        ]
        assert pybuild("image", "history", "app:1").lines[0].startswith("IMAGE ")


class TestHostileText:
    """What images say about themselves can't drive the terminal."""

    def test_in_a_table(self, pybuild: Command, store: ContentStore) -> None:
        steps = (History("2026-01-02T03:04:05Z", "RUN \x1b]0;owned\x07\x9b2J", empty_layer=True),)
        config = ImageConfig(Platform("linux", "amd64"), history=steps).to_bytes()
        manifest = Manifest(
            MediaType.OCI_MANIFEST, Descriptor(MediaType.OCI_CONFIG, store.put(config), len(config)), ()
        )
        store.put_manifest("app", manifest.to_bytes(), manifest.media_type, tags=["1"], adopt=True)
        out = pybuild("image", "history", "--no-trunc", "app:1").out
        assert "owned" in out
        assert not any(mark in out for mark in "\x1b\x07\x9b")

    def test_in_an_error(self, pybuild: Command, ram_path: Path) -> None:
        with tarfile.open(ram_path / "app.tar", "w") as archive:
            member = tarfile.TarInfo("index.json")
            content = json.dumps({"schemaVersion": 2, "mediaType": "\x1b]0;owned\x07", "manifests": []}).encode()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        err = pybuild("load", "-i", f"{ram_path}/app.tar", fails=1).err
        assert "owned" in err
        assert "\x1b" not in err


class TestSaveAndLoad:
    @pytest.mark.parametrize("form", ["docker", "oci"])
    def test_there_and_back(self, pybuild: Command, add_image: AddImage, ram_path: Path, form: str) -> None:
        image = add_image("app:1")
        file = str(ram_path / "app.tar")
        pybuild("save", "--format", form, "-o", file, "app:1")
        pybuild("rmi", "app:1")
        assert pybuild("load", "-i", file).lines == ["Loaded image: app:1"]
        assert pybuild("images", "-q").lines == [image_id(image).short]

    def test_a_folder(self, pybuild: Command, add_image: AddImage, ram_path: Path) -> None:
        add_image("app:1")
        pybuild("save", "--format", "oci", "-o", f"{ram_path}/layout/", "app:1")
        assert pybuild("load", "-i", f"{ram_path}/layout").lines == ["Loaded image: app:1"]

    def test_a_folder_is_no_place_for_a_docker_archive(
        self, pybuild: Command, add_image: AddImage, ram_path: Path
    ) -> None:
        add_image("app:1")
        assert "--format oci" in pybuild("save", "-o", f"{ram_path}/layout/", "app:1", fails=2).err

    def test_an_id_is_saved_with_all_its_names(self, pybuild: Command, add_image: AddImage, ram_path: Path) -> None:
        image = add_image("app:1")
        add_image("app:2")
        pybuild("save", "-o", f"{ram_path}/app.tar", image_id(image).short)
        assert pybuild("load", "-i", f"{ram_path}/app.tar").lines == ["Loaded image: app:1"]
        with tarfile.open(ram_path / "app.tar") as archive:
            (entry,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        assert entry["RepoTags"] == ["app:1", "app:2"]

    def test_nothing_is_written_for_an_unknown_image(self, pybuild: Command, ram_path: Path) -> None:
        pybuild("save", "-o", f"{ram_path}/app.tar", "nope:1", fails=1)
        assert not (ram_path / "app.tar").exists()

    def test_a_file_that_is_not_there(self, pybuild: Command) -> None:
        assert "error: " in pybuild("load", "-i", "/nowhere/app.tar", fails=1).err

    def test_an_archive_that_is_none(self, pybuild: Command, ram_path: Path) -> None:
        (ram_path / "x").write_bytes(b"junk" * 1000)
        assert "no tar archive" in pybuild("load", "-i", f"{ram_path}/x", fails=1).err


class TestTransfers:
    """What the commands say; what they do is proved in tests/integration/client."""

    def test_push_of_an_unknown_image(self, pybuild: Command) -> None:
        assert "no image localhost:1/app:1 here" in pybuild("push", "localhost:1/app:1", fails=1).err

    def test_pull_without_a_registry(self, pybuild: Command) -> None:
        typed = pybuild("pull", "localhost:1/app:1", fails=1)
        assert "can't talk to" in typed.err
        assert typed.out == ""

    def test_pull_of_no_name(self, pybuild: Command) -> None:
        assert "must be lowercase" in pybuild("pull", "localhost:1/App:1", fails=1).err

    def test_login_needs_a_terminal_or_a_password(self, pybuild: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
        assert "--password-stdin" in pybuild("login", "localhost:1", fails=2).err
        assert "add -u NAME" in pybuild("login", "--password-stdin", "localhost:1", fails=2).err

    def test_logout(self, pybuild: Command) -> None:
        assert "Not logged in to localhost:1" in pybuild("logout", "localhost:1").err

    @pytest.mark.parametrize(
        "command",
        ["pull", "push", "login", "logout", "images", "tag", "rmi", "save", "load", "image ls", "image rm",
         "image inspect", "image history", "image prune", "image"],
    )  # fmt: skip
    def test_help_with_examples(self, pybuild: Command, command: str) -> None:
        out = pybuild(*command.split(), "--help").out
        assert "Usage:" in out
        assert "Example" in out


def test_names_and_digests(store: ContentStore, add_image: AddImage) -> None:
    image = add_image("app:1")
    by_digest = Reference.parse("app").with_digest(Digest.of(image.to_bytes()))
    assert Images(store).find(str(by_digest)).config_digest == image_id(image)


def test_containers_are_known_by_their_records(pybuild: Command, root: Path, add_image: AddImage) -> None:
    image = add_image("app:1")
    records = Records(root)
    records.announce("a" * 64)
    records.add(
        Record(
            "a" * 64, "web", "2026-01-02T03:04:05Z", "app:1", str(image_id(image)), (), ("sh",), (), "/", "", {}, (),
            "SIGTERM", 10, RunOptions(image="app:1"),
        )
    )  # fmt: skip
    assert "used by container web" in pybuild("rmi", "app:1", fails=1).err
    pybuild("image", "prune", "-a", "-f")
    assert pybuild("images", "-q").lines == [image_id(image).short]
    assert pybuild("rmi", "-f", "app:1").lines[0] == "Untagged: app:1"
