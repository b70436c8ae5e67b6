"""The rules that are our own: where people lose files, secrets and failures without a word. Pure.

They guess, so they are silent in doubt: a check that cries at what is right gets switched off.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from builder.dockerfile.heredoc import heredoc_word
from builder.dockerfile.instructions import Run

_USUAL = (
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin",
    "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/etc",
    "/usr/local/lib", "/usr/local/sbin", "/usr/local/share", "/usr/sbin", "/usr/share", "/usr/src", "/var", "/var/lib",
    "/var/log", "/var/tmp",
)  # fmt: skip
_WILD = r"[*?\[]"


@dataclass
class Files:
    """What is known of the files of a stage without having them."""

    directories: set[str] = field(default_factory=lambda: {"/"})
    workdir: str | None = "/"
    empty: bool = True  # nothing was put in so far
    all_known: bool = True  # there are no directories but these
    commands: str = ""  # all that RUN said

    @classmethod
    def of_image(cls, workdir: str) -> "Files":
        found = cls(set(_USUAL), empty=False, all_known=False)
        found.entered(workdir)
        return found

    def child(self) -> "Files":
        return Files(set(self.directories), self.workdir, self.empty, self.all_known, self.commands)

    def entered(self, path: str | None) -> None:
        """WORKDIR; None: to a place that is not known."""
        self.workdir = None if path is None else self.place(path)
        self._exists(self.workdir)

    def ran(self, text: str) -> None:
        self.commands += f"\n{text}"
        self.empty = self.all_known = False

    def copied(self, copy: "CopyFacts") -> None:
        self.empty = False
        place = None if copy.destination is None else self.place(copy.destination)
        if place is None or not copy.only_files:
            self.all_known = False
        if place is not None:
            is_directory = copy.into_directory or any(copy.names_directory(source) for source in copy.sources)
            self._exists(place if is_directory else posixpath.dirname(place))

    def place(self, path: str) -> str | None:
        """A path as an absolute one."""
        if not path.startswith("/") and self.workdir is None:
            return None
        return "/" + posixpath.normpath(posixpath.join(self.workdir or "/", path)).lstrip("/")

    def is_directory(self, path: str) -> bool:
        """Whether it is one for certain or, since a command speaks of it, probably."""
        return path in self.directories or path in self.commands

    def _exists(self, path: str | None) -> None:
        while path and path not in self.directories:
            self.directories.add(path)
            path = posixpath.dirname(path)


@dataclass(frozen=True)
class CopyFacts:
    """COPY or ADD, expanded."""

    name: str
    sources: tuple[str, ...]
    inline: int  # how many heredocs there are beside
    vague: int  # and how many sources whose names are not known
    destination: str | None  # None: not known
    chown: str = ""
    chmod: str = ""
    link: bool = False
    unpacks: bool = False
    is_directory: Callable[[str], bool] | None = None

    @property
    def into_directory(self) -> bool:
        """Whether the destination is told to be one."""
        return self.destination is not None and (
            self.destination in {"", ".", ".."} or self.destination.endswith(("/", "/.", "/.."))
        )

    @property
    def only_files(self) -> bool:
        """Whether no directory can come in this way."""
        if self.vague or self.unpacks or (self.sources and self.is_directory is None):
            return False
        return not any(re.search(_WILD, source) or self.names_directory(source) for source in self.sources)

    def names_directory(self, source: str) -> bool:
        if source in {".", ".."} or source.endswith(("/", "/.")):
            return True
        return self.is_directory is not None and not re.search(_WILD, source) and self.is_directory(source)


def copy_findings(copy: CopyFacts, files: Files) -> Iterator[tuple[str, str]]:
    """Rules and details."""
    yield from _owner(copy, files)
    yield from _one_file(copy, files)
    yield from _mode(copy, files)
    for source in copy.sources:
        if is_secret_file(source, copy.destination or ""):
            detail = f'{copy.name} puts "{source}" into a layer, where it stays: mount it with RUN --mount=type=secret'
            yield "PybuildSecretInLayer", detail


def _owner(copy: CopyFacts, files: Files) -> Iterator[tuple[str, str]]:
    names = [name for name in copy.chown.split(":", 1) if name and not name.isdecimal() and name != "root"]
    if names and (copy.link or files.empty):
        why = "--link can't see the names of this stage" if copy.link else "this stage has no /etc/passwd yet"
        yield "PybuildUnknownOwner", f'--chown={copy.chown}: {why}; write the number of "{names[0]}"'


def _one_file(copy: CopyFacts, files: Files) -> Iterator[tuple[str, str]]:
    count = len(copy.sources) + copy.inline + copy.vague
    if count < 2 or copy.destination is None or copy.into_directory:
        return
    place = files.place(copy.destination)
    if place is not None and not files.is_directory(place):
        detail = f'{copy.name} of {count} sources to "{copy.destination}", which is a file unless it is a directory '
        yield "PybuildManySourcesOneFile", f"{detail}already: each replaces the one before; write a / behind it"


def _mode(copy: CopyFacts, files: Files) -> Iterator[tuple[str, str]]:
    if not _locks_directories(copy.chmod):
        return
    found = next((source for source in copy.sources if copy.names_directory(source)), None)
    if found is not None:
        detail = f'--chmod={copy.chmod} also goes to directories, which can\'t be entered without x, and "{found}" is '
        yield "PybuildDirectoryMode", f"{detail}one: write u=rwX,go=rX"
        return
    place = None if copy.destination is None else files.place(copy.destination)
    if place is None or not files.all_known or not copy.chmod.isdecimal():
        return
    directory = place if copy.into_directory else posixpath.dirname(place)
    if directory not in files.directories:
        detail = f"--chmod={copy.chmod} also goes to directories, which can't be entered without x, and {directory} is "
        yield "PybuildDirectoryMode", f"{detail}made here: write u=rwX,go=rX, or make it by WORKDIR first"


def _locks_directories(mode: str) -> bool:
    """Whether a directory of this mode can't be entered by its owner."""
    if mode.isdecimal():
        return re.fullmatch("[0-7]{1,5}", mode) is not None and not int(mode, 8) & 0o100
    return any(
        re.fullmatch("[ugoa]*=[rwst]*", part) and not set("go").issuperset(part.partition("=")[0] or "a")
        for part in mode.split(",")
        if part
    )


