"""Networks: /networks/…. There are the three that every machine has; one's own are not supported yet."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from pybuild.api.calls import Call, Filters, reply
from pybuild.api.problems import Forbidden, NoSuchThing, NotYet
from pybuild.engine.containers import Container
from pybuild.engine.views import network_id

Test = Callable[[str], bool]
_NAMES = ("bridge", "host", "none")
_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


async def listing(call: Call) -> web.StreamResponse:
    filters = call.filters(_FILTERS)
    found = await call.daemon.run(call.daemon.containers.all)
    return reply([one for one in (_network(name, found) for name in _NAMES) if _passes(one, filters)])


def _passes(network: dict[str, Any], filters: Filters) -> bool:
    tests: dict[str, Test] = {
        "driver": lambda value: value == network["Driver"],
        "id": network["Id"].startswith,
        "name": lambda value: value in network["Name"],
        "scope": lambda value: value == "local",
        "type": lambda value: value == "builtin",
        "label": lambda value: value in network["Labels"],
        "dangling": lambda value: value.lower() in {"false", "0"},
    }
    return all(any(tests[key](value) for value in values) for key, values in filters.items())


async def inspect(call: Call) -> web.StreamResponse:
    name = _find(call.name)
    return reply(_network(name, await call.daemon.run(call.daemon.containers.all)))


async def refuse(call: Call) -> web.StreamResponse:
    """Everything that would change a network."""
    if call.names.get("name"):
        name = _find(call.name)
        if call.request.method == "DELETE":
            raise Forbidden(f"{name} is a pre-defined network and cannot be removed")
    raise NotYet("networks of one's own are not supported yet; there are bridge, host and none")


async def prune(call: Call) -> web.StreamResponse:
    del call
    return reply({"NetworksDeleted": None})


def _find(text: str) -> str:
    for name in _NAMES:
        if text == name or (len(text) >= 4 and network_id(name).startswith(text)):
            return name
    raise NoSuchThing(f"network {text} not found")


def _network(name: str, everyone: list[Container]) -> dict[str, Any]:
    members = {
        one.record.id: {
            "Name": one.record.name,
            "EndpointID": one.record.id,
            "MacAddress": one.network.mac if one.network else "",
            "IPv4Address": f"{one.network.address}/{one.network.prefix}" if one.network and one.network.address else "",
            "IPv6Address": "",
        }
        for one in everyone
        if one.running and one.record.options.network == name
    }
    gateways = {one.network.gateway for one in everyone if name == "bridge" and one.network and one.network.gateway}
    return {
        "Name": name,
        "Id": network_id(name),
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": "null" if name == "none" else name,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Gateway": one} for one in sorted(gateways)]},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": members,
        "Options": {},
        "Labels": {},
    }
