"""check(): all rules over one file. Each stage is walked with the variables that its instructions will see."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from builder.checks import ours
from builder.checks.collect import Findings, Noted, description
from builder.checks.facts import Facts
from builder.checks.findings import Report
from builder.checks.settings import Settings, SettingsInvalid
from builder.checks.spelling import check_instructions, check_spelling
from builder.checks.stages import Stage, StageList, Word
from builder.checks.words import Watched, quoted, suggestion
from builder.dockerfile import parse_dockerfile, parse_trigger
from builder.dockerfile.expand import ExpansionError, expand, expand_body, expand_words
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
    HealthcheckInstruction,
    Label,
    MountFlag,
    Onbuild,
    Position,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from builder.plan.configure import DEFAULT_PATH

DIRECTIVE_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
_NO_VARIABLES = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_SECRET = re.compile("(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE)
_NO_SECRET = re.compile("(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_REMOTE = re.compile(r"https?://|git@|git://|ssh://|github\.com/")


def check(dockerfile: Dockerfile, facts: Facts | None = None) -> Report:
    """All that there is to say about a Dockerfile.

    Raises:
        DockerfileError: its check directive can't be read. Any other fault is the report's.
    """
    facts = facts or Facts()
    findings = Findings(settings(dockerfile, facts))
    error = None
    try:
        check_spelling(noted(dockerfile), dockerfile.empty_continuations, findings)
        walk(dockerfile, facts, findings)
    except DockerfileError as fault:
        error = fault
    return Report(findings.by_line(), error, findings.settings.error)


def check_above(content: bytes, fault: DockerfileError, facts: Facts) -> Report:
    """What there is to say about the part above a fault that keeps a file from being read."""
    above = b"\n".join(content.split(b"\n")[: fault.at.line - 1])
    try:
        dockerfile = parse_dockerfile(above, fault.at.file)
        findings = Findings(settings(dockerfile, facts))
    except DockerfileError:
        return Report(error=fault)
    check_instructions(noted(dockerfile), dockerfile.empty_continuations, findings)
    return Report(findings.by_line(), fault, findings.settings.error)


def noted(dockerfile: Dockerfile) -> list[Noted]:
    """The instructions with the comments above them."""
    comments = dockerfile.comments or ((),) * len(dockerfile.instructions)
    return [Noted(*pair) for pair in zip(dockerfile.instructions, comments, strict=True)]


def walk(dockerfile: Dockerfile, facts: Facts, findings: Findings) -> tuple[StageList, dict[int, "State"]]:
    """Go through the stages that are wanted. Returns all stages, and what is known at the end of those.

    Raises:
        DockerfileError: it can't be built. What was found before that is in `findings`.
    """
    stages = StageList(dockerfile, noted(dockerfile), facts)
    stages.check(findings)
    around = _Around(facts, stages, findings, dockerfile.escape)
    for stage in stages.wanted():
        _StageWalk(stage, around).walk()
    return stages, around.states


def settings(dockerfile: Dockerfile, facts: Facts) -> Settings:
    """What the directive says, or the build argument in its place. Raises DockerfileError."""
    try:
        return Settings.parse(facts.build_args.get(DIRECTIVE_ARGUMENT, dockerfile.checks))
    except SettingsInvalid as error:
        at = Position(dockerfile.instructions[0].at.file, 1)
        hint = "write # check=skip=RULE,RULE;error=true;experimental=RULE, with parts left out as you like"
        raise DockerfileError(f"failed to parse check options: {error}", at=at, hint=hint) from None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that a build can be given, and where it is asked for."""

    name: str
    at: Position
    value: str = ""
    description: str = ""
    required: bool = False


@dataclass
class Interface:
    """What the instructions of one stage can be given from outside."""

    arguments: dict[str, Wanted | None] = field(default_factory=dict)  # None: it is that from before the first FROM
    secrets: dict[str, Wanted] = field(default_factory=dict)
    agents: dict[str, Wanted] = field(default_factory=dict)
    caches: dict[str, Wanted] = field(default_factory=dict)


