"""A Dockerfile that did not change is not parsed again."""

import subprocess
import sys
from pathlib import Path

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError
from builder.dockerfile.memo import parse_remembered

TEXT = b"""\
# escape=`
ARG A
FROM --platform=x a AS b
ENV a=1 b="2"
RUN --mount=type=cache,target=/x --device=a x <<EOF
\xc3\xa9
EOF
COPY --exclude=y <<f c /d
g
f
HEALTHCHECK --interval=3s CMD ["x"]
CMD x
"""


def test_gives_the_very_same_again(tmp_path: Path) -> None:
    first = parse_remembered(TEXT, "Dockerfile", tmp_path)
    again = parse_remembered(TEXT, "Dockerfile", tmp_path)
    assert first == again == parse_dockerfile(TEXT, "Dockerfile")
    assert hash(again) == hash(first)  # tuples all the way down


def test_needs_no_lark(tmp_path: Path) -> None:
    parse_remembered(TEXT, "Dockerfile", tmp_path)
    script = (
        "import sys, pathlib; from builder.dockerfile.memo import parse_remembered;"
        f"parse_remembered({TEXT!r}, 'Dockerfile', pathlib.Path({str(tmp_path)!r})); print('lark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_another_name_is_another_file(tmp_path: Path) -> None:
    parse_remembered(TEXT, "Dockerfile", tmp_path)
    assert parse_remembered(TEXT, "web", tmp_path).instructions[0].at.file == "web"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"is": "os"}', b'{"is": "Dockerfile"}', b'{"x": 1}', b"[" * 100_000]
)
def test_damage_costs_time_only(tmp_path: Path, damage: bytes) -> None:
    first = parse_remembered(TEXT, "Dockerfile", tmp_path)
    for kept in tmp_path.iterdir():
        kept.write_bytes(damage)
    assert parse_remembered(TEXT, "Dockerfile", tmp_path) == first


def test_faults_are_not_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DockerfileError):
            parse_remembered(b"X", "Dockerfile", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_can_not_be_written_is_no_fault() -> None:
    assert parse_remembered(TEXT, "Dockerfile", Path("/proc/nowhere")) == parse_dockerfile(TEXT, "Dockerfile")


def test_does_not_grow_without_end(tmp_path: Path) -> None:
    for number in range(300):
        parse_remembered(f"FROM a{number}".encode(), "Dockerfile", tmp_path)
    assert len(list(tmp_path.iterdir())) <= 256
