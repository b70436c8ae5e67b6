"""The tree of one logical line → its typed instruction, with the place of whatever is wrong in it."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from lark import Token, Transformer

from builder.dockerfile import flags as check
from builder.dockerfile.expand import ExpansionError
from builder.dockerfile.expand import check as check_expansion
from builder.dockerfile.flags import FlagFault, Flags
from builder.dockerfile.heredoc import heredoc_word, with_bodies
from builder.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthcheckInstruction,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from builder.dockerfile.lines import LogicalLine
from builder.dockerfile.mounts import parse_mount

_SURROGATE = re.compile("[\ud800-\udfff]")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


class Fault(Exception):
    """Something wrong in the line, at `offset`; the parser makes it a DockerfileError."""

    def __init__(self, problem: str, offset: int, width: int = 1, *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset
        self.width = width
        self.hint = hint


Tokens = list[Token]
T = TypeVar("T")


class ToInstruction(Transformer[Token, Instruction]):
    """One object a line: its methods are named by the rules of grammar.lark."""

    def __init__(self, line: LogicalLine, escape: str) -> None:
        super().__init__(visit_tokens=False)
        self.line = line
        self.escape = escape
        self.source = line.text

    # -- stages

    def from_(self, tokens: Tokens) -> From:
        flags, rest = self._flags(tokens)
        self._check(rest[0])
        stage = None
        if len(rest) == 2:
            stage = rest[1].lower()
            if not _STAGE_NAME.fullmatch(stage):
                hint = "a name begins with a letter; then letters, digits, and - _ . may follow"
                raise _at(rest[1], f"invalid name of a stage: {str(rest[1])!r}", hint=hint)
        return From(self.line.at, self.source, str(rest[0]), stage, flags.text.get("platform", ""))

    def onbuild(self, tokens: Tokens) -> Onbuild:
        _, (text,) = self._flags(tokens)
        return Onbuild(self.line.at, self.source, with_bodies(str(text), self.line.heredocs))

    # -- variables

    def arg(self, tokens: Tokens) -> Arg:
        _, words = self._flags(tokens)
        pairs: list[tuple[str, str | None]] = []
        for word in words:
            name, equals, value = str(word).partition("=")
            if not name:
                raise _at(word, "ARG without a name", hint="write ARG NAME=value")
            self._check(word)
            pairs.append((name, value if equals else None))
        return Arg(self.line.at, self.source, tuple(pairs))

    def env(self, tokens: Tokens) -> Env:
        pairs, legacy = self._pairs(tokens)
        return Env(self.line.at, self.source, pairs, legacy)

    def label(self, tokens: Tokens) -> Label:
        pairs, legacy = self._pairs(tokens)
        return Label(self.line.at, self.source, pairs, legacy)

    def _pairs(self, tokens: Tokens) -> tuple[tuple[tuple[str, str], ...], bool]:
        _, words = self._flags(tokens)
        name = tokens[0].upper()
        if "=" not in words[0]:
            if len(words) == 1:
                raise Fault(
                    f"{name} {words[0]} has no value", len(self.line.text), hint=f"write {name} {words[0]}=value"
                )
            rest = self.line.text[_start(words[0]) :]
            key, value = re.split(r"[ \t\v\f\r]+", rest, maxsplit=1)
            self._check_text(value, _start(words[0]) + len(rest) - len(value))
            return ((key, value),), True
        pairs = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                hint = f"write {name} name=value; quote a value that has blanks"
                raise _at(word, f"no = in {str(word)!r}", hint=hint)
            if not key:
                raise _at(word, f"{name} without a name", hint=f"write {name} name=value")
            self._check(word)
            pairs.append((key, value))
        return tuple(pairs), False

    # -- commands

    def run(self, tokens: Tokens) -> Run:
        flags, (token,) = self._flags(tokens)
        command = self._command(token)
        if command.exec_form == ():
            raise _at(token, "RUN requires at least one argument", hint='write RUN ["program", "argument"]')
        mounts = tuple(
            self._checked(tokens, "mount", partial(parse_mount, value), index)
            for index, value in enumerate(flags.lists.get("mount", ()))
        )
        for index, text in enumerate(flags.lists.get("device", ())):
            self._checked(tokens, "device", partial(check.parse_device, text), index)
        network, security = flags.text.get("network", ""), flags.text.get("security", "")
        if "network" in flags.text:
            self._checked(tokens, "network", partial(check.check_choice, "network", network, check.NETWORKS))
        if "security" in flags.text:
            self._checked(tokens, "security", partial(check.check_choice, "security", security, check.SECURITIES))
        return Run(
            self.line.at,
            self.source,
            command,
            mounts,
            network,
            security,
            tuple(flags.lists.get("device", ())),
            self.line.heredocs,
        )

    def cmd(self, tokens: Tokens) -> Cmd:
        _, (token,) = self._flags(tokens)
        return Cmd(self.line.at, self.source, self._command(token))

    def entrypoint(self, tokens: Tokens) -> Entrypoint:
        _, (token,) = self._flags(tokens)
        return Entrypoint(self.line.at, self.source, self._command(token))

    def shell(self, tokens: Tokens) -> Shell:
        _, (token,) = self._flags(tokens)
        words = _array(token)
        if not words:
            raise _at(token, "SHELL requires at least one argument", hint='write SHELL ["/bin/sh", "-c"]')
        return Shell(self.line.at, self.source, words)

    def healthcheck(self, tokens: Tokens) -> HealthcheckInstruction:
        flags, rest = self._flags(tokens)
        if rest[0].type == "NONE":
            if flags.text:
                raise _at(tokens[1], "HEALTHCHECK NONE takes no flags")
            return HealthcheckInstruction(self.line.at, self.source, none=True)
        command = self._command(rest[1])
        if command.exec_form == ():
            raise _at(rest[1], "missing command after HEALTHCHECK CMD")
        spans = {
            name: self._checked(tokens, name, partial(check.check_interval, name, value))
            for name, value in flags.text.items()
            if name != "retries"
        }
        retries = 0
        if flags.text.get("retries"):
            retries = self._checked(tokens, "retries", partial(check.check_retries, flags.text["retries"]))
        return HealthcheckInstruction(
            self.line.at,
            self.source,
            none=False,
            command=command,
            interval=spans.get("interval", 0),
            timeout=spans.get("timeout", 0),
            start_period=spans.get("start-period", 0),
            start_interval=spans.get("start-interval", 0),
            retries=retries,
        )

    def _command(self, token: Token) -> Command:
        if token.type == "JSON":
            return Command(exec_form=_array(token))
        _refuse_other_arrays(str(token), _start(token))
        return Command(shell_form=str(token))

    # -- files

    def copy(self, tokens: Tokens) -> Copy:
        flags, rest = self._flags(tokens)
        sources, destination, heredocs = self._sources(tokens[0], rest)
        from_ = flags.text.get("from", "")
        self._checked(tokens, "from", partial(check.check_no_variable, "from", from_))
        return Copy(
            self.line.at,
            self.source,
            sources,
            destination,
            from_,
            flags.text.get("chown", ""),
            self._mode(tokens, flags),
            flags.booleans.get("link", False),
            flags.booleans.get("parents", False),
            tuple(flags.lists.get("exclude", ())),
            heredocs,
        )

    def add(self, tokens: Tokens) -> Add:
        flags, rest = self._flags(tokens)
        sources, destination, heredocs = self._sources(tokens[0], rest)
        return Add(
            self.line.at,
            self.source,
            sources,
            destination,
            flags.text.get("chown", ""),
            self._mode(tokens, flags),
            flags.booleans.get("link", False),
            flags.booleans.get("keep-git-dir"),
            flags.text.get("checksum", ""),
            flags.booleans.get("unpack"),
            tuple(flags.lists.get("exclude", ())),
            heredocs,
        )

    def _sources(self, name: Token, rest: Tokens) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
        words = self._list(rest)
        if len(words) < 2:
            hint = f"write {name.upper()} SOURCE DESTINATION"
            raise Fault(f"{name.upper()} requires at least two arguments", len(self.line.text), hint=hint)
        if rest[0].type == "JSON":
            return words[:-1], words[-1], ()
        if heredoc_word(words[-1]) is not None:
            raise _at(rest[-1], f"{name.upper()} can't have a heredoc as its destination")
        bodies = iter(self.line.heredocs)
        sources: list[str] = []
        heredocs: list[Heredoc] = []
        for word in words[:-1]:
            body = next(bodies, None) if heredoc_word(word) is not None else None
            if body is not None:
                heredocs.append(body)
            else:
                sources.append(word)
        return tuple(sources), words[-1], tuple(heredocs)

    def _list(self, rest: Tokens) -> tuple[str, ...]:
        if rest[0].type == "JSON":
            return _array(rest[0])
        _refuse_other_arrays(self.line.text[_start(rest[0]) :], _start(rest[0]))
        self._check(*(word for word in rest if heredoc_word(word) is None))
        return tuple(map(str, rest))

    def _check(self, *words: Token) -> None:
        """Look for faults of expansion that show without any values."""
        for word in words:
            self._check_text(str(word), _start(word), word.type)

    def _check_text(self, text: str, offset: int, kind: str = "") -> None:
        try:
            check_expansion(text, self.escape)
        except ExpansionError as error:
            hint = error.hint
            if kind == "FIELD" and "quote" in error.problem:
                hint = 'quotes don\'t hold words together here; write ["a word", "another"]'
            raise Fault(error.problem, offset + error.offset, hint=hint) from None

    def _mode(self, tokens: Tokens, flags: Flags) -> str:
        mode = flags.text.get("chmod", "")
        self._checked(tokens, "chmod", partial(check.check_mode, mode))
        return mode

    def volume(self, tokens: Tokens) -> Volume:
        _, rest = self._flags(tokens)
        paths = tuple(word.strip() for word in self._list(rest))
        if not paths:
            raise _at(rest[0], "VOLUME requires at least one argument")
        if "" in paths:
            raise _at(rest[0], "a VOLUME can't be an empty string")
        return Volume(self.line.at, self.source, paths)

    # -- one text

    def workdir(self, tokens: Tokens) -> Workdir:
        return Workdir(self.line.at, self.source, self._text(tokens))

    def user(self, tokens: Tokens) -> User:
        return User(self.line.at, self.source, self._text(tokens))

    def stopsignal(self, tokens: Tokens) -> Stopsignal:
        return Stopsignal(self.line.at, self.source, self._text(tokens))

    def maintainer(self, tokens: Tokens) -> Maintainer:
        _, (text,) = self._flags(tokens)
        return Maintainer(self.line.at, self.source, str(text))

    def expose(self, tokens: Tokens) -> Expose:
        _, words = self._flags(tokens)
        self._check(*words)
        return Expose(self.line.at, self.source, tuple(map(str, words)))

    def _text(self, tokens: Tokens) -> str:
        _, (text,) = self._flags(tokens)
        self._check(text)
        return str(text)

    # -- flags

    def _flags(self, tokens: Tokens) -> tuple[Flags, Tokens]:
        """The flags, and the tokens behind them."""
        flags = Flags(tokens[0].upper())
        position = 1
        while position < len(tokens) and tokens[position].type == "FLAG":
            try:
                flags.add(str(tokens[position]))
            except FlagFault as error:
                raise _in(tokens[position], error) from None
            position += 1
        return flags, tokens[position:]

    def _checked(self, tokens: Tokens, name: str, value: Callable[[], T], index: int = 0) -> T:
        """`value()`, its FlagFault moved to the `index`-th flag of that name."""
        try:
            return value()
        except FlagFault as error:
            found = [t for t in tokens if t.type == "FLAG" and check.unquote(t)[2:].partition("=")[0] == name]
            raise _in(found[index], error) from None


def _start(token: Token) -> int:
    return token.start_pos or 0


def _at(token: Token, problem: str, *, hint: str | None = None) -> Fault:
    return Fault(problem, _start(token), len(token), hint=hint)


def _in(token: Token, error: FlagFault) -> Fault:
    """Point at the part of a flag, or at all of it when quotes hide the part."""
    value = token.find("=") + 1
    found = token.find(error.part, value) if error.part else -1
    if found < 0 and error.part:
        found = token.find(error.part)
    if found < 0:
        return Fault(error.problem, _start(token), len(token), hint=error.hint)
    return Fault(error.problem, _start(token) + found, len(error.part), hint=error.hint)


def _array(token: Token) -> tuple[str, ...]:
    r"""The words of a JSON array. Half a pair like \ud800 alone is no character; Go puts the replacement there."""
    return tuple(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", word) for word in json.loads(token))


def _refuse_other_arrays(text: str, offset: int) -> None:
    """A valid JSON array of anything but strings is an error; what is no JSON at all is text for the shell."""
    if not text.startswith("["):
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(value, list) and any(not isinstance(word, str) for word in value):
        hint = 'quote each word: ["program", "argument"]'
        raise Fault("an array of anything but strings", offset, len(text), hint=hint)
