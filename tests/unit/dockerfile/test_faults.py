"""Every kind of fault says what, where (line, caret) and what to do about it."""

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError
from builder.dockerfile.lines import MAX_FILE


def fault(text: str | bytes) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile(text)
    return caught.value


def pointed_at(text: str, error: DockerfileError) -> str:
    """What the carets stand below; asserts that the excerpt shows that very line of the file."""
    _, source, carets = str(error).split("\n")
    line = text.split("\n")[error.at.line - 1]
    assert source == f"{error.at.line:>4} | {line}"
    below = carets.removeprefix("     | ")
    width = below.count("^")
    assert below == "".join("\t" if char == "\t" else " " for char in line[: error.at.column - 1]) + "^" * width
    return line[error.at.column - 1 : error.at.column - 1 + width]


F = "FROM base\n"
CASES = {
    # kind: (text, problem, line, pointed at, hint)
    "unknown instruction": ("FROM base\nCOPPY a b", "unknown instruction COPPY", 2, "COPPY", "did you mean COPY?"),
    "unknown instruction, nothing near": (F + "WIBBLE x", "unknown instruction WIBBLE", 2, "WIBBLE", None),
    "instruction before FROM": ("RUN x\nFROM base", "RUN before the first FROM", 1, "RUN", "only ARG may stand there"),
    "no FROM": ("ARG a\nARG b", "no FROM: there is no stage to build", 2, "A", "add FROM IMAGE below"),
    "FROM without image": ("FROM", "FROM requires one image, or an image and AS NAME", 1, "", "write FROM [--platf"),
    "FROM with two words": ("FROM a b", "FROM requires one image, or an image and AS NAME", 1, "b", "write FROM [--pl"),
    "FROM with AS alone": ("FROM a AS", "FROM requires one image, or an image and AS NAME", 1, "", "write FROM [--pl"),
    "FROM with four words": ("FROM a AS b c", "FROM requires one image, or an", 1, "c", "write FROM [--platform=PLAT"),
    "stage name": ("FROM a AS 1b", "invalid name of a stage: '1b'", 1, "1b", "a name begins with a letter"),
    "unknown flag": (F + "COPY --form=x a b", "unknown flag --form of COPY", 2, "--form", "did you mean --from?"),
    "unknown flag, nothing near": (F + "RUN --zzz x", "unknown flag --zzz of RUN", 2, "--zzz", "known are --mount, "),
    "flag of an instruction without": (F + "CMD --x y", "unknown flag --x of CMD", 2, "--x", "CMD takes no flags"),
    "duplicate flag": (F + "COPY --chown=1 --chown=2 a b", "duplicate flag --chown", 2, "--chown", "once only"),
    "flag without value": (F + "COPY --chown a b", "--chown needs a value", 2, "--chown", "write --chown=…"),
    "boolean flag": (F + "COPY --link=yes a b", "--link is true or false, not 'yes'", 2, "yes", "write --link or"),
    "empty boolean flag": (F + "COPY --link= a b", "--link is true or false, not ''", 2, "--link=", "write --link or"),
    "chmod": (F + "COPY --chmod=888 a b", "--chmod: not a mode: '888'", 2, "888", "octal like 755"),
    "chmod too large": (F + "COPY --chmod=17777 a b", "--chmod: not a mode", 2, "17777", "octal like 755"),
    "variable in --from": (F + "COPY --from=$x a b", "--from doesn't support variables", 2, "$x", "give the image a"),
    "network": (F + "RUN --network=hots x", "--network can't be 'hots'", 2, "hots", "did you mean host?"),
    "security": (F + "RUN --security=q x", "--security can't be 'q'", 2, "q", "one of sandbox, insecure"),
    "RUN alone": (F + "RUN", "RUN requires at least one argument", 2, "", "write RUN COMMAND, or"),
    "RUN with flags alone": (F + "RUN --network=none", "RUN requires at least one", 2, "", "write RUN COMMAND, or"),
    "RUN of nothing": (F + "RUN []", "RUN requires at least one argument", 2, "[]", 'write RUN ["program"'),
    "COPY of one word": (F + "COPY a", "COPY requires at least two arguments", 2, "", "write COPY SOURCE DEST"),
    "COPY of a short array": (F + 'COPY ["a"]', "COPY requires at least two arguments", 2, "", "write COPY SOURCE D"),
    "array of numbers": (F + "CMD [1, 2]", "an array of anything but strings", 2, "[1, 2]", "quote each word"),
    "nested array": (F + 'RUN [["a"]]', "an array of anything but strings", 2, '[["a"]]', "quote each word"),
    "array of anything in COPY": (F + 'COPY ["a", true]', "an array of anything but", 2, '["a", true]', "quote each"),
    "SHELL without JSON": (F + "SHELL sh -c", "SHELL requires a JSON array", 2, "sh", 'write SHELL ["PROGRAM"'),
    "SHELL with bad JSON": (F + "SHELL ['sh']", "SHELL requires a JSON array", 2, "['sh']", 'write SHELL ["PROG'),
    "SHELL of nothing": (F + "SHELL []", "SHELL requires at least one argument", 2, "[]", 'write SHELL ["/bin'),
    "ENV without value": (F + "ENV a", "ENV a has no value", 2, "", "write ENV a=value"),
    "ENV with a stray word": (F + "ENV a=1 b c=2", "no = in 'b'", 2, "b", "quote a value that has blanks"),
    "ENV without name": (F + "ENV =1", "ENV without a name", 2, "=1", "write ENV name=value"),
    "ARG without name": (F + "ARG =1", "ARG without a name", 2, "=1", "write ARG NAME=value"),
    "open quote": (F + "ENV a=it's", "the quote ' is not closed", 2, "'", "needs an escape before it"),
    "open double quote": (F + 'LABEL a="b', 'the quote " is not closed', 2, '"', "needs an escape before it"),
    "bad substitution": (F + "ENV a=b c=x${}", "syntax error: bad substitution", 2, "$", None),
    "open substitution": (F + "WORKDIR /a/${b", "syntax error: missing '}'", 2, "", None),
    "unknown modifier": (F + "COPY a ${b@Q} c", "unsupported modifier '@'", 2, "$", "these are known: ${v:-w}"),
    "bad pattern": (F + "ENV a ${b#\\x}", "invalid pattern '\\\\x' in a substitution", 2, "$", None),
    "open quote in a path": (F + "WORKDIR /it's", "the quote ' is not closed", 2, "'", None),
    "quotes around blanks": (F + 'COPY "a b" c', 'the quote " is not closed', 2, '"', "quotes don't hold"),
    "substitution in FROM": ("FROM ${a:b}", "unsupported modifier ':b'", 1, "$", "these are known"),
    "mount type": (F + "RUN --mount=type=bnd x", "--mount: unknown type 'bnd'", 2, "bnd", "did you mean bind?"),
    "mount key": (F + "RUN --mount=targt=/x x", "--mount: unknown key 'targt'", 2, "targt", "did you mean target?"),
    "mount key without value": (F + "RUN --mount=id x", "--mount: id needs a value", 2, "id", "write id=…"),
    "mount boolean": (F + "RUN --mount=ro=2 x", "--mount: ro is true or false, not '2'", 2, "ro=2", None),
    "mount sharing": (F + "RUN --mount=sharing=lock x", "--mount: unknown sharing 'lock'", 2, "lock", "locked?"),
    "mount mode": (F + "RUN --mount=type=cache,mode=9 x", "--mount: mode is octal digits, not '9'", 2, "9", None),
    "mount size": (F + "RUN --mount=type=tmpfs,size=big x", "--mount: not a size: 'big'", 2, "big", "like 64m or 1g"),
    "mode of bind": (F + "RUN --mount=mode=755 x", "--mount: mode is not for type bind", 2, "mode", "it is for cache"),
    "sharing of bind": (F + "RUN --mount=sharing=shared x", "--mount: sharing is not for", 2, "sharing", "cache"),
    "from of secret": (F + "RUN --mount=type=secret,id=a,from=b x", "--mount: from is not for", 2, "from", "bind"),
    "secret without id": (F + "RUN --mount=type=secret x", "--mount: a secret needs an id", 2, "secret", "id=NAME"),
    "variable in from of mount": (F + "RUN --mount=from=$x x", "--mount: from doesn't", 2, "$x", "give the image"),
    "mount quotes": (F + "RUN --mount='a\"b' x", "--mount: ", 2, 'a"b', None),
    "duration": (F + "HEALTHCHECK --interval=3x CMD y", "--interval: not a duration: '3x'", 2, "3x", "like 30s"),
    "short duration": (F + "HEALTHCHECK --timeout=1us CMD y", "--timeout can't be less than 1ms", 2, "1us", None),
    "retries": (F + "HEALTHCHECK --retries=many CMD y", "--retries is a number, not 'many'", 2, "many", None),
    "negative retries": (F + "HEALTHCHECK --retries=-1 CMD y", "--retries can't be negative", 2, "-1", None),
    "HEALTHCHECK alone": (F + "HEALTHCHECK", "HEALTHCHECK requires CMD and a command, or NONE", 2, "", "write HEALT"),
    "HEALTHCHECK of another type": (F + "HEALTHCHECK CND x", "unexpected 'CND' in HEALTHCHECK", 2, "CND", "mean CMD?"),
    "HEALTHCHECK NONE with more": (F + "HEALTHCHECK NONE x", "unexpected 'x' in HEALTHCHECK", 2, "x", "write HEALTH"),
    "HEALTHCHECK NONE with a flag": (F + "HEALTHCHECK --retries=1 NONE", "NONE takes no flags", 2, "--retries=1", None),
    "HEALTHCHECK without command": (F + "HEALTHCHECK CMD []", "missing command after HEALTHCHECK CMD", 2, "[]", None),
    "empty VOLUME": (F + 'VOLUME [""]', "a VOLUME can't be an empty string", 2, '[""]', None),
    "ONBUILD ONBUILD": (F + "ONBUILD ONBUILD RUN x", "ONBUILD ONBUILD is not allowed", 2, "ONBUILD", "one trigger"),
    "ONBUILD FROM": (F + "ONBUILD from x", "ONBUILD FROM is not allowed", 2, "from", "a base image is chosen"),
    "ONBUILD MAINTAINER": (F + "ONBUILD MAINTAINER x", "ONBUILD MAINTAINER is not", 2, "MAINTAINER", None),
    "fault inside of ONBUILD": (F + "ONBUILD COPY --form=x a b", "unknown flag --form", 2, "--form", "mean --from?"),
    "unterminated heredoc": (F + "RUN x <<EOF\ny\n", "unterminated heredoc: no line EOF", 2, "<<EOF", "end the text"),
    "second heredoc unterminated": (F + "COPY <<A <<-B c\nA\n", "unterminated heredoc: no line B", 2, "<<-B", "end"),
    "heredoc destination": (F + "COPY a <<EOF\nEOF\n", "COPY can't have a heredoc as its dest", 2, "<<EOF", None),
    "escape directive": ("# escape=x\nFROM a", "invalid escape character 'x'", 1, "x", "only \\ and ` can escape"),
    "directive twice": ("# escape=`\n# escape=`\nFROM a", "only one escape directive", 2, "# escape=`", None),
    "NUL byte": (F + "RUN a\0b", "a NUL byte", 2, None, "is this a text file?"),
    "place in a continued line": (F + "ENV a=1 \\\n\t b", "no = in 'b'", 3, "b", "quote a value"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "problem", "line", "pointed", "hint"), CASES.values(), ids=CASES.keys())
