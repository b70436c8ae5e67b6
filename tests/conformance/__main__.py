"""`make conformance-dockerfile`: run the tests of every rule of the Dockerfile language, and print what holds.

python -m tests.conformance [--write]    --write: make docs/compatibility.md anew and run nothing
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.conformance.compatibility import PAGE, page
from tests.conformance.rules import TESTS, Named, Rule, rules

Ran = dict[tuple[str, str], bool]  # class and name of a test, whether it passed


def main(words: Sequence[str]) -> int:
    if "--write" in words:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    found = rules()
    nodes = {Named.parse(word).node for rule in found for word in rule.tests}
    ran = run(
        [node for node in sorted(nodes) if not any(node.startswith((f"{other}/", f"{other}::")) for other in nodes)]
    )
    held = [(rule, state(rule, ran)) for rule in found]
    show(held)
    failed = sorted(".".join(key) for key, passed in ran.items() if not passed)
    wrong = sum(how != "held" for _, how in held)
    tell(f"\n{len(held) - wrong} of {len(held)} rules held by {len(ran)} tests, {len(failed)} of which failed")
    for name in failed:
        tell(f"  failed: {name}")
    return 1 if wrong or failed else 0


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def run(nodes: Sequence[str]) -> Ran:
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *(str(TESTS / node) for node in nodes)]
        subprocess.run(command, cwd=TESTS.parent, check=False)
        tree = ET.parse(report)  # we have written it
    return {
        (case.get("classname", ""), case.get("name", "")): not any(child.tag in ("failure", "error") for child in case)
        for case in tree.iter("testcase")
    }


def state(rule: Rule, ran: Ran) -> str:
    for word in rule.tests:
        test = Named.parse(word)
        results = [passed for (place, name), passed in ran.items() if test.holds(place, name)]
        if not results:
            return "NOT RUN"
        if not all(results):
            return "BROKEN"
    return "held"


def show(held: Sequence[tuple[Rule, str]]) -> None:
    section = ""
    for rule, how in held:
        if rule.section != section:
            section = rule.section
            tell(f"\n{section}")
        tell(f"  {how:8}{rule.text}")
        for word in rule.tests:
            tell(f"            {word}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
