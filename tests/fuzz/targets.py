"""What is fuzzed: one function a room, from bytes to nothing; whatever else it raises is a bug.

Each says what must hold for any bytes at all. Errors of the room's own family are answers, not bugs.
"""

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import msgspec.structs

from builder.checks.facts import Facts
from builder.checks.walk import check as check_build
from builder.dockerfile.expand import MAX_RESULT, ExpansionError, check, expand, expand_body, expand_words
from builder.dockerfile.heredoc import with_bodies
from builder.dockerfile.ignore import IgnoreRules
from builder.dockerfile.instructions import Dockerfile, DockerfileError, Instruction, Position
from builder.dockerfile.lines import LogicalLine, Splitter, decode
from builder.dockerfile.parser import _Reader, parse_dockerfile
from builder.errors import ContextError, LayerError
from builder.layers import apply_layer
from builder.layers.apply import inside
from builder.plan.options import BaseImage, PlanOptions
from builder.plan.planner import make_plan
from builder.snapshots import Snapshot
from builder.snapshots.trees import remove_tree
from registry.archive.reader import TarReader, starts_archive
from registry.archive.tarformat import BLOCK, END, Entry, Kind, encode
from registry.archive.unpacking import Limits, unpacked
from registry.errors import ArchiveError
from registry.model import Platform
from runner.kernel import calls
from runner.kernel.mounts import attach, bind
from tests.fuzz import seeds
from tests.unit.plan.conftest import KnownImages

_SMALL = Limits(size=1 << 24, free=1 << 22, entries=2000)
_ENDS = re.compile(r"[\\`][ \t]*$")


@dataclass(frozen=True)
class Target:
    """One thing that is fuzzed.

    Args:
        run: takes any bytes; an exception is a find.
        seeds: what the fuzzer begins with.
        runs: of the short form.
        longest: bytes of an input.
        words: what mutations may put in.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    runs: int
    longest: int = 4096
    words: tuple[str, ...] = ()


def lines(data: bytes) -> None:
    """Each character of a logical line is found in the file at the place that it says."""
    try:
        splitter = Splitter(decode(data, "Dockerfile"), "Dockerfile")
        for line in splitter:
            line = splitter.with_heredocs(line)
            _check_places(line, splitter)
            assert line.line <= line.end_line <= len(splitter.physical)
    except DockerfileError as error:
        _check_error(error)


def _check_places(line: LogicalLine, splitter: Splitter) -> None:
    for offset, char in enumerate(line.text):
        row, column = line.place(offset)
        assert splitter.physical[row - 1][column - 1] == char, (line, offset)


def _check_error(error: DockerfileError) -> None:
    assert error.problem
    assert error.at.line >= 1
    assert len(str(error)) < 100_000


def grammar(data: bytes) -> None:
    """A file that parses does so again when its instructions are written on a line each, and means the same."""
    try:
        parsed = parse_dockerfile(data)
    except DockerfileError as error:
        _check_error(error)
        return
    _check_checks(parsed)
    text = _on_a_line_each(data, parsed.escape)
    if text is None:
        return
    again = parse_dockerfile(text)
    assert [_placeless(one) for one in again.instructions] == [_placeless(one) for one in parsed.instructions]


def _on_a_line_each(data: bytes, escape: str) -> str | None:
    """None if what a line holds can't be written on one: it ends with an escape, or gets too long."""
    splitter = Splitter(decode(data, "Dockerfile"), "Dockerfile")
    reader = _Reader(splitter)
    written = [f"#escape={escape}"]
    for line in splitter:
        line, _ = reader.instruction(line)
        if _ENDS.search(line.text) or len(line.text) > 10_000:
            return None
        written.append(with_bodies(line.text, line.heredocs))
    return "\n".join(written) + "\n"


def _placeless(instruction: Instruction) -> Instruction:
    return msgspec.structs.replace(instruction, at=Position("", 1))


