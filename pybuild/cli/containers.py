"""Containers at the command line: run, ps, logs, exec, attach, start, stop, kill, wait, rm, inspect.

Thin over pybuild/engine: options are parsed, the library is called, the result is shown. `run` and `exec` end with the
code of the process, or as docker's do when there was none: 125, 126, 127.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from pybuild.cli.door import Globals, examples
from pybuild.cli.plain import plain
from pybuild.errors import EngineError

if TYPE_CHECKING:
    from pybuild.engine.containers import Container, Containers
    from pybuild.engine.options import Restart, RunOptions
    from pybuild.engine.records import Record
    from registry.client import Progress
    from runner.container.client import Exit, Running

Command = TypeVar("Command", bound=Callable[..., Any])
_TEXT_LIMIT = 1 << 20  # bytes of an --env-file
_PASS_ON = {"allow_interspersed_args": False, "help_option_names": ["--help"]}


class RunFailed(EngineError):
    """The container could not be made or started."""

    exit_code = 125


# --- run --------------------------------------------------------------------------------------------------------------


def _option(*names: str, **settings: Any) -> Callable[[Command], Command]:  # noqa: ANN401 -- click's own
    return click.option(*names, **settings)


def _many(*names: str, **settings: Any) -> Callable[[Command], Command]:  # noqa: ANN401 -- click's own
    return click.option(*names, multiple=True, **settings)


_RUN_OPTIONS = (
    _option("-d", "--detach", is_flag=True, help="Leave it running, and print its id."),
    _option("-i", "--interactive", is_flag=True, help="Keep its input open, and pass ours on."),
    _option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    _option("--rm", "auto_remove", is_flag=True, help="Remove it when it has ended."),
    _option("--restart", default="no", help="no, always, unless-stopped or on-failure[:TRIES].  [default: no]"),
    _option("--name", default="", help="Its name; one is made up otherwise."),
    _option("--pull", type=click.Choice(["always", "missing", "never"]), default="missing", help="When to pull."),
    _option("-q", "--quiet", is_flag=True, help="Do not show the progress of a pull."),
    _option("--platform", default="", help="Which image of several, like linux/arm64."),
    _option("--cidfile", default="", type=click.Path(), help="Write the container's id to this new file."),
    _option("--detach-keys", default="", help="Keys that leave it running, like ctrl-p,ctrl-q."),
    _option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to it.  [default: yes]"),
    _option("--entrypoint", default=None, help="Run this instead of the image's entrypoint."),
    _many("-e", "--env", help="NAME=value, or NAME to take it from here."),
    _many("--env-file", type=click.Path(), help="File of such lines."),
    _many("-l", "--label", help="KEY=value."),
    _many("--label-file", type=click.Path(), help="File of such lines."),
    _option("-u", "--user", default="", help="USER[:GROUP], by name or number."),
    _many("--group-add", help="Another group for its user."),
    _option("-w", "--workdir", default="", help="Its working directory."),
    _option("-h", "--hostname", default="", help="Its host name.  [default: the short id]"),
    _option("--domainname", default="", help="Its domain name."),
    _many("-v", "--volume", help="HOST-PATH-OR-NAME:PATH[:ro], or PATH."),
    _many("--mount", help="type=bind|volume|tmpfs,source=…,target=…[,readonly]."),
    _many("--tmpfs", help="PATH[:size=64m,mode=1777]."),
    _option("--read-only", is_flag=True, help="Its root filesystem can't be written to."),
    _many("-p", "--publish", help="[HOST-IP:][HOST-PORT:]PORT[/udp]."),
    _option("-P", "--publish-all", is_flag=True, help="Publish every exposed port on a free port."),
    _many("--expose", help="Another port that is exposed."),
    _option("--network", "--net", default="bridge", help="bridge, host, none or container:NAME.  [default: bridge]"),
    _many("--dns", help="Name server."),
    _many("--dns-search", help="Search domain."),
    _many("--dns-option", help="Option of the resolver."),
    _many("--add-host", help="NAME:ADDRESS for /etc/hosts; host-gateway is an address."),
    _option("-m", "--memory", default="", help="Limit, like 512m."),
    _option("--memory-swap", default="", help="Memory and swap together; -1: unlimited."),
    _option("--memory-reservation", default="", help="What it is left with when memory is short."),
    _option("--cpus", default="", help="How many CPUs' time it may use, like 1.5."),
    _option("-c", "--cpu-shares", default=0, help="Weight against others.  [default: 1024]"),
    _option("--cpu-period", default=0, help="Length of a scheduling period, µs."),
    _option("--cpu-quota", default=0, help="µs that it may run in each period."),
    _option("--cpuset-cpus", default="", help="CPUs that it may use, like 0-3,5."),
    _option("--cpuset-mems", default="", help="Memory nodes that it may use."),
    _option("--pids-limit", default=0, help="How many processes it may have."),
    _option("--blkio-weight", default=0, help="Weight for block devices, 10 to 1000."),
    _many("--ulimit", help="NAME=soft[:hard]."),
    _option("--shm-size", default="", help="Size of /dev/shm.  [default: 64m]"),
    _option("--oom-score-adj", default=None, type=int, help="-1000 to 1000: who is killed first."),
    _many("--cap-add", help="Capability, or ALL."),
    _many("--cap-drop", help="Capability, or ALL."),
    _option("--privileged", is_flag=True, help="All capabilities and devices, nothing masked, no seccomp."),
    _many("--security-opt", help="seccomp=unconfined, no-new-privileges, systempaths=unconfined."),
    _many("--device", help="/dev/on-host[:/dev/in-container[:rwm]]."),
    _many("--sysctl", help="NAME=value."),
    _option("--pid", default="", help="host or container:NAME."),
    _option("--ipc", default="", help="host, private or container:NAME."),
    _option("--uts", default="", help="host."),
    _option("--cgroupns", default="", help="host or private."),
    _option("--cgroup-parent", default="", help="Control group to make its own in."),
    _option("--init", is_flag=True, help="Run a small init as process 1, which reaps zombies."),
    _option("--stop-signal", default="", help="What asks it to end.  [default: SIGTERM]"),
    _option("--stop-timeout", default=None, type=int, help="Seconds until it is killed.  [default: 10]"),
)


def _run_options(command: Command) -> Command:
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


@click.command(context_settings=_PASS_ON)
@_run_options
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(settings: Globals, /, **given: Any) -> int:  # noqa: ANN401 -- sixty options, typed by RunOptions
    """Run a command in a new container.

    \b
    Examples:
      pybuild run --rm -it debian bash
      pybuild run -d --name web -p 8080:80 -v data:/data app:1
      echo hello | pybuild run --rm -i busybox cat
    """  # noqa: D301 -- \b is click's mark
    from pybuild.cli.streams import check_terminal, signals_held, terminal_size

    with _as_run_failure():
        options = _parsed(given)
    if not given["detach"]:
        check_terminal(tty=options.tty, stdin=options.interactive)
    with engine(settings) as containers:
        with _as_run_failure():
            containers.supervisor.wake()
            containers.recover()
            record = _create(containers, options, pull=given["pull"], quiet=given["quiet"], cidfile=given["cidfile"])
        if given["detach"]:
            with _as_run_failure(), _removed_on_failure(containers, record):
                _start_and_leave(containers, record)
            click.echo(record.id)
            return 0
        with signals_held():
            with _as_run_failure(), _removed_on_failure(containers, record):
                running = containers.start(record, attach=_streams(options), claim=True, console_size=terminal_size())
            _warn(running)
            with running:
                return _foreground(containers, record, running, keys=given["detach_keys"], proxy=given["sig_proxy"])


def _create(containers: "Containers", options: "RunOptions", *, pull: str, quiet: bool, cidfile: str) -> "Record":
    with _new_file(cidfile) if cidfile else contextlib.nullcontext() as file:
        record = containers.create(options, pull=pull, progress=lambda: _transfer(quiet=quiet))
        if file:
            file.write(record.id)
    return record


@contextlib.contextmanager
def _new_file(path: str) -> Iterator[IO[str]]:
    """A file that is made before the work, so that it can't fail after it, and goes when the work fails."""
    try:
        file = open(path, "x", encoding="ascii")  # noqa: SIM115 -- the next line closes it
    except FileExistsError:
        raise EngineError(
            f"the file {path} is there already", hint="remove it, or name another one by --cidfile"
        ) from None
    except OSError as error:
        raise EngineError(f"can't write {path}: {error.strerror}", hint="name another file by --cidfile") from error
    with file:
        try:
            yield file
        except BaseException:
            os.unlink(path)
            raise


