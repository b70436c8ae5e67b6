"""The commands about images: fetch, send, name, list, remove, save, load. Each parses, calls the library, renders."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pybuild.cli.door import Globals, examples

if TYPE_CHECKING:
    from pybuild.engine.images import Images, Listed
    from registry.storage import ContentStore

_HELP = {"help_option_names": ["-h", "--help"]}


@contextmanager
def _opened(settings: Globals) -> "Iterator[tuple[ContentStore, Images]]":
    from pybuild.engine.images import Images, containers_of
    from registry.storage import ContentStore

    with ContentStore.open(settings.root) as store:
        yield store, Images(store, containers_of(settings.root))


# -- registries -----------------------------------------------------------------------------------------------------


@click.command(
    context_settings=_HELP,
    epilog=examples(
        "pybuild pull debian:12",
        "pybuild pull --platform linux/arm64 localhost:5000/team/app:1",
        "pybuild pull registry.example.com/app@sha256:…",
    ),
)
@click.argument("name")
@click.option("--platform", metavar="OS/ARCH", help="Which image of several; this machine's if not given.")
@click.option("--all-platforms", is_flag=True, help="The images for all platforms.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def pull(settings: Globals, *, name: str, platform: str | None, all_platforms: bool, quiet: bool) -> None:
    """Fetch an image from a registry. Prints its full name with its digest."""
    from pybuild.cli.transfers import transfer_progress
    from registry.client import pull as fetch
    from registry.model import Platform, Reference

    reference = Reference.parse(name)
    with _opened(settings) as (store, _):
        before = _digest_of(store, reference)
        with transfer_progress(sys.stderr, quiet=quiet) as progress:
            if reference.tagged.tag and not reference.digest:
                progress.update("", f"{reference.tagged.tag}: Pulling from {reference.repository}")
            digest = fetch(
                store,
                reference,
                platform=Platform.parse(platform) if platform else None,
                all_platforms=all_platforms,
                progress=progress,
            )
    if not quiet:
        news = "Image is up to date for" if before == digest else "Downloaded newer image for"
        click.echo(f"Digest: {digest}\nStatus: {news} {reference.tagged}", err=True)
    click.echo(_full_name(reference, digest))


@click.command(
    context_settings=_HELP,
    epilog=examples("pybuild tag app:1 localhost:5000/app:1", "pybuild push localhost:5000/app:1"),
)
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def push(settings: Globals, *, name: str, quiet: bool) -> None:
    """Send an image to the registry that its name tells. Prints its full name with its digest."""
    from pybuild.cli.transfers import transfer_progress
    from registry.client import push as send
    from registry.model import Reference

    reference = Reference.parse(name)
    with _opened(settings) as (store, _), transfer_progress(sys.stderr, quiet=quiet) as progress:
        progress.update("", f"The push refers to repository [{reference.domain}/{reference.path}]")
        digest = send(store, reference, progress=progress)
    if not quiet:
        click.echo(f"{reference.tagged.tag or 'latest'}: digest: {digest}", err=True)
    click.echo(_full_name(reference, digest))


@click.command(
    context_settings=_HELP,
    epilog=examples(
        "pybuild login registry.example.com",
        "echo $TOKEN | pybuild login -u robot --password-stdin registry.example.com",
    ),
)
@click.argument("server", default="docker.io")
@click.option("-u", "--username", metavar="NAME", help="Asked for if not given.")
@click.option("-p", "--password", metavar="WORD", help="Others can see it in the list of processes; see below.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_obj
def login(settings: Globals, *, server: str, username: str | None, password: str | None, password_stdin: bool) -> None:
    """Check credentials with a registry (docker.io if none is named), and keep them where docker or podman do."""
    from pybuild.errors import UsageError
    from registry.client import ClientSettings, Credentials, log_in

    if password and password_stdin:
        raise UsageError("--password and --password-stdin together", hint="give one of them")
    if password_stdin:
        if not username:
            raise UsageError("--password-stdin without --username", hint="add -u NAME")
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not (username and password) and not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the password on", hint="give -u NAME and --password-stdin")
    username = username or click.prompt("Username", err=True)
    password = password or click.prompt("Password", hide_input=True, err=True)
    place = log_in(_domain(server), Credentials(username, password), ClientSettings.load(settings.root))
    click.echo(f"Credentials are kept in {place}", err=True)
    click.echo("Login Succeeded")


@click.command(context_settings=_HELP, epilog=examples("pybuild logout registry.example.com"))
@click.argument("server", default="docker.io")
def logout(*, server: str) -> None:
    """Forget the credentials for a registry (docker.io if none is named)."""
    from registry.client import log_out

    domain = _domain(server)
    known = log_out(domain)
    click.echo(f"Removing login credentials for {domain}" if known else f"Not logged in to {domain}", err=True)


def _domain(server: str) -> str:
    """The domain in what people type: https://host/v1/, index.docker.io."""
    host = server.rpartition("://")[2].partition("/")[0]
    return "docker.io" if host in {"index.docker.io", "registry-1.docker.io"} else host


