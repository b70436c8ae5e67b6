"""Instructions → the graph of what the target needs, and the image's config with its history.

Gives:    make_plan(); a Plan says what to do and what the image will be, before anything is done.
Takes:    a parsed Dockerfile, options, and `Bases`, the one thing it asks of the world (configs of base images).
Not here: what a step does (ops/), whether it must be done at all (solver/).
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from builder.dockerfile import parse_trigger
from builder.dockerfile.expand import ExpansionError, expand_words
from builder.dockerfile.flags import parse_device
from builder.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Dockerfile,
    DockerfileError,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthcheckInstruction,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Position,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from builder.plan import configure, wording
from builder.plan.commands import run_command
from builder.plan.contexts import IMAGE, NamedContexts, is_image
from builder.plan.gitaddress import is_git, redacted, shown
from builder.plan.mounts import Inputs, MountWords, plan_mount
from builder.plan.options import BaseImage, Bases, PlanOptions
from builder.plan.ports import PortError, expose
from builder.plan.remotes import git_op, http_op
from builder.plan.scope import Scope, declare_global, expanded, predefined, proxies
from builder.plan.stages import StageDefinition, Stages, touches_files
from builder.plan.vertices import (
    ContextOp,
    CopyOp,
    GitOp,
    HttpOp,
    ImageOp,
    InlineFile,
    MkdirOp,
    RunMount,
    RunOp,
    ScratchOp,
    SourcePath,
    Vertex,
)  # fmt: skip
from registry.errors import RegistryError
from registry.model import History, ImageConfig, Platform, RunConfig
from registry.model.platform import native

_EMPTY = RunConfig(working_dir="/")  # of FROM scratch


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the image's history; the vertex that makes its layer, if it makes one."""

    history: History
    vertex: Vertex | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one target, and what comes out."""

    result: Vertex  # whose file system the image has
    config: ImageConfig  # complete but for layers and times
    base: BaseImage | None
    steps: tuple[Step, ...]  # on top of the base image's history
    platform: Platform = field(default_factory=native)  # as asked for; the image may be for another


def make_plan(dockerfile: Dockerfile, options: PlanOptions, bases: Bases) -> Plan:
    """Plan the target stage and only what it needs.

    Raises:
        DockerfileError: where the Dockerfile asks for what can't be.
    """
    return _Planner(dockerfile, options, bases).plan()


@dataclass
class _Stage:
    """The state while instructions are taken in, one after the other."""

    definition: StageDefinition
    vertex: Vertex
    scope: Scope
    config: RunConfig
    platform: Platform
    base: BaseImage | None = None
    author: str = ""
    steps: list[Step] = field(default_factory=list)
    cmd_set: bool = False
    done: int = 0  # steps that touch files, for "[stage 2/4]"
    total: int = 0

    @property
    def cwd(self) -> str:
        return self.config.working_dir or "/"

    def note(self, created_by: str, vertex: Vertex | None = None) -> None:
        """Add to the history; with `vertex` there is a layer, and the file system is the vertex's from now on."""
        step = History(created_by=created_by, comment=wording.COMMENT, empty_layer=vertex is None)
        self.steps.append(Step(step, vertex))
        if vertex is not None:
            self.vertex = vertex


_DEEPEST = 100  # far from Python's own limit


