"""`--format`: the few forms of Go templates that people use with docker, over plain JSON-like values.

Known: {{.Field.Inner}}, {{json .Field}}, {{index .Field "key"}}, {{join .Field ", "}}, {{len .Field}},
{{upper .Field}}, {{lower .Field}}, {{println .Field}}, {{range .Field}}…{{end}}, {{if .Field}}…{{else}}…{{end}}.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pybuild.errors import UsageError

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_HINT = 'try {{json .}} to see all there is, or e.g. {{.ID}}, {{json .Labels}}, {{index .Labels "name"}}'


def render(template: str, value: object) -> str:
    """Fill in a template. Raises UsageError for what it does not know."""
    text = template.replace("\\t", "\t").replace("\\n", "\n")
    if text == "json":
        return json.dumps(value, ensure_ascii=False)
    parts = iter(_split(text))
    done, end = _render(parts, value, live=True)
    if end is not None:
        raise UsageError(f"{{{{{end}}}}} without a beginning in the format", hint=_HINT)
    return done


def _split(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of text, and actions (True) without their braces."""
    position = 0
    for match in _ACTION.finditer(text):
        yield text[position : match.start()], False
        yield match[1], True
        position = match.end()
    rest = text[position:]
    if "{{" in rest:
        raise UsageError("the format has {{ without }}", hint=_HINT)
    yield rest, False


def _render(parts: Iterator[tuple[str, bool]], value: object, *, live: bool) -> tuple[str, str | None]:
    """Render up to the end of a block; says what ended it (`end`, `else`, or None)."""
    done = []
    for text, action in parts:
        if not action:
            done.append(text)
            continue
        word, _, rest = text.partition(" ")
        if word in {"end", "else"}:
            return "".join(done), word
        if word == "range":
            done.append(_range(list(_block(parts)), _evaluate(rest, value) if live else ()))
        elif word == "if":
            done.append(_if(parts, value, live=live, condition=live and bool(_evaluate(rest, value))))
        elif live:
            done.append(_shown(_evaluate(text, value)))
    return "".join(done), None


def _block(parts: Iterator[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    depth = 1
    for text, action in parts:
        word = text.partition(" ")[0] if action else ""
        depth += (word in {"range", "if"}) - (word == "end")
        if depth == 0:
            return
        yield text, action
    raise UsageError("the format has {{range}} without {{end}}", hint=_HINT)


def _range(block: list[tuple[str, bool]], values: object) -> str:
    items = values.values() if isinstance(values, Mapping) else values
    if not isinstance(items, Sequence) and not isinstance(values, Mapping):
        return ""
    return "".join(_render(iter(block), item, live=True)[0] for item in items)  # type: ignore[attr-defined]  # checked above


def _if(parts: Iterator[tuple[str, bool]], value: object, *, live: bool, condition: bool) -> str:
    first, end = _render(parts, value, live=live and condition)
    second = ""
    if end == "else":
        second, end = _render(parts, value, live=live and not condition)
    if end != "end":
        raise UsageError("the format has {{if}} without {{end}}", hint=_HINT)
    return first if condition else second


def _evaluate(text: str, value: object) -> object:
    words = [(match[1], True) if match[1] is not None else (match[2], False) for match in _WORD.finditer(text)]
    if not words:
        raise UsageError("the format has an empty {{}}", hint=_HINT)
    function, _ = words[0]
    if function.startswith((".", "$.")):
        return _field(value, function.lstrip("$"))
    arguments = [word if quoted else _operand(word, value) for word, quoted in words[1:]]
    return _apply(function, arguments)


def _operand(word: str, value: object) -> object:
    if word.startswith((".", "$.")):
        return _field(value, word.lstrip("$"))
    if word.lstrip("-").isdigit():
        return int(word)
    raise UsageError(f"{word!r} in the format is neither a field nor a number", hint=_HINT)


def _apply(function: str, arguments: list[Any]) -> object:
    try:
        match function, arguments:
            case "json", [value]:
                return json.dumps(value, ensure_ascii=False)
            case "index", [value, *keys]:
                for key in keys:
                    value = value[key] if isinstance(value, list | tuple) else (value or {}).get(key, "")
                return value
            case "join", [value, separator]:
                return str(separator).join(value or ())
            case "len", [value]:
                return len(value or ())
            case "upper", [value]:
                return str(value).upper()
            case "lower", [value]:
                return str(value).lower()
            case "println", values:
                return " ".join(map(_shown, values)) + "\n"
    except (TypeError, IndexError, AttributeError, KeyError) as error:
        raise UsageError(f"{{{{{function}}}}} in the format does not fit its value: {error}", hint=_HINT) from None
    raise UsageError(f"the format has an unknown function {function!r}", hint=_HINT)


def _field(value: object, path: str) -> object:
    for name in filter(None, path.split(".")):
        if not isinstance(value, Mapping):
            raise UsageError(f"the format asks for {path}, but there is no {name}", hint=_HINT)
        if name not in value:
            known = ", ".join(sorted(map(str, value)))
            raise UsageError(f"the format asks for {path}, but there is no {name}", hint=f"there are: {known[:300]}")
        value = value[name]
    return value


def _shown(value: object) -> str:
    """As Go prints it: lists in brackets, nothing as <nil>."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_shown(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(_shown, value)) + "]"
    return str(value)
