"""Build checks: what works in a Dockerfile, but will surprise somebody.

Gives:    check(dockerfile, facts) → Report, pure; for the terminal and for programs, show.py; outline.py tells what a
          Dockerfile can be given, and which stages it has.
Takes:    the parsed Dockerfile, and what is known beside it (`Facts`): build arguments, the ignore file, base images.
Promises: BuildKit's 22 rules have its names, conditions, places and texts, so that what reads those reads ours. The
          rules of our own are called Pybuild…; each has a page in docs/checks.
Not here: faults, which are errors of the parser and the planner.
"""