class _Planner:
    def __init__(self, dockerfile: Dockerfile, options: PlanOptions, bases: Bases) -> None:
        self._dockerfile = dockerfile
        self._options = options
        self._bases = bases
        self._contexts = NamedContexts(options.contexts, options.platform)
        self._stages = Stages.split(dockerfile).without(lambda name: self._contexts.place(name) is not None)
        self._planned: dict[int, _Stage] = {}
        self._depth = 0  # of stages that are planned for each other
        self._images: dict[tuple[str, Platform], BaseImage] = {}
        self._proxies = proxies(options.build_args)
        known = predefined(options.platform, self._stages.target_name(options.target).lower())
        self._global = declare_global(self._stages.global_args, options.build_args, known, dockerfile.escape)

    def plan(self) -> Plan:
        stage = self._stage(self._stages.target(self._options.target))
        labels = {**stage.config.labels, **self._options.labels}
        config = ImageConfig(platform=stage.platform, config=replace(stage.config, labels=labels), author=stage.author)
        return Plan(stage.vertex, config, stage.base, tuple(stage.steps), self._options.platform)

    # stages

    def _stage(self, definition: StageDefinition) -> _Stage:
        if definition.index not in self._planned:
            if self._depth == _DEEPEST:
                raise DockerfileError(
                    f"more than {_DEEPEST} stages stand on each other",
                    at=definition.from_.at,
                    hint="join some: FROM an earlier stage goes on where that one ended",
                )
            self._depth += 1
            stage, triggers = self._begin(definition)
            for instruction in (*triggers, *definition.instructions):
                self._take(stage, instruction)
            self._planned[definition.index] = stage
            self._depth -= 1
        return self._planned[definition.index]

    def _begin(self, definition: StageDefinition) -> tuple[_Stage, list[Instruction]]:
        """The state after FROM, and the ONBUILD triggers to run first."""
        from_ = definition.from_
        name = expanded(from_.image, self._global, from_.at, escape=self._dockerfile.escape)
        if not name:
            raise DockerfileError(
                f"base name ({from_.image}) should not be blank", at=from_.at, hint="give the ARG a default before FROM"
            )
        platform = self._platform(from_)
        parent = self._stages.base(name, definition.index)
        if self._contexts.place(name) is not None:
            parent = None
        if parent is None:
            stage = self._on_image(definition, name, platform)
        else:
            stage = self._on_stage(definition, self._stage(parent))
        if stage.config.working_dir:  # container runtimes want it absolute
            stage.config = replace(stage.config, working_dir=posixpath.join("/", stage.config.working_dir))
        triggers = [parse_trigger(text, from_.at) for text in stage.config.on_build]
        stage.config = configure.with_default_path(replace(stage.config, on_build=()))
        for variable, value in stage.config.environment.items():
            stage.scope.assign(variable, value)
        stage.total = sum(touches_files(instruction) for instruction in (*triggers, *definition.instructions))
        if parent is None and stage.base is not None:
            stage.total += 1
            title = self._title(stage, f"FROM {stage.base.name}")
            if stage.base.layers:
                stage.vertex = self._image_vertex(stage.base, title, from_.at)
        return stage, triggers

    def _on_stage(self, definition: StageDefinition, parent: _Stage) -> _Stage:
        return _Stage(
            definition, parent.vertex, parent.scope.child(), parent.config, parent.platform, parent.base, parent.author,
            list(parent.steps),
        )  # fmt: skip

    def _on_image(self, definition: StageDefinition, name: str, platform: Platform) -> _Stage:
        scope = Scope(self._options.build_args, self._global, self._dockerfile.escape)
        place = self._contexts.place(name)
        if name == "scratch":
            return _Stage(definition, Vertex(ScratchOp()), scope, _EMPTY, platform)
        if place is not None and not is_image(place):
            files = self._context(name)
            copy = CopyOp((SourcePath(1, "/"),), "/")
            title = f"FROM {name} (build context)"
            return _Stage(
                definition, Vertex(copy, (Vertex(ScratchOp()), files), title, definition.from_.at), scope, _EMPTY,
                platform,
            )  # fmt: skip
        base = self._image(name, definition.from_.at, platform)
        return _Stage(
            definition, Vertex(ScratchOp()), scope, base.config.config, base.config.platform, base, base.config.author
        )

    def _platform(self, from_: From) -> Platform:
        """What a stage is built for, unless it goes on where another ended."""
        if not from_.platform:
            return self._options.platform
        text = expanded(from_.platform, self._global, from_.at, escape=self._dockerfile.escape)
        try:
            return Platform.parse(text).normal
        except RegistryError as error:
            raise DockerfileError(str(error), at=from_.at, hint=error.hint) from None

    def _image(self, name: str, at: Position, platform: Platform) -> BaseImage:
        place = (self._contexts.place(name) or name).removeprefix(IMAGE)
        if (place, platform) not in self._images:
            self._images[place, platform] = self._bases.resolve(place, at, platform)
        return self._images[place, platform]

    def _image_vertex(self, base: BaseImage, title: str, at: Position) -> Vertex:
        diff_ids = base.config.rootfs.diff_ids
        op = ImageOp(
            base.name, base.digest, base.layers, diff_ids, base.config.created, str(base.config.platform), base.index
        )
        return Vertex(op, (), title, at)

    def _context(self, name: str = "") -> Vertex:
        key = self._contexts.key(name) if name else ""
        return Vertex(ContextOp(key), (), f"[internal] load {name or 'build'} context")

    def _source(self, stage: _Stage, name: str, at: Position) -> Vertex:
        """What `--from=name` or a mount's `from=name` means: a context, an earlier stage, or an image."""
        if not name:
            return self._context()
        place = self._contexts.place(name)
        if place is not None and not is_image(place):
            return self._context(name)
        found = None if place is not None else self._stages.source(name)
        if found is None:
            if place is None and name.isascii() and name.isdigit():
                count = len(self._stages.definitions)
                raise DockerfileError(
                    f"invalid stage index {name}", at=at, hint=f"there are {count} stages, counted from 0"
                )
            if name == "scratch":
                return Vertex(ScratchOp())
            base = self._image(name, at, self._options.platform)
            return self._image_vertex(base, f"FROM {base.name}", at)
        if found.index >= stage.definition.index:
            raise DockerfileError(
                f"cannot copy from stage {name!r}, it needs to be defined before current stage "
                f"{stage.definition.name!r}",
                at=at,
                hint="move the stage up",
            )
        return self._stage(found).vertex

    # instructions

    def _take(self, stage: _Stage, instruction: Instruction) -> None:
        """One instruction's effect on the stage. The environment is that from before the whole instruction."""
        match instruction:
            case Run():
                self._run(stage, instruction)
            case Copy():
                self._copy(stage, instruction)
            case Add():
                self._add(stage, instruction)
            case Workdir():
                self._workdir(stage, instruction)
            case Arg():
                stage.note(wording.assignments("ARG", stage.scope.declare(instruction)))
            case Env() | Label():
                self._assign(stage, instruction)
            case Cmd() | Entrypoint() | Shell() | HealthcheckInstruction():
                self._command(stage, instruction)
            case _:
                self._describe(stage, instruction)

    def _assign(self, stage: _Stage, instruction: Env | Label) -> None:
        """ENV and LABEL."""
        scope, at = stage.scope, instruction.at
        pairs = [(scope.expand(name, at), scope.expand(value, at)) for name, value in instruction.pairs]
        if isinstance(instruction, Label):
            stage.config = replace(stage.config, labels={**stage.config.labels, **dict(pairs)})
            stage.note(wording.assignments("LABEL", pairs))
            return
        for name, value in pairs:
            scope.assign(name, value)
            stage.config = configure.with_variable(stage.config, name, value)
        stage.note(wording.assignments("ENV", pairs))

    def _command(self, stage: _Stage, instruction: Cmd | Entrypoint | Shell | HealthcheckInstruction) -> None:
        """What containers execute; nothing of it is expanded."""
        config = stage.config
        match instruction:
            case Cmd():
                args = configure.argv(instruction.command, config)
                stage.config, stage.cmd_set = configure.with_cmd(config, args), True
                stage.note(f"CMD {wording.quoted_list(args)}")
            case Entrypoint():
                args = configure.argv(instruction.command, config)
                stage.config = configure.with_entrypoint(config, args, cmd_set_here=stage.cmd_set)
                stage.note(f"ENTRYPOINT {wording.quoted_list(args)}")
            case Shell():
                stage.config = replace(config, shell=instruction.shell)
                stage.note(f"SHELL {wording.plain_list(instruction.shell)}")
            case HealthcheckInstruction():
                check = configure.healthcheck(instruction)
                stage.config = replace(config, healthcheck=check)
                stage.note(wording.healthcheck(check))

    def _describe(self, stage: _Stage, instruction: Instruction) -> None:
        """The rest: words about the image."""
        scope, config, at = stage.scope, stage.config, instruction.at
        match instruction:
            case User():
                user = scope.expand(instruction.user, at)
                stage.config = replace(config, user=user)
                stage.note(f"USER {user}")
            case Expose():
                self._expose(stage, instruction)
            case Volume():
                paths = [scope.expand(path, at) for path in instruction.paths]
                if not all(paths):
                    raise DockerfileError("VOLUME can not be an empty string", at=at)
                stage.config = replace(config, volumes=configure.unique(config.volumes, paths))
                stage.note(f"VOLUME {wording.plain_list(paths)}")
            case Stopsignal():
                name = configure.checked_signal(scope.expand(instruction.signal, at), at)
                stage.config = replace(config, stop_signal=name)
                stage.note(f"STOPSIGNAL {name}")
            case Onbuild():
                stage.config = replace(config, on_build=(*config.on_build, instruction.trigger))
            case Maintainer():
                stage.author = instruction.name
                stage.note(f"MAINTAINER {instruction.name}")
            case _:
                raise TypeError(f"no plan for {type(instruction).__name__}")

    def _run(self, stage: _Stage, run: Run) -> None:
        devices = [parse_device(text) for text in run.devices]
        if needed := next((device.name for device in devices if device.required), None):
            raise DockerfileError(
                f"device {needed} is required, and RUN gets no devices here",
                at=run.at,
                hint="without `required` the step runs without it; pybuild run --device gives a container one",
            )
        network = run.network or self._options.network
        self._check_allowed(run, "network.host", asked=run.network == "host" and self._options.network != "host")
        self._check_allowed(run, "security.insecure", asked=run.security == "insecure")
        inputs = Inputs(stage.vertex)
        words = MountWords(
            run.at,
            lambda word: stage.scope.expand(word, run.at),
            stage.cwd,
            self._options.build_args.get("BUILDKIT_CACHE_MOUNT_NS", ""),
            lambda name: self._source(stage, name, run.at),
        )
        mounts: list[RunMount] = []
        for flag in run.mounts:
            mounts.append(plan_mount(flag, words, inputs, sum(mount.type == "ssh" for mount in mounts)))
        args, scripts = run_command(run, stage.config)
        op = RunOp(
            args, tuple(stage.scope.environment.items()), stage.cwd, stage.config.user,
            network="default" if network == "bridge" else network,
            security=run.security or "sandbox",
            hostname=self._options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME", "buildkitsandbox"),
            mounts=tuple(mounts), devices=tuple(device.name for device in devices), scripts=scripts,
            proxies=self._proxies, hosts=self._options.hosts,
            platform=str(stage.platform),
            shown=" ".join(args),
        )  # fmt: skip
        vertex = self._vertex(stage, op, inputs.vertices, run)
        stage.note(wording.run(args, stage.scope.declared, stage.scope.environment), vertex)

    def _check_allowed(self, run: Run, entitlement: str, *, asked: bool) -> None:
        if asked and entitlement not in self._options.allow:
            raise DockerfileError(
                f"{entitlement} is not allowed",
                at=run.at,
                hint=f"build with --allow {entitlement} if you trust this file",
            )

    def _copy(self, stage: _Stage, copy: Copy) -> None:
        scope, at = stage.scope, copy.at
        inputs = Inputs(stage.vertex)
        sources = [scope.expand(word, at) for word in copy.sources]
        for source in sources:
            if is_git(source):
                raise DockerfileError(f"source can't be a git ref for COPY: {shown(source)}", at=at, hint="use ADD")
            if source.startswith(("http://", "https://")):
                raise DockerfileError(f"source can't be a URL for COPY: {shown(source)}", at=at, hint="use ADD")
        number = inputs.number(self._source(stage, copy.from_, at)) if sources else 0
        draft = CopyOp(
            tuple(SourcePath(number, source) for source in sources), "", excludes=copy.excludes,
            keep_owner=not isinstance(inputs.vertices[number].op, ContextOp), parents=copy.parents,
        )  # fmt: skip
        self._copy_step(stage, copy, draft, sources, inputs)

    def _add(self, stage: _Stage, add: Add) -> None:
        scope, at = stage.scope, add.at
        inputs = Inputs(stage.vertex)
        words = [scope.expand(word, at) for word in add.sources]
        checksum = scope.expand(add.checksum, at)
        if checksum and len(words) != 1:
            raise DockerfileError("checksum can't be specified for multiple sources", at=at)
        sources: list[SourcePath] = []
        for word in words:
            if is_git(word):
                op: GitOp | HttpOp = git_op(word, checksum, add)
                number = inputs.number(Vertex(op, (), f"[internal] fetch {shown(word)}", at))
                sources.append(SourcePath(number, "/"))
            elif word.startswith(("http://", "https://")):
                op = http_op(word, checksum, at)
                number = inputs.number(Vertex(op, (), f"[internal] fetch {shown(word)}", at))
                sources.append(SourcePath(number, op.filename))
            elif checksum:
                raise DockerfileError("checksum requires HTTP(S) or Git sources", at=at)
            else:
                sources.append(SourcePath(inputs.number(self._context()), word))
        draft = CopyOp(
            tuple(sources), "", excludes=add.excludes, unpack=add.unpack is not False, unpack_remote=bool(add.unpack)
        )
        self._copy_step(stage, add, draft, [redacted(word) for word in words], inputs)

    def _copy_step(
        self, stage: _Stage, instruction: Copy | Add, draft: CopyOp, words: list[str], inputs: Inputs
    ) -> None:
        """What COPY and ADD have in common."""
        scope, at = stage.scope, instruction.at
        destination = scope.expand(instruction.destination, at)
        chown, chmod = scope.expand(instruction.chown, at), scope.expand(instruction.chmod, at)
        inline = [
            InlineFile(doc.name, scope.expand(doc.content, at, body=True) if doc.expand else doc.content)
            for doc in instruction.heredocs
        ]
        op = replace(
            draft,
            sources=(*draft.sources, *inline),
            destination=_within(stage.cwd, destination),
            chown=chown,
            chmod=chmod,
            link=instruction.link,
        )
        if op.link and not all(part.isdecimal() or part in {"", "root"} for part in chown.split(":")):
            raise DockerfileError(
                f"--link can't look up the owner {chown}", at=at, hint="write numbers: the layer knows no /etc/passwd"
            )
        vertex = self._vertex(stage, op, inputs.vertices, instruction)
        names = [file.name for file in inline]
        word = "ADD" if isinstance(instruction, Add) else "COPY"
        stage.note(wording.copy(word, words, names, destination, chown=chown, chmod=chmod, parents=op.parents), vertex)

    def _workdir(self, stage: _Stage, workdir: Workdir) -> None:
        path = stage.scope.expand(workdir.path, workdir.at)
        if not path.startswith("/"):
            path = _plain(posixpath.join(stage.cwd, path))
        # An absolute one stays as it is written: what ".." behind a link means, the container finds out.
        stage.config = replace(stage.config, working_dir=path)
        if path == "/":
            stage.note("WORKDIR /")
        else:
            op = MkdirOp(_plain(path), stage.config.user)
            stage.note(f"WORKDIR {path}", self._vertex(stage, op, [stage.vertex], workdir))

    def _expose(self, stage: _Stage, instruction: Expose) -> None:
        ports: list[str] = []
        try:
            for word in sorted(instruction.ports):  # as BuildKit's history has them
                for part in expand_words(word, stage.scope.environment, escape=self._dockerfile.escape):
                    ports += expose(part)
        except (PortError, ExpansionError) as error:
            raise DockerfileError(str(error), at=instruction.at, hint="write EXPOSE 80, 53/udp or 8000-8010") from None
        stage.config = replace(stage.config, exposed_ports=configure.unique(stage.config.exposed_ports, ports))
        stage.note(f"EXPOSE {wording.plain_list(ports)}")

    # helpers

    def _vertex(self, stage: _Stage, op: RunOp | CopyOp | MkdirOp, inputs: Sequence[Vertex], of: Instruction) -> Vertex:
        title = self._title(stage, redacted(of.source) if isinstance(of, Add) else of.source)
        return Vertex(op, tuple(inputs), title, of.at, no_cache=self._options.no_cache)

    def _title(self, stage: _Stage, text: str) -> str:
        """`[build 2/4] RUN make`; the stage has no name when it is the only one, nor has the platform."""
        stage.done += 1
        total = str(stage.total)
        name = f"{stage.definition.name} " if len(self._stages.definitions) > 1 else ""
        if self._options.several:
            name = f"{_platforms(stage.platform.normal, self._options.platform)} {name}"
        return f"[{name}{stage.done:>{len(total)}}/{total}] {' '.join(text.split())}"


def _platforms(stage: Platform, target: Platform) -> str:
    """What a stage is built on, and for what, as BuildKit writes it: `linux/amd64->arm64` for a cross-compiler."""
    if stage == target.normal:
        return str(target)
    return f"{stage}->{target}" if stage.os != target.os else f"{stage}->{str(target).partition('/')[2]}"


def _within(cwd: str, destination: str) -> str:
    """The destination of a copy as an absolute path that keeps its meaning: a "/" at the end, or . for WORKDIR."""
    joined = posixpath.join(cwd, destination)
    directory = destination in {"", ".", "./"} or destination.endswith(("/", "/."))
    path = _plain(joined)
    return path + "/" if directory and path != "/" else path


def _plain(path: str) -> str:
    """An absolute path without doubled slashes, "." and ".."."""
    return "/" + posixpath.normpath(path).lstrip("/")
