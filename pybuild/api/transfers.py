"""Images on their way: pull, push, load, save; and logging in."""

import asyncio
import base64
import binascii
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from aiohttp import web

from pybuild.api.calls import Call, reply
from pybuild.api.images import found_or_unknown
from pybuild.api.problems import ApiError, BadRequest, NotYet
from pybuild.api.telling import Teller, Transfers, tell_while
from pybuild.engine.events import tell
from registry.errors import ManifestUnknown, NameInvalid, RegistryError, Unauthorized
from registry.model import Digest, Platform, Reference
from registry.model.reference import DEFAULT_DOMAIN

Writing = Callable[[BinaryIO], None]

if TYPE_CHECKING:
    from pathlib import Path

    from registry.client import CredentialFiles, Credentials

_HUB = {"index.docker.io", "docker.io", "registry-1.docker.io"}
_READ = 256 * 1024


class Login(msgspec.Struct):
    """X-Registry-Auth, and the body of /auth. Docker writes these keys in lower case."""

    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""
    serveraddress: str = ""
    auth: str = ""


class NotAccepted(ApiError):
    status = 401


def credentials_of(login: Login | None, domain: str) -> "CredentialFiles | Credentials":
    """Those that the client gave, if they are for this registry; never the daemon's own."""
    from registry.client import CredentialFiles, Credentials

    if login and (login.username or login.identitytoken) and _is_for(login.serveraddress, domain):
        return Credentials(login.username, login.password, login.identitytoken)
    return CredentialFiles({"HOME": "/nonexistent"})


def _is_for(address: str, domain: str) -> bool:
    host = address.partition("://")[2] or address
    host = host.partition("/")[0]
    return not host or host == domain or (host in _HUB and domain in {*_HUB, DEFAULT_DOMAIN})


def login_of(call: Call) -> Login | None:
    """What X-Registry-Auth says; a bad value is nobody, as with docker."""
    text = call.request.headers.get("X-Registry-Auth", "")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Login)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return None


