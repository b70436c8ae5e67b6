"""The rules that need nothing but the text: they see all stages, needed or not.

The places where a comment above the instruction does not silence a rule are BuildKit's.
"""

from collections.abc import Sequence

from builder.checks.collect import Findings, Noted
from builder.checks.words import quoted
from builder.dockerfile.instructions import Arg, From, Maintainer, Position

_RESERVED = ("context", "scratch")


def check_spelling(file: Sequence[Noted], empty_continuations: Sequence[int], findings: Findings) -> None:
    """All of them."""
    check_instructions(file, empty_continuations, findings)
    stages = [noted.instruction for noted in file if isinstance(noted.instruction, From)]
    _check_stage_names(stages, findings)
    _check_casing(file, findings)


def check_instructions(file: Sequence[Noted], empty_continuations: Sequence[int], findings: Findings) -> None:
    """Those that look at one instruction at a time: they have spoken before a fault further down is found."""
    name = file[0].instruction.at.file
    for line in empty_continuations:
        findings.say("NoEmptyContinuation", "Empty continuation line", Position(name, line, 1, line))
    for noted in file:
        _check_instruction(noted, findings)


def _check_instruction(noted: Noted, findings: Findings) -> None:
    instruction, comments = noted.instruction, noted.comments
    if isinstance(instruction, Maintainer):
        detail = "Maintainer instruction is deprecated in favor of using label"
        findings.say("MaintainerDeprecated", detail, instruction.at, comments)
    elif isinstance(instruction, From) and instruction.stage is not None:
        *_, joint, stage = instruction.source.split()
        if stage != stage.lower():
            findings.say("StageNameCasing", f"Stage name '{stage}' should be lowercase", instruction.at, comments)
        if not _same_case(noted.written, joint):
            detail = f"'{joint}' and '{noted.written}' keywords' casing do not match"
            findings.say("FromAsCasing", detail, instruction.at, comments)
        _check_description("FROM", [instruction.stage], noted, findings)
    elif isinstance(instruction, Arg):
        _check_description("ARG", [name for name, _ in instruction.pairs], noted, findings)


def _same_case(written: str, joint: str) -> bool:
    """A FROM in mixed case is told by another rule."""
    if written == written.lower():
        return joint == joint.lower()
    return written != written.upper() or joint == joint.upper()


def _check_description(name: str, keys: list[str], noted: Noted, findings: Findings) -> None:
    if noted.comments and noted.comments[-1].split(" ", 1)[0] not in keys:
        example = keys[0] if len(keys) == 1 else "<arg_key>"
        detail = f"Comment for {name} should follow the format: `# {example} <description>`"
        findings.say("InvalidDefinitionDescription", detail, noted.instruction.at, noted.comments)


def _check_stage_names(stages: Sequence[From], findings: Findings) -> None:
    seen: set[str] = set()
    for stage in stages:
        if stage.stage is None:
            continue
        name = quoted(stage.stage)
        if stage.stage in _RESERVED:
            detail = f"Stage name should not use the same name as reserved stage {name}"
            findings.say("ReservedStageName", detail, stage.at)
        if stage.stage in seen:
            detail = f"Duplicate stage name {name}, stage names should be unique"
            findings.say("DuplicateStageName", detail, stage.at)
        seen.add(stage.stage)


def _check_casing(file: Sequence[Noted], findings: Findings) -> None:
    """Names in the case that most of them have; ARGs before the first FROM neither count nor are told."""
    first = next(at for at, noted in enumerate(file) if isinstance(noted.instruction, From))
    names = [(noted.written, noted.instruction.at) for noted in file[first:]]
    lower = sum(name == name.lower() for name, _ in names)
    upper = sum(name == name.upper() for name, _ in names)
    kind = "lowercase" if lower > upper else "uppercase"
    for name, at in names:
        if name != (name.lower() if lower > upper else name.upper()):
            detail = f"Command '{name}' should match the case of the command majority ({kind})"
            findings.say("ConsistentInstructionCasing", detail, at)
