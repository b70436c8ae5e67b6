"""What COPY and ADD take: paths and patterns found in a context or a stage, and the trees below them.

Gives:    find() and walk(). Both the copy itself and the key it is cached under see the sources through them.
Promises: nothing outside the source's root is found, whatever ".." or links say (reference/builder §1.7, item 1); what
          is found is read through directory descriptors, so a path that changes meanwhile leads nowhere else.
"""

import difflib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate

from builder.dockerfile.ignore import IgnoreRules
from builder.dockerfile.match import PatternInvalid, go_match, has_wildcard, plain, tokens
from builder.errors import ContextError
from runner.kernel.paths import open_in_root, stat_in_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40  # as many as the kernel follows
_DEEPEST = 250  # one open descriptor each


@dataclass(frozen=True, slots=True)
class Source:
    """A path or pattern in a tree. `root` is an open directory: a context's, or a mounted stage's."""

    root: int
    path: str
    ignore: IgnoreRules = field(default_factory=IgnoreRules)  # of the context; a stage has none
    keep_owner: bool = False  # a stage's files keep theirs; a context's belong to root
    unpack: bool = False  # ADD: an archive is unpacked
    where: str = "the build context"  # for messages
    parents: bool = False  # COPY --parents: directories on the way come along


@dataclass(frozen=True, slots=True)
class Found:
    """One match: its true path (no links; empty for the root), the name it was asked by, what it is.

    `links` are those on the way to it.
    """

    path: str
    name: str
    stat: os.stat_result
    links: tuple[str, ...] = ()

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


@dataclass(frozen=True, slots=True)
class Item:
    """A file or directory to copy. `path` is relative to what was found, empty for that itself.

    `name` in the open `directory` is the file; both are good until the next item is asked for.
    """

    path: str
    name: str
    directory: int
    stat: os.stat_result


def find(source: Source) -> list[Found]:
    """What a source names, links followed, sorted. A pattern may match nothing, but no link that leads to nothing.

    With `parents` it is the directories that the paths of what is copied count from; walk() then tells what is.

    Raises:
        ContextError: a plain path, the directory before a wildcard, or what a matching link leads to, is not there or
            is left out by the ignore file.
    """
    if source.parents:
        return _pivots(source)
    if "\0" in source.path:
        raise ContextError(f"{source.path!r} not found in {source.where}", hint="no path has a zero byte")
    wanted = posixpath.normpath("/" + source.path).lstrip("/")
    if has_wildcard(wanted):
        try:
            list(tokens(wanted))
        except PatternInvalid as error:
            raise ContextError(f"broken pattern {source.path!r}: {error}", hint="quote [ as \\[") from None
        return [_followed(source, match) for match in _matches(source, wanted)]
    path = plain(wanted)
    if path != wanted:
        with suppress(OSError):  # BuildKit takes no escapes off a name without wildcards; a file of that very name wins
            _followed(source, wanted)
            path = wanted
    return [_there(source, path)]


def walk(source: Source, found: Found, excludes: IgnoreRules) -> Iterator[Item]:
    """A found file, or a found directory and all below it; directories before what is in them, names sorted.

    With `parents` only what the pattern matches, the directories above that, and all below it.

    Args:
        source: its ignore rules apply to paths from its root.
        found: one of find()'s.
        excludes: --exclude; they apply to paths below a found directory, and not to a found file.
    """
    if found.is_dir:
        directory = open_in_root(source.root, found.path, _DIRECTORY)
        try:
            yield Item("", ".", directory, found.stat)
            wanted = wanted_of(source.path) if source.parents else IgnoreRules()
            yield from _Below(source.ignore, excludes, wanted, found.path).items(directory, "", 0)
        finally:
            os.close(directory)
        return
    above, _, name = found.path.rpartition("/")
    directory = open_in_root(source.root, above, _DIRECTORY)
    try:
        yield Item("", name, directory, found.stat)
    finally:
        os.close(directory)


def split_pivot(path: str) -> tuple[str, str]:
    """A source of COPY --parents: the part before `/./`, which is not kept, and the path or pattern that is."""
    base, pivot, pattern = path.partition("/./")
    if not pivot:
        base, pattern = "/", path
    return base, posixpath.normpath(posixpath.join("/", pattern)).lstrip("/")


