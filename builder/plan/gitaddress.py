"""Addresses of git repositories as ADD and build contexts write them (reference §1.7, item 11). Pure.

`https://host/team/app.git#v1.2:sub/dir`, `git@host:team/app.git?tag=v1.2&subdir=sub/dir`. Only transports that can do
nothing on this machine are known: what git itself would take as `ext::…` or a path is no address here.
"""

import posixpath
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from builder.errors import BuilderError

# Patterns are text: re compiles one when it is used first, and no build without repositories waits for that.
TRANSPORTS = ("https", "http", "ssh", "git")
_SCHEME = r"([a-zA-Z][a-zA-Z0-9+.-]*)://"
_SCP = r"([A-Za-z0-9_][A-Za-z0-9._-]*)@([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):([^?#]+)"
_HOST = r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+"
_COMMIT = r"[0-9a-f]{40}|[0-9a-f]{64}"
_PREFIX = r"[0-9a-f]{7,64}"
# What git-check-ref-format(1) refuses, and a dash in front.
_NO_REF = r"[\0-\040\177~^:?*\[\\]|\.\.|@\{|//|\.lock(?:/|$)|(?:^|/)\.|[./]$|^[-/]|^@$"
_LONGEST = 2000


class GitAddressInvalid(BuilderError):
    """Something that looks like the address of a repository, and is none that can be used."""


class GitAddress(Struct, frozen=True):
    """A repository, and what of it is wanted."""

    remote: str  # for the git program: no query, no fragment
    ref: str = ""  # branch, tag, full name of a ref, or commit; empty is what HEAD is there
    subdir: str = ""  # relative and clean; empty is all
    checksum: str = ""  # what the name of the commit begins with
    keep_git_dir: bool | None = None  # None: not said
    submodules: bool = True

    @property
    def is_pinned(self) -> bool:
        """Whether it says which commit, so that nobody has to be asked."""
        return re.fullmatch(_COMMIT, self.ref) is not None

    @property
    def transport(self) -> str:
        found = re.match(_SCHEME, self.remote)
        return found[1] if found else "ssh"

    @property
    def host(self) -> str:
        if found := re.match(_SCP, self.remote):
            return found[2].strip("[]").lower()
        return urlsplit(self.remote).hostname or ""

    @property
    def has_password(self) -> bool:
        return self.transport in {"http", "https"} and "@" in urlsplit(self.remote).netloc

    def with_checksum(self, checksum: str) -> "GitAddress":
        """As ADD --checksum has it. Raises GitAddressInvalid: it is no commit, or not the one of the address."""
        if self.checksum and not (self.checksum.startswith(checksum) or checksum.startswith(self.checksum)):
            raise GitAddressInvalid(f"checksum conflicts: {self.checksum!r} and {checksum!r}", hint="leave one out")
        return replace(self, checksum=max(_checksum(checksum), self.checksum, key=len))


def is_git(word: str, *, context: bool = False) -> bool:
    """Whether `word` means a repository; `context` knows `github.com/…` too, which ADD takes for a path."""
    if "://" not in word:
        named = "@" in word and re.match(_SCP, word) is not None
        return named or (context and word.startswith("github.com/"))
    found = re.match(_SCHEME, word)
    if found is None:
        return re.match(_SCP, word) is not None
    scheme = found[1].lower()
    if scheme in {"http", "https"}:
        return re.split("[?#]", word, maxsplit=1)[0].endswith(".git")
    return scheme in TRANSPORTS


def parse_git(word: str) -> GitAddress:
    """Raises GitAddressInvalid."""
    if len(word) > _LONGEST:
        raise GitAddressInvalid(f"the address of a repository has {len(word)} characters", hint="is it one?")
    if word.startswith("github.com/"):
        word = f"https://{word}"
    base, _, fragment = word.partition("#")
    base, _, query = base.partition("?")
    if any(not letter.isprintable() or letter.isspace() for letter in base):
        raise GitAddressInvalid(f"{shown(base)}: no address has blanks or control characters")
    ref, subdir = _fragment(fragment if re.match(_SCP, base) else unquote(fragment))
    address = _queried(GitAddress(_remote(base), ref, subdir), query)
    if address.ref and not is_ref(address.ref):
        raise GitAddressInvalid(f"{shown(base)}: {address.ref[:100]!r} can't be a branch, a tag or a commit")
    subdir = posixpath.normpath(posixpath.join("/", address.subdir)).lstrip("/")
    return replace(address, subdir=subdir)


def redacted(text: str) -> str:
    """`text` without the passwords of URLs in it."""
    return text if "://" not in text else re.sub(r"(://[^\s/@:]*:)[^\s/@]*@", r"\1xxxxx@", text)


