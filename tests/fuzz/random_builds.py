"""Random Dockerfiles with a context each: all from a seed, and all in words that the BuildKit of dockerd 20.10 knows.

Left out is what is known to differ, each with its reason in tests/interop/build_cases.py: --chmod of trees, attributes,
devices, exceptions with wildcards in ignore files, mount points left in the layer.
A build that a case asks for may fail (a file over a directory): then it must fail with both.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.interop.build_context import set_times

_DIRECTORIES = ("d", "d/sub", "d/sub/deep", "tree", "tree/x", ".hid", "e")
_FILES = ("a", "b.txt", "c.md", ".dot", "f1", "f2", "ünï", "x-y_z")
_MODES = (0o644, 0o600, 0o755, 0o444, 0o640, 0o4755, 0o2755, 0o1644, 0o000)
_DIRECTORY_MODES = (0o755, 0o700, 0o711, 0o1777, 0o750)
_WORDS = ("x", "y z", "$A", "${B}", "${A:-none}", "${B:+set}", "'$A'", '"$A b"', "a\\ b", "\\$A", "pre$A.post", "")
_OWNERS = ("5", "5:6", "0:7", "app", "web", "app:staff", "33:33")
_PLACES = (
    "/", "/d", "/d/", "/new/", "/new/deep/x", "rel", "rel/", ".", "./", "/to-d/", "/tmp/t", "/links/soft", "/d/e",
)  # fmt: skip
_RULES = ("{}", "{}/", "/{}", "*.md", "**/a", "**/f*", "{}/*", "# no rule", "?1")
_STAGE_PATHS = ("/", "/d", "/d/*", "/new", "/tmp", "/links", "/links/*", "/etc/passwd", "/d/e", "rel")
_BARE = "COPY --from=base /etc/passwd /passwd"  # begins a stage without a shell: dockerd saves no image without a layer


@dataclass(frozen=True)
class Node:
    """A path of the context. `text`: content, or where a link leads to."""

    path: str
    kind: str = "file"  # file, dir, link, hard
    mode: int = 0o644
    text: str = ""


@dataclass(frozen=True)
class RandomBuild:
    seed: int
    lines: tuple[str, ...]
    context: tuple[Node, ...]
    ignore: tuple[str, ...] = ()
    args: tuple[tuple[str, str], ...] = ()
    edit: str = ""  # the file whose content changes at last

    @property
    def dockerfile(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    def write_context(self, root: Path) -> None:
        for node in self.context:
            path = root / node.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if node.kind == "dir":
                path.mkdir(exist_ok=True)
            elif node.kind == "link":
                path.symlink_to(node.text)
            elif node.kind == "hard":
                os.link(root / node.text, path)
            else:
                path.write_text(node.text)
        for node in self.context:
            if node.kind in ("file", "dir"):
                (root / node.path).chmod(node.mode)
        set_times(root)

    def make_edit(self, root: Path) -> None:
        path = root / self.edit
        path.write_text(f"{path.read_text()}edited\n")
        os.utime(path, (1_050_000_000, 1_050_000_000))


def random_build(seed: int) -> RandomBuild:
    random = Random(seed)
    context = _context(random)
    lines, args = _Writer(random, context).write()
    files = [node.path for node in context if node.kind == "file" and node.mode & 0o400]
    return RandomBuild(seed, lines, context, _ignore(random, context), args, random.choice(files) if files else "")


def smaller(build: RandomBuild) -> Iterator[RandomBuild]:
    """The same with something left out, big things first."""
    for count in (8, 4, 2, 1):
        for start in range(0, len(build.lines), count):
            yield replace(build, lines=build.lines[:start] + build.lines[start + count :])
    for index in range(len(build.ignore)):
        yield replace(build, ignore=build.ignore[:index] + build.ignore[index + 1 :])
    for index, node in enumerate(build.context):
        if node.path != build.edit and not any(other.text == node.path for other in build.context):
            yield replace(build, context=build.context[:index] + build.context[index + 1 :])


def _context(random: Random) -> tuple[Node, ...]:
    folders = ["", *random.sample(_DIRECTORIES, random.randint(1, 4))]
    made = {path for folder in folders for path in _and_above(folder)}
    nodes = [Node(path, "dir", random.choice(_DIRECTORY_MODES)) for path in sorted(made)]
    files = sorted({_join(random.choice(folders), random.choice(_FILES)) for _ in range(random.randint(3, 9))} - made)
    nodes += [Node(path, "file", random.choice(_MODES), f"{path}\n" * random.randint(0, 3)) for path in files]
    taken = made | set(files)
    for number in range(random.randint(0, 3)):
        path = _join(random.choice(folders), f"l{number}")
        target = random.choice([*files, *sorted(made), "nowhere", "/etc/passwd"])
        if path not in taken:
            up = "../" * path.count("/") if not target.startswith("/") else ""
            nodes.append(Node(path, "link", text=up + target))
    if random.random() < 0.3:
        nodes.append(Node(_join(random.choice(folders), "h0"), "hard", text=random.choice(files)))
    return tuple(nodes)


def _and_above(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _ignore(random: Random, context: tuple[Node, ...]) -> tuple[str, ...]:
    if random.random() < 0.5:
        return ()
    paths = [node.path for node in context]
    rules = [random.choice(_RULES).format(random.choice(paths)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.4:
        rules.append(f"!{random.choice(paths)}")
    return tuple(rules)


@dataclass
class _Writer:
    """Writes stages; knows what is defined so far."""

    random: Random
    context: tuple[Node, ...]
    lines: list[str] = field(default_factory=list)
    args: list[tuple[str, str]] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)
    runs: bool = False  # the stage has a shell
    number: int = 0

    def write(self) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        if self.random.random() < 0.3:
            self.lines.append("ARG G=global")
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self._stage()
        return tuple(self.lines), tuple(self.args)

    def _stage(self) -> None:
        bases = ["base", "base", "rich", "rich", "scratch", *self.stages]
        base = self.random.choice(bases)
        name = f"s{len(self.stages)}"
        self.lines.append(f"FROM {base} AS {name}")
        self.runs = base != "scratch" and not (base in self.stages and self._is_bare(base))
        if not self.runs:
            self.lines.append(_BARE)
        self.declared = set()
        writers = self._writers()
        for _ in range(self.random.randint(2, 8)):
            self.lines.append(self.random.choice(writers)())
        self.stages.append(name)

    def _is_bare(self, stage: str) -> bool:
        begin = next(number for number, line in enumerate(self.lines) if line.endswith(f" AS {stage}"))
        return self.lines[begin + 1] == _BARE

    def _writers(self) -> list[Callable[[], str]]:
        files = [self._copy, self._copy, self._copy, self._copy_from, self._add, self._workdir]
        settings = [self._env, self._arg, self._label, self._setting, self._user]
        return [*files, *settings, *([self._run] * 4 if self.runs else [])]

    def _copy(self) -> str:
        return f"COPY {self._owner()}{self._sources()}"

    def _add(self) -> str:
        return f"ADD {self._owner()}{self._sources()}"

    def _owner(self) -> str:
        if self.random.random() < 0.7:
            return ""
        owners = _OWNERS if self.runs else [owner for owner in _OWNERS if owner.replace(":", "").isdigit()]
        return f"--chown={self.random.choice(owners)} "

    def _sources(self) -> str:
        paths = [node.path for node in self.context] + [".", "*", "?1", "d*", "*.txt", "[a-c]*", "tree/*", "/d/../a"]
        sources = [self.random.choice(paths) for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        place = self.random.choice(_PLACES)
        if len(sources) > 1 or "*" in sources[0]:
            place = place.rstrip("/") + "/"
        if self.random.random() < 0.1:
            return "[" + ", ".join(f'"{word}"' for word in (*sources, place)) + "]"
        return " ".join((*sources, place))

    def _copy_from(self) -> str:
        if not self.stages:
            return self._copy()
        stage = self.random.choice([*self.stages, *map(str, range(len(self.stages))), "rich"])
        source = self.random.choice(_STAGE_PATHS)
        place = self.random.choice(("/", "/got/", "/got", "/d/", "copied/"))
        return f"COPY --from={stage} {self._owner()}{source} {place if '*' not in source else place.rstrip('/') + '/'}"

    def _workdir(self) -> str:
        return "WORKDIR " + self.random.choice(("/w", "/w/x", "rel", "..", "/d", "/", "$A", "/to-d/sub", "a b", "/w/"))

    def _env(self) -> str:
        name = self.random.choice(("A", "B", "C"))
        if self.random.random() < 0.2:
            return f"ENV {name} {self.random.choice(_WORDS[:6])} tail"
        return f"ENV {name}={self._word()} N{self.number}={self._word()}"

    def _arg(self) -> str:
        free = [name for name in ("A", "B", "P", "G") if name not in self.declared]
        if not free:
            return self._label()
        name = self.random.choice(free)
        self.declared.add(name)
        if self.random.random() < 0.3 and name not in dict(self.args):
            self.args.append((name, self.random.choice(("given", "", "a b"))))
        return f"ARG {name}" + self.random.choice(("", "=default", "=$B", '="q $A"'))

    def _label(self) -> str:
        return f"LABEL k{self.random.randint(0, 3)}={self._word()} same=$A"

    def _word(self) -> str:
        word = self.random.choice(_WORDS)
        return f'"{word}"' if " " in word and word[0] not in "'\"" and "\\" not in word else word or '""'

    def _user(self) -> str:
        return "USER " + self.random.choice(
            ("app", "5:6", "5", "root", "web:staff", "0") if self.runs else ("5", "5:6", "0")
        )

    def _setting(self) -> str:
        return self.random.choice(
            ('CMD ["a", "b c"]', "CMD echo $A", 'ENTRYPOINT ["/x"]', "ENTRYPOINT run $B", "EXPOSE 80 53/udp",
             "EXPOSE 8000-8002", "VOLUME /v", 'VOLUME ["/v", "/w x"]', "STOPSIGNAL SIGTERM", "STOPSIGNAL 9",
             "HEALTHCHECK NONE", "HEALTHCHECK --interval=5s CMD look", "MAINTAINER me <m@e>",
             'SHELL ["/bin/sh", "-ec"]', "ONBUILD RUN echo trigger", "CMD []", "ENTRYPOINT []")
        )  # fmt: skip

    def _run(self) -> str:
        """What it does fails silently if it can't be done: by the user of the moment, or since files are not there."""
        self.number += 1
        place, other = self.random.choice(_TOUCHED), self.random.choice(_TOUCHED)
        command = self.random.choice(_COMMANDS).format(place=place, other=other, number=self.number)
        if self.random.random() < 0.15:
            return f"RUN --mount=target=/tmp ls -A /tmp 2>/dev/null | sort >/etc/ls{self.number} || true"
        return f"RUN {command} 2>/dev/null || true"


_TOUCHED = (
    "/d/one", "/d", "/d/e", "/d/e/two", "/new", "/opq", "/links/a", "/tmp/t", "/links", "/w", "/opq/sub", "rel", "/d/g",
)  # fmt: skip
_COMMANDS = (
    "mkdir -p {place}/m{number}", "echo {number} >{place}", "echo {number} >>{place}/n{number}", "rm -rf {place}",
    "rm -r {place} && mkdir {place} && echo {number} >{place}/again", "mv {place} {other}", "cp -a {place} {other}",
    "ln {place} {other}/hard{number}", "ln -s {place} {other}/soft{number}", "chmod 751 {place}", "chown 7:8 {place}",
    "chmod -R u+s {place}", "touch {place}", "touch -d @1000000123 {place}", "echo $A $B >/tmp/v{number}",
    "pwd >/tmp/p{number}", "id -u >/tmp/u{number}; id -g >>/tmp/u{number}", "true", "ls -AR {place} >/tmp/l{number}",
    "rm -f {place}; mkdir {place}", "mv {place} {place}.moved && mv {place}.moved {place}",
    "echo '{number}' >{place}.tmp && mv {place}.tmp {place}",
)  # fmt: skip
