"""Who we are at which registry: docker's config.json, podman's auth.json, and credential helper programs.

Gives:    find(), store(), erase(); what a helper keeps never touches our files.
Promises: a file is replaced whole, with mode 0600, and keeps every key that we do not know.
Not here: how credentials become a header (auth.py).
"""

import base64
import binascii
import contextlib
import fcntl
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.errors import RegistryError
from registry.model.reference import DEFAULT_DOMAIN

HUB_KEY = "https://index.docker.io/v1/"  # what docker calls its own registry since before there were registries
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"  # noqa: S105 - the helper protocol's name for "the secret is an identity token"
_MAX_FILE = 4 * 1024 * 1024
_HELPER_TIMEOUT = 60.0  # seconds; a helper may ask a person to unlock a key ring


class CredentialsError(RegistryError):
    """Credentials could not be read or kept."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or an identity token that is traded for access tokens."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class CredentialFiles:
    """All places where credentials for registries lie, in the order in which they are asked."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    @property
    def paths(self) -> list[Path]:
        given = self._environment.get("REGISTRY_AUTH_FILE")
        found = [Path(given)] if given else []
        found.append(self._docker_directory / "config.json")
        if runtime := self._environment.get("XDG_RUNTIME_DIR"):
            found.append(Path(runtime) / "containers" / "auth.json")
        config = self._environment.get("XDG_CONFIG_HOME")
        found.append((Path(config) if config else self._home / ".config") / "containers" / "auth.json")
        return found

    @property
    def _home(self) -> Path:
        return Path(self._environment.get("HOME") or os.path.expanduser("~"))

    @property
    def _docker_directory(self) -> Path:
        given = self._environment.get("DOCKER_CONFIG")
        return Path(given) if given else self._home / ".docker"

    def find(self, domain: str, path: str = "") -> Credentials | None:
        """The credentials for a repository of a registry.

        podman keeps some for a part of a registry (`host/team`): the longest that fits wins.

        Raises:
            CredentialsError: a file is broken or a helper fails.
        """
        for file in self.paths:
            config = _read(file)
            if helper := _helper_of(config, domain):
                if found := _from_helper(helper, _key(domain)):
                    return found
                continue
            for key in _keys(domain, path):
                if (entry := _section(config, "auths").get(key)) and (found := _from_entry(entry, file)):
                    return found
        return None

    def store(self, domain: str, credentials: Credentials) -> str:
        """Keep credentials where they will be found first; says where that is."""
        file = self.paths[0]
        if helper := _helper_of(_read(file), domain):
            _run_helper(helper, "store", _helper_record(domain, credentials))
            return f"credential helper {helper}"
        with _rewritten(file) as config:
            entry = {"auth": credentials.basic().removeprefix("Basic ")}
            if credentials.identity_token:
                entry["identitytoken"] = credentials.identity_token
            config.setdefault("auths", {})[_key(domain)] = entry
        return str(file)

    def erase(self, domain: str) -> bool:
        """Forget the credentials in every place; False when there were none."""
        erased = False
        for file in self.paths:
            config = _read(file)
            if (helper := _helper_of(config, domain)) and _from_helper(helper, _key(domain)):
                _run_helper(helper, "erase", _key(domain))
                erased = True
            if any(key in _section(config, "auths") for key in _keys(domain, "")):
                with _rewritten(file) as config:
                    for key in _keys(domain, ""):
                        config["auths"].pop(key, None)
                erased = True
        return erased


def _key(domain: str) -> str:
    return HUB_KEY if domain == DEFAULT_DOMAIN else domain


