"""Which stages there are for a check, what FROM says about each, and which of them the target needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from builder.checks.collect import Findings, Noted
from builder.checks.facts import BaseFacts, Facts
from builder.checks.words import Watched, quoted, suggestion
from builder.dockerfile.expand import ExpansionError, expand
from builder.dockerfile.instructions import Copy, Dockerfile, DockerfileError, From, Position, Run
from builder.plan.scope import declare_global, predefined
from builder.plan.stages import Stages
from registry.errors import RegistryError
from registry.model import Platform, Reference


@dataclass
class Stage:
    """FROM, with what its words mean, and the instructions below."""

    index: int
    opening: Noted
    body: tuple[Noted, ...]
    image: str = ""  # expanded
    platform: Platform | None = None  # of FROM --platform
    parent: "Stage | None" = None
    base: BaseFacts | None = None  # of an image that is known
    used_args: set[str] = field(default_factory=set)  # global ARGs in FROM

    @property
    def from_(self) -> From:
        assert isinstance(self.opening.instruction, From)
        return self.opening.instruction


class StageList:
    """The stages of a file. Raises DockerfileError: FROM can't be read with these arguments."""

    def __init__(self, dockerfile: Dockerfile, file: Sequence[Noted], facts: Facts) -> None:
        self._facts = facts
        self._escape = dockerfile.escape
        self._names = Stages.split(dockerfile)
        self.global_args = self._names.global_args
        first = predefined(facts.platform, self._names.target_name(facts.target).lower())
        self.defaults = {name: facts.build_args.get(name, value) for name, value in first.items()}
        self.variables = declare_global(self._names.global_args, facts.build_args, first, self._escape)
        declared = {name for arg in self._names.global_args for name, _ in arg.pairs}
        self._declared = [*declared - self.variables.keys(), *self.variables]
        starts = [at for at, noted in enumerate(file) if isinstance(noted.instruction, From)]
        ends = [*starts[1:], len(file)]
        self.stages = [
            Stage(index, file[start], tuple(file[start + 1 : end]))
            for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]

    def check(self, findings: Findings) -> None:
        """Raises DockerfileError: a FROM names no image or no platform."""
        self._check_defaults(findings)
        for stage in self.stages:
            self._check_stage(stage, findings)
        for stage in self.stages:
            self._check_base(stage, findings)

    def _check_defaults(self, findings: Findings) -> None:
        """Whether each FROM names an image when no argument is given."""
        try:
            variables = declare_global(self._names.global_args, {}, self.defaults, self._escape)
            images = [expand(stage.from_.image, variables, escape=self._escape) for stage in self.stages]
        except (DockerfileError, ExpansionError):
            return  # told as an error, if it is one with the arguments that are given
        for stage, image in zip(self.stages, images, strict=True):
            try:
                Reference.parse(image)
            except RegistryError:
                detail = f"Default value for ARG {stage.from_.image} results in empty or invalid base image name"
                findings.say("InvalidDefaultArgInFrom", detail, stage.from_.at)

    def _check_stage(self, stage: Stage, findings: Findings) -> None:
        from_ = stage.from_
        stage.image = self._expand(stage, from_.image, findings).text
        if not stage.image:
            raise DockerfileError(f"base name ({from_.image}) should not be blank", at=from_.at)
        if from_.platform:
            self._check_platform(stage, findings)

    def _check_base(self, stage: Stage, findings: Findings) -> None:
        """Find the stage or image below; a context of that name would take its place."""
        if stage.image in self._facts.contexts:
            return
        parent = self._names.base(stage.image, stage.index)
        if parent is not None:
            stage.parent = self.stages[parent.index]
        elif stage.image == "scratch":
            stage.base = BaseFacts()
        else:
            try:
                Reference.parse(stage.image)
            except RegistryError as error:
                name = quoted(stage.image)
                raise DockerfileError(
                    f"failed to parse stage name {name}: {error}", at=stage.from_.at, hint=error.hint
                ) from None
            stage.base = self._facts.base(stage.image)
            self._check_image(stage, findings)

    def _check_platform(self, stage: Stage, findings: Findings) -> None:
        from_, comments = stage.from_, stage.opening.comments
        word = self._expand(stage, from_.platform, findings)
        if not word.missing and [*word.found] == ["TARGETPLATFORM"] and word.text == self.variables["TARGETPLATFORM"]:
            detail = f"Setting platform to predefined {from_.platform} in FROM is redundant as this is the default "
            findings.say("RedundantTargetPlatform", detail + "behavior", from_.at, comments)
        if not word.text:
            raise DockerfileError(f"empty platform value from expression {from_.platform}", at=from_.at)
        try:
            stage.platform = Platform.parse(word.text)
        except RegistryError as error:
            raise DockerfileError(
                f"failed to parse platform {from_.platform}: {error}", at=from_.at, hint=error.hint
            ) from None
        named = {stage.platform.os, stage.platform.architecture}
        if not (word.found or word.missing or any(name in (from_.stage or "") for name in named)):
            detail = f"FROM --platform flag should not use constant value {quoted(word.text)}"
            findings.say("FromPlatformFlagConstDisallowed", detail, from_.at, comments)

    def _check_image(self, stage: Stage, findings: Findings) -> None:
        wanted = (stage.platform or self._facts.platform).normal
        if stage.base is None or stage.base.platform is None:
            return
        found = stage.base.platform.normal
        if (found.os, found.architecture) != (wanted.os, wanted.architecture):
            detail = (
                f'Base image {stage.image} was pulled with platform "{found}", expected "{wanted}" for current build'
            )
            findings.say("InvalidBaseImagePlatform", detail, stage.from_.at)

    def _expand(self, stage: Stage, word: str, findings: Findings) -> "Word":
        found = expanded(word, self.variables, stage.from_.at, self._escape)
        for name in found.missing:
            if name not in self._declared:
                near = suggestion(name, self._declared)
                detail = f"FROM argument '{name}' is not declared" + (f" (did you mean {near}?)" if near else "")
                findings.say("UndefinedArgInFrom", detail, stage.from_.at, stage.opening.comments)
        stage.used_args.update(found.found)
        return found

    # which stages are needed

    def wanted(self) -> list[Stage]:
        """In the order of the file. Raises DockerfileError: there is no such target."""
        if self._facts.all_stages and not self._facts.target:
            return self.stages
        needed = self.needed(self.target)
        return [stage for stage in self.stages if stage.index in needed]

    @property
    def target(self) -> Stage:
        return self.stages[self._names.target(self._facts.target).index]

    def needed(self, target: Stage) -> set[int]:
        """The numbers of a stage and of all below it."""
        found: set[int] = set()
        todo = [target]
        while todo:
            stage = todo.pop()
            if stage.index not in found:
                found.add(stage.index)
                todo += self.below(stage)
        return found

    def below(self, stage: Stage) -> Iterator[Stage]:
        """The stages that one is made from: its base, and where it copies and mounts from."""
        if stage.parent is not None:
            yield stage.parent
        for noted in stage.body:
            instruction = noted.instruction
            names = [instruction.from_] if isinstance(instruction, Copy) else []
            if isinstance(instruction, Run):
                names = [mount.from_ for mount in instruction.mounts]
            for name in names:
                if name and (source := self._names.source(name)) is not None:
                    yield self.stages[source.index]


@dataclass(frozen=True, slots=True)
class Word:
    """An expanded word, and the variables in it."""

    text: str
    found: tuple[str, ...]
    missing: tuple[str, ...]


def expanded(word: str, variables: dict[str, str], at: Position, escape: str) -> Word:
    """Raises DockerfileError: the word can't be expanded."""
    watched = Watched(variables)
    try:
        text = expand(word, watched, escape=escape)
    except ExpansionError as error:
        raise DockerfileError(error.problem, at=at, hint=error.hint) from None
    return Word(text, tuple(watched.found), tuple(watched.missing))
