"""RUN: a command in shell or exec form, with its heredocs → what is executed. Pure."""

import re
import shlex

from builder.dockerfile.instructions import Run
from builder.plan import configure
from builder.plan.vertices import InlineFile
from registry.model import RunConfig

_LONE_HEREDOC = re.compile(r"\d*<<-?\s*([^<]*)")


def run_command(run: Run, config: RunConfig) -> tuple[tuple[str, ...], tuple[InlineFile, ...]]:
    """What RUN executes, heredocs included (reference §1.4), and the files that it needs for that."""
    line = run.command.shell_form
    if not run.heredocs or line is None:
        return configure.argv(run.command, config), ()
    shell = config.shell or configure.DEFAULT_SHELL
    first = run.heredocs[0]
    if _is_lone(line):
        if first.content.startswith("#!"):
            return (*shell, f"/dev/pipes/{first.name}"), (InlineFile(first.name, first.content),)
        return (*shell, first.content), ()
    # The shell reads the documents itself, so it gets them as it would from a file.
    return (*shell, line + "".join(f"\n{doc.source}{doc.name}" for doc in run.heredocs)), ()


def _is_lone(line: str) -> bool:
    """Whether a line is `<<EOF` and nothing else."""
    found = _LONE_HEREDOC.fullmatch(line.strip())
    if found is None:
        return False
    try:
        return len(shlex.split(found[1])) == 1
    except ValueError:
        return False