def _check_checks(parsed: Dockerfile) -> None:
    """The checks of a build stand any file that parses; only what `# check=` says may make no sense to them."""
    try:
        found = check_build(parsed, Facts(all_stages=True)).findings
    except DockerfileError as error:
        _check_error(error)
        if "check option" not in error.problem:
            raise
        return
    assert all(finding.at.line >= 1 for finding in found)


def planning(data: bytes) -> None:
    """A file that parses has a plan, always the same one, or an error with its line."""
    try:
        parsed = parse_dockerfile(_told_file(data[1:]) if data[:1] == b"\0" else data)
        plan = make_plan(parsed, PlanOptions(build_args={"GIVEN": "1"}), _AnyImage())
    except DockerfileError as error:
        _check_error(error)
        return
    again = make_plan(parsed, PlanOptions(build_args={"GIVEN": "1"}), _AnyImage())
    assert plan.result.digest == again.result.digest
    assert plan.config == again.config


def _told_file(data: bytes) -> str:
    """A file told in a byte a word, so that mutations make others that parse."""
    return "FROM a AS b\nARG a=x\n" + "".join(_PIECES[byte % len(_PIECES)] for byte in data) + "\n"


_PIECES = (
    "\nFROM ", "\nARG ", "\nENV ", "\nLABEL ", "\nRUN ", "\nCOPY ", "\nADD ", "\nWORKDIR ", "\nUSER ", "\nVOLUME ",
    "\nEXPOSE ", "\nCMD ", "\nENTRYPOINT ", "\nSHELL ", "\nHEALTHCHECK ", "\nSTOPSIGNAL ", "\nONBUILD ",
    "\nMAINTAINER ", " ", " ", " ", "=", ",", "/", ":", "-", ".", "a", "b", "c", "0", "1", "9999999999", "é", "'",
    '"', "\\", "$", "${", "}", "$a", "${b:-", "${c:?", "#", "%", "*", "[", "]", '["a", "b"]', "<<E", "\nE\n",
    "--from=", "--chown=", "--chmod=", "--mount=", "type=", "cache", "bind", "tmpfs", "secret", "ssh", ",target=",
    ",source=", ",from=", ",id=", ",uid=", ",size=", ",mode=", ",env=", "--link ", "--parents ", "--exclude=",
    "--checksum=", "--network=", "host", "none", "--security=", "--platform=", "linux/", "amd64", "scratch", "AS ",
    "http://", "https://a/b.git#", "git@a:", "?", "sha256:", "--interval=", "--retries=", "5s", "CMD ", "NONE", "80",
    "/tcp", "SIG", "TERM", "@", "..", "\x01", "\t",
)  # fmt: skip


class _AnyImage(KnownImages):
    """There is an image of any name, and it has triggers."""

    def resolve(self, name: str, at: Position, platform: Platform) -> BaseImage:
        if name not in self.images:
            self.add(name, env=("PATH=/bin", "IN=base"), on_build=("RUN echo $IN", "COPY a /a"), working_dir="/w")
        return super().resolve(name, at, platform)


VARIABLES = {"a": "value", "b": "", "c": "$a 'x' *?", "d": "/usr/local/lib:/usr/lib" * 3, "e": "x" * 1000}


def expansion(data: bytes) -> None:
    """What comes out is no longer than what went in and the values that may be put into it."""
    escape = "`" if data[:1] == b"`" else "\\"
    word = data.decode(errors="replace")
    most = MAX_RESULT + len(word)
    for work in (
        lambda: expand(word, VARIABLES, escape=escape),
        lambda: "".join(expand_words(word, VARIABLES, escape=escape)),
        lambda: expand_body(word, VARIABLES),
    ):
        try:
            assert len(work()) <= most
        except ExpansionError as error:
            _check_offset(error, word)
    try:
        check(word, escape)
    except ExpansionError:
        for values in (VARIABLES, {}):  # a fault of syntax is one with any values
            try:
                expand(word, values, escape=escape)
            except ExpansionError:
                continue
            raise AssertionError(f"check() refuses what expand() takes: {word!r}") from None


