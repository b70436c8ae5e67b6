"""Fuzz one room after the other, or the ones that are named.

    python -m tests.fuzz [--seconds N | --runs N] [--seed N] [TARGET …]

Each runs in a process of its own and begins with the inputs of the tests. What it finds is kept in ./fuzz-found, and
the last lines tell how to run it again: `python -m tests.fuzz --replay FILE TARGET`.
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

logging.disable()  # the next lines would tell of each module
with atheris.instrument_imports(include=["builder.dockerfile", "builder.plan", "builder.layers", "registry.archive"]):
    from tests.fuzz.targets import TARGETS, Target

_SECONDS = 60  # for one input
_MEMORY = 2048  # MiB
_LOW = "PYTHONHASHSEED"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="fuzz the rooms that read what strangers write")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=0, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="of each target; without --seconds those of the short form")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where finds are kept")
    parser.add_argument("--replay", type=Path, help="run one input again, without a fuzzer")
    words = parser.parse_args()
    failed = []
    for name in words.targets or TARGETS:
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="pybuild-fuzz-") as work:
            os.environ["FUZZ_WORK"] = work
            if words.replay:
                TARGETS[name].run(words.replay.read_bytes())
            elif not _passes(name, Path(work), words):
                failed.append(name)
    if failed:
        sys.stderr.write(f"found in {', '.join(failed)}; the inputs are in {words.found}\n")
    return bool(failed)


def _passes(name: str, work: Path, words: argparse.Namespace) -> bool:
    """The fuzzer ends its process at the first find, so it gets one."""
    sys.stderr.write(f"== {name}\n")
    (work / "found").mkdir()
    child = os.fork()
    if child == 0:
        try:
            _fuzz(TARGETS[name], work, words)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    for file in (work / "found").iterdir():
        words.found.mkdir(parents=True, exist_ok=True)
        kept = words.found / f"{name}-{file.name}"
        kept.write_bytes(file.read_bytes())
        sys.stderr.write(f"again: {sys.executable} -m tests.fuzz --replay {kept} {name}\n")
    return os.waitstatus_to_exitcode(status) == 0


def _fuzz(target: Target, work: Path, words: argparse.Namespace) -> None:
    inputs = work / "seeds"
    inputs.mkdir()
    for number, seed in enumerate(target.seeds()):
        (inputs / f"{number:05}").write_bytes(seed)
    options = [f"-seed={words.seed}", f"-max_len={target.longest}", f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEMORY}",
               f"-artifact_prefix={work}/found/", "-verbosity=0", "-print_final_stats=1"]  # fmt: skip
    options += [f"-max_total_time={words.seconds}"] if words.seconds else [f"-runs={words.runs or target.runs}"]
    if target.words:
        lines = ('"{}"\n'.format(word.replace("\\", "\\\\").replace('"', '\\"')) for word in target.words)
        (work / "words").write_text("".join(lines))
        options.append(f"-dict={work}/words")
    atheris.Setup([sys.argv[0], *options, str(inputs)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    if os.environ.get(_LOW) != "0":  # with hashes that are not random, a seed tells all
        os.execve(sys.executable, [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]], {**os.environ, _LOW: "0"})
    sys.exit(main())
