"""Doing what is planned: each vertex once, several at a time, and none whose output is known.

Gives:    run_graph() (scheduler.py), Solver (solve.py), cache keys (keys.py), what vertices give (results.py), and
          turns between builds that need the same (turns.py).
Takes:    a graph of vertices and a workshop to do them in.
Promises: after the first failure everything stops in good order, or all that does not need the failed step is done;
          what was done stays in the cache.
Not here: what a step does (ops/).
"""