def _digest_of(store: "ContentStore", reference: Any) -> object:  # noqa: ANN401 - a Reference; the model loads later
    from registry.errors import RegistryError

    try:
        return store.manifest(reference.repository, reference.digest or reference.tagged.tag).digest
    except RegistryError:
        return None


def _full_name(reference: Any, digest: object) -> str:  # noqa: ANN401 - a Reference; the model loads later
    tag = f":{reference.tagged.tag}" if reference.tagged.tag else ""
    return f"{reference.domain}/{reference.path}{tag}@{digest}"


# -- images here ----------------------------------------------------------------------------------------------------


def _list_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.argument("name", required=False),
        click.option("-a", "--all", "every", is_flag=True, help="A row for each platform of an image."),
        click.option("-q", "--quiet", is_flag=True, help="Only IDs."),
        click.option("--no-trunc", is_flag=True, help="IDs in full length."),
        click.option("--digests", is_flag=True, help="Show digests."),
        click.option(
            "-f",
            "--filter",
            "filters",
            multiple=True,
            metavar="KEY=VALUE",
            help="Only dangling=true, reference=PATTERN or label=KEY[=VALUE].",
        ),
        click.option("--format", "form", metavar="FORM", help="'json', 'table', or like '{{.Repository}}:{{.Tag}}'."),
        click.pass_obj,
    ):
        function = option(function)
    return function


def _list_images(
    settings: Globals,
    *,
    name: str | None,
    every: bool,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    filters: tuple[str, ...],
    form: str | None,
) -> None:
    """List images: all, those of a repository, or those of a name."""
    from pybuild.cli import human
    from pybuild.cli.templates import render

    with _opened(settings) as (_, images):
        found = images.listing(every=every, name=name, filters=filters)
    if quiet:
        click.echo("".join(f"{line}\n" for line in dict.fromkeys(_id(row, no_trunc) for row in found)), nl=False)
        return
    if form and form != "table":
        click.echo("".join(render(form, _fields(row, no_trunc)) + "\n" for row in found), nl=False)
        return
    head = ["REPOSITORY", "TAG", *(["DIGEST"] if digests else []), "IMAGE ID", "CREATED", "SIZE"]
    rows = [
        [
            row.repository,
            row.tag,
            *([str(row.digest)] if digests else []),
            _id(row, no_trunc),
            human.ago(row.created),
            human.size(row.size),
        ]
        for row in found
    ]
    click.echo(human.table([head, *rows]), nl=False)


def _id(row: "Listed", no_trunc: bool) -> str:
    return str(row.id) if no_trunc else row.id.short


def _fields(row: "Listed", no_trunc: bool) -> dict[str, object]:
    """The names that docker's own --format knows."""
    from pybuild.cli import human

    return {
        "Repository": row.repository, "Tag": row.tag, "Digest": str(row.digest), "ID": _id(row, no_trunc),
        "CreatedAt": row.created or "N/A", "CreatedSince": human.ago(row.created), "Size": human.size(row.size),
        "Platform": row.platform,
    }  # fmt: skip


