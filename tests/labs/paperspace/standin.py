"""A stand-in for Paperspace's API: real HTTP on loopback, with state and with faults on call.

It is not Paperspace, and no machine is made anywhere. What it mirrors, and from where:

* paths, fields, states, paging (``limit`` up to 120, ``after``, ``hasMore``, ``nextPage``), the
  answer ``{event, data}`` of a change and the error ``{code, message}``: the API reference of
  18 March 2026, https://docs.digitalocean.com/reference/paperspace/api-reference/machine;
* ``issues`` of an error, and which code goes with which status: Paperspace's own client,
  github.com/Paperspace/cli, ``api/client.ts`` (commit c7bdd42, February 2026);
* a machine has to be off before it is deleted, and loses a dynamic address when it goes off: the
  how-to and feature pages of docs.digitalocean.com/products/paperspace/machines (2025).

Assumed, since no source says it: the status and the words of each error, that a machine goes
through one state per request for it, that a deleted machine answers 404, and the numbers of both
rates.
"""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "psk-7d1f0c2e9b8a4455a6b3"
UBUNTU = {"id": "t0nspur5", "name": "paperspace/t0nspur5", "operatingSystemLabel": "Ubuntu 22.04"}
ML = {"id": "tmlbox22", "name": "ML-in-a-Box", "operatingSystemLabel": "Ubuntu 22.04"}
WINDOWS = {"id": "twin10pr", "name": "paperspace/twin10pr", "operatingSystemLabel": "Windows 10"}
REQUIRED = ("name", "machineType", "templateId", "diskSize", "region")


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that match.

    ``kind`` is ``status`` (answer that), ``malformed`` (a success that is not JSON), ``slow``,
    ``drop`` (the connection breaks before anything is done) or ``lost`` (it breaks after).
    """

    method: str
    path: str
    kind: str = "status"
    status: int = 500
    code: str = "INTERNAL_SERVER_ERROR"
    message: str = "Something went wrong."
    issues: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1

    def fits(self, request: web.Request) -> bool:
        return (
            self.times > 0
            and request.method == self.method
            and re.fullmatch(self.path, request.path) is not None
        )


def refusal(status: int, code: str, message: str, *issues: str, **headers: str) -> web.Response:
    """An error in the API's format."""
    body: dict[str, Any] = {"code": code, "message": message}
    if issues:
        body["issues"] = [{"message": issue} for issue in issues]
    return web.json_response(body, status=status, headers=headers)