# secrets

_SECRET_FILE = re.compile(
    r"""id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|[._]netrc|\.pypirc|\.git-credentials|\.pgpass|\.vault-token|\.env
    |.*\.(?:p12|pfx|jks|keystore|kdbx|ppk)|.*\.key|.*(?:private|priv)[._-]?key.*(?<!\.pub)|.*[._-]key\.pem""",
    re.IGNORECASE | re.VERBOSE,
)
_SECRET_PATH = re.compile(
    r"(?:^|/)(?:\.aws/credentials|\.docker/config\.json|\.kube/config|\.ssh|\.gnupg)/?$", re.IGNORECASE
)
_PUBLIC = re.compile("pub|sign|release|archive|gpg|apt|repo", re.IGNORECASE)  # keys that package managers verify with
_KEYRINGS = ("/etc/apt/", "/usr/share/keyrings", "/etc/pki/rpm-gpg", "/etc/apk/keys")
_TOKENS = {
    "a private key": "-----BEGIN (?:[A-Z]+ )*PRIVATE KEY",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22}",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
    "a Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{16}",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]{1,20}://(?!([^/\s:@$]+):\1@)[^/\s:@$'\"]{1,64}:[^/\s:@$'\"{}<>*]{3,256}@",
}
_ANY_TOKEN = re.compile("|".join(f"(?:{pattern})" for pattern in _TOKENS.values()).replace(r"\1", r"(?:\1)"))


def is_secret_file(source: str, destination: str) -> bool:
    """Whether a file of this name usually is nobody else's business."""
    path = source.rstrip("/")
    if _SECRET_PATH.search(path):
        return True
    name = posixpath.basename(path)[:256]  # no file has a longer one
    if not _SECRET_FILE.fullmatch(name):
        return False
    if not name.lower().endswith(".key"):
        return True
    return not (_PUBLIC.search(name) or destination.endswith(".pub") or destination.startswith(_KEYRINGS))


def secret_in(text: str) -> str | None:
    """What kind of a secret a text has in it; its form tells."""
    if not _ANY_TOKEN.search(text):
        return None
    return next(kind for kind, pattern in _TOKENS.items() if re.search(pattern, text))


# heredocs

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
_JOINED = re.compile(r"(?:\\|&&|\|\||\|)[ \t]*\n")
_SETS_ERREXIT = re.compile(r"set\s(?:.*\s)?-(?:[A-Za-z]*e[A-Za-z]*\b|o\s+errexit\b|[A-Za-z]*o\s+errexit\b)")
_PREPARES = re.compile(r"(?:set|shopt|export|trap|umask|readonly|local)\b|[A-Za-z_]\w*=\S*$")


def goes_on_after_failure(run: Run, shell: tuple[str, ...]) -> bool:
    """Whether RUN has a heredoc of several commands for a shell that nobody told to stop at the first that fails."""
    line = run.command.shell_form
    if not run.heredocs or line is None:
        return False
    body = run.heredocs[0].content
    if heredoc_word(line.strip()) is None:
        *words, last = line.split()  # `bash <<EOF`: the shell reads the script; `cat <<EOF > file` is another matter
        if heredoc_word(last) is None or not words or any(not word.startswith("-") for word in words[1:]):
            return False
        interpreter = words
    elif body.startswith("#!"):
        first, _, body = body.partition("\n")
        interpreter = [word for word in first[2:].split() if word.rpartition("/")[2] != "env" and word != "-S"]
    else:
        interpreter = list(shell or ("/bin/sh", "-c"))
    if not interpreter or interpreter[0].rpartition("/")[2] not in _SHELLS or _stops(interpreter[1:]):
        return False
    return _has_unguarded_commands(body)


def _stops(options: list[str]) -> bool:
    return "errexit" in options or any(re.fullmatch("-[A-Za-z]*e[A-Za-z]*", option) for option in options)


def _has_unguarded_commands(script: str) -> bool:
    lines = [line.strip() for line in _JOINED.sub(" ", script).splitlines()]
    commands = [line for line in lines if line and not line.startswith("#")]
    for at, command in enumerate(commands):
        if _SETS_ERREXIT.match(command):
            return False
        if not _PREPARES.match(command):
            return len(commands) - at > 1
    return False