def _check_offset(error: ExpansionError, word: str) -> None:
    assert error.problem
    assert 0 <= error.offset <= len(word)


def ignoring(data: bytes) -> None:
    """What is kept below a directory that is left out is found by whoever asks whether to look inside."""
    rules_text, _, paths = data.decode(errors="replace").partition("\0")
    try:
        rules = IgnoreRules.parse(rules_text)
    except ContextError as error:
        if not str(error).startswith(".dockerignore:"):
            raise
        return
    for path in [path for path in paths.split("\0") if _is_clean(path)][:8]:
        left_out = rules.excluded(path)
        rule = rules.decided_by(path)
        assert left_out is (rule is not None and not rule.keeps)
        for above in _above(path):
            assert left_out or not rules.excluded(above) or rules.may_hold_included(above), (path, above)


def _is_clean(path: str) -> bool:
    return 0 < len(path) < 200 and all(part not in {"", ".", ".."} for part in path.split("/"))


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def reading(data: bytes) -> None:
    """Any bytes: entries within their limits, or an error; their headers' sums are made right first."""
    for content in (data, _with_sums(data)):
        starts_archive(io.BytesIO(content))
        with _archive_errors():
            reader = TarReader(unpacked(io.BytesIO(content), _SMALL), _SMALL)
            for entry in reader.entries():
                assert entry.kind is Kind.FILE or entry.size == 0
                assert sum(len(piece) for piece in reader.pieces()) == entry.size
                assert b"\0" not in entry.name


class _archive_errors:  # noqa: N801 - used as a statement
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ArchiveError)


