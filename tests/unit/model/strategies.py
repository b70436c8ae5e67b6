"""Values as they may come, for the property tests of this directory."""

from collections.abc import Callable

from hypothesis import strategies as st

from registry.errors import RegistryError
from registry.model import (
    Descriptor,
    Digest,
    Healthcheck,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    Platform,
    Reference,
    RootFs,
    RunConfig,
)

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
some_text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
mappings = st.dictionaries(text, text, max_size=3)

digests = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))

_component = st.from_regex(r"\A[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}\Z")
paths = st.lists(_component, min_size=1, max_size=4).map("/".join)
_host = st.from_regex(r"\A[a-zA-Z0-9]{1,4}(-[a-zA-Z0-9]{1,3})?(\.[a-zA-Z0-9]{1,4}){0,2}\Z")
domains = st.one_of(
    st.just("docker.io"),
    st.just("localhost"),
    st.builds("{}:{}".format, _host, st.integers(1, 65535)),
    st.builds("{}.{}".format, _host, _host),
    st.just("[::1]:5000"),
)
tags = st.from_regex(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,12}\Z")
references = st.builds(
    lambda domain, path, tag, digest: Reference(
        domain, f"library/{path}" if domain == "docker.io" and "/" not in path else path, tag, digest
    ),
    domains,
    paths,
    st.none() | tags,
    st.none() | digests,
)

platforms = st.builds(
    Platform,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "386", "arm", "arm64", "riscv64", "s390x"]),
    st.sampled_from(["", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "v9", "strange"]),
)

descriptors = st.builds(
    Descriptor,
    some_text,
    digests,
    st.integers(0, 2**63 - 1),
    mappings,
    st.none() | platforms,
    st.none() | some_text,
    st.lists(text, max_size=2).map(tuple),
)
manifests = st.builds(
    Manifest,
    st.sampled_from([MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST]),
    descriptors,
    st.lists(descriptors, max_size=3).map(tuple),
    st.none() | descriptors,
    st.none() | some_text,
    mappings,
)
indexes = st.builds(
    Index,
    st.sampled_from([MediaType.OCI_INDEX, MediaType.DOCKER_LIST]),
    st.lists(descriptors, max_size=3).map(tuple),
    st.none() | descriptors,
    st.none() | some_text,
    mappings,
)

_words = st.lists(text, max_size=3).map(tuple)
_times = st.integers(0, 2**62)
run_configs = st.builds(
    RunConfig,
    user=text,
    exposed_ports=st.sets(text, max_size=3).map(lambda found: tuple(sorted(found))),
    env=_words,
    entrypoint=st.none() | _words,
    cmd=st.none() | _words,
    volumes=st.sets(text, max_size=3).map(lambda found: tuple(sorted(found))),
    working_dir=text,
    labels=mappings,
    stop_signal=text,
    healthcheck=st.none() | st.builds(Healthcheck, _words, _times, _times, _times, _times, st.integers(0, 99)),
    on_build=_words,
    shell=_words,
    args_escaped=st.booleans(),
)
image_configs = st.builds(
    ImageConfig,
    platforms,
    run_configs,
    st.builds(RootFs, st.lists(digests, max_size=3).map(tuple)),
    st.lists(st.builds(History, st.none() | some_text, text, text, text, st.booleans()), max_size=3).map(tuple),
    st.none() | some_text,
    text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


def refusal(read: Callable[[], object]) -> str:
    """Why it was refused; empty if it was not. Any other exception is a bug, and passes through."""
    try:
        read()
    except RegistryError as error:
        return f"{error} / {error.hint}"
    return ""
