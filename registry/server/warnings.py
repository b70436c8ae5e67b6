"""The Warning header (distribution-spec "Warnings"): what a user should hear though the request went well. Pure."""

from collections.abc import Sequence

MAX_BYTES = 4096  # of all warnings of an answer together


def warning_header(texts: Sequence[str]) -> dict[str, str]:
    """As a header; nothing when there is nothing to say. What does not fit is left out."""
    values: list[str] = []
    left = MAX_BYTES
    for text in texts:
        plain = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
        quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
        value = f'299 - "{quoted}"'
        left -= len(value) + 2
        if left < 0:
            break
        values.append(value)
    return {"Warning": ", ".join(values)} if values else {}