def _parsed(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except NameInvalid as error:
        raise BadRequest(f"invalid reference format: {error}") from None


async def create(call: Call) -> web.StreamResponse:
    """POST /images/create: pull."""
    if call.text("fromSrc"):
        raise NotYet("images can't be imported from archives of files yet")
    name, tag = call.text("fromImage"), call.text("tag")
    if not name:
        raise BadRequest("fromImage is missing")
    separator = "@" if ":" in tag else ":"
    reference = _parsed(f"{name}{separator}{tag}" if tag else name).tagged
    platform = Platform.parse(call.text("platform")) if call.text("platform") else None
    return await tell_while(call, partial(_pull, call, reference, platform, login_of(call)))


def _pull(call: Call, reference: Reference, platform: Platform | None, login: Login | None, teller: Teller) -> None:
    from registry.client import pull

    store = call.daemon.containers.store
    before = _digest_of(call, reference)
    # The first line goes out with the first blob: until then a failure has a status of its own.
    digest = pull(
        store, reference, platform=platform, progress=Transfers(teller),
        credentials=credentials_of(login, reference.domain),
    )  # fmt: skip
    news = "Image is up to date for" if before == digest else "Downloaded newer image for"
    teller.say({"status": f"Digest: {digest}"})
    teller.say({"status": f"Status: {news} {reference}"})
    tell(call.daemon.root, "image", "pull", str(reference), name=reference.repository)


def _digest_of(call: Call, reference: Reference) -> Digest | None:
    try:
        wanted = reference.digest or reference.tag or "latest"
        return call.daemon.containers.store.manifest(reference.repository, wanted).digest
    except RegistryError:
        return None


async def push(call: Call) -> web.StreamResponse:
    """POST /images/{name}/push."""
    tag = call.text("tag")
    reference = _parsed(f"{call.name}:{tag}" if tag else call.name).tagged
    await call.daemon.run(found_or_unknown, call.daemon, str(reference))
    return await tell_while(call, partial(_push, call, reference, login_of(call)))


def _push(call: Call, reference: Reference, login: Login | None, teller: Teller) -> None:
    from registry.client import push as send

    teller.say({"status": f"The push refers to repository [{reference.domain}/{reference.path}]"})
    store = call.daemon.containers.store
    credentials = credentials_of(login, reference.domain)
    digest = send(store, reference, progress=Transfers(teller), credentials=credentials)
    try:
        size = len(store.manifest(reference.repository, digest).content)
    except ManifestUnknown:  # one image of an index was sent alone
        size = 0
    teller.say({"status": f"{reference.tag}: digest: {digest} size: {size}"})
    teller.say({"progressDetail": {}, "aux": {"Tag": reference.tag, "Digest": str(digest), "Size": size}})
    tell(call.daemon.root, "image", "push", str(reference), name=reference.repository)


async def load(call: Call) -> web.StreamResponse:
    """POST /images/load: a docker archive or an OCI layout."""
    async with spooled(call) as path:
        return await tell_while(call, partial(_load, call, path))


def _load(call: Call, path: "Path", teller: Teller) -> None:
    for found in call.daemon.images.load(path, Transfers(teller)):
        word = "image ID" if isinstance(found, Digest) else "image"
        teller.say({"stream": f"Loaded {word}: {found}\n"})
        tell(call.daemon.root, "image", "load", str(found), name=str(found))


@asynccontextmanager
async def spooled(call: Call) -> "AsyncIterator[Path]":
    """The request's body as a file below the state root, for as long as it is needed."""
    from pathlib import Path

    directory = call.daemon.root / "tmp"
    await call.daemon.run(partial(directory.mkdir, mode=0o700, parents=True, exist_ok=True))
    handle, name = tempfile.mkstemp(prefix="body-", dir=directory)
    try:
        with open(handle, "wb") as file:  # noqa: ASYNC230 -- written in threads below
            pieces, size = [], 0
            async for piece in call.request.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size >= _READ:
                    await call.daemon.run(file.writelines, pieces)
                    pieces, size = [], 0
            await call.daemon.run(file.writelines, pieces)
        yield Path(name)
    finally:
        os.unlink(name)


async def save_one(call: Call) -> web.StreamResponse:
    """GET /images/{name}/get."""
    return await _save(call, [call.name])


async def save(call: Call) -> web.StreamResponse:
    """GET /images/get?names=…"""
    names = [name for text in call.request.query.getall("names", []) for name in text.split(",") if name]
    if not names:
        raise BadRequest("no images are named: names=NAME")
    return await _save(call, names)


async def _save(call: Call, names: Sequence[str]) -> web.StreamResponse:
    for name in names:
        await call.daemon.run(found_or_unknown, call.daemon, name)
    return await send_written(call, "application/x-tar", lambda out: call.daemon.images.save(names, out))


async def send_written(call: Call, media_type: str, write: Writing, **headers: str) -> web.StreamResponse:
    """Stream what `write` writes in a thread, through a pipe: it waits when the client does not read."""
    reading, writing = os.pipe()
    stream = asyncio.StreamReader(limit=_READ)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
    )

    def work() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb") as out:
            write(out)

    task = asyncio.ensure_future(call.daemon.run_long(work))
    try:
        first = await stream.read(_READ)
        if not first:
            await task  # raises what becomes a status
        response = web.StreamResponse(headers={"Content-Type": media_type, **call.daemon.headers, **headers})
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        while first:
            await response.write(first)
            first = await stream.read(_READ)
        await task  # a failure now can only cut the stream off
        await response.write_eof()
        return response
    finally:
        transport.close()
        await asyncio.wait([task])


async def auth(call: Call) -> web.StreamResponse:
    """POST /auth: are these credentials accepted?"""
    login = await call.body(Login)
    host = (login.serveraddress.partition("://")[2] or login.serveraddress).partition("/")[0]
    domain = DEFAULT_DOMAIN if not host or host in _HUB else host

    def work() -> None:
        from registry.client import Credentials, RegistryClient

        credentials = Credentials(login.username, login.password, login.identitytoken)
        with RegistryClient(domain, None, credentials=credentials) as client:
            client.check_login()

    try:
        await call.daemon.run_long(work)
    except Unauthorized as error:
        raise NotAccepted(f"login attempt to {domain} failed: {error}") from None
    return reply({"Status": "Login Succeeded", "IdentityToken": ""})
