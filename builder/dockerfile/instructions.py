"""One frozen type for each instruction, with its place in the file. Words are as written: expansion comes later.

Where BuildKit expands a word, the field holds the raw word, quotes and escapes included; `expand.py` makes it text.
They are msgspec's, not dataclasses: some 30 of those would take every build 10 ms to define.
"""

import re

from msgspec import Struct

from builder.errors import BuilderError

_TABS = re.compile(r"^\t+", re.MULTILINE)


class Position(Struct, frozen=True, order=True):
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


class Heredoc(Struct, frozen=True):
    """A body between `<<NAME` and NAME. `expand` is false when any part of the word was quoted."""

    name: str
    source: str  # as written
    expand: bool
    strip_tabs: bool = False
    fd: int = 0

    @property
    def content(self) -> str:
        """What it means: without leading tabs after `<<-`."""
        return _TABS.sub("", self.source) if self.strip_tabs else self.source


class Command(Struct, frozen=True):
    """RUN, CMD, ENTRYPOINT, HEALTHCHECK CMD: a JSON array, or one line for the shell."""

    exec_form: tuple[str, ...] | None = None
    shell_form: str | None = None


class MountFlag(Struct, frozen=True):
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
    env: str | None = None  # empty: the secret's id is the name
    switches: tuple[tuple[str, str], ...] = ()  # those whose value is a variable: key, raw word


class Instruction(Struct, frozen=True, tag=True):
    """What every instruction has. `source` is its text on one line, as history shows it."""

    at: Position
    source: str


class From(Instruction, frozen=True):
    image: str
    stage: str | None  # lower case; None: later instructions reach this stage by number only
    platform: str = ""


class Arg(Instruction, frozen=True):
    pairs: tuple[tuple[str, str | None], ...]  # name, raw default


class Env(Instruction, frozen=True):
    pairs: tuple[tuple[str, str], ...]  # raw
    legacy: bool = False


class Label(Instruction, frozen=True):
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


class Run(Instruction, frozen=True):
    command: Command
    mounts: tuple[MountFlag, ...] = ()
    network: str = ""  # default, none, host
    security: str = ""  # sandbox, insecure
    devices: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


class Copy(Instruction, frozen=True):
    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()  # sources that are heredocs; each becomes a file of its name


class Add(Instruction, frozen=True):
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


class Workdir(Instruction, frozen=True):
    path: str


class User(Instruction, frozen=True):
    user: str


class Cmd(Instruction, frozen=True):
    command: Command


class Entrypoint(Instruction, frozen=True):
    command: Command


class Expose(Instruction, frozen=True):
    ports: tuple[str, ...]


class Volume(Instruction, frozen=True):
    paths: tuple[str, ...]


class Shell(Instruction, frozen=True):
    shell: tuple[str, ...]


class Stopsignal(Instruction, frozen=True):
    signal: str


class HealthcheckInstruction(Instruction, frozen=True):
    """`none` for HEALTHCHECK NONE. Durations in ns, 0 when not given; retries 0 when not given."""

    none: bool
    command: Command | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Onbuild(Instruction, frozen=True):
    """`trigger` is the stored text, heredoc bodies included, ready for the image config."""

    trigger: str


class Maintainer(Instruction, frozen=True):
    name: str


Known = (
    From
    | Arg
    | Env
    | Label
    | Run
    | Copy
    | Add
    | Workdir
    | User
    | Cmd
    | Entrypoint
    | Expose
    | Volume
    | Shell
    | Stopsignal
    | HealthcheckInstruction
    | Onbuild
    | Maintainer
)


class Dockerfile(Struct, frozen=True):
    """A parsed file: global ARGs first, then stages in order."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    syntax: str = ""
    checks: str = ""  # value of the check= directive
    comments: tuple[tuple[str, ...], ...] = ()  # of each instruction: the lines of the comment block directly above
    empty_continuations: tuple[int, ...] = ()  # last lines of the instructions that have a blank line inside