_LIST_EXAMPLES = examples(
    "pybuild images",
    "pybuild images -q localhost:5000/app",
    "pybuild images -q -f dangling=true",
    "pybuild images --format '{{.ID}} {{.Repository}}:{{.Tag}}'",
)


@click.command(context_settings=_HELP, epilog=_LIST_EXAMPLES, help=_list_images.__doc__)
@_list_options
def images(settings: Globals, **options: Any) -> None:  # noqa: ANN401 - the options above
    _list_images(settings, **options)


@click.command(context_settings=_HELP, epilog=examples("pybuild tag app:1 localhost:5000/team/app:1"))
@click.argument("source")
@click.argument("target")
@click.pass_obj
def tag(settings: Globals, *, source: str, target: str) -> None:
    """Give an image (by name or ID) another name."""
    with _opened(settings) as (_, images):
        images.tag(source, target)


def _remove(settings: Globals, *, names: tuple[str, ...], force: bool) -> None:
    """Take names away from images, and remove an image with its last name."""
    from pybuild.errors import EngineError

    failure: EngineError | None = None
    with _opened(settings) as (_, images):
        for name in names:
            try:
                for removed in images.remove(name, force=force):
                    click.echo(str(removed))
            except EngineError as error:
                if failure is not None:
                    click.echo(f"error: {failure}", err=True)
                failure = error
    if failure is not None:
        raise failure


_REMOVE_EXAMPLES = examples("pybuild rmi app:1", "pybuild rmi -f 0123456789ab")


@click.command(context_settings=_HELP, epilog=_REMOVE_EXAMPLES, help=_remove.__doc__)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Also when a container uses it, or several repositories name it.")
@click.pass_obj
def rmi(settings: Globals, *, names: tuple[str, ...], force: bool) -> None:
    _remove(settings, names=names, force=force)


@click.command(
    context_settings=_HELP,
    epilog=examples(
        "pybuild save -o app.tar app:1",
        "pybuild save app:1 | docker load",
        "pybuild save --format oci -o layout/ app:1 app:2",
    ),
)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", metavar="FILE", help="Where to; with --format oci a name that ends in / is a folder.")
@click.option("--format", "form", type=click.Choice(["docker", "oci"]), default="docker", show_default=True,
              help="What `docker save` writes, or an OCI image layout.")  # fmt: skip
@click.pass_obj
def save(settings: Globals, *, names: tuple[str, ...], output: str | None, form: str) -> None:
    """Write images to an archive, on standard output if no file is given."""
    from pathlib import Path

    from pybuild.errors import UsageError

    if output is None and sys.stdout.isatty():
        raise UsageError("an archive is not for a terminal", hint="give -o FILE, or redirect the output")
    with _opened(settings) as (_, images):
        if output is None:
            images.save(names, sys.stdout.buffer, form)
            sys.stdout.buffer.flush()
        else:
            images.save(names, Path(output), form, folder=output.endswith("/") or Path(output).is_dir())