@dataclass
class State:
    """What is known at one place of a stage."""

    environment: dict[str, str]
    complete: bool  # the environment has all variables of the base image
    declared: set[str] = field(default_factory=set)  # ARGs, with a value or without
    from_env: set[str] = field(default_factory=set)  # variables that ENV set, here or in the base image
    workdir_set: bool = False
    shell: tuple[str, ...] = ()
    triggers: list[str] = field(default_factory=list)
    last: dict[str, Position] = field(default_factory=dict)
    files: ours.Files = field(default_factory=ours.Files)
    interface: Interface = field(default_factory=Interface)

    def child(self) -> "State":
        """For FROM of this stage."""
        return replace(
            self,
            environment=dict(self.environment),
            declared=set(self.declared),
            from_env=set(self.from_env),
            triggers=[],
            last={},
            files=self.files.child(),
            interface=Interface(),
        )


@dataclass(frozen=True)
class _Around:
    """What all stages of a file share."""

    facts: Facts
    stages: StageList
    findings: Findings
    escape: str
    states: dict[int, State] = field(default_factory=dict)  # at the end of each stage

    def begin(self, stage: Stage) -> tuple[State, list[str]]:
        """The state after FROM, and the ONBUILD triggers to take first."""
        if stage.parent is not None:
            below = self.states[stage.parent.index]
            return below.child(), below.triggers
        base = stage.base
        if base is None:
            return State({"PATH": DEFAULT_PATH}, complete=False, files=ours.Files.of_image("/")), []
        files = ours.Files() if stage.image == "scratch" else ours.Files.of_image(base.workdir)
        state = State({"PATH": DEFAULT_PATH, **base.environment}, complete=True, shell=base.shell, files=files)
        state.from_env.update(base.environment)
        return state, list(base.triggers)