def wanted_of(path: str) -> IgnoreRules:
    """What a source of COPY --parents takes, as rules that leave out all else. They count from its pivot.

    Raises ContextError: the pattern is broken.
    """
    pattern = split_pivot(path)[1]
    return IgnoreRules.of(("**", f"!{pattern}"), "COPY --parents") if pattern else IgnoreRules()


def _pivots(source: Source) -> list[Found]:
    base, pattern = split_pivot(source.path)
    wanted_of(source.path)  # a broken pattern is told even where there is nothing to match
    found = [each for each in find(replace(source, path=base, parents=False)) if each.is_dir]
    if not has_wildcard(base) and not has_wildcard(pattern) and pattern:
        for each in found:
            _must_be_there(source, posixpath.join(each.path, plain(pattern)))
        if not found:
            raise ContextError(f'"{source.path}" not found in {source.where}', hint=f"{base} is no directory")
    return found


def _must_be_there(source: Source, path: str) -> None:
    """Raises ContextError: it is not, or only by way of a link: what is on the way is copied as it is."""
    for above in accumulate(posixpath.dirname(path).split("/"), posixpath.join):
        with suppress(OSError):
            if above and stat.S_ISLNK(stat_in_root(source.root, above, follow=False).st_mode):
                hint = f"/{above} is a link, which --parents does not follow; name the directory it leads to"
                raise ContextError(f'"/{path}" not found in {source.where}', hint=hint)
    try:
        found = Found(path, posixpath.basename(path), stat_in_root(source.root, path, follow=False))
    except OSError as error:
        raise _missing(source, path, error) from error
    _must_be_visible(source, found)


def resolve(
    root: int, path: str, *, may_miss: bool = False, met: list[str] | None = None
) -> tuple[str, os.stat_result | None]:
    """Follow all links on a path, as if `root` were "/": the true path, and what is there.

    With `may_miss` the end of the path need not exist (then there is no stat). `met` gets the paths of the links.
    Raises OSError.
    """
    here = ""
    found: os.stat_result | None = stat_in_root(root, "/")
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = posixpath.dirname(here)
            found = stat_in_root(root, here)
            continue
        step = posixpath.join(here, name)
        try:
            found = stat_in_root(root, step, follow=False)
        except FileNotFoundError:
            if not may_miss:
                raise
            return posixpath.normpath(posixpath.join("/", step, *todo[::-1])).lstrip("/"), None
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if met is not None:
                met.append(step)
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = _link(root, step)
            todo += target.split("/")[::-1]
            here = "" if target.startswith("/") else here
            found = stat_in_root(root, here)
        else:
            here = step
    return here, found


def _link(root: int, path: str) -> str:
    handle = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=handle)
    finally:
        os.close(handle)


def _there(source: Source, path: str) -> Found:
    """What a plain path leads to. Raises ContextError: it is not there, or left out by the ignore file."""
    try:
        found = _followed(source, path)
    except OSError as error:
        raise _missing(source, path, error) from error
    _must_be_visible(source, found, path)
    return found


def _followed(source: Source, path: str) -> Found:
    links: list[str] = []
    true, found = resolve(source.root, path, met=links)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return Found(true, posixpath.basename(path), found, tuple(links))


def _matches(source: Source, pattern: str) -> list[str]:
    """Paths that a pattern matches, one part at a time: no wildcard crosses a slash.

    The directory before the first wildcard must be there, though nothing in it need match (fsutil, ResolveWildcards).
    """
    parts = pattern.split("/")
    fixed = next(number for number, part in enumerate(parts) if has_wildcard(part))
    found = [_there(source, plain("/".join(parts[:fixed]))).path]
    for number, part in enumerate(parts[fixed:], fixed + 1):
        last = number == len(parts)
        found = [path for above in found for path in _children(source, above, part, last=last)]
    return sorted(found)


def _children(source: Source, above: str, pattern: str, *, last: bool) -> Iterator[str]:
    try:
        directory = open_in_root(source.root, above, _DIRECTORY)
    except OSError:
        return  # a file, or a link: patterns do not look through links
    try:
        names = os.listdir(directory)
    finally:
        os.close(directory)
    for name in names:
        path = posixpath.join(above, name)
        if not go_match(pattern, name):
            continue
        if not last or _is_matched(source, path):
            yield path