def _keys(domain: str, path: str) -> list[str]:
    """All the ways in which tools have written the name of a registry, most specific first."""
    parts = path.split("/") if path else []
    scoped = ["/".join([domain, *parts[:count]]) for count in range(len(parts), 0, -1)]
    hosts = [domain]
    if domain == DEFAULT_DOMAIN:
        hosts += ["index.docker.io", "registry-1.docker.io"]
    urls = [
        f"{scheme}{host}{tail}" for host in hosts for scheme in ("https://", "http://") for tail in ("/v1/", "", "/")
    ]
    return [*scoped, _key(domain), *hosts, *urls]


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _helper_of(config: Mapping[str, Any], domain: str) -> str | None:
    helpers = _section(config, "credHelpers")
    for key in (domain, _key(domain)):
        if isinstance(found := helpers.get(key), str):
            return found
    store = config.get("credsStore")
    return store if isinstance(store, str) and store else None


def _from_entry(entry: Any, file: Path) -> Credentials | None:  # noqa: ANN401 - JSON of anybody's writing
    """One value of `auths`; an empty one only says that a helper has it."""
    if not isinstance(entry, dict):
        return None
    token = entry.get("identitytoken")
    username, password = entry.get("username"), entry.get("password")
    if isinstance(auth := entry.get("auth"), str) and auth:
        try:
            username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialsError(f"{file}: an `auth` is not base64 of user:password", hint="log in again") from None
        password = password.rstrip("\0")
    if isinstance(token, str) and token:
        return Credentials(str(username or ""), "", token)
    return Credentials(username, str(password or "")) if isinstance(username, str) and username else None


def _helper_record(domain: str, credentials: Credentials) -> str:
    token = credentials.identity_token
    record = {
        "ServerURL": _key(domain),
        "Username": _TOKEN_USER if token else credentials.username,
        "Secret": token or credentials.password,
    }
    return json.dumps(record)


def _from_helper(helper: str, key: str) -> Credentials | None:
    try:
        found = json.loads(_run_helper(helper, "get", key) or "{}")
    except ValueError:
        raise CredentialsError(f"docker-credential-{helper} answers nonsense", hint="see the helper's manual") from None
    username, secret = (found.get("Username"), found.get("Secret")) if isinstance(found, dict) else (None, None)
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    return Credentials(identity_token=secret) if username == _TOKEN_USER else Credentials(username, secret)


def _run_helper(helper: str, action: str, text: str) -> str:
    """Run `docker-credential-HELPER ACTION` with `text` as its input; "" when it knows no such credentials."""
    if not _HELPER.fullmatch(helper):
        raise CredentialsError(f"not the name of a credential helper: {helper[:100]!r}", hint="see credHelpers")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action], input=text.encode(), capture_output=True, check=False, timeout=_HELPER_TIMEOUT
        )
    except FileNotFoundError:
        raise CredentialsError(
            f"{program} is not installed", hint="install it, or take it out of credsStore and credHelpers"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialsError(f"{program} {action} failed: {error}", hint="try it by hand") from None
    output = done.stdout[:_MAX_FILE].decode(errors="replace").strip()
    if done.returncode == 0:
        return output
    if action != "store" and "credentials not found" in output:
        return ""
    raise CredentialsError(f"{program} {action} failed ({done.returncode}): {output[:200]}", hint="try it by hand")


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CredentialsError(f"can't read {file}: {error.strerror}", hint="check its owner and mode") from None
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CredentialsError(f"{file} is not a JSON object", hint="repair or remove it, and log in again")
    return found


@contextlib.contextmanager
def _rewritten(file: Path) -> Iterator[dict[str, Any]]:
    """Change a file of credentials: under a lock, whole or not at all, for the owner's eyes only."""
    file = Path(os.path.realpath(file))  # a link stays a link
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CredentialsError(f"can't write {file}: {error.strerror}", hint="check the directory") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        config = _read(file)
        if not isinstance(config.get("auths", {}), dict):
            config["auths"] = {}
        yield config
        handle, name = tempfile.mkstemp(prefix=".pybuild-", dir=file.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as stream:
                json.dump(config, stream, indent="\t")
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(name, file)
        except BaseException:
            os.unlink(name)
            raise
        os.fsync(directory)
    finally:
        os.close(directory)