def _transfer(*, quiet: bool) -> "contextlib.AbstractContextManager[Progress]":
    from pybuild.cli.transfers import transfer_progress

    return transfer_progress(sys.stderr, quiet=quiet)


def _parsed(given: dict[str, Any]) -> "RunOptions":
    """The options of the command line as the engine takes them."""
    from pybuild.engine import options as parse

    env = [entry for path in given["env_file"] for entry in parse.parse_env_file(_text_of(path), path)] + list(
        given["env"]
    )
    labels = [line for path in given["label_file"] for line in parse.parse_env_file(_text_of(path), path)]
    here = os.getcwd()
    parse.parse_detach_keys(given["detach_keys"] or "ctrl-p,ctrl-q")
    return parse.RunOptions(
        image=given["image"],
        command=given["command"],
        name=given["name"],
        platform=given["platform"],
        entrypoint=None if given["entrypoint"] is None else (given["entrypoint"],),
        env=parse.parse_env(env, os.environ),
        labels=parse.parse_labels([*labels, *given["label"]]),
        user=given["user"],
        group_add=given["group_add"],
        working_dir=given["workdir"],
        hostname=given["hostname"],
        domainname=given["domainname"],
        tty=given["tty"],
        interactive=given["interactive"],
        attached=not given["detach"],
        auto_remove=given["auto_remove"],
        restart=_restart_of(given),
        mounts=(
            *(parse.parse_volume(text, here) for text in given["volume"]),
            *(parse.parse_mount(text, here) for text in given["mount"]),
            *(parse.parse_tmpfs(text) for text in given["tmpfs"]),
        ),
        publish=given["publish"],
        publish_all=given["publish_all"],
        expose=given["expose"],
        network=given["network"],
        dns=tuple(parse.parse_address(text, "dns") for text in given["dns"]),
        dns_search=given["dns_search"],
        dns_option=given["dns_option"],
        add_host=parse.parse_pairs(given["add_host"], "add-host", ":="),
        resources=parse.parse_resources(
            **{key: given[key] for key in (
                "memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpu_quota", "cpu_period",
                "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight",
            )}
        ),
        ulimits=tuple(parse.parse_ulimit(text) for text in given["ulimit"]),
        shm_size=parse.parse_size(given["shm_size"]) if given["shm_size"] else 0,
        oom_score_adj=given["oom_score_adj"],
        cap_add=given["cap_add"],
        cap_drop=given["cap_drop"],
        privileged=given["privileged"],
        devices=tuple(parse.parse_device(text) for text in given["device"]),
        sysctls=parse.parse_pairs(given["sysctl"], "sysctl"),
        pid=parse.parse_mode(given["pid"], "pid"),
        ipc=parse.parse_mode(given["ipc"], "ipc"),
        uts=parse.parse_mode(given["uts"], "uts"),
        cgroupns=parse.parse_mode(given["cgroupns"], "cgroupns"),
        cgroup_parent=parse.parse_cgroup_parent(given["cgroup_parent"]),
        read_only=given["read_only"],
        init=given["init"],
        stop_signal=given["stop_signal"],
        stop_timeout=given["stop_timeout"],
        **parse.parse_security(given["security_opt"]),
    )  # fmt: skip


