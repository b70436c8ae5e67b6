"""What can be wrong with a file of images."""

from registry.errors import RegistryError


class ArchiveError(RegistryError):
    """A file is no archive of images, is damaged, or tries something."""


class Absent(ArchiveError):
    """The archive lacks a file that it names."""
