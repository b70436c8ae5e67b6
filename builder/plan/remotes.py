"""ADD from elsewhere: a URL or a repository → what is to be fetched. Pure."""

import posixpath

from builder.dockerfile.instructions import Add, DockerfileError, Position
from builder.plan.gitaddress import GitAddressInvalid, parse_git
from builder.plan.vertices import GitOp, HttpOp
from registry.errors import RegistryError
from registry.model import Digest


def http_op(url: str, checksum: str, at: Position) -> HttpOp:
    from urllib.parse import unquote, urlsplit

    try:
        name = posixpath.basename(unquote(urlsplit(url).path)) or "__unnamed__"
    except ValueError as error:
        raise DockerfileError(f"not an address of the web: {url[:200]!r}: {error}", at=at) from None
    try:
        return HttpOp(url, name, Digest.parse(checksum) if checksum else None)
    except RegistryError as error:
        raise DockerfileError(str(error), at=at, hint=error.hint) from None


def git_op(word: str, checksum: str, add: Add) -> GitOp:
    try:
        address = parse_git(word)
        if checksum:
            address = address.with_checksum(checksum)
    except GitAddressInvalid as error:
        raise DockerfileError(str(error), at=add.at, hint=error.hint) from None
    said = {add.keep_git_dir, address.keep_git_dir} - {None}
    if len(said) > 1:
        raise DockerfileError("inconsistent keep-git-dir configuration", at=add.at, hint="flag and address differ")
    return GitOp(address, keep_git_dir=True in said)
