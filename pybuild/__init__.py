"""The front door: the command line, the Engine API, and the library of containers and images under both."""

__version__ = "0.1.0"
