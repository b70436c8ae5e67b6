"""Variables in words: `$v`, `${v:-w}` and their kin, quotes and escapes, with the meaning BuildKit gives them.

Gives:    expand() for one word, expand_words() where the result is split at blanks, expand_body() for heredocs.
Promises: time linear in word and value (patterns run as automata), no recursion deeper than MAX_NESTING.
Not here: which words are expanded, and with which variables (builder/plan).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from builder.dockerfile.glob import Pattern, PatternError
from builder.errors import BuilderError

MAX_NESTING = 50
MAX_RESULT = 4 << 20
MAX_MATCHED = 256 << 10  # characters of values that patterns go over; no program takes so long a variable
_SPECIAL = frozenset("@*#?-$!0")


class ExpansionError(BuilderError):
    """A word that can't be expanded; `offset` is the place in the word. The planner adds line and column."""

    exit_code = 3

    def __init__(self, problem: str, offset: int = 0, *, hint: str | None = None) -> None:
        super().__init__(problem, hint=hint)
        self.problem = problem
        self.offset = offset


def expand(word: str, variables: Mapping[str, str], *, escape: str = "\\", missing: set[str] | None = None) -> str:
    """Put values in and take quotes and escapes off.

    Args:
        word: as written in the Dockerfile.
        variables: what is set; anything else is empty.
        escape: the escape character of the file.
        missing: gets the names that were used, without a default of their own, and are not set.

    Raises:
        ExpansionError: bad syntax, or `${v:?message}` of a variable that is not set.
    """
    if "$" not in word and "'" not in word and '"' not in word and escape not in word:
        return word
    return _Expansion(word, variables, escape, missing).run()


def expand_body(text: str, variables: Mapping[str, str], *, missing: set[str] | None = None) -> str:
    """Expand the body of a COPY or ADD heredoc: quotes are text there, and the backslash alone escapes."""
    if "$" not in text and "\\" not in text:
        return text
    return _Expansion(text, variables, "\\", missing, quoting=False).run()


def expand_words(
    word: str, variables: Mapping[str, str], *, escape: str = "\\", missing: set[str] | None = None
) -> list[str]:
    """Expand, then split at blanks, those that came out of a variable too; quotes and escapes protect."""
    expansion = _Expansion(word, variables, escape, missing)
    expansion.run()
    return [word for word in expansion.words() if word]


def check(word: str, escape: str = "\\") -> None:
    """Raise the ExpansionError that `word` has with any values at all: the faults of its syntax."""
    if "$" in word or "'" in word or '"' in word:
        _Expansion(word, {}, escape, None, only_syntax=True).run()


