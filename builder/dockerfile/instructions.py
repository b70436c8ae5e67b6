"""One frozen type for each instruction, with its place in the file. Words are as written: expansion comes later.

Where BuildKit expands a word, the field holds the raw word, quotes and escapes included; `expand.py` makes it text.
"""

from dataclasses import dataclass

from builder.errors import BuilderError


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where something stands. Lines and columns count from 1; `end_line` is the last line of the instruction."""

    file: str
    line: int
    column: int = 1
    end_line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class DockerfileError(BuilderError):
    """A fault in the Dockerfile. `excerpt` shows its lines with a caret below the fault; may be empty."""

    exit_code = 3

    def __init__(self, problem: str, *, at: Position, hint: str | None = None, excerpt: str = "") -> None:
        super().__init__(f"{at}: {problem}" + (f"\n{excerpt}" if excerpt else ""), hint=hint)
        self.at = at
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A body between `<<NAME` and NAME. `expand` is false when any part of the word was quoted."""

    name: str
    content: str  # tabs already stripped for `<<-`
    expand: bool
    strip_tabs: bool = False
    fd: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """RUN, CMD, ENTRYPOINT, HEALTHCHECK CMD: a JSON array, or one line for the shell."""

    exec_form: tuple[str, ...] | None = None
    shell_form: str | None = None


@dataclass(frozen=True, slots=True)
class MountFlag:
    """`RUN --mount=…`, all options of reference §1.6; raw words (expanded later, `from` excepted)."""

    type: str = "bind"  # bind, cache, tmpfs, secret, ssh
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    sharing: str = "shared"  # shared, private, locked
    read_only: bool | None = None  # None: the type's default (bind: true; cache, tmpfs: false)
    required: bool = False
    mode: str = ""  # octal digits
    uid: str = ""
    gid: str = ""
    size: str = ""  # with unit, as written
    env: str = ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What every instruction has. `source` is its text on one line, as history shows it."""

    at: Position
    source: str


@dataclass(frozen=True, slots=True)
class From(Instruction):
    image: str
    stage: str | None  # lower case; None: later instructions reach this stage by number only
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    pairs: tuple[tuple[str, str | None], ...]  # name, raw default


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]  # raw
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    command: Command
    mounts: tuple[MountFlag, ...] = ()
    network: str = ""  # default, none, host
    security: str = ""  # sandbox, insecure
    devices: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()  # sources that are heredocs; each becomes a file of its name


@dataclass(frozen=True, slots=True)
class Add(Instruction):
    sources: tuple[str, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    keep_git_dir: bool | None = None
    checksum: str = ""
    unpack: bool | None = None
    excludes: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class HealthcheckInstruction(Instruction):
    """`none` for HEALTHCHECK NONE. Durations in ns, 0 when not given; retries 0 when not given."""

    none: bool
    command: Command | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    """`trigger` is the stored text, heredoc bodies included, ready for the image config."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that works but hurts; `rule` is BuildKit's name of the check."""

    rule: str
    message: str
    at: Position


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed file: global ARGs first, then stages in order."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    syntax: str = ""
    checks: str = ""  # value of the check= directive
    warnings: tuple[Advice, ...] = ()
