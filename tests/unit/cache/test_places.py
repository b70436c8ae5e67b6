"""The words of --cache-from and --cache-to."""

import pytest

from builder.cache.places import CachePlace
from builder.errors import BuilderError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("type=local,dest=ci,tag=v1", CachePlace("local", "ci", tag="v1")),
        ("type=inline", CachePlace("inline", "")),
        ("inline", CachePlace("inline", "")),
        (
            "type=registry,ref=reg/x:1,mode=max,compression=zstd,compression-level=9,force-compression=true",
            CachePlace("registry", "reg/x:1", every=True, compression="zstd:9", force=True),
        ),
        ("type=registry,ref=reg/x:1,compression-level=3", CachePlace("registry", "reg/x:1", compression="gzip:3")),
        ('type=local,"dest=with,comma"', CachePlace("local", "with,comma")),
    ],
)
def test_what_is_written(text: str, place: CachePlace) -> None:
    assert CachePlace.parse(text, write=True) == place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("reg/x:1", CachePlace("registry", "reg/x:1")),
        ("type=local,src=ci,digest=sha256:0", CachePlace("local", "ci", digest="sha256:0")),
    ],
)
def test_what_is_read(text: str, place: CachePlace) -> None:
    assert CachePlace.parse(text, write=False) == place


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("type=s3,bucket=x", "type=local or type=registry"),
        ("type=local", "dest="),
        ("type=local,dest=x,mode=most", "min, max"),
        ("type=local,dest=x,compresion=zstd", "did you mean compression"),
        ("type=inline,mode=max", "no options"),
        ("type=registry,ref=x,image-manifest=false", "leave image-manifest"),
        ("type=registry,ref=x,ignore-error=maybe", "true or false"),
        ("type=registry,ref=x,compression-level=best", "number|one like"),
    ],
)
def test_words_that_make_no_sense_have_a_hint(text: str, hint: str) -> None:
    with pytest.raises(BuilderError) as error:
        CachePlace.parse(text, write=True)
    assert any(part in f"{error.value.hint}" for part in hint.split("|"))


def test_an_inline_cache_is_read_from_its_image() -> None:
    with pytest.raises(BuilderError) as error:
        CachePlace.parse("type=inline", write=False)
    assert "--cache-from registry.example.com" in f"{error.value.hint}"
