"""`pybuild daemon`: Docker's Engine API for docker, compose, docker-py and others."""

import logging
import os
import sys
from pathlib import Path

import click

from pybuild.cli.door import Globals, examples, root_option
from pybuild.errors import UsageError

DEFAULT_HOST = "unix:///run/pybuild.sock"


@click.command(
    epilog=examples(
        "pybuild daemon",
        "pybuild daemon -H unix:///run/pybuild.sock -H tcp://127.0.0.1:2375",
        "DOCKER_HOST=unix:///run/pybuild.sock docker ps",
    )
)
@root_option
@click.option("-H", "--host", "hosts", multiple=True, help=f"unix://, tcp:// or fd://.  [default: {DEFAULT_HOST}]")
@click.option("-G", "--group", default="docker", show_default=True, help="Group that may use the unix socket.")
@click.option("--tlsverify", is_flag=True, help="Ask clients over TCP for a certificate.")
@click.option("--tlscacert", type=click.Path(path_type=Path), help="Authority that signs clients' certificates.")
@click.option("--tlscert", type=click.Path(path_type=Path), help="Our certificate.")
@click.option("--tlskey", type=click.Path(path_type=Path), help="Our key.")
@click.option("-D", "--debug", "verbose", is_flag=True, help="Log more.")
@click.pass_obj
def daemon(
    settings: Globals,
    *,
    hosts: tuple[str, ...],
    group: str,
    tlsverify: bool,
    tlscacert: Path | None,
    tlscert: Path | None,
    tlskey: Path | None,
    verbose: bool,
) -> None:
    """Serve Docker's Engine API until SIGTERM or Ctrl-C; containers go on without it."""
    from pybuild.api.listening import Listening, Tls, listen
    from pybuild.api.serve import serve
    from runner.container.privileges import check_privileges

    tls = None
    if tlsverify:
        if not (tlscacert and tlscert and tlskey):
            raise UsageError("--tlsverify needs certificates", hint="give --tlscacert, --tlscert and --tlskey")
        tls = Tls(tlscert, tlskey, tlscacert)
    elif tlscacert or tlscert or tlskey:
        raise UsageError("certificates are given, but not asked for", hint="add --tlsverify")
    check_privileges()
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("httpcore", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    log = logging.getLogger("pybuild")
    listening: list[Listening] = []
    try:
        for host in hosts or (DEFAULT_HOST,):
            listening += listen(host, group=group, tls=tls, environment=os.environ)
        where = ", ".join(map(str, listening))
        serve(settings.root, listening, ready=lambda: log.info("serving %s on %s", settings.root, where))
    finally:
        for one in listening:
            one.close()
