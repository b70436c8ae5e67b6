"""What a build can be given, and which stages it has: `--call=outline` and `--call=targets`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.checks.collect import Findings, description
from builder.checks.facts import Facts
from builder.checks.settings import Settings
from builder.checks.stages import Stage, StageList, expanded
from builder.checks.walk import Interface, State, Wanted, noted, walk
from builder.dockerfile.instructions import Arg, Dockerfile, From, Position


@dataclass(frozen=True, slots=True)
class Outline:
    """What the target, and all that it is made from, can be given; each by its place in the file."""

    name: str
    description: str
    arguments: tuple[Wanted, ...]
    secrets: tuple[Wanted, ...]
    agents: tuple[Wanted, ...]
    caches: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One stage."""

    name: str  # empty: it has none
    description: str
    base: str
    platform: str
    default: bool
    at: Position


def list_targets(dockerfile: Dockerfile) -> tuple[Target, ...]:
    found = [
        (one.instruction, description(one.comments, one.instruction.stage or ""))
        for one in noted(dockerfile)
        if isinstance(one.instruction, From)
    ]
    return tuple(
        Target(from_.stage or "", text, from_.image, from_.platform, number == len(found), from_.at)
        for number, (from_, text) in enumerate(found, 1)
    )


def make_outline(dockerfile: Dockerfile, facts: Facts) -> Outline:
    """Raises DockerfileError: the Dockerfile can't be built, or has no such target."""
    stages, states = walk(dockerfile, facts, Findings(Settings()))
    target = stages.target
    made_from = list(_made_from(stages, target))
    interfaces = [states[stage.index].interface for stage in made_from]
    comments, from_ = target.opening.comments, target.from_
    return Outline(
        from_.stage or "",
        description(comments, from_.stage or ""),
        _arguments(dockerfile, facts, stages, made_from, states),
        _all([interface.secrets for interface in interfaces]),
        _all([interface.agents for interface in interfaces]),
        _all([interface.caches for interface in interfaces]),
    )


def _made_from(stages: StageList, target: Stage) -> Iterator[Stage]:
    """The target and the stages below it, the nearer ones first."""
    seen: set[int] = set()
    todo = [target]
    while todo:
        stage = todo.pop(0)
        if stage.index not in seen:
            seen.add(stage.index)
            yield stage
            todo = [*stages.below(stage), *todo]


def _all(wanted: Sequence[dict[str, Wanted]]) -> tuple[Wanted, ...]:
    found: dict[str, Wanted] = {}
    for more in wanted:
        found = more | found
    return tuple(sorted(found.values(), key=lambda one: one.at.line))


def _arguments(
    dockerfile: Dockerfile, facts: Facts, stages: StageList, made_from: Sequence[Stage], states: dict[int, State]
) -> tuple[Wanted, ...]:
    """The ARGs of these stages, and those from before the first FROM which they need."""
    known, needs = _global_arguments(dockerfile, facts, stages)
    found: list[dict[str, Wanted]] = []
    for stage in made_from:
        interface: Interface = states[stage.index].interface
        found.append({name: one for name, one in interface.arguments.items() if one is not None})
        todo = [*stage.used_args, *interface.arguments]
        used: dict[str, Wanted] = {}
        while todo:
            name = todo.pop()
            if name in known and name not in used:
                used[name] = known[name]
                todo += needs[name]
        found.append(used)
    return _all(found)


def _global_arguments(
    dockerfile: Dockerfile, facts: Facts, stages: StageList
) -> tuple[dict[str, Wanted], dict[str, set[str]]]:
    """The ARGs before the first FROM, and which others the default of each takes its value from."""
    known: dict[str, Wanted] = {}
    needs: dict[str, set[str]] = {}
    variables = dict(stages.defaults)
    for one in noted(dockerfile):
        if not isinstance(one.instruction, Arg):
            break
        for name, default in one.instruction.pairs:
            value = facts.build_args.get(name)
            before = needs.get(name, set())
            needs[name] = set()
            if value is None and default is not None:
                word = expanded(default, variables, one.instruction.at, dockerfile.escape)
                value = word.text
                needs[name] = {*word.found} - {name} | (before if name in word.found else set())
            if value is not None:
                variables[name] = value
            known[name] = Wanted(name, one.instruction.at, value or "", description(one.comments, name))
    return known, needs
