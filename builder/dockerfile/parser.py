"""Dockerfile text → typed instructions.

Gives:    parse_dockerfile(), parse_trigger().
Promises: raises nothing but DockerfileError for any text at all; time and memory grow with the text only.
"""

from dataclasses import replace
from typing import cast

import msgspec.structs
from lark import Token, Tree, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError

from builder.dockerfile.faults import did_you_mean
from builder.dockerfile.instructions import Arg, Dockerfile, DockerfileError, From, Instruction, Onbuild, Position
from builder.dockerfile.lines import LogicalLine, Splitter, decode
from builder.dockerfile.tables import parser
from builder.dockerfile.transform import Fault, ToInstruction

USAGE = {
    "FROM": "FROM [--platform=PLATFORM] IMAGE [AS NAME]",
    "ARG": "ARG NAME[=VALUE] …",
    "ENV": "ENV NAME=VALUE …",
    "LABEL": "LABEL NAME=VALUE …",
    "RUN": 'RUN COMMAND, or RUN ["PROGRAM", "ARGUMENT", …]',
    "CMD": 'CMD COMMAND, or CMD ["PROGRAM", "ARGUMENT", …]; CMD [] sets nothing',
    "ENTRYPOINT": 'ENTRYPOINT COMMAND, or ENTRYPOINT ["PROGRAM", "ARGUMENT", …]; ENTRYPOINT [] clears it',
    "COPY": "COPY SOURCE … DESTINATION",
    "ADD": "ADD SOURCE … DESTINATION",
    "VOLUME": "VOLUME PATH …",
    "EXPOSE": "EXPOSE PORT[/PROTOCOL] …",
    "WORKDIR": "WORKDIR PATH",
    "USER": "USER NAME[:GROUP]",
    "STOPSIGNAL": "STOPSIGNAL SIGNAL",
    "MAINTAINER": "MAINTAINER NAME",
    "SHELL": 'SHELL ["PROGRAM", "ARGUMENT", …]',
    "HEALTHCHECK": "HEALTHCHECK [OPTIONS] CMD COMMAND, or HEALTHCHECK NONE",
    "ONBUILD": "ONBUILD INSTRUCTION",
}
_NEEDS = {
    "FROM": "FROM requires one image, or an image and AS NAME",
    "COPY": "COPY requires at least two arguments",
    "ADD": "ADD requires at least two arguments",
    "HEALTHCHECK": "HEALTHCHECK requires CMD and a command, or NONE",
    "SHELL": "SHELL requires a JSON array",
}
_NO_TRIGGERS = {"ONBUILD": "one trigger can't set another", "FROM": "a base image is chosen by FROM itself"}
_WITH_HEREDOCS = ("run", "copy", "add")