class _StageWalk:
    def __init__(self, stage: Stage, around: _Around) -> None:
        self._stage = stage
        self._around = around
        self._facts = around.facts
        self._escape = around.escape
        self._noted = stage.opening
        self._state, triggers = around.begin(stage)
        self._body = (*self._triggered(triggers), *stage.body)

    def _triggered(self, triggers: list[str]) -> Iterator[Noted]:
        for text in triggers:
            yield Noted(parse_trigger(text, self._stage.from_.at))

    def walk(self) -> None:
        for noted in self._body:
            self._noted = noted
            self._check(noted)
        self._around.states[self._stage.index] = self._state

    def _check(self, noted: Noted) -> None:
        match noted.instruction:
            case Env() | Label() as pairs:
                self._check_pairs(pairs)
            case Arg() as arg:
                self._check_arg(arg)
            case Run() as run:
                self._check_run(run)
            case Copy() | Add() as copy:
                self._check_copy(copy)
            case Workdir() as workdir:
                self._check_workdir(workdir)
            case Cmd() | Entrypoint() | HealthcheckInstruction() as last:
                self._check_last(last)
            case Expose() as expose:
                self._check_ports(expose)
            case Shell(shell=words):
                self._state.shell = words
            case Onbuild(trigger=text):
                self._state.triggers.append(text)
            case Volume(paths=words):
                for word in words:
                    self._expand(word)
            case User(user=word) | Stopsignal(signal=word):
                self._expand(word)
            case _:
                pass

    # instructions

    def _check_pairs(self, instruction: Env | Label) -> None:
        pairs = [(self._expand(key), self._expand(value)) for key, value in instruction.pairs]
        name = self._noted.written
        for key, value in pairs:
            if instruction.legacy:
                detail = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
                self._say("LegacyKeyValueFormat", detail)
            if isinstance(instruction, Env):
                self._check_secret_name("ENV", key.text)
                self._state.environment[key.text] = value.text
                self._state.from_env.add(key.text)
            self._check_token(f"{name.upper()} {key.text}", value.text)

    def _check_arg(self, arg: Arg) -> None:
        for name, default in arg.pairs:
            self._check_secret_name("ARG", name)
            value = self._facts.build_args.get(name)
            inherits = value is None and default is None and name in self._around.stages.variables
            if value is None and default is not None:
                value = self._expand(default).text
                self._check_token(f"ARG {name}", value)
            elif inherits:
                value = self._around.stages.variables[name]
            if value is not None and name not in _NO_VARIABLES:
                if name in self._state.from_env and value != self._state.environment[name]:
                    detail = f"ARG {name} takes the place of the ENV of that name from here on: write ENV after it"
                    self._say("PybuildArgHidesEnv", detail)
                self._state.from_env.discard(name)
                self._state.environment[name] = value
            self._state.declared.add(name)
            argument = Wanted(name, arg.at, value or "", description(self._noted.comments, name))
            known = self._state.interface.arguments.get(name)
            self._state.interface.arguments[name] = known if inherits else argument

    def _check_secret_name(self, instruction: str, name: str) -> None:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            detail = f"Do not use ARG or ENV instructions for sensitive data ({instruction} {quoted(name)})"
            self._say("SecretsUsedInArgOrEnv", detail)

    def _check_run(self, run: Run) -> None:
        for mount in run.mounts:
            self._check_mount(mount, run.at)
        if ours.goes_on_after_failure(run, self._state.shell):
            detail = "A command of this heredoc that fails does not fail the step: begin it with set -e"
            self._say("PybuildHeredocErrexit", detail)
        self._check_token("RUN", run.source, *(doc.content for doc in run.heredocs))
        self._state.files.ran("\n".join([run.source, *(doc.content for doc in run.heredocs)]))

    def _check_mount(self, mount: MountFlag, at: Position) -> None:
        kind, target, source, identity = (
            self._expand(word).text for word in (mount.type, mount.target, mount.source, mount.id)
        )
        for word in (mount.sharing, mount.mode, mount.uid, mount.gid, mount.size, mount.env or ""):
            self._expand(word)
        for _, word in mount.switches:
            self._expand(word)
        interface = self._state.interface
        if kind == "secret":
            name = source or identity or posixpath.basename(target)
            interface.secrets.setdefault(name, Wanted(name, at, required=mount.required))
        elif kind == "ssh":
            name = identity or "default"
            interface.agents.setdefault(name, Wanted(name, at, required=mount.required))
        elif kind == "cache":
            name = identity or posixpath.normpath(target)
            interface.caches.setdefault(name, Wanted(name, at))

    def _check_copy(self, copy: Copy | Add) -> None:
        name = "Add" if isinstance(copy, Add) else "Copy"
        from_context = isinstance(copy, Add) or not copy.from_
        chown, chmod = self._expand(copy.chown), self._expand(copy.chmod)
        if isinstance(copy, Add):
            self._expand(copy.checksum)
        sources = [self._expand(source) for source in copy.sources]
        destination = self._expand(copy.destination)
        for body in copy.heredocs:
            if body.expand:
                self._expand(body.content, body=True)
        for source in sources:
            if from_context and not _REMOTE.match(source.text):
                self._check_ignored(name, source.text)
        self._check_token(name.upper(), *(body.content for body in copy.heredocs))
        request = ours.CopyFacts(
            name=name.upper(),
            sources=tuple(source.text for source in sources if not self._vague(source)),
            inline=len(copy.heredocs),
            vague=sum(self._vague(source) for source in sources),
            destination=None if self._vague(destination) else destination.text,
            chown="" if self._vague(chown) else chown.text,
            chmod="" if self._vague(chmod) else chmod.text,
            link=copy.link,
            is_directory=self._facts.is_directory if from_context else None,
            unpacks=isinstance(copy, Add),
        )
        for rule, detail in ours.copy_findings(request, self._state.files):
            self._say(rule, detail)
        self._state.files.copied(request)

    def _check_ignored(self, name: str, source: str) -> None:
        """An ignore file that takes something back is too hard to judge: BuildKit says nothing then."""
        rules = self._facts.ignore
        if rules is None or any(rule.keeps for rule in rules.rules):
            return
        path = posixpath.normpath(source)
        if path in {".", "/"}:
            ignored = any(rule.pattern in {"*", "**", "**/*"} for rule in rules.rules)
        else:
            ignored = rules.excluded(path)
        if ignored:
            detail = f"Attempting to {name} file {quoted(path)} that is excluded by .dockerignore"
            self._say("CopyIgnoredFile", detail)

    def _check_workdir(self, workdir: Workdir) -> None:
        path = self._expand(workdir.path)
        if not (self._state.workdir_set or path.text.startswith("/") or self._vague(path)):
            detail = f"Relative workdir {quoted(path.text)} can have unexpected results if the base image changes"
            self._say("WorkdirRelativePath", detail)
        self._state.workdir_set = True
        self._state.files.entered(None if self._vague(path) else path.text)

    def _check_last(self, instruction: Cmd | Entrypoint | HealthcheckInstruction) -> None:
        """Of these only the last one of a stage counts; the place is that of the one that does not."""
        name = self._noted.written
        if (ignored := self._state.last.get(name.upper())) is not None:
            detail = f"Multiple {name} instructions should not be used in the same stage because only the last one "
            self._say("MultipleInstructionsDisallowed", detail + "will be used", ignored)
        self._state.last[name.upper()] = instruction.at
        if isinstance(instruction, HealthcheckInstruction) or instruction.command.shell_form is None:
            return
        if not self._state.shell:
            detail = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            self._say("JSONArgsRecommended", detail)

    def _check_ports(self, expose: Expose) -> None:
        for word in sorted(expose.ports):
            try:
                ports = expand_words(word, self._state.environment, escape=self._escape)
            except ExpansionError as error:
                raise DockerfileError(error.problem, at=expose.at, hint=error.hint) from None
            for port in ports:
                *host, container = port.split(":")
                protocol = container.partition("/")[2]
                if protocol != protocol.lower():
                    detail = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    self._say("ExposeProtoCasing", detail)
                if any(host):
                    detail = "EXPOSE instruction should not define an IP address or host-port mapping, found "
                    self._say("ExposeInvalidFormat", f"{detail}'{port}'")

    # helpers

    def _check_token(self, what: str, *texts: str) -> None:
        for text in texts:
            if (kind := ours.secret_in(text)) is not None:
                self._say("PybuildSecretInLayer", f"{what} has {kind} in it: mount it with RUN --mount=type=secret")
                return

    def _expand(self, word: str, *, body: bool = False) -> Word:
        if "$" not in word and (body or not set("\"'\\`").intersection(word)):
            return Word(word, (), ())
        watched = Watched(self._state.environment)
        try:
            text = expand_body(word, watched) if body else expand(word, watched, escape=self._escape)
        except ExpansionError as error:
            if self._state.complete or not watched.missing:
                self._check_missing(watched.missing)
                raise DockerfileError(error.problem, at=self._noted.instruction.at, hint=error.hint) from None
            text = ""  # the base image, which is not known here, may set it
        if self._state.complete:
            self._check_missing(watched.missing)
        return Word(text, tuple(watched.found), tuple(watched.missing))

    def _check_missing(self, missing: Mapping[str, None]) -> None:
        for name in sorted(missing):
            if name not in self._state.declared and name not in _NO_VARIABLES:
                near = suggestion(name, self._state.environment)
                detail = f"Usage of undefined variable '${name}'" + (f" (did you mean ${near}?)" if near else "")
                self._say("UndefinedVar", detail)

    def _vague(self, word: Word) -> bool:
        """Whether a word has a variable that a base image may set which is not known here."""
        return bool(word.missing) and not self._state.complete

    def _say(self, rule: str, detail: str, at: Position | None = None) -> None:
        self._around.findings.say(rule, detail, at or self._noted.instruction.at, self._noted.comments)
