"""What is to be done: instructions → stages → a graph of frozen vertices, and the config of the image it makes.

Gives:    make_plan() (planner.py), the vertices and their operations (vertices.py).
Takes:    a parsed Dockerfile, options, and the configs of base images.
Promises: nothing is read, written or run; the same input gives the same plan.
Not here: how a Dockerfile is read (dockerfile/), what a step does (ops/), what is already known (solver/).
"""