@dataclass(slots=True)
class _Expansion:
    source: str
    variables: Mapping[str, str]
    escape: str
    missing: set[str] | None
    quoting: bool = True
    only_syntax: bool = False
    position: int = 0
    spent: int = 0  # characters of values put in so far
    matched: int = 0  # characters of values that patterns went over so far
    pieces: list[tuple[str, bool]] = field(default_factory=list)  # text, and whether its blanks split words

    def run(self) -> str:
        self.pieces = list(self._until("", False, 0))
        return "".join(piece for piece, _ in self.pieces)

    def words(self) -> Iterator[str]:
        word = ""
        for text, splits in self.pieces:
            if not splits:
                word += text
                continue
            for char in text:
                if char.isspace():
                    yield word
                    word = ""
                else:
                    word += char
        yield word

    def _until(self, stop: str, raw_escapes: bool, depth: int) -> Iterator[tuple[str, bool]]:
        """Pieces up to the character `stop`, which is consumed; up to the end when `stop` is empty."""
        source = self.source
        while self.position < len(source):
            char = source[self.position]
            if char == stop:
                self.position += 1
                return
            if char == "$":
                yield self._dollar(depth), True
            elif char in "'\"" and self.quoting:
                yield (self._single() if char == "'" else self._double(raw_escapes, depth)), False
            elif char == self.escape:
                yield self._escaped(raw_escapes), False
            else:
                self.position += 1
                yield char, True
        if stop:
            raise ExpansionError(f"syntax error: missing {stop!r}", len(source))

    def _escaped(self, raw: bool) -> str:
        text = self.source[self.position : self.position + 2]
        self.position += 2
        return text if raw else text[1:]

    def _single(self) -> str:
        start = self.position
        end = self.source.find("'", start + 1)
        if end < 0:
            raise ExpansionError("the quote ' is not closed", start)
        self.position = end + 1
        return self.source[start + 1 : end]

    def _double(self, raw_escapes: bool, depth: int) -> str:
        start = self.position
        self.position += 1
        parts: list[str] = []
        while self.position < len(self.source):
            char = self.source[self.position]
            if char == '"':
                self.position += 1
                return "".join(parts)
            if char == "$":
                parts.append(self._dollar(depth))
            elif char == self.escape:
                parts.append(self._escaped_in_quotes(raw_escapes))
            else:
                parts.append(char)
                self.position += 1
        raise ExpansionError('the quote " is not closed', start)

    def _escaped_in_quotes(self, raw: bool) -> str:
        """Only the quote, the dollar and the escape itself lose their escape inside of double quotes."""
        following = self.source[self.position + 1 : self.position + 2]
        if following and following in ('"', "$", self.escape):
            self.position += 2
            return self.escape + following if raw else following
        self.position += 1
        if not following:
            return ""
        return self.escape * 2 if raw else self.escape

    def _dollar(self, depth: int) -> str:
        start = self.position
        if depth > MAX_NESTING:
            raise ExpansionError(f"variables nested more than {MAX_NESTING} deep", start)
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            return self._value(name) if name else "$"
        self.position += 1
        if not self._peek():
            raise ExpansionError("syntax error: missing '}'", len(self.source))
        if self._peek() in "{}:":
            raise ExpansionError("syntax error: bad substitution", start)
        name = self._name()
        operator = self._next()
        if operator == "}":
            return self._value(name)
        if operator == "":
            raise ExpansionError("syntax error: missing '}'", len(self.source))
        if operator == "/":
            return self._replace(name, start, depth)
        empty_too = operator == ":"
        if empty_too:
            operator = self._next()
        if not operator or operator not in ("-+?" if empty_too else "-+?#%"):
            shown = (":" if empty_too else "") + operator
            hint = "these are known: ${v:-w} ${v:+w} ${v:?w} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}"
            raise ExpansionError(f"unsupported modifier {shown!r} in a substitution", start, hint=hint)
        word = self._inner("}", operator in "#%", depth)
        if operator in "#%":
            return self._trim(name, operator, word, start)
        return self._choose(name, operator, word, start, empty_too=empty_too)

    def _choose(self, name: str, operator: str, word: str, start: int, *, empty_too: bool) -> str:
        value = self.variables.get(name)
        is_set = value is not None and not (empty_too and value == "")
        if operator == "+":
            return word if is_set else ""
        if is_set and value is not None:
            return self._counted(value)
        if operator == "-" or self.only_syntax:
            return word
        state = "unset" if value is None else "empty"
        raise ExpansionError(f"{name}: {word or f'is not allowed to be {state}'}", start)

    def _trim(self, name: str, operator: str, word: str, start: int) -> str:
        longest = word.startswith(operator)
        pattern = self._pattern(word[1:] if longest else word, start)
        value = self._matched(name)
        if operator == "#":
            return value[pattern.prefix(value, longest=longest) or 0 :]
        cut = pattern.reversed().prefix(value[::-1], longest=longest) or 0
        return value[: len(value) - cut]

    def _replace(self, name: str, start: int, depth: int) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self.position += 1
        pattern = self._pattern(self._inner("/", True, depth), start)
        replacement = self._inner("}", True, depth)
        return self._counted(pattern.replace(self._matched(name), replacement, everywhere=everywhere, limit=MAX_RESULT))

    def _pattern(self, text: str, start: int) -> Pattern:
        try:
            return Pattern.parse(text)
        except PatternError as error:
            raise ExpansionError(f"invalid pattern {text!r} in a substitution: {error}", start) from None

    def _inner(self, stop: str, raw_escapes: bool, depth: int) -> str:
        return "".join(text for text, _ in self._until(stop, raw_escapes, depth + 1))

    def _value(self, name: str) -> str:
        value = self.variables.get(name)
        if value is None:
            if self.missing is not None:
                self.missing.add(name)
            return ""
        return self._counted(value)

    def _matched(self, name: str) -> str:
        """The value for a pattern, which takes a step for each of its characters."""
        value = self._value(name)
        self.matched += len(value)
        if self.matched > MAX_MATCHED:
            raise ExpansionError(f"patterns of the word go over more than {MAX_MATCHED} characters of values")
        return value

    def _counted(self, text: str) -> str:
        """A few lines of `ENV a=$a$a$a…` would fill the memory otherwise."""
        self.spent += len(text)
        if self.spent > MAX_RESULT:
            raise ExpansionError(f"the values put into the word have more than {MAX_RESULT} characters")
        return text

    def _name(self) -> str:
        start = self.position
        char = self._peek()
        if char.isdigit():
            while self._peek().isdigit():
                self.position += 1
        elif char and char in _SPECIAL:
            self.position += 1
        else:
            while self._peek().isalnum() or self._peek() == "_":
                self.position += 1
        return self.source[start : self.position]

    def _peek(self) -> str:
        return self.source[self.position : self.position + 1]

    def _next(self) -> str:
        char = self._peek()
        self.position += 1
        return char