def _restart_of(given: dict[str, Any]) -> "Restart":
    from pybuild.engine.options import parse_restart
    from pybuild.errors import UsageError

    found = parse_restart(given["restart"])
    if given["auto_remove"] and found.name != "no":
        raise UsageError("--rm and --restart exclude each other", hint="leave one out")
    return found


def _foreground(containers: "Containers", record: "Record", running: "Running", *, keys: str, proxy: bool) -> int:
    """Stay with a container until it ends or the user leaves it; clean up behind it."""
    try:
        outcome = _followed(containers, record, running, keys=_keys(keys), proxy=proxy)
    except OSError as error:
        # Our output takes no more: the container ends as a program in our place would, instead of running on unseen.
        containers.stop(containers.get(record.id), timeout=0)
        if isinstance(error, BrokenPipeError):
            raise
        raise RunFailed(f"can't write the container's output: {error.strerror}") from error
    if outcome is None:
        return 0
    try:
        containers.settle(record.id)
        running.cleaned()
    except Exception as error:
        if not isinstance(error, OSError) and not hasattr(error, "hint"):
            raise
        # It has run, and has a code; the next command that finds room puts away what is left.
        click.echo(f"warning: container {record.name} could not be put away: {error}", err=True)
    return outcome.code


def _followed(
    containers: "Containers", record: "Record", running: "Running", *, keys: bytes, proxy: bool
) -> "Exit | None":
    """Follow it to its end, also when another supervisor takes over in between."""
    from pybuild.cli.streams import follow
    from pybuild.errors import Conflict, NotFound
    from runner.container.client import Exit
    from runner.errors import RunnerError

    options = record.options
    forward = (lambda number: _forwarded(containers, record, number)) if proxy else None
    while True:
        try:
            return follow(running, stdin=options.interactive, tty=options.tty, detach_keys=keys, forward=forward)
        except RunnerError as error:
            try:
                running = containers.attach(containers.get(record.id), _streams(options))
            except Conflict:
                return Exit(containers.get(record.id).state.exit_code)
            except NotFound:
                raise error from None  # removed at its end, by the supervisor's hook


