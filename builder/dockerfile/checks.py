"""BuildKit's build checks that need nothing but the file itself: what works, but will surprise somebody.

Pure. The checks that need values of variables or the files of the context are elsewhere.
"""

from collections.abc import Iterable, Iterator, Sequence

from builder.dockerfile.instructions import (
    Advice,
    Cmd,
    Entrypoint,
    Env,
    From,
    HealthcheckInstruction,
    Instruction,
    Label,
    Maintainer,
    Shell,
)
from builder.dockerfile.lines import LogicalLine

Read = tuple[LogicalLine, Instruction]
_SECOND = "should not be used in the same stage because only the last one will be used"
_ONCE = {Cmd: "CMD", Entrypoint: "ENTRYPOINT", HealthcheckInstruction: "HEALTHCHECK"}


def advice(read: Sequence[Read], directive: str = "") -> Iterator[Advice]:
    """What to say about a file that was read without fault.

    Args:
        read: its lines and what they mean.
        directive: value of `# check=`; `skip=Rule,Rule` and `skip=all` silence rules, for one instruction also when
            they stand in a comment above it.
    """
    silent = _skipped(directive)
    above = {
        instruction.at.line: {rule for comment in line.comments for rule in _skipped(comment.removeprefix("check="))}
        for line, instruction in read
        if any(comment.startswith("check=") for comment in line.comments)
    }
    for found in _advice(read):
        skipped = silent | above.get(found.at.line, set())
        if found.rule not in skipped and "all" not in skipped:
            yield found


def _skipped(directive: str) -> set[str]:
    options = (option.partition("=") for option in directive.split(";"))
    return {rule.strip() for key, _, rules in options if key.strip() == "skip" for rule in rules.split(",")}


def _advice(read: Sequence[Read]) -> Iterator[Advice]:
    for line, instruction in read:
        if line.empty_continuation:
            yield Advice("NoEmptyContinuation", "Empty continuation line", instruction.at)
        yield from _spelling(line, instruction)
    yield from _casing(read)
    yield from _stage_names([instruction for _, instruction in read])
    yield from _stages([instruction for _, instruction in read])


def _spelling(line: LogicalLine, instruction: Instruction) -> Iterator[Advice]:
    name = _written(line).upper()
    if isinstance(instruction, Env | Label) and instruction.legacy:
        message = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
        yield Advice("LegacyKeyValueFormat", message, instruction.at)
    elif isinstance(instruction, Maintainer):
        message = "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
        yield Advice("MaintainerDeprecated", message, instruction.at)
    elif isinstance(instruction, From) and instruction.stage is not None:
        *_, joint, stage = line.text.split()
        if stage != stage.lower():
            yield Advice("StageNameCasing", f"Stage name '{stage}' should be lowercase", instruction.at)
        written = _written(line)
        if (written.islower() and not joint.islower()) or (written.isupper() and not joint.isupper()):
            yield Advice("FromAsCasing", f"'{joint}' and '{written}' keywords' casing do not match", instruction.at)


def _casing(read: Sequence[Read]) -> Iterator[Advice]:
    """Names of instructions in the case that most of them have; mixed case is never right."""
    names = [_written(line) for line, _ in read]
    lower = sum(name.islower() for name in names)
    upper = sum(name.isupper() for name in names)
    for name, (_, instruction) in zip(names, read, strict=True):
        if lower > upper and not name.islower():
            yield _case(name, "lowercase", instruction)
        elif lower <= upper and not name.isupper():
            yield _case(name, "uppercase", instruction)


def _case(name: str, kind: str, instruction: Instruction) -> Advice:
    message = f"Command '{name}' should match the case of the command majority ({kind})"
    return Advice("ConsistentInstructionCasing", message, instruction.at)


def _stage_names(instructions: Iterable[Instruction]) -> Iterator[Advice]:
    seen: set[str] = set()
    for instruction in instructions:
        if isinstance(instruction, From) and instruction.stage is not None:
            if instruction.stage in seen:
                message = f"Duplicate stage name {instruction.stage!r}, stage names should be unique"
                yield Advice("DuplicateStageName", message, instruction.at)
            seen.add(instruction.stage)


def _stages(instructions: Iterable[Instruction]) -> Iterator[Advice]:
    """Commands in the shell form, and instructions of which only the last one of a stage counts."""
    last: dict[type[Instruction], Instruction] = {}
    own_shell = False
    for instruction in instructions:
        if isinstance(instruction, From):
            last, own_shell = {}, False
        own_shell = own_shell or isinstance(instruction, Shell)
        name = _ONCE.get(type(instruction))
        if name is None:
            continue
        if (ignored := last.get(type(instruction))) is not None:
            message = f"Multiple {name} instructions {_SECOND}"
            yield Advice("MultipleInstructionsDisallowed", message, ignored.at)
        last[type(instruction)] = instruction
        if isinstance(instruction, Cmd | Entrypoint) and instruction.command.shell_form is not None and not own_shell:
            message = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            yield Advice("JSONArgsRecommended", message, instruction.at)


def _written(line: LogicalLine) -> str:
    return line.text.split(maxsplit=1)[0]