@click.command(
    context_settings=_HELP,
    epilog=examples("pybuild load -i app.tar", "docker save app:1 | pybuild load", "pybuild load -i layout/"),
)
@click.option("-i", "--input", "source", metavar="FILE", help="Archive or folder to read.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def load(settings: Globals, *, source: str | None, quiet: bool) -> None:
    """Take images from a docker archive or an OCI layout, on standard input if no file is given.

    Archives may be compressed with gzip, zstd, xz or bzip2.
    """
    from pathlib import Path

    from pybuild.cli.transfers import transfer_progress
    from pybuild.errors import UsageError
    from registry.model import Digest

    if source is None and sys.stdin.isatty():
        raise UsageError("an archive does not come from a terminal", hint="give -i FILE, or a pipe")
    with _opened(settings) as (_, images), transfer_progress(sys.stderr, quiet=quiet) as progress:
        found = images.load(Path(source) if source else sys.stdin.buffer, progress)
    for name in found:
        click.echo(f"Loaded image ID: {name}" if isinstance(name, Digest) else f"Loaded image: {name}")


# -- the group `image` ----------------------------------------------------------------------------------------------


@click.group(
    context_settings=_HELP,
    epilog=examples("pybuild image ls", "pybuild image inspect app:1", "pybuild image history app:1"),
)
def image() -> None:
    """List, inspect and remove images."""


@image.command("ls", context_settings=_HELP, epilog=_LIST_EXAMPLES, help=_list_images.__doc__)
@_list_options
def image_ls(settings: Globals, **options: Any) -> None:  # noqa: ANN401 - the options above
    _list_images(settings, **options)


@image.command("rm", context_settings=_HELP, epilog=_REMOVE_EXAMPLES, help=_remove.__doc__)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Also when a container uses it, or several repositories name it.")
@click.pass_obj
def image_rm(settings: Globals, *, names: tuple[str, ...], force: bool) -> None:
    _remove(settings, names=names, force=force)


@image.command(
    "inspect",
    context_settings=_HELP,
    epilog=examples("pybuild image inspect app:1", "pybuild image inspect -f '{{json .Config.Env}}' app:1"),
)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--format", "form", metavar="FORM", help="Like '{{.Id}}' or '{{json .Config}}'.")
@click.pass_obj
def image_inspect(settings: Globals, *, names: tuple[str, ...], form: str | None) -> None:
    """Show all there is to know of images, as JSON."""
    import json

    from pybuild.cli.templates import render

    with _opened(settings) as (_, images):
        found = [images.inspect(name) for name in names]
    if form:
        click.echo("".join(render(form, one) + "\n" for one in found), nl=False)
    else:
        click.echo(json.dumps(found, indent=4, ensure_ascii=False))


@image.command("history", context_settings=_HELP, epilog=examples("pybuild image history --no-trunc app:1"))
@click.argument("name", metavar="IMAGE")
@click.option("--no-trunc", is_flag=True, help="Steps in full length.")
@click.option("-q", "--quiet", is_flag=True, help="Only IDs.")
@click.option("--format", "form", metavar="FORM", help="'json', or like '{{.CreatedBy}}'.")
@click.pass_obj
def image_history(settings: Globals, *, name: str, no_trunc: bool, quiet: bool, form: str | None) -> None:
    """Show the steps that made an image, the last one first."""
    from pybuild.cli import human
    from pybuild.cli.templates import render

    with _opened(settings) as (_, images):
        steps = images.history(name)

    def short(text: str, length: int) -> str:
        return text if no_trunc or len(text) <= length else text[: length - 1] + "…"

    rows = [
        {
            "ID": short(step.id, 64) if no_trunc else step.id.removeprefix("sha256:")[:12],
            "CreatedSince": human.ago(step.created),
            "CreatedBy": short(" ".join(step.created_by.split()), 45),
            "Size": human.size(step.size),
            "Comment": step.comment,
        }
        for step in steps
    ]
    if quiet or form:
        click.echo("".join(render("{{.ID}}" if quiet else form or "", row) + "\n" for row in rows), nl=False)
    else:
        head = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
        click.echo(human.table([head, *([*row.values()] for row in rows)]), nl=False)


@image.command("prune", context_settings=_HELP, epilog=examples("pybuild image prune", "pybuild image prune -a -f"))
@click.option("-a", "--all", "every", is_flag=True, help="Also named ones that no container uses.")
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
@click.pass_obj
def image_prune(settings: Globals, *, every: bool, force: bool) -> None:
    """Remove images that have no name, or with -a all that no container uses."""
    from pybuild.cli import human

    what = "all images without at least one container" if every else "all images without a name"
    if not force:
        click.confirm(f"This will remove {what}. Continue?", abort=True, err=True)
    with _opened(settings) as (_, images):
        removed, freed = images.prune(every=every)
    for one in removed:
        click.echo(str(one))
    click.echo(f"Total reclaimed space: {human.size(freed)}")


for _command in (pull, push, tag, save, load):
    image.add_command(_command)
