"""`pybuild registry …`: serve this machine's content store to docker, podman, containerd and all the others."""

import logging
import sys
from contextlib import suppress

import click

from pybuild.cli import registry_admin
from pybuild.cli.door import Globals, root_option
from pybuild.errors import UsageError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  pybuild registry serve --addr 127.0.0.1:5000",
)
def registry() -> None:
    """Run and care for a registry."""


@registry.command(
    epilog="""\b
Examples:
  pybuild registry serve
  pybuild registry serve --addr 127.0.0.1:0 --quiet
  pybuild registry serve --root /srv/images --addr 0.0.0.0:5000 --insecure-open"""
)
@root_option
@click.option("--addr", default="127.0.0.1:5000", show_default=True, help="Address to listen on; port 0 takes any.")
@click.option("--insecure-open", is_flag=True, help="Allow an address that others can reach: without accounts, "
              "whoever reaches it may read, overwrite and delete everything.")  # fmt: skip
@click.option("--grace", default=30.0, show_default=True, type=click.FloatRange(min=0), metavar="SECONDS",
              help="Time that requests in flight get when the server is stopped.")  # fmt: skip
@click.option("--idle-timeout", default=60.0, show_default=True, type=click.FloatRange(min=0.05), metavar="SECONDS",
              help="Give up a client that neither sends nor takes a byte for so long.")  # fmt: skip
@click.option("--sparse", is_flag=True, help="Accept an index though images that it lists are not here.")
@click.option("--undelete", default="7d", show_default=True, metavar="AGE",
              help="How long tags and images that clients remove can come back.")  # fmt: skip
@click.option("--collect-every", default="1h", show_default=True, metavar="AGE",
              help="Apply retention rules and free garbage so often; 0 leaves it to `registry gc`.")  # fmt: skip
@click.option("--scrub-rate", default="4MiB", show_default=True, metavar="SIZE",
              help="Bytes a second to read, of what was not read for a week, to find damage; 0: none.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No line for each request on stderr.")
@click.pass_obj
def serve(
    settings: Globals, *, addr: str, insecure_open: bool, grace: float, idle_timeout: float, sparse: bool,
    undelete: str, collect_every: str, scrub_rate: str, quiet: bool,
) -> None:  # fmt: skip
    """Serve the images of this machine as an OCI registry, until SIGTERM or Ctrl-C."""
    from pybuild.cli.builder import parse_size, parse_time
    from registry.server.access import AccessLog
    from registry.server.listening import is_loopback, listen
    from registry.server.serve import serve as run
    from registry.server.state import Settings
    from registry.storage import ContentStore

    if not is_loopback(addr) and not insecure_open:
        raise UsageError(
            f"others can reach {addr}, and this registry has no accounts yet",
            hint="listen on 127.0.0.1, behind a proxy that asks who comes; or give --insecure-open",
        )
    served = Settings(idle=idle_timeout, grace=grace, sparse_indexes=sparse, restorable=parse_time(undelete),
                      collect_every=parse_time(collect_every), scrub_rate=parse_size(scrub_rate))  # fmt: skip
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    log = logging.getLogger(__name__)
    with ContentStore.open(settings.root) as store, listen(addr, idle_timeout) as listening:
        host, port = listening.getsockname()[:2]
        if not is_loopback(addr):
            log.warning("no accounts: whoever reaches %s:%d may read, overwrite and delete everything", host, port)
        access = None if quiet else AccessLog(_stderr_line)
        shown = f"[{host}]" if ":" in host else host
        run(store, [listening], served, access,
            ready=lambda: log.info("serving %s on http://%s:%d", settings.root, shown, port))  # fmt: skip


def _stderr_line(line: bytes) -> None:
    with suppress(OSError):  # a log that nobody takes any more is no reason to stop serving
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


@registry.command(
    epilog="""\b
Examples:
  pybuild registry gc --dry-run
  pybuild registry gc --untagged 7d"""
)
@root_option
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@click.option(
    "--untagged", metavar="AGE", help="Also remove images pushed longer ago that no tag, index or subject needs."
)
@click.pass_obj
def gc(settings: Globals, *, dry_run: bool, untagged: str | None) -> None:
    """Free what no image, build or upload needs; safe while pushes, pulls and builds run."""
    from pybuild.cli.builder import parse_time
    from registry.storage import ContentStore

    with ContentStore.open(settings.root) as store:
        found = store.collect(dry_run=dry_run, untagged_seconds=parse_time(untagged) if untagged else None)
    done = "would free" if dry_run else "freed"
    click.echo(
        f"{done} {found.blobs} blobs of {found.bytes} bytes, and {found.leftovers} leftovers of what was cut off"
    )


for _command in registry_admin.COMMANDS:
    registry.add_command(_command)