def _streams(options: "RunOptions") -> list[str]:
    return ["stdout", "stderr", *(["stdin"] if options.interactive else [])]


def _forwarded(containers: "Containers", record: "Record", number: int) -> None:
    from runner.errors import RunnerError

    with contextlib.suppress(RunnerError):  # it has ended meanwhile
        containers.supervisor.kill(record.id, number)


def _keys(text: str) -> bytes:
    from pybuild.engine.options import parse_detach_keys

    return parse_detach_keys(text or "ctrl-p,ctrl-q")


@contextlib.contextmanager
def _as_run_failure() -> Iterator[None]:
    """What keeps a container from running is the engine's failure: 125, unless its command is to blame."""
    from runner.errors import RunnerError

    try:
        yield
    except RunnerError:
        raise
    except Exception as error:
        if not hasattr(error, "hint"):
            raise
        raise RunFailed(str(error), hint=error.hint) from error


@contextlib.contextmanager
def _removed_on_failure(containers: "Containers", record: "Record") -> Iterator[None]:
    """A container that could not start is kept for inspection, unless it was to be removed anyway."""
    try:
        yield
    except BaseException:
        if record.options.auto_remove:
            containers.remove(containers.get(record.id), force=True, volumes=True)
        raise


# --- exec, attach, start ----------------------------------------------------------------------------------------------


