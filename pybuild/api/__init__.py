"""The daemon: Docker's Engine API over the library of pybuild/engine, for docker, compose, docker-py and others.

Gives:    serve.serve(), which listens on sockets until it is told to stop.
Takes:    requests in Docker's words; whatever they mean is done by the engine, so that both doors see the same things.
Promises: the daemon may be stopped, killed and started again while containers go on; no request keeps a thread while
          it only waits; a client that stalls or lies disturbs nobody else.
Not here: what a container, image or volume is, and how one is made.
"""
