"""The peers of tests/interop, for builds that are compared here."""

from tests.interop.conftest import docker, net, pybuild, work

__all__ = ["docker", "net", "pybuild", "work"]