@click.command("exec", context_settings=_PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Do not wait for it.")
@click.option("-i", "--interactive", is_flag=True, help="Pass our input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", multiple=True, help="NAME=value, or NAME to take it from here.")
@click.option("--env-file", multiple=True, type=click.Path(), help="File of such lines.")
@click.option("-u", "--user", default="", help="USER[:GROUP].")
@click.option("-w", "--workdir", default="", help="Its working directory.")
@click.option("--privileged", is_flag=True, help="With all capabilities.")
@click.option("--detach-keys", default="", help="Keys that leave it running.")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(
    settings: Globals,
    *,
    container: str,
    command: tuple[str, ...],
    detach: bool,
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    user: str,
    workdir: str,
    privileged: bool,
    detach_keys: str,
) -> int:
    """Run a command in a running container.

    \b
    Examples:
      pybuild exec -it web sh
      pybuild exec web cat /etc/os-release
    """  # noqa: D301 -- \b is click's mark
    from pybuild.cli.streams import check_terminal, follow, terminal_size
    from pybuild.engine.options import parse_env, parse_env_file

    check_terminal(tty=tty, stdin=interactive and not detach)
    variables = [entry for path in env_file for entry in parse_env_file(_text_of(path), path)] + list(env)
    with engine(settings) as containers:
        streams = [] if detach else ["stdout", "stderr", *(["stdin"] if interactive else [])]
        running = containers.exec(
            containers.find(container),
            command,
            attach=streams,
            env=parse_env(variables, os.environ),
            user=user,
            working_dir=workdir,
            tty=tty,
            privileged=privileged,
            console_size=terminal_size() if tty else (0, 0),
        )
        _warn(running)
        with running:
            if detach:
                return 0
            outcome = follow(running, stdin=interactive, tty=tty, detach_keys=_keys(detach_keys))
            return _code(outcome)


@click.command(epilog=examples("pybuild attach web", "pybuild attach --no-stdin web"))
@click.option("--no-stdin", is_flag=True, help="Do not pass our input on.")
@click.option("--detach-keys", default="", help="Keys that leave it again.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to it.  [default: yes]")
@click.argument("container")
@click.pass_obj
def attach(settings: Globals, *, container: str, no_stdin: bool, detach_keys: str, sig_proxy: bool) -> int:
    """Follow the output of a running container, and type into it. Leave it by ctrl-p ctrl-q."""
    from pybuild.cli.streams import check_terminal, follow, terminal_size

    with engine(settings) as containers:
        found = containers.find(container)
        options = found.record.options
        stdin = options.interactive and not no_stdin
        check_terminal(tty=options.tty, stdin=stdin)
        with containers.attach(found, ["stdout", "stderr", *(["stdin"] if stdin else [])]) as running:
            if options.tty:
                rows, columns = terminal_size()
                running.resize(rows + 1, columns)  # a change makes programs draw themselves again
                running.resize(rows, columns)
            forward = (lambda number: _forwarded(containers, found.record, number)) if sig_proxy else None
            return _code(follow(running, stdin=stdin, tty=options.tty, detach_keys=_keys(detach_keys), forward=forward))


@click.command(epilog=examples("pybuild start web", "pybuild start -ai shell"))
@click.option("-a", "--attach", "attached", is_flag=True, help="Follow its output, and pass signals on.")
@click.option("-i", "--interactive", is_flag=True, help="Pass our input on, too.")
@click.option("--detach-keys", default="", help="Keys that leave it running.")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def start(settings: Globals, *, names: tuple[str, ...], attached: bool, interactive: bool, detach_keys: str) -> int:
    """Start stopped containers."""
    from pybuild.cli.streams import check_terminal, signals_held, terminal_size

    with engine(settings) as containers:
        containers.recover()
        if not (attached or interactive):
            return each(names, lambda name: _start_quietly(containers, name))
        if len(names) > 1:
            raise click.UsageError("only one container can be attached to")
        record = containers.find(names[0]).record
        stdin = interactive and record.options.interactive
        check_terminal(tty=record.options.tty, stdin=stdin)
        streams = ["stdout", "stderr", *(["stdin"] if stdin else [])]
        with (
            signals_held(),
            containers.start(record, attach=streams, claim=True, console_size=terminal_size()) as running,
        ):
            _warn(running)
            return _foreground(containers, record, running, keys=detach_keys, proxy=True)


def _start_quietly(containers: "Containers", name: str) -> None:
    found = containers.find(name)
    if not found.running:
        _start_and_leave(containers, found.record)


def _start_and_leave(containers: "Containers", record: "Record") -> None:
    with containers.start(record) as running:
        _warn(running)


# --- stop, kill, wait, rm ---------------------------------------------------------------------------------------------


@click.command(epilog=examples("pybuild stop web", "pybuild stop -t 2 web worker"))
@click.option("-t", "--timeout", "--time", default=None, type=int, help="Seconds until it is killed; -1: never.")
@click.option("-s", "--signal", "number", default="", help="What asks it to end, instead of its own stop signal.")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def stop(settings: Globals, *, names: tuple[str, ...], timeout: int | None, number: str) -> int:
    """Ask running containers to end; kill those that do not within ten seconds."""
    from pybuild.engine.options import parse_signal

    chosen = parse_signal(number) if number else None
    with engine(settings) as containers:
        containers.recover()
        return each(names, lambda name: containers.stop(containers.find(name), timeout, chosen))


@click.command(epilog=examples("pybuild kill web", "pybuild kill -s HUP web"))
@click.option("-s", "--signal", "number", default="KILL", show_default=True, help="Number or name of the signal.")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def kill(settings: Globals, *, names: tuple[str, ...], number: str) -> int:
    """Send a signal to running containers."""
    from pybuild.engine.options import parse_signal

    chosen = parse_signal(number)
    with engine(settings) as containers:
        containers.recover()
        return each(names, lambda name: containers.kill(containers.find(name), chosen))


@click.command(epilog=examples("pybuild wait job && echo done"))
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def wait(settings: Globals, *, names: tuple[str, ...]) -> int:
    """Wait until containers stop, and print their exit codes."""
    with engine(settings) as containers:
        return each(names, lambda name: str(containers.wait(containers.find(name))))


@click.command(epilog=examples("pybuild rm web", "pybuild rm -f $(pybuild ps -aq)"))
@click.option("-f", "--force", is_flag=True, help="Kill it if it runs; no error if it is not there.")
@click.option("-v", "--volumes", is_flag=True, help="Remove its anonymous volumes, too.")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def rm(settings: Globals, *, names: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers."""
    from pybuild.errors import NotFound

    def remove(name: str) -> None:
        try:
            containers.remove(containers.find(name), force=force, volumes=volumes)
        except NotFound:
            if not force:
                raise

    with engine(settings) as containers:
        containers.recover()
        return each(names, remove)


# --- ps, inspect, logs ------------------------------------------------------------------------------------------------


@click.command(epilog=examples("pybuild ps -a", "pybuild ps -q -f status=exited", "pybuild ps --format json"))
@click.option("-a", "--all", "every", is_flag=True, help="Also those that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and commands.")
@click.option("-n", "--last", default=-1, help="The youngest so many, running or not.")
@click.option("-l", "--latest", is_flag=True, help="The youngest one, running or not.")
@click.option("-f", "--filter", "filters", multiple=True, help="name=, id=, status=, label=, ancestor=, exited=, …")
@click.option("--format", "form", default="", help="table, json, or a template like '{{.Names}}: {{.Status}}'.")
@click.pass_obj
def ps(
    settings: Globals,
    *,
    every: bool,
    quiet: bool,
    no_trunc: bool,
    last: int,
    latest: bool,
    filters: tuple[str, ...],
    form: str,
) -> None:
    """List containers."""
    from pybuild.cli import human
    from pybuild.engine.listing import matches, summary

    wanted = _filters(filters)
    count = 1 if latest else last
    with engine(settings) as containers:
        containers.recover()
        found = [container for container in containers.all() if matches(container, wanted)]
    if count >= 0:
        found = found[:count]
    elif not every and not {"status", "exited"} & set(wanted):
        found = [container for container in found if container.running]
    if quiet:
        click.echo("".join(f"{_id(container, no_trunc)}\n" for container in found), nl=False)
        return
    rows = [summary(container, full=no_trunc) for container in found]
    if form and not form.startswith("table"):
        click.echo("".join(f"{_formatted(form, row)}\n" for row in rows), nl=False)
        return
    columns = form.removeprefix("table").strip() or _PS_COLUMNS
    lines = [_formatted(columns, row) for row in (_PS_TITLES, *rows)]
    click.echo(human.table([line.split("\t") for line in lines]), nl=False)


_PS_COLUMNS = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_PS_TITLES = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
    "Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES", "Labels": "LABELS",
    "Networks": "NETWORKS", "Mounts": "MOUNTS",
}  # fmt: skip


@click.command(epilog=examples("pybuild inspect web", "pybuild inspect -f '{{.State.Pid}}' web"))
@click.option("-f", "--format", "form", default="", help="A template like '{{.State.Pid}}'.")
@click.option("--type", "kind", type=click.Choice(["container", "image"]), default=None, help="Only of this kind.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def inspect(settings: Globals, *, names: tuple[str, ...], form: str, kind: str | None) -> int:
    """Show all there is to know of containers or images, as JSON."""
    found, failed = [], 0
    with engine(settings) as containers:
        containers.recover()
        for name in names:
            try:
                found.append(_inspected(containers, name, kind))
            except Exception as error:  # noqa: BLE001 -- those that are there are shown all the same
                failed = _complain(error)
    if form:
        click.echo("".join(f"{_formatted(form, item)}\n" for item in found), nl=False)
    else:
        click.echo(json.dumps(found, indent=4, ensure_ascii=False))
    return failed


def _inspected(containers: "Containers", name: str, kind: str | None) -> Any:  # noqa: ANN401 -- JSON
    from pybuild.engine.views import inspect_container
    from pybuild.errors import NotFound
    from registry.errors import RegistryError

    try:
        if kind != "image":
            container = containers.find(name)
            return inspect_container(container, containers.records.of(container.record.id))
    except NotFound:
        if kind == "container":
            raise
    from pybuild.engine.images import Images

    try:
        return Images(containers.store).inspect(name)
    except (RegistryError, EngineError):
        if kind == "image":
            raise
        raise NotFound(f"No such container or image: {name}", hint="see `pybuild ps -a` and `pybuild images`") from None


@click.command(epilog=examples("pybuild logs -f --tail 20 web", "pybuild logs -t --since 10m web"))
@click.option("-f", "--follow", is_flag=True, help="Wait for more until the container ends.")
@click.option("-n", "--tail", default="all", help="Only the last so many lines.")
@click.option("--since", default="", help="From this time on: 2026-01-31T12:00:00Z, or 10m ago.")
@click.option("--until", default="", help="Up to this time.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.argument("container")
@click.pass_obj
def logs(
    settings: Globals, *, container: str, follow: bool, tail: str, since: str, until: str, timestamps: bool
) -> None:
    """Show the output of a container, whether it still runs or not."""
    from runner.container.jsonlog import read_log

    if tail != "all" and not tail.isdigit():
        raise click.UsageError(f"--tail takes a number or all, not {tail!r}")
    with engine(settings) as containers:
        found = containers.find(container)
        tty = found.record.options.tty
        records = read_log(
            containers.log_path(found.record.id),
            tail=None if tail == "all" else int(tail),
            since=_moment(since),
            until=_moment(until),
            running=(lambda: containers.is_running(found.record.id)) if follow else None,
        )
        for line in records:
            stream = sys.stdout if tty or line.stream == "stdout" else sys.stderr
            stamp = f"{_padded(line.time)} " if timestamps else ""
            stream.buffer.write(f"{stamp}{line.text}".encode("utf-8", "surrogateescape"))
            stream.flush()


def _padded(moment: str) -> str:
    """Nine digits of the second, so that lines stand under each other."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}Z"


def _moment(text: str) -> int | None:
    """Nanoseconds since 1970 of an RFC 3339 time, a number of seconds, or a duration before now."""
    import re
    import time
    from datetime import datetime

    if not text:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int(fraction.ljust(9, "0")[:9])
    if re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        units = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
        return time.time_ns() - int(
            sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text))
        )
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000) * 1000
    except ValueError:
        raise click.UsageError(f"not a time: {text!r}; write 2026-01-31T12:00:00Z, or a duration like 10m") from None


