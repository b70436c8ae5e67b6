"""`-o`: what a text asks for, and what is refused."""

import pytest

from builder.errors import BuilderError
from builder.exporters import Output
from builder.exporters.annotations import Annotation
from registry.model import Platform


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", Output("local", "out")),
        ("-", Output("tar", "-")),
        ("type=local,dest=out", Output("local", "out")),
        ("type=tar", Output("tar", "-")),
        ("type=oci,dest=x.tar", Output("oci", "x.tar")),
        ("type=docker", Output("docker", "-")),
        ("type=image", Output("image")),
        ('type=image,"name=a,b",push=true', Output("image", "", {"name": "a,b", "push": "true"})),
        ("type=oci,dest=x,compression=zstd", Output("oci", "x", {"compression": "zstd"})),
        ("type=image,name-canonical=true,rewrite-timestamp=true,oci-artifact=false", Output("image")),
        (
            "type=image,annotation.a=1,annotation-manifest-descriptor[linux/arm64].b=2",
            Output(
                "image",
                annotations=(
                    Annotation("manifest", "a", "1"),
                    Annotation("manifest-descriptor", "b", "2", Platform("linux", "arm64")),
                ),
            ),
        ),
    ],
)
def test_reads_the_forms_of_buildx(text: str, output: Output) -> None:
    assert Output.parse(text) == output


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("type=lokal,dest=x", "did you mean local?"),
        ("dest=x", "there is image"),
        ("type=oci,dset=x", "did you mean dest?"),
        ("type=local", "add dest=DIRECTORY"),
        ("type=local,dest=-", "add dest=DIRECTORY"),
        ("type=oci,tar=false", "add dest=DIRECTORY"),
        ("type=image,rewrite-timestamp=false", "it takes"),
        ("type=local,dest=x,annotation.a=1", "it takes"),
        ("type=image,annotation-shelf.a=1", "there is manifest"),
        ("type=local,dest=x,mode=burn", "mode=delete"),
        ("type=image,compression-level=high", "write a number"),
        ("type=image,push-by-digest=true", "add name="),
        ("type=image,store=false", "add push=true"),
    ],
)
def test_refuses_what_it_does_not_know(text: str, hint: str) -> None:
    with pytest.raises(BuilderError) as caught:
        Output.parse(text)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_a_flag_is_true_or_false() -> None:
    with pytest.raises(BuilderError, match="push is true or false"):
        Output.parse("type=image,push=maybe")


def test_a_registry_is_an_image_that_is_pushed() -> None:
    assert Output.parse("type=registry,name=reg/x").pushes
    assert Output.parse("type=image,push=true").pushes
    assert not Output.parse("type=image").pushes
    assert not Output.parse("type=oci,dest=x").pushes


class TestForm:
    def test_an_output_says_how_its_layers_are_packed(self) -> None:
        assert Output.parse("type=image,compression=zstd,compression-level=9").form("gzip", ()).packing == "zstd:9"
        assert Output.parse("type=image,compression-level=9").form("zstd", ()).packing == "gzip:9"
        assert Output.parse("type=image").form("zstd:3", ()).packing == "zstd:3"

    def test_media_types_are_ocis_unless_told_otherwise(self) -> None:
        assert Output.parse("type=image").form("gzip", ()).oci
        assert not Output.parse("type=image,oci-mediatypes=false").form("gzip", ()).oci

    def test_what_docker_has_no_type_for_turns_them_to_ocis(self) -> None:
        docker = Output.parse("type=image,oci-mediatypes=false")
        assert docker.form("zstd", ()).oci
        assert docker.form("gzip", (Annotation("manifest", "a", "1"),)).oci
