"""`-o`: what a text asks for, and what is refused."""

import pytest

from builder.errors import BuilderError
from builder.exporters import Output


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
        ("type=image,oci-mediatypes=false", "it takes"),
    ],
)
def test_refuses_what_it_does_not_know(text: str, hint: str) -> None:
    with pytest.raises(BuilderError) as caught:
        Output.parse(text)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_a_registry_is_an_image_that_is_pushed() -> None:
    assert Output.parse("type=registry,name=reg/x").pushes
    assert Output.parse("type=image,push=true").pushes
    assert not Output.parse("type=image").pushes
    assert not Output.parse("type=oci,dest=x").pushes
