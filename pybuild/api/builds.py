"""POST /build: the legacy endpoint, a context as an archive in, a stream of lines out."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pybuild.api.calls import Call, reply
from pybuild.api.problems import BadRequest, NotYet
from pybuild.api.telling import Teller, tell_while
from pybuild.api.transfers import spooled
from pybuild.engine.events import tell
from registry.model import Platform, Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.build import BuildRequest
    from builder.progress import Event


async def build(call: Call) -> web.StreamResponse:
    if call.text("version", "1") != "1":
        raise NotYet("BuildKit's session is not supported yet; build with DOCKER_BUILDKIT=0")
    request = _request(call)  # what is wrong with it is told before the context is taken
    if remote := call.text("remote"):
        return await tell_while(call, lambda teller: _build(call, request(remote, None), teller))
    async with spooled(call) as path:
        return await tell_while(call, lambda teller: _build(call, request("-", path), teller))


def _request(call: Call) -> "Callable[[str, Path | None], tuple[BuildRequest, Path | None]]":
    from builder.build import BuildRequest
    from registry.model.platform import native

    given = _json(call, "buildargs")
    arguments = {name: str(value) for name, value in given.items() if value is not None}
    labels = {name: str(value) for name, value in _json(call, "labels").items()}
    tags = tuple(Reference.parse(tag).tagged for tag in call.request.query.getall("t", []))
    hosts = [text.partition(":")[::2] for text in call.request.query.getall("extrahosts", []) if text]
    network = call.text("networkmode") or "default"
    if network not in {"default", "bridge", "host", "none"}:
        raise BadRequest(f"no network {network!r} for a build; there are default, host and none")
    platform = Platform.parse(call.text("platform")) if call.text("platform") else native()

    def made(context: str, path: Path | None) -> "tuple[BuildRequest, Path | None]":
        request = BuildRequest(
            context=context, tags=tags, dockerfile=call.text("dockerfile") or None, target=call.text("target"),
            build_args=arguments, labels=labels, hosts=tuple(hosts), platforms=(platform,),
            network="default" if network == "bridge" else network,
            allow=frozenset({"network.host"} if network == "host" else ()),
            no_cache=call.flag("nocache"), pull=call.flag("pull"),
        )  # fmt: skip
        return request, path

    return made


def _json(call: Call, key: str) -> dict[str, Any]:
    text = call.text(key)
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadRequest(f"{key} is not a JSON object")
    return found


def _build(call: Call, asked: "tuple[BuildRequest, Path | None]", teller: Teller) -> None:
    from dataclasses import replace

    from builder.build import Builder

    request, path = asked
    quiet = call.flag("q")
    listener = _Listener(teller, quiet=quiet)
    with Builder(call.daemon.root, call.daemon.containers.store) as builder:
        if path is None:
            result = builder.build(request, listener.hear)
        else:
            with path.open("rb") as stdin:
                result = builder.build(replace(request, stdin=stdin), listener.hear)
    image = str(result.image_id)
    if quiet:
        teller.say({"stream": f"{image}\n"})
    teller.say({"aux": {"ID": image}})
    if not quiet:
        teller.say({"stream": f"Successfully built {image.removeprefix('sha256:')[:12]}\n"})
        for tag in result.tags:
            teller.say({"stream": f"Successfully tagged {tag}\n"})
    tell(call.daemon.root, "builder", "build", image)


@dataclass
class _Listener:
    """The builder's events as the lines of docker's old builder."""

    teller: Teller
    quiet: bool
    names: dict[int, str] = field(default_factory=dict)

    def hear(self, event: "Event") -> None:
        from builder import progress

        if isinstance(event, progress.StepStarted):
            self.names[event.step] = event.name
            self._say(f"Step {event.step} : {event.name}\n")
        elif isinstance(event, progress.StepLog):
            self._say(f"{event.line}\n")
        elif isinstance(event, progress.StepDone) and event.cached:
            self._say(f" ---> Using cache for step {event.step}\n")
        elif isinstance(event, progress.Notice):
            self._say(f"{event.text}\n")
        elif isinstance(event, progress.Warned):
            self._say(f"[Warning] {event.short}\n")
        else:
            self.teller.check()

    def _say(self, text: str) -> None:
        if self.quiet:
            self.teller.check()
        else:
            self.teller.say({"stream": text})


async def prune(call: Call) -> web.StreamResponse:
    """POST /build/prune: what no image needs of the build cache."""
    from pybuild.engine.pruning import Rules
    from pybuild.engine.pruning import prune as prune_cache

    rules = Rules(every=call.flag("all"))
    daemon = call.daemon
    found, size = await daemon.run_long(lambda: prune_cache(daemon.containers.store, daemon.root, rules))
    return reply({"CachesDeleted": [one.id for one in found], "SpaceReclaimed": size})


async def cancel(call: Call) -> web.StreamResponse:
    """POST /build/cancel: builds of this endpoint end with their connection."""
    del call
    return web.Response(status=204)