def _with_sums(data: bytes) -> bytes:
    """Fuzzers don't guess sums: each block that may be a header gets the one that its bytes have."""
    fixed = bytearray(data)
    at = 0
    while at + BLOCK <= len(fixed):
        block = fixed[at : at + BLOCK]
        block[148:156] = b" " * 8
        fixed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
        size = re.match(rb"[0-7]+", bytes(block[124:136]))
        at += BLOCK + -(-int(size[0], 8) // BLOCK * BLOCK if size else 0) % (1 << 20)
        if len(fixed) > 1 << 20:
            break
    return bytes(fixed)


_NAMES = (
    b"a", b"b", b"c", b"..", b".", b"", b".wh.a", b".wh.b", b".wh..wh..opq", b".wh.", b".wh..", b".wh..wh.x", b"link",
    b"out", b"low", b"file",
)  # fmt: skip
_KINDS = (
    Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARDLINK, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.CHARACTER,
)  # fmt: skip


def applying(data: bytes) -> None:
    """Whatever an archive holds, nothing but the upper directory changes: all else is read-only in this process."""
    with _place() as snapshot:
        try:
            apply_layer(io.BytesIO(_archive(data)), snapshot, limits=_SMALL)
        except LayerError as error:
            reason = error.__cause__
            assert not (isinstance(reason, OSError) and reason.errno == 30), "it wrote to what is read-only"  # EROFS
        for name in os.listdir(snapshot.upper):
            assert not name.startswith(".wh.")


def _archive(data: bytes) -> bytes:
    """An archive told in few bytes, so that mutations make others: kind, name, link, mode, each a byte or two."""
    stream = io.BytesIO(data)
    content = b""
    while kind := stream.read(1):
        entry = Entry(
            _path(stream), _KINDS[kind[0] % len(_KINDS)], 0o7777 & int.from_bytes(stream.read(2), "big"), 0, 0, 0, 0
        )
        if entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
            entry = replace(entry, link=_path(stream) or b"a")
        content += encode(entry)
    return content + END


def _path(stream: io.BytesIO) -> bytes:
    """One byte tells how many parts, and whether from the root; half a byte each part."""
    shape = (stream.read(1) or b"\0")[0]
    parts = [_NAMES[(stream.read(1) or b"\0")[0] % len(_NAMES)] for _ in range(1 + shape % 4)]
    return (b"/" if shape & 0x80 else b"") + b"/".join(parts)


def names(data: bytes) -> None:
    """A name of an archive, made clean, has no part that leads anywhere else."""
    try:
        clean = inside(data)
    except LayerError:
        return
    parts = clean.split(b"/") if clean else []
    assert not {b"", b".", b".."} & set(parts), clean


class _place:  # noqa: N801 - used as a statement
    """The snapshot of this process; what was put into it goes away afterwards."""

    def __enter__(self) -> Snapshot:
        return _snapshot()

    def __exit__(self, *_: object) -> None:
        for name in os.listdir(_snapshot().upper):
            remove_tree(f"{_snapshot().upper}/{name}")


@cache
def _snapshot() -> Snapshot:
    """A lower layer with links that lead out, and an upper that is the only place left to write to."""
    top = Path(os.environ["FUZZ_WORK"])
    lower, upper, found = top / "lower", top / "upper", top / "found"
    for path in (lower / "low/a", lower / "a", upper, found):
        path.mkdir(parents=True, exist_ok=True)
    (lower / "file").write_text("lower")
    (lower / "low/file").write_text("lower")
    for name, target in {"link": "/", "out": str(top), "low/link": "../../../..", "c": "low"}.items():
        (lower / name).symlink_to(target)
    calls.unshare(calls.CLONE_NEWNS)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    calls.mount_setattr(root, calls.AT_RECURSIVE, propagation=calls.MS_PRIVATE)
    calls.mount_setattr(root, calls.AT_RECURSIVE, set_=calls.MOUNT_ATTR_RDONLY)
    os.close(root)
    for place in (upper, found):
        tree = bind(str(place))
        calls.mount_setattr(tree, 0, clear=calls.MOUNT_ATTR_RDONLY)
        target = os.open(place, os.O_PATH | os.O_CLOEXEC)
        attach(tree, target)
        os.close(target)
    return Snapshot("fuzz", None, (str(lower),), str(upper), "")


_INSTRUCTIONS = (
    "FROM", "AS", "ARG", "ENV", "LABEL", "RUN", "COPY", "ADD", "WORKDIR", "USER", "VOLUME", "EXPOSE", "CMD", "SHELL",
    "ENTRYPOINT", "HEALTHCHECK", "NONE", "STOPSIGNAL", "ONBUILD", "MAINTAINER", "<<EOF", "<<-EOF", "EOF", "--from=",
    "--mount=", "type=cache", "--chown=", "--chmod=", "--link", "--exclude=", "#escape=`", "# check=", "${a:-",
    '["a"]', "scratch",
)  # fmt: skip
_OPERATORS = ("${a", ":-", ":+", ":?", "##", "%%", "//", "}", "\\", "$a", "$c", "${e//x/")
TARGETS = {
    "lines": Target(lines, seeds.dockerfiles, 6_000, words=_INSTRUCTIONS),
    "grammar": Target(grammar, seeds.dockerfiles, 4_000, words=_INSTRUCTIONS),
    "planning": Target(planning, seeds.told_files, 3_000, words=(*_INSTRUCTIONS, *_OPERATORS)),
    "expansion": Target(expansion, seeds.words, 3_000, longest=200, words=_OPERATORS),
    "ignoring": Target(ignoring, seeds.rules, 2_500, longest=400, words=("**", "!", "/", "[^", "]", "../", "#")),
    "reading": Target(reading, seeds.archives, 2_000, longest=1 << 15),
    "names": Target(names, seeds.member_names, 3_000, longest=100, words=("../", "/./", "//")),
    "applying": Target(applying, seeds.told_archives, 800, longest=200),
}