# --- shared -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def engine(settings: Globals) -> "Iterator[Containers]":
    from pybuild.engine.containers import Containers

    with Containers(settings.root) as containers:
        yield containers


def each(names: Sequence[str], act: Callable[[str], str | None]) -> int:
    """Do it for each name, and print what came of it (or the name); errors do not keep the others from being done."""
    failed = 0
    for name in names:
        try:
            click.echo(act(name) or name)
        except Exception as error:  # noqa: BLE001 -- told here; those that are no user's fault are raised again
            failed = _complain(error)
    return failed


def _complain(error: Exception) -> int:
    """Tell of one failure among several things to do, as main() would of a single one."""
    if not hasattr(error, "hint"):
        raise error
    _tell(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
    return 1


def _tell(text: str) -> None:
    """On stderr, without what could drive a terminal: it may quote an image of strangers."""
    click.echo(plain(text), err=True)


def _warn(running: "Running") -> None:
    for text in running.warnings:
        _tell(f"warning: {text}")


def _code(outcome: "Exit | None") -> int:
    return 0 if outcome is None else outcome.code


def _id(container: "Container", no_trunc: bool) -> str:
    return container.record.id if no_trunc else container.record.id[:12]


def _formatted(form: str, value: dict[str, Any]) -> str:
    from pybuild.cli.templates import render

    return render(form, value)


def _filters(texts: Sequence[str]) -> dict[str, list[str]]:
    from pybuild.engine.listing import FILTERS

    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in FILTERS:
            raise click.UsageError(f"invalid filter {text!r}; known: {', '.join(FILTERS)}")
        found.setdefault(key, []).append(value)
    return found


def _text_of(path: str) -> str:
    """A file that an option names, of a size that a person may have written. Raises EngineError."""
    try:
        with open(path, "rb") as file:
            content = file.read(_TEXT_LIMIT + 1)
        if len(content) > _TEXT_LIMIT:
            raise EngineError(f"{path} has more than {_TEXT_LIMIT >> 20} MiB", hint="name a file of lines NAME=value")
        return content.decode()
    except OSError as error:
        raise EngineError(f"can't read {path}: {error.strerror}", hint="name a file of lines NAME=value") from error
    except UnicodeDecodeError as error:
        raise EngineError(f"{path} is not UTF-8", hint="name a file of lines NAME=value") from error
