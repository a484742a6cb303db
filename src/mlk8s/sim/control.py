"""What only a simulated cluster has, below ``/mlk8s``: its clock, its faults, its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from mlk8s.sim import bodies, discovery, limits
from mlk8s.sim.clock import stamp
from mlk8s.sim.faults import FAULTS
from mlk8s.sim.scheduler.explain import explain
from mlk8s.sim.status import bad_request, no_such_path, not_allowed

if TYPE_CHECKING:
    from mlk8s.sim.server import Server

# A hundred years: what comes later does not fit the timestamps of Kubernetes.
_LONGEST_ADVANCE_S = 100 * 366 * 86_400.0


async def handle(server: Server, request: web.Request, rest: list[str]) -> web.Response:
    """Answer a request below ``/mlk8s``."""
    simulator = server.simulator
    answer: Any
    match request.method, rest:
        case "GET", ["status"]:
            answer = _status(server)
        case "GET", ["limits"]:
            answer = limits.LIMITS
        case "POST", ["reset"]:
            await server.reset()
            answer = _status(server)
        case "POST", ["stop"]:
            server.stop()
            answer = {"stopping": True}
        case "POST", ["advance"]:
            seconds: Any = (await bodies.whole(request)).get("seconds")
            known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not known or not 0 <= seconds <= _LONGEST_ADVANCE_S:
                raise bad_request(
                    "seconds must be a number that is not negative, and a hundred years at most"
                )
            if not simulator.manual:
                raise bad_request(
                    "this cluster runs on the machine's time; start it with a manual clock to "
                    "drive it"
                )
            await simulator.advance(seconds)
            answer = {"now": stamp(simulator.clock.now())}
        case "GET", ["explain", namespace, name]:
            answer = explain(simulator.scheduler, namespace, name)
        case "GET", ["devices", node]:
            answer = simulator.fleet.devices(node)
        case "GET", ["faults"]:
            answer = [
                {
                    "name": name,
                    "title": fault.title,
                    "symptom": fault.symptom,
                    "cause": fault.cause,
                    "fix": fault.fix,
                    "active": name in simulator.faults.active(),
                }
                for name, fault in FAULTS.items()
            ]
        case "GET", ["addons"]:
            answer = simulator.addons.listed()
        case "PUT", ["addons", name]:
            simulator.addons.enable(name)
            answer = {"active": simulator.addons.active()}
        case "DELETE", ["addons", name]:
            simulator.addons.disable(name)
            answer = {"active": simulator.addons.active()}
        case "PUT", ["faults", name]:
            _known(name)
            simulator.faults.on(name, request.query.get("node"))
            answer = {"active": list(simulator.faults.active())}
        case "DELETE", ["faults", name]:
            _known(name)
            simulator.faults.off(name)
            answer = {"active": list(simulator.faults.active())}
        case _, ["status" | "limits" | "reset" | "stop" | "advance" | "faults" | "addons", *_]:
            raise not_allowed()
        case _:
            raise no_such_path()
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _known(name: str) -> None:
    if name not in FAULTS:
        raise bad_request(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")


def _status(server: Server) -> dict[str, Any]:
    simulator = server.simulator
    store = simulator.api.store
    return {
        "version": discovery.GIT_VERSION,
        "simulated": True,
        "nodes": [namespace_name[1] for namespace_name in store.keys("nodes")],
        "pods": store.count("pods"),
        "objects": store.total(),
        "revision": store.revision,
        "watches": server.hub.count,
        "idle": simulator.runtime.idle(),
        "clock": "manual" if simulator.manual else "the machine's",
        "now": stamp(simulator.clock.now()),
        "addons": simulator.addons.active(),
        "faults": list(simulator.faults.active()),
        "limits": limits.LIMITS,
    }