def _is_matched(source: Source, path: str) -> bool:
    """Whether what a pattern matches by its name is in the context at all.

    A link must lead to something that is, as with BuildKit: to leave it out in silence would spoil the image.
    """
    try:
        true = stat_in_root(source.root, path, follow=False)
        if not stat.S_ISLNK(true.st_mode):
            return _is_visible(source, Found(path, posixpath.basename(path), true))
        if source.ignore.excluded(path):
            return False
        _must_be_visible(source, _followed(source, path), path)
    except OSError as error:
        if error.errno == errno.ENOENT and not _is_link(source, path):
            return False  # gone since it was listed
        raise _missing(source, path, error) from error
    return True


def _is_link(source: Source, path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(stat_in_root(source.root, path, follow=False).st_mode)
    return False


def _missing(source: Source, path: str, error: OSError) -> ContextError:
    if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        return ContextError(f'can\'t read "/{path}" in {source.where}: {error.strerror}')
    return ContextError(f'"/{path}" not found in {source.where}', hint=_near(source, path))


def _is_visible(source: Source, found: Found) -> bool:
    """Whether the ignore rules leave it, or anything in it, in the context."""
    if not source.ignore.rules or not found.path or not source.ignore.excluded(found.path):
        return True
    if not found.is_dir or not source.ignore.may_hold_included(found.path):
        return False
    below = walk(source, found, IgnoreRules())
    next(below)
    return next(below, None) is not None


def _must_be_visible(source: Source, found: Found, asked: str = "") -> None:
    hidden = next((link for link in found.links if source.ignore.excluded(link)), None)
    if hidden is not None or not _is_visible(source, found):
        rule = source.ignore.decided_by(found.path if hidden is None else hidden)
        by = f"{source.ignore.file}:{rule.line} ({rule.pattern})" if rule else source.ignore.file
        raise ContextError(f'"/{asked or found.path}" not found in {source.where}', hint=f"it is left out by {by}")


def _near(source: Source, path: str) -> str | None:
    """Where a link leads that has the name, or a name like the one that is missing."""
    above, name = posixpath.split(path)
    with suppress(OSError):
        directory = open_in_root(source.root, above, _DIRECTORY)
        try:
            names = os.listdir(directory)
            target = os.readlink(name, dir_fd=directory) if name in names else ""
        finally:
            os.close(directory)
        if target:
            return f"it is a link to {target}, and that is not in {source.where}"
        if near := difflib.get_close_matches(name, names, 1):
            return f"did you mean {posixpath.join(above, near[0])}?"
    return f"paths are relative to {source.where}"


class _Below:
    """One walk. Directories that are left out but may hold something that is not are told only once it shows up."""

    def __init__(self, ignore: IgnoreRules, excludes: IgnoreRules, wanted: IgnoreRules, base: str) -> None:
        every = ((ignore, base), (excludes, ""), (wanted, ""))
        self._rules = [(rules, prefix) for rules, prefix in every if rules.rules]
        self._held: list[Item] = []

    def items(self, directory: int, above: str, depth: int) -> Iterator[Item]:
        if depth > _DEEPEST:
            raise ContextError(f"directories are nested more than {_DEEPEST} deep: {above[:60]}…")
        for name in sorted(os.listdir(directory)):
            path = f"{above}/{name}" if above else name
            out = self._rules and any(rules.excluded(posixpath.join(base, path)) for rules, base in self._rules)
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone since it was listed
            item = Item(path, name, directory, found)
            if not stat.S_ISDIR(found.st_mode):
                if not out:
                    yield from self._told()
                    yield item
            elif not out:
                yield from self._told()
                yield item
                yield from self._inside(item, depth)
            elif self._may_hold(path):
                self._held.append(item)
                yield from self._inside(item, depth)
                if self._held and self._held[-1] is item:
                    self._held.pop()

    def _inside(self, item: Item, depth: int) -> Iterator[Item]:
        directory = os.open(item.name, _DIRECTORY, dir_fd=item.directory)
        try:
            yield from self.items(directory, item.path, depth + 1)
        finally:
            os.close(directory)

    def _told(self) -> Iterator[Item]:
        yield from self._held
        self._held.clear()

    def _may_hold(self, path: str) -> bool:
        return all(
            not rules.excluded(full) or rules.may_hold_included(full)
            for rules, base in self._rules
            for full in (posixpath.join(base, path),)
        )