class Paperspace:
    """The server; ``machines``, ``asked`` and ``faults`` are what a test reads and sets."""

    def __init__(self) -> None:
        self.machines: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.faults: list[Fault] = []
        self.templates = [UBUNTU, WINDOWS]
        self.available = True
        self.stuck = False
        self.vanish = False
        self.hide_after_create = 0
        self._hidden = 0
        self.events: list[dict[str, Any]] = []
        self._next: dict[str, list[str]] = {}
        self._made = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = ""

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Close all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def add(self, name: str, state: str = "ready", **fields: Any) -> dict[str, Any]:
        """A machine that is there already."""
        self._made += 1
        machine = {
            "id": f"ps{self._made:06x}",
            "name": name,
            "state": state,
            "machineType": "A4000",
            "region": "East Coast (NY2)",
            "storageTotal": 100_000_000_000,
            "publicIpType": "dynamic",
            "publicIp": f"203.0.113.{self._made % 250 + 1}" if state == "ready" else None,
            "autoShutdownEnabled": True,
            "autoShutdownTimeout": 8,
            "usageRate": 0.76,
            "storageRate": 0.0096,
            "dtCreated": "2026-11-23T08:00:00.000Z",
            "dtDeleted": None,
            **fields,
        }
        self.machines[machine["id"]] = machine
        return machine

    def turn(self, name: str, *states: str) -> None:
        """The states that the next requests for a machine find it in."""
        for machine in self.machines.values():
            if machine["name"] == name:
                self._next[machine["id"]] = list(states)

    def changes(self) -> list[tuple[str, str]]:
        """The requests that were meant to change something."""
        return [(method, path) for method, path, _ in self.asked if method != "GET"]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._application(), shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._gate])
        application.add_routes(
            [
                web.get("/v1/machines", self._list),
                web.post("/v1/machines", self._create),
                web.get("/v1/machines/{id}", self._get),
                web.delete("/v1/machines/{id}", self._delete),
                web.patch("/v1/machines/{id}/{power:start|stop}", self._power),
                web.get("/v1/machine-availability", self._availability),
                web.get("/v1/machine-events", self._events),
                web.get("/v1/os-templates", self._os_templates),
            ]
        )
        return application

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path.removeprefix("/v1"), body))
        fault = next((f for f in self.faults if f.fits(request)), None)
        if fault:
            fault.times -= 1
            if fault.kind == "status":
                return refusal(
                    fault.status, fault.code, fault.message, *fault.issues, **fault.headers
                )
            if fault.kind == "slow":
                await asyncio.sleep(30)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return refusal(401, "UNAUTHORIZED", "The API key was invalid or expired.")
        if fault and fault.kind == "drop":
            return self._hang_up(request)
        answer: web.StreamResponse = await handler(request)
        if fault and fault.kind == "lost":
            return self._hang_up(request)
        if fault and fault.kind == "malformed":
            return web.Response(text='{"items": [', content_type="application/json")
        return answer

    @staticmethod
    def _hang_up(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async def _list(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "20"))
        if not 1 <= limit <= 120:
            return refusal(400, "BAD_REQUEST", "Input validation failed", "limit is 1 to 120")
        if self._hidden:
            self._hidden -= 1
            return web.json_response({"hasMore": False, "items": []})
        every = list(self.machines.values())
        first = int(request.query.get("after", "c0").removeprefix("c"))
        page: dict[str, Any] = {"items": every[first : first + limit]}
        page["hasMore"] = len(every) > first + limit
        if page["hasMore"]:
            page["nextPage"] = f"c{first + limit}"
        return web.json_response(page)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        missing = [f"{name}: Required" for name in REQUIRED if name not in body]
        if missing:
            return refusal(400, "BAD_REQUEST", "Input validation failed", *missing)
        machine = self.add(
            body["name"],
            "provisioning",
            machineType=body["machineType"],
            publicIpType=body.get("publicIpType", "none"),
            autoShutdownEnabled=body.get("autoShutdownEnabled", False),
        )
        self._next[machine["id"]] = ["ready"]
        self._hidden = self.hide_after_create
        return self._changed(machine, "create")

    async def _get(self, request: web.Request) -> web.Response:
        machine = self.machines.get(request.match_info["id"])
        if machine and self.vanish:
            del self.machines[machine["id"]]
            machine = None
        if not machine:
            return refusal(404, "NOT_FOUND", "Machine not found.")
        steps = self._next.get(machine["id"], [])
        if steps and not self.stuck:
            machine["state"] = steps.pop(0)
            if machine["state"] == "deleted":
                del self.machines[machine["id"]]
            machine["publicIp"] = "203.0.113.77" if machine["state"] == "ready" else None
        return web.json_response(machine)

    async def _delete(self, request: web.Request) -> web.Response:
        machine = self.machines.get(request.match_info["id"])
        if not machine:
            return refusal(404, "NOT_FOUND", "Machine not found.")
        if machine["state"] not in ("off", "provisioning"):
            return refusal(412, "PRECONDITION_FAILED", "Turn the machine off first.")
        self._next[machine["id"]] = ["deleted"]
        return self._changed(machine, "deactivate")

    async def _power(self, request: web.Request) -> web.Response:
        machine = self.machines.get(request.match_info["id"])
        power = request.match_info["power"]
        if not machine:
            return refusal(404, "NOT_FOUND", "Machine not found.")
        if machine["state"] != ("off" if power == "start" else "ready"):
            return refusal(409, "CONFLICT", f"The machine is {machine['state']}.")
        start = power == "start"
        machine["state"] = "starting" if start else "stopping"
        self._next[machine["id"]] = ["ready" if start else "off"]
        return self._changed(machine, power)

    async def _availability(self, request: web.Request) -> web.Response:
        assert request.query["machineType"] and request.query["region"]
        return web.json_response({"available": self.available})

    async def _events(self, request: web.Request) -> web.Response:
        fitting = [e for e in self.events if e["machineId"] == request.query.get("machineId")]
        return web.json_response({"hasMore": False, "items": fitting[::-1]})

    async def _os_templates(self, request: web.Request) -> web.Response:
        types = [{"machineTypeLabel": "A4000", "isAvailable": True}]
        types.append({"machineTypeLabel": "H100", "isAvailable": False})
        items = [{**template, "availableMachineTypes": types} for template in self.templates]
        return web.json_response({"hasMore": False, "items": items})

    def _changed(self, machine: dict[str, Any], name: str) -> web.Response:
        event = {"id": f"e{len(self.events)}", "name": name, "state": "new", "error": None}
        event["machineId"] = machine["id"]
        self.events.append(event)
        return web.json_response({"event": event, "data": machine})