def parse_dockerfile(text: str | bytes, file: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile. Raises DockerfileError, which shows the line and the place of the fault."""
    splitter = Splitter(decode(text, file), file)
    reader = _Reader(splitter)
    read: list[tuple[LogicalLine, Instruction]] = []
    staged = False
    for line in splitter:
        line, instruction = reader.instruction(line)
        staged = staged or isinstance(instruction, From)
        if not staged and not isinstance(instruction, Arg):
            name = line.text.split(maxsplit=1)[0]
            hint = "only ARG may stand there"
            raise splitter.fault(
                f"{name} before the first FROM", line.at.line, line.at.column, width=len(name), hint=hint
            )
        read.append((line, instruction))
    if not read:
        raise splitter.fault("file with no instructions", 1, hint="a Dockerfile begins with FROM")
    if not staged:
        last = read[-1][1].at
        raise splitter.fault("no FROM: there is no stage to build", last.line, last.column, hint="add FROM IMAGE below")
    directives = splitter.directives
    return Dockerfile(
        tuple(instruction for _, instruction in read),
        splitter.escape,
        directives.get("syntax", ""),
        directives.get("check", ""),
        tuple(line.comments for line, _ in read),
        tuple(line.empty_continuation for line, _ in read if line.empty_continuation),
    )


def parse_trigger(text: str, at: Position) -> Instruction:
    """Read an ONBUILD trigger of a base image's config; it gets the place of the FROM that brought it in.

    Raises DockerfileError.
    """
    try:
        splitter = Splitter(text, at.file, directives=False)
        reader = _Reader(splitter)
        found = [reader.instruction(line)[1] for line in splitter]
    except DockerfileError as error:
        raise DockerfileError(
            f"the base image has a broken ONBUILD trigger: {error.problem}: {text!r}", at=at, hint=error.hint
        ) from None
    if len(found) != 1 or isinstance(found[0], From | Onbuild):
        raise DockerfileError(f"the base image has an ONBUILD trigger that is not allowed: {text!r}", at=at)
    return msgspec.structs.replace(found[0], at=at)


class _Reader:
    """Turns logical lines into instructions, and whatever goes wrong into a DockerfileError."""

    def __init__(self, splitter: Splitter) -> None:
        self.splitter = splitter
        self.start = "backtick" if splitter.escape == "`" else "instruction"

    def instruction(self, line: LogicalLine) -> tuple[LogicalLine, Instruction]:
        """The instruction of a line, and the line with the heredocs that belong to it."""
        try:
            tree = self._tree(line)
            if tree.data == "onbuild":
                return self._onbuild(tree, line)
            if _takes_heredocs(tree):
                line = self.splitter.with_heredocs(line)
            return line, self._transform(tree, line)
        except Fault as error:
            number, column = line.place(error.offset)
            raise self.splitter.fault(
                error.problem, number, column, width=error.width, end_line=line.end_line, hint=error.hint
            ) from None

    def _onbuild(self, tree: Tree[Token], line: LogicalLine) -> tuple[LogicalLine, Instruction]:
        """The trigger is read now, so that a mistake in it shows here and not in a build far away."""
        text = tree.children[-1]
        assert isinstance(text, Token)
        offset = text.start_pos or 0
        name = text.split(maxsplit=1)[0]
        if (why := _NO_TRIGGERS.get(name.upper())) is not None or name.upper() == "MAINTAINER":
            raise Fault(f"ONBUILD {name.upper()} is not allowed", offset, len(name), hint=why)
        inner = line.cut(offset)
        try:
            trigger = self._tree(inner)
            if _takes_heredocs(trigger):
                line = self.splitter.with_heredocs(line)
                inner = replace(inner, heredocs=line.heredocs)
            self._transform(trigger, inner)
        except Fault as error:
            raise Fault(error.problem, error.offset + offset, error.width, hint=error.hint) from None
        return line, self._transform(tree, line)

    def _tree(self, line: LogicalLine) -> Tree[Token]:
        try:
            return parser().parse(line.text, start=self.start)
        except UnexpectedInput as error:
            raise _explained(line.text, error) from None

    def _transform(self, tree: Tree[Token], line: LogicalLine) -> Instruction:
        try:
            return ToInstruction(line, self.splitter.escape).transform(tree)
        except VisitError as error:
            raise error.orig_exc from None


def _takes_heredocs(tree: Tree[Token]) -> bool:
    last = tree.children[-1]
    return tree.data in _WITH_HEREDOCS and isinstance(last, Token) and last.type != "JSON"


def _explained(text: str, error: UnexpectedInput) -> Fault:
    """Say what the grammar missed, in the words of someone who writes Dockerfiles."""
    written = text.split(maxsplit=1)[0]
    name = written.upper()
    offset = cast("int", error.pos_in_stream)  # lark declares it None
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    if name not in USAGE:
        return Fault(f"unknown instruction {written[:64]}", 0, len(written), hint=did_you_mean(written, USAGE))
    needs = _NEEDS.get(name, f"{name} requires at least one argument")
    usage = f"write {USAGE[name]}"
    if at_end:
        return Fault(needs, len(text), hint=usage)
    word = text[offset:].split(maxsplit=1)[0]
    if name in ("ENV", "LABEL", "ARG"):
        return Fault(
            f"the quote {word[0]} is not closed", offset, hint="a quote inside of a value needs an escape before it"
        )
    if name == "HEALTHCHECK":
        wrong = did_you_mean(word, ("CMD", "NONE"))
        return Fault(f"unexpected {word[:64]!r} in HEALTHCHECK", offset, len(word), hint=wrong or usage)
    return Fault(needs, offset, len(word), hint=usage)
