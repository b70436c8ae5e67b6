"""Instructions → global ARGs and stages, and which stage a name means. Pure."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from builder.dockerfile.instructions import Add, Arg, Copy, Dockerfile, DockerfileError, From, Instruction, Run, Workdir

RESERVED = ("context", "scratch")


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """FROM and what follows, as written."""

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """As progress and errors call it."""
        return self.from_.stage or f"stage-{self.index}"


def touches_files(instruction: Instruction) -> bool:
    """Whether it is a step that progress counts."""
    return isinstance(instruction, Add | Copy | Run | Workdir)


@dataclass(frozen=True, slots=True)
class Stages:
    global_args: tuple[Arg, ...]
    definitions: tuple[StageDefinition, ...]

    @classmethod
    def split(cls, dockerfile: Dockerfile) -> "Stages":
        """Raises DockerfileError: an instruction stands before the first FROM, or there is no FROM."""
        global_args: list[Arg] = []
        groups: list[tuple[From, list[Instruction]]] = []
        for instruction in dockerfile.instructions:
            if isinstance(instruction, From):
                groups.append((instruction, []))
            elif groups:
                groups[-1][1].append(instruction)
            elif isinstance(instruction, Arg):
                global_args.append(instruction)
            else:
                raise DockerfileError(
                    "no build stage in current context",
                    at=instruction.at,
                    hint="put FROM first; only ARG may stand before it",
                )
        if not groups:
            at = dockerfile.instructions[-1].at
            raise DockerfileError("there is no FROM", at=at, hint="start with FROM and an image, or FROM scratch")
        definitions = tuple(StageDefinition(i, from_, tuple(body)) for i, (from_, body) in enumerate(groups))
        return cls(tuple(global_args), definitions)

    def without(self, is_replaced: Callable[[str], bool]) -> "Stages":
        """Stages that a named context stands in for come down to that: `FROM name`, and no more."""
        return Stages(
            self.global_args,
            tuple(
                StageDefinition(stage.index, replace(stage.from_, image=stage.from_.stage, platform=""), ())
                if stage.from_.stage and is_replaced(stage.from_.stage)
                else stage
                for stage in self.definitions
            ),
        )

    def base(self, name: str, before: int) -> StageDefinition | None:
        """The stage that `FROM name` in stage number `before` means: the nearest earlier one, by name only."""
        wanted = name.lower()
        found = [stage for stage in self.definitions[:before] if stage.from_.stage == wanted]
        return found[-1] if found else None

    def source(self, name: str) -> StageDefinition | None:
        """The stage that `--from=name` means: the last of that name in the file, else by number."""
        wanted = name.lower()
        found = [stage for stage in self.definitions if stage.from_.stage == wanted]
        if found:
            return found[-1]
        if re.fullmatch("[0-9]{1,10}", name) and int(name) < len(self.definitions):
            return self.definitions[int(name)]
        return None

    def target_name(self, asked: str) -> str:
        """The name of the stage to build, as the ARG TARGETSTAGE has it; empty if it has none."""
        return asked or self.definitions[-1].from_.stage or ""

    def target(self, name: str) -> StageDefinition:
        """The stage to build; the last one if `name` is empty. Raises DockerfileError."""
        if not name:
            return self.definitions[-1]
        found = self.source(name)
        if found is None:
            raise DockerfileError(
                f"target stage {name!r} could not be found",
                at=self.definitions[0].from_.at,
                hint=did_you_mean(name, [stage.from_.stage or str(stage.index) for stage in self.definitions]),
            )
        return found


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there is {', '.join(known)}" if known else None