def test_fault(text: str, problem: str, line: int, pointed: str | None, hint: str | None) -> None:
    error = fault(text)
    assert problem in error.problem
    assert error.at.line == line
    assert str(error).startswith(f"Dockerfile:{line}:{error.at.column}: ")
    if pointed == "":
        assert error.at.column == len(text.split("\n")[line - 1]) + 1  # something is missing at the end
    elif pointed is not None:
        assert pointed_at(text, error) == pointed
    assert (error.hint is None) if hint is None else (hint in (error.hint or ""))


def test_file_without_instructions() -> None:
    for text in ("", "\n\n", "# only\n# comments\n"):
        assert "file with no instructions" in str(fault(text))


def test_invalid_utf8_names_the_byte() -> None:
    error = fault(b"FROM base\nRUN \xc3\xa9\xff\n")
    assert (error.problem, error.at.line, error.at.column) == ("not UTF-8: byte 0xff", 2, 6)


def test_line_too_long_is_shown_in_part() -> None:
    error = fault(F + "RUN " + "x" * 65_532)
    assert error.problem == "the line has more than 65535 bytes"
    assert len(str(error)) < 1000


def test_long_lines_are_cut_around_the_fault() -> None:
    text = F + "RUN --mount=type=bind,target=/" + "x" * 5000 + ",targt=1 y" + "z" * 5000
    error = fault(text)
    _, source, carets = str(error).split("\n")
    assert source[carets.index("^") : carets.rindex("^") + 1] == "targt"


def test_file_too_large() -> None:
    assert "bytes, more than" in fault("#" * (MAX_FILE + 1)).problem


def test_exit_code_tells_a_fault_of_the_file() -> None:
    assert fault("X").exit_code == 3
