"""What the build cache knows of itself: why a step was not cached, and the directories of `RUN --mount=type=cache`.

Gives:    Ledger (ledger.py), which a build tells what its steps hit and missed; Report (report.py), read afterwards.
Promises: a build that is all cached pays a few look-ups and one small file; names one changed file among 10,000.
Not here: whether a step is cached (solver/), what pruning takes (pybuild/engine).
"""