def shown(address: str) -> str:
    """For messages: without a password, and without what would drive a terminal."""
    text = redacted(address)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)[:300]


def is_ref(text: str) -> bool:
    return len(text) <= 1000 and re.search(_NO_REF, text) is None


def relative_to(url: str, parent: GitAddress) -> GitAddress:
    """What the URL of a submodule means: `../x.git` counts from the repository that has it.

    Raises GitAddressInvalid: it is of no transport that may be used.
    """
    if url.startswith(("./", "../")):
        start, path = _split(parent.remote)
        joined = posixpath.normpath(posixpath.join("/", path, url))
        url = start + (joined if path.startswith("/") else joined.lstrip("/"))
    if "#" in url or "?" in url or not (re.match(_SCP, url) or re.match(_SCHEME, url)):
        raise GitAddressInvalid(f"a submodule comes from {shown(url)!r}, which can't be fetched")
    return parse_git(url)


def _split(remote: str) -> tuple[str, str]:
    """What names the machine, and the path there."""
    if found := re.fullmatch(_SCP, remote):
        return remote[: found.start(3)], found[3]
    path = urlsplit(remote).path
    return remote[: len(remote) - len(path)], path


def _remote(base: str) -> str:
    """The address as the git program gets it. Raises GitAddressInvalid: no transport, no host, or an option in it."""
    if found := re.fullmatch(_SCP, base):
        if found[3].startswith("-"):
            raise GitAddressInvalid(f"{shown(base)}: a path can't begin with a dash")
        return base
    scheme = re.match(_SCHEME, base)
    if scheme is None or scheme[1].lower() not in TRANSPORTS:
        raise GitAddressInvalid(
            f"{shown(base)!r} is no repository that can be fetched", hint=f"use one of {', '.join(TRANSPORTS)}"
        )
    try:
        parts = urlsplit(base)
        _ = parts.port
    except ValueError as error:
        raise GitAddressInvalid(f"{shown(base)}: {error}") from None
    if not re.fullmatch(_HOST, parts.hostname or "") or (parts.username or "").startswith("-"):
        raise GitAddressInvalid(f"{shown(base)}: there is no host in it")
    return scheme[1].lower() + base[len(scheme[1]) :]


def _fragment(text: str) -> tuple[str, str]:
    ref, _, subdir = text.partition(":")
    return ref, subdir


def _queried(address: GitAddress, query: str) -> GitAddress:
    """What the query says, on top of the fragment. Conflicts, unknown keys and repeated ones are told."""
    found: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in found:
            raise GitAddressInvalid(f"query {key!r} has multiple values")
        if key not in _KEYS:
            raise GitAddressInvalid(f"unexpected query {key!r}", hint=f"there is {', '.join(sorted(_KEYS))}")
        if not value and key not in _SWITCHES:
            raise GitAddressInvalid(f"query {key!r} has no value")
        found[key] = value
    switches = {key: _switch(key, found[key]) for key in _SWITCHES if key in found}
    if found.get("mtime", "commit") not in {"checkout", "commit"}:
        raise GitAddressInvalid(f"invalid mtime value: {found['mtime']!r}", hint="files get the time of the commit")
    checksum = _one("checksum", *(_checksum(found[key]) if key in found else "" for key in ("commit", "checksum")))
    ref = _one("ref", address.ref, found.get("ref", ""))
    if "tag" in found and "branch" in found:
        raise GitAddressInvalid("branch conflicts with tag", hint="leave one out")
    for key, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if key in found:
            ref = _one("ref", ref, prefix + found[key].removeprefix(prefix))
    return replace(
        address,
        ref=ref or (checksum if re.fullmatch(_COMMIT, checksum) else ""),
        subdir=_one("subdir", address.subdir, found.get("subdir", "")),
        checksum=checksum,
        keep_git_dir=switches.get("keep-git-dir"),
        submodules=switches.get("submodules", True),
    )


_SWITCHES = ("submodules", "keep-git-dir", "fetch-by-commit")
_KEYS = {"ref", "tag", "branch", "subdir", "checksum", "commit", "mtime", *_SWITCHES}


def _one(what: str, first: str, second: str) -> str:
    if first and second and first != second:
        raise GitAddressInvalid(f"{what} conflicts: {first!r} and {second!r}", hint="leave one out")
    return first or second


def _switch(key: str, value: str) -> bool:
    if value.lower() in {"", "1", "t", "true"}:
        return True
    if value.lower() in {"0", "f", "false"}:
        return False
    raise GitAddressInvalid(f"invalid {key} value: {value!r}", hint="write true or false")


def _checksum(text: str) -> str:
    if not re.fullmatch(_PREFIX, text):
        raise GitAddressInvalid(
            f"{text[:100]!r} is no commit", hint="write 7 or more digits of its name, in lower case"
        )
    return text
