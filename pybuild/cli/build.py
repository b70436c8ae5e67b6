"""`pybuild build`, which is also what `pybuild -t app:1 .` means: a command line in, a BuildRequest out."""

import csv
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pybuild.errors import EngineError, UsageError
from registry.errors import RegistryError
from registry.model import Platform
from registry.model.platform import native

if TYPE_CHECKING:
    from builder.build import BuildRequest, Secret
    from builder.cache.places import CachePlace
    from builder.cache.report import Report
    from builder.cache.transfer import Port
    from pybuild.cli.checks import Call
    from pybuild.cli.door import Globals

ENTITLEMENTS = frozenset({"network.host", "security.insecure"})
_EPILOG = """\b
Examples:
  pybuild -t app:1 .                                   from ./Dockerfile
  pybuild -t app:1 -f docker/Dockerfile.prod .
  pybuild -t reg.example.com/team/app:1 --push .       build and publish
  pybuild --target test --progress plain .             one stage, all output
  pybuild -o out .                                     the files of the image into a directory
  pybuild -o type=oci,dest=app.tar .                   an OCI layout in an archive
  pybuild --secret id=token,src=token.txt .            for RUN --mount=type=secret,id=token
  pybuild -t app:1 - < context.tar.gz
  pybuild -t app:1 https://github.com/team/app.git#v1
  pybuild --build-context lib=../lib .                 for COPY --from=lib"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("context", metavar="CONTEXT")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="Name the image; may be given again.")
@click.option(
    "-f", "--file", metavar="PATH", help="The Dockerfile (default: Dockerfile in the context; - is stdin; or a URL)."
)
@click.option("--target", default="", metavar="STAGE", help="Build this stage, not the last one.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="Set an ARG.")
@click.option(
    "--build-context", "contexts", multiple=True, metavar="NAME=PLACE", help="One more source of files, or an image."
)
@click.option("--label", "labels", multiple=True, metavar="NAME[=VALUE]", help="Set a label of the image.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]", help="Offer a secret to RUN.")
@click.option("--ssh", "agents", multiple=True, metavar="ID[=SOCKET]", help="Offer an SSH agent to RUN.")
@click.option("--allow", multiple=True, metavar="NAME", help="Allow network.host or security.insecure.")
@click.option("--no-cache", is_flag=True, help="Do every step again.")
@click.option("--keep-going", is_flag=True, help="After a step failed, do what does not need it.")
@click.option("--pull", is_flag=True, help="Ask the registry for newer base images.")
@click.option("--network", default="default", help="Network of RUN: default, none or host.")
@click.option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="One more line in /etc/hosts of RUN.")
@click.option(
    "--platform", "platforms", multiple=True, metavar="OS/ARCH[,…]", help="Build for these; several make an index."
)
@click.option("-o", "--output", "outputs", multiple=True, metavar="type=TYPE,dest=PATH", help="Where the result goes.")
@click.option("--push", is_flag=True, help="Push the image to the registries in its names.")
@click.option("--load", is_flag=True, help="Keep the image in the local store, whatever -o says.")
@click.option("--annotation", "annotations", multiple=True, metavar="[LEVEL:]NAME=VALUE", help="Annotate the image.")
@click.option("--squash", is_flag=True, help="Make one layer of those of this build.")
@click.option("--compression", metavar="KIND", help="Of new layers: gzip (default), zstd or uncompressed.")
@click.option("--compression-level", type=int, metavar="N", help="0 to 9; with zstd 0 to 22.")
@click.option("--iidfile", type=click.Path(path_type=Path), help="Write the image's ID to this file.")
@click.option("--metadata-file", type=click.Path(path_type=Path), help="Write digests and names to this file, as JSON.")
@click.option("--cache-from", metavar="type=TYPE,src|ref=WHERE", multiple=True, help="Steps that other machines did.")
@click.option("--cache-to", metavar="type=TYPE,dest|ref=WHERE", multiple=True, help="Write this build's steps there.")
@click.option("--explain", is_flag=True, help="Tell for each step whether it was cached, and if not, what differed.")
@click.option(
    "--cache-mount-from",
    "caches_from",
    multiple=True,
    metavar="[id=ID,]src=PATH",
    help="Read cache mounts in before the build: a .tar.zst, or a directory of them.",
)
@click.option(
    "--cache-mount-to",
    "caches_to",
    multiple=True,
    metavar="[id=ID,]dest=PATH",
    help="Write cache mounts out after the build.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress; print the image's ID only.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "tty", "quiet", "rawjson"]),
    default="auto",
    envvar="BUILDKIT_PROGRESS",
    help="How progress is shown.",
)
@click.option(
    "--attest", "--provenance", "--sbom", "attest", metavar="KIND", help="Attestations are not supported yet."
)
@click.option("--call", default="build", metavar="NAME[,format=json]", help="build, or: check, outline, targets.")
@click.option("--check", is_flag=True, help="The same as --call=check: look for mistakes, build nothing.")
@click.pass_obj
def build(settings: "Globals", /, **words: object) -> None:
    """Build an image from a Dockerfile and a directory, an archive (-), a repository or what a web server has."""
    from builder.build import Builder
    from pybuild.cli.progress import progress_to

    line = Line(**words)  # type: ignore[arg-type]  # click has made them so
    request = line.request()
    if (call := line.question()) is not None:
        from pybuild.cli.checks import answer

        raise click.exceptions.Exit(answer(settings.root, request, call))
    style = "quiet" if line.quiet else line.progress
    told = _Told() if style in {"quiet", "plain"} or (style == "auto" and not sys.stderr.isatty()) else None
    with (
        _explaining(request, style if line.explain else None) as request,
        sigterm_is_an_interrupt(),
        Builder(settings.root) as builder,
        progress_to(told or sys.stderr, style, debug=settings.debug) as listener,
    ):
        result = builder.build(request, listener)
    if told is not None and result.idle is not None and settings.words and line.depends_on_files_only:
        from pybuild.cli.remember import remember

        with suppress(OSError, RegistryError):  # it would only have saved time
            remember(
                settings.root, settings.words, result, context=line.context, dockerfile=line.file, told=told.getvalue()
            )
    if line.metadata_file is not None:
        from pybuild.cli.metadata import metadata

        _write("--metadata-file", line.metadata_file, json.dumps(metadata(result), indent=2) + "\n")
    if not any(output.needs_image for output in request.wanted):
        return  # files only: there is no image to name
    if line.iidfile is not None:
        _write("--iidfile", line.iidfile, str(result.image_id))
    if not any(output.dest == "-" for output in request.outputs):
        click.echo(str(result.image_id))


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        hint = f"choose another place with {option}; the build itself is done"
        raise EngineError(f"can't write {path}: {error.strerror}", hint=hint) from error


@dataclass(frozen=True, slots=True)
class Line:
    """The command line, as click reads it."""

    context: str
    tags: tuple[str, ...]
    file: str | None
    target: str
    build_args: tuple[str, ...]
    contexts: tuple[str, ...]
    labels: tuple[str, ...]
    secrets: tuple[str, ...]
    agents: tuple[str, ...]
    allow: tuple[str, ...]
    no_cache: bool
    pull: bool
    network: str
    hosts: tuple[str, ...]
    platforms: tuple[str, ...]
    outputs: tuple[str, ...]
    push: bool
    load: bool
    compression: str | None
    iidfile: Path | None
    metadata_file: Path | None
    quiet: bool
    progress: str
    attest: str | None
    call: str = "build"
    check: bool = False
    keep_going: bool = False
    explain: bool = False
    annotations: tuple[str, ...] = ()
    compression_level: int | None = None
    squash: bool = False
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    caches_from: tuple[str, ...] = ()
    caches_to: tuple[str, ...] = ()

    @property
    def depends_on_files_only(self) -> bool:
        """Nothing but the context and the store makes a difference, and the store is where the result goes."""
        return not (
            self.contexts or self.secrets or self.agents or self.no_cache or self.pull or self.outputs or self.push
            or self.iidfile or self.metadata_file or self.attest or self.explain or self.cache_from or self.cache_to
            or self.caches_from or self.caches_to or self.file == "-"
        )  # fmt: skip

    def question(self) -> "Call | None":
        """What is asked instead of a build. Raises UsageError."""
        if not self.check and self.call == "build":
            return None
        from pybuild.cli.checks import parse_call

        return parse_call("check" if self.check else self.call)

    def request(self) -> "BuildRequest":
        """Raises UsageError, RegistryError, BuilderError: a word of it makes no sense."""
        from builder.build import BuildRequest
        from builder.errors import NotYet
        from builder.exporters import Output
        from builder.exporters.annotations import parse_annotation
        from registry.model import Reference

        if self.attest not in {None, "false"}:
            raise NotYet("--attest, --provenance and --sbom are not supported yet", hint="leave them out")
        if unknown := set(self.allow) - ENTITLEMENTS:
            raise UsageError(
                f"--allow {min(unknown)}: no such right", hint=f"there is {', '.join(sorted(ENTITLEMENTS))}"
            )
        build_args = dict(_given(word) for word in map(_named("--build-arg"), self.build_args) if _is_given(word))
        tags = tuple(Reference.parse(tag).tagged for tag in self.tags)
        if any(tag.digest for tag in tags):
            raise UsageError("a name to build has no digest", hint="write NAME or NAME:TAG")
        outputs = tuple(Output.parse(text) for text in self.outputs)
        if self.load and outputs and not any(output.keeps_image for output in outputs):
            outputs = (*outputs, Output("image"))
        if self.push and not (tags or any(output.names for output in outputs)):
            raise UsageError("--push needs a name", hint="add -t REGISTRY/NAME:TAG")
        return BuildRequest(
            context=self.context,
            tags=tags,
            dockerfile=self.file,
            target=self.target,
            build_args=build_args,
            labels=dict(word.partition("=")[::2] for word in map(_named("--label"), self.labels)),
            contexts=dict(map(_context, self.contexts)),
            secrets={secret.id: secret for secret in map(parse_secret, self.secrets)},
            agents=dict(map(_agent, self.agents)),
            allow=frozenset(self.allow),
            hosts=tuple(map(_host, self.hosts)),
            network=_network(self.network),
            platforms=_platforms(self.platforms),
            no_cache=self.no_cache,
            keep_going=self.keep_going,
            pull=self.pull,
            push=self.push,
            outputs=outputs,
            compression=_compression(self.compression, self.compression_level),
            squash=self.squash,
            annotations=tuple(each for text in self.annotations for each in parse_annotation(text)),
            epoch=_epoch(build_args),
            cache_from=_cache_places(self.cache_from, write=False),
            cache_to=_cache_places((*self.cache_to, *_asked_by_argument(build_args, self.cache_to)), write=True),
            caches_from=tuple(parse_cache_mount(text, "--cache-mount-from", "src") for text in self.caches_from),
            caches_to=tuple(parse_cache_mount(text, "--cache-mount-to", "dest") for text in self.caches_to),
            stdin=sys.stdin.buffer,
        )


def parse_secret(text: str) -> "Secret":
    """`id=token,src=FILE`, `id=token,env=NAME`; only an id means a variable of that name, or else a file."""
    from builder.build import Secret

    pairs = dict(word.partition("=")[::2] for word in next(csv.reader([text]), []))
    kind, name = pairs.pop("type", ""), pairs.pop("id", "")
    file = pairs.pop("src", "") or pairs.pop("source", "")
    variable = pairs.pop("env", "")
    if pairs or not name or kind not in {"", "file", "env"} or (file and variable):
        raise UsageError(f"not a secret: {text!r}", hint="write --secret id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if kind == "env" and not variable:
        file, variable = "", file or name
    if not file and not variable:
        file, variable = ("", name) if name in os.environ else (name, "")
    return Secret(name, Path(file) if file else None, variable)


def parse_cache_mount(text: str, option: str, key: str) -> "Port":
    """`id=pip,dest=pip.tar.zst`; without an id a directory for all of them. A lone path is `dest=`."""
    from builder.cache.transfer import Port

    words = next(csv.reader([text]), [])
    pairs = {key: words[0]} if len(words) == 1 and "=" not in words[0] else dict(w.partition("=")[::2] for w in words)
    mount_id, place = pairs.pop("id", ""), pairs.pop(key, "") or pairs.pop("path", "")
    if pairs or not place:
        raise UsageError(f"{option} {text}: not understood", hint=f"write {option} id=ID,{key}=FILE.tar.zst")
    port = Port(mount_id, Path(place))
    if port.is_file and not mount_id:
        raise UsageError(f"{option} {text}: a file holds one cache", hint="name it with id=, or give a directory")
    return port


def _cache_places(words: Sequence[str], *, write: bool) -> "tuple[CachePlace, ...]":
    if not words:
        return ()
    from builder.cache.places import CachePlace

    return tuple(CachePlace.parse(word, write=write) for word in words)


def _asked_by_argument(build_args: Mapping[str, str], written: Sequence[str]) -> Sequence[str]:
    """BUILDKIT_INLINE_CACHE=1 is an older way to say --cache-to type=inline."""
    asked = build_args.get("BUILDKIT_INLINE_CACHE", "") in {"1", "t", "T", "true", "TRUE", "True"}
    return ("type=inline",) if asked and not any("inline" in word for word in written) else ()


class _Told(io.StringIO):
    """Standard error, and what was written to it."""

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return super().write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


@contextmanager
def _explaining(request: "BuildRequest", style: str | None) -> "Iterator[BuildRequest]":
    """Print what was cached and what was not when progress is over, be it by an error."""
    reports: list[Report] = []
    try:
        yield replace(request, explain=reports.append) if style is not None else request
    finally:
        for report in reports:
            from builder.cache.report import as_json, table
            from pybuild.cli.plain import plain

            if style == "rawjson":
                click.echo(f'{{"event": "Explained", "steps": {as_json(report.steps)}}}', err=True)
            else:
                click.echo(plain(table(report.steps)), err=True, nl=False)


def _is_given(word: str) -> bool:
    """`--build-arg NAME` without a value takes that of our environment, and is nothing if there is none."""
    return "=" in word or word in os.environ


def _given(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    return name, value if equals else os.environ[name]


def _named(option: str) -> Callable[[str], str]:
    """A check of words NAME[=VALUE]."""

    def checked(word: str) -> str:
        if not word.partition("=")[0].strip():
            raise UsageError(f"{option} {word}: no name", hint=f"write {option} NAME=VALUE")
        return word

    return checked


def _pair(word: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (equals and name and value):
        raise UsageError(f"{option} {word}: not of the form {form}")
    return name, value


def _context(word: str) -> tuple[str, str]:
    from builder.plan.stages import RESERVED

    name, place = _pair(word, "--build-context", "NAME=PLACE")
    if name.lower() in RESERVED:
        raise UsageError(f"--build-context {word}: the name {name} is taken", hint="choose another name")
    return name, place


def _agent(word: str) -> tuple[str, str]:
    name, _, socket = word.partition("=")
    socket = socket or os.environ.get("SSH_AUTH_SOCK", "")
    if not socket:
        raise UsageError(f"--ssh {name}: there is no SSH agent", hint="start one, or write --ssh ID=SOCKET")
    return name, socket


def _host(word: str) -> tuple[str, str]:
    name, colon, address = word.partition(":" if "=" not in word else "=")
    if not (colon and name and address):
        raise UsageError(f"--add-host {word}: not of the form NAME:ADDRESS")
    from ipaddress import ip_address

    address = address.strip("[]")
    try:
        ip_address(address)
    except ValueError:
        raise UsageError(f"--add-host {word}: not an address: {address}", hint="write NAME:10.0.0.1") from None
    return name, address


def _network(name: str) -> str:
    if name not in {"default", "bridge", "none", "host"}:
        raise UsageError(f"--network {name}: no such network for a build", hint="use default, none or host")
    return "default" if name == "bridge" else name


def _platforms(words: Sequence[str]) -> tuple[Platform, ...]:
    """Raises ManifestInvalid: a word is no platform."""
    found = [_platform(text) for word in words for text in word.split(",")]
    return tuple(dict.fromkeys(found)) or (native(),)


def _platform(text: str) -> Platform:
    if text.strip() == "local":
        return native()
    wanted = Platform.parse(text).normal
    if (wanted.architecture, wanted.variant) == ("arm", ""):
        return replace(wanted, variant="v7")  # as docker reads it; TARGETVARIANT says so
    return native() if wanted == native().normal else wanted


def _compression(kind: str | None, level: int | None) -> str:
    """The kind and maybe the level: `zstd:9`."""
    return (kind or "gzip") + ("" if level is None else f":{level}")


def _epoch(build_args: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH of the build arguments, else of our environment."""
    text = build_args.get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: not a number of seconds since 1970")
    return int(text)


@contextmanager
def sigterm_is_an_interrupt() -> Iterator[None]:
    """End in good order when asked to: running steps are stopped and waited for."""

    def interrupt(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
