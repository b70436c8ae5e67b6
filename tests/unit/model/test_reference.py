"""Names of images as people type them, brought to one form as docker does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DigestInvalid, NameInvalid, RegistryError, TagInvalid
from registry.model import Digest, Reference
from registry.model.reference import check_repository, check_tag
from tests.unit.model import strategies as some

DIGEST = Digest.of(b"")
HEX = DIGEST.encoded

NORMALISED = [
    # typed, domain, path, tag
    ("busybox", "docker.io", "library/busybox", None),
    ("busybox:1.36", "docker.io", "library/busybox", "1.36"),
    ("library/busybox", "docker.io", "library/busybox", None),
    ("docker.io/busybox", "docker.io", "library/busybox", None),
    ("docker.io/library/busybox", "docker.io", "library/busybox", None),
    ("index.docker.io/busybox", "docker.io", "library/busybox", None),
    ("index.docker.io/team/app", "docker.io", "team/app", None),
    ("team/app:1", "docker.io", "team/app", "1"),
    ("a/b/c", "docker.io", "a/b/c", None),
    ("library/a/b", "docker.io", "library/a/b", None),
    ("docker.io/foo.bar/x", "docker.io", "foo.bar/x", None),
    ("foo.bar/x", "foo.bar", "x", None),
    ("foo.bar", "docker.io", "library/foo.bar", None),
    ("localhost", "docker.io", "library/localhost", None),
    ("localhost/app", "localhost", "app", None),
    ("localhost:5000/app", "localhost:5000", "app", None),
    ("localhost:5000/team/app:v1", "localhost:5000", "team/app", "v1"),
    ("localhost:5000", "docker.io", "library/localhost", "5000"),
    ("registry:5000/app", "registry:5000", "app", None),
    ("registry/app", "docker.io", "registry/app", None),
    ("Registry/app", "Registry", "app", None),
    ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", None),
    ("[::1]:5000/app", "[::1]:5000", "app", None),
    ("[2001:db8::1]/app", "[2001:db8::1]", "app", None),
    ("a.example.com/x/y/z:T-1_2.3", "a.example.com", "x/y/z", "T-1_2.3"),
    ("xn--n3h.com/app", "xn--n3h.com", "app", None),
    ("a__b/c---d.e", "docker.io", "a__b/c---d.e", None),
    (HEX[:63], "docker.io", f"library/{HEX[:63]}", None),
    (f"team/{HEX}", "docker.io", f"team/{HEX}", None),
]


@pytest.mark.parametrize(("typed", "domain", "path", "tag"), NORMALISED)
def test_dockers_normalisation(typed: str, domain: str, path: str, tag: str | None) -> None:
    for suffix, digest in (("", None), (f"@{DIGEST}", DIGEST)):
        reference = Reference.parse(typed + suffix)
        assert (reference.domain, reference.path, reference.tag, reference.digest) == (domain, path, tag, digest)


REFUSED = [
    ("", NameInvalid),
    (":tag", NameInvalid),
    (f"@{DIGEST}", NameInvalid),
    ("App", NameInvalid),
    ("team/App", NameInvalid),
    ("app:", TagInvalid),
    ("app:-x", TagInvalid),
    ("app:.x", TagInvalid),
    ("app:a b", TagInvalid),
    ("app:1:2", TagInvalid),
    (f"app:{'x' * 129}", TagInvalid),
    ("app@", NameInvalid),
    ("app@sha256:abc", DigestInvalid),
    (f"app@{HEX}", DigestInvalid),
    (f"app@{DIGEST}@{DIGEST}", DigestInvalid),
    (HEX, NameInvalid),
    ("/app", NameInvalid),
    ("app/", NameInvalid),
    ("a//b", NameInvalid),
    ("../app", NameInvalid),
    ("a/../b", NameInvalid),
    ("-app", NameInvalid),
    ("app-", NameInvalid),
    ("a..b/c", NameInvalid),
    ("a___b", NameInvalid),
    ("a._b", NameInvalid),
    ("app\n", NameInvalid),
    (" app", NameInvalid),
    ("äpp", NameInvalid),
    ("host.:5000/app", NameInvalid),
    ("host:port/app", NameInvalid),
    ("-host.com/app", NameInvalid),
    ("[::1/app", NameInvalid),
    ("https://host.com/app", NameInvalid),
    ("docker://app", NameInvalid),
    ("a" * 256, NameInvalid),
    (f"host.com/{'a' * 250}", NameInvalid),
]


@pytest.mark.parametrize(("typed", "error"), REFUSED)
def test_what_is_no_name(typed: str, error: type[RegistryError]) -> None:
    with pytest.raises(error) as caught:
        Reference.parse(typed)
    assert type(caught.value) is error
    assert caught.value.hint
    assert len(str(caught.value)) < 300


def test_the_hint_for_capitals_is_the_name_to_write() -> None:
    with pytest.raises(NameInvalid) as caught:
        Reference.parse("team/MyApp:1")
    assert caught.value.hint == "write team/myapp"


@given(some.references)
def test_what_is_written_reads_the_same(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(some.references)
def test_the_stores_name_reads_as_the_same_repository(reference: Reference) -> None:
    again = Reference.parse(reference.repository)
    assert (again.domain, again.path) == (reference.domain, reference.path)
    assert again.repository == reference.repository


@given(st.text(max_size=80) | st.text("aA0.:/@_-[]é\n", max_size=40))
def test_any_text_is_a_name_or_refused_with_a_reason(text: str) -> None:
    refused = some.refusal(lambda: Reference.parse(text))
    assert not refused.endswith("None"), "no hint"
    if not refused:
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("domain", "path"),
    [
        ("registry", "app"),
        ("", "app"),
        ("docker.io", "app"),
        ("index.docker.io", "a/b"),
        ("a.b/c", "app"),
        ("a.b", "A"),
    ],
)
def test_a_value_that_no_text_gives_cannot_be_made(domain: str, path: str) -> None:
    with pytest.raises(NameInvalid):
        Reference(domain, path)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("docker.io/library/app:1", "app:1"),
        ("docker.io/team/app", "team/app"),
        ("docker.io/foo.bar/x", "docker.io/foo.bar/x"),
        ("docker.io/localhost/x", "docker.io/localhost/x"),
        (f"docker.io/library/{HEX}", f"library/{HEX}"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        (f"app:1@{DIGEST}", f"app:1@{DIGEST}"),
    ],
)
def test_is_shown_in_its_short_form(typed: str, shown: str) -> None:
    assert str(Reference.parse(typed)) == shown


def test_latest_is_meant_only_without_tag_and_digest() -> None:
    assert Reference.parse("app").tagged.tag == "latest"
    assert Reference.parse("app:1").tagged.tag == "1"
    assert Reference.parse(f"app@{DIGEST}").tagged.tag is None
    assert Reference.parse("app:1").with_digest(DIGEST) == Reference.parse(f"app:1@{DIGEST}")


class TestPathsAndTags:
    """distribution-spec, "Pulling manifests"."""

    @pytest.mark.parametrize("path", ["x/blobs/y", "x/manifests", "x/tags/list", "a", "0", "a" * 255])
    def test_legal_paths(self, path: str) -> None:
        assert check_repository(path) == path

    @pytest.mark.parametrize(
        "path", ["", "A", "a/", "/a", "a//b", "a" * 256, "a.", "a/_b", "a b", "a\n", "a:b", "..", "a\0"]
    )
    def test_illegal_paths(self, path: str) -> None:
        with pytest.raises(NameInvalid):
            check_repository(path)

    @pytest.mark.parametrize("tag", ["1", "_", "A.b-C_d", "x" * 128])
    def test_legal_tags(self, tag: str) -> None:
        assert check_tag(tag) == tag

    @pytest.mark.parametrize("tag", ["", ".", "-", "x" * 129, "a/b", "a:b", "a\n", "ä", "a b"])
    def test_illegal_tags(self, tag: str) -> None:
        with pytest.raises(TagInvalid):
            check_tag(tag)
