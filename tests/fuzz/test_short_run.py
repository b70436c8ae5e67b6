"""A short run of all fuzzers, the same each time; `make fuzz` is the long form."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_fuzzers_find_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", f"--found={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    runs = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    assert all(int(number) >= target.runs for number, target in zip(runs, TARGETS.values(), strict=True)), runs
