"""What the operator asks of a head's dashboard over HTTP: jobs, and applications of Ray Serve.

A controller's turn does not wait: it asks, goes on, and is called again when the answer is there.
Source at v1.7.0: ``ray-operator/controllers/ray/utils/dashboardclient/dashboard_httpclient.go``.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from mlk8s.sim import dial
from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.api import Api
from mlk8s.sim.kubelet.kubelet import Kubelet
from mlk8s.sim.status import Object

JOBS, APPLICATIONS = "/api/jobs/", "/api/serve/applications/"
#: What a proxy of Ray Serve is asked, at the port ``serve``.
PROXY_HEALTH = "/-/healthz"
# Longer than the operator's own 2 s: a loaded machine of two CPUs is slow to answer.
_WITHIN_S = 20.0
_SHOWN = 300


@dataclass(frozen=True)
class Answer:
    """What the dashboard said.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        body: what it sent, as a JSON value; ``None`` where that is none.
        text: of the body, or why there was no answer.
    """

    status: int
    body: Any
    text: str

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300


class Dashboards:
    """Asks the dashboards of one cluster's heads.

    Args:
        api: where tokens are.
        kubelet: knows where heads listen.
    """

    def __init__(self, api: Api, kubelet: Kubelet) -> None:
        self.api, self.kubelet = api, kubelet
        self._asking: dict[asyncio.Task[None], str] = {}

    def stop(self) -> None:
        """Give up what is being asked."""
        for task in list(self._asking):
            task.cancel()

    def busy(self, about: str) -> bool:
        """Whether something is being asked about an object."""
        return about in self._asking.values()

    def port(self, cluster: Object, name: str) -> int | None:
        """Where a head listens on this machine; ``None`` while it does not run.

        Args:
            cluster: the RayCluster.
            name: of the port: ``dashboard`` or ``serve``.
        """
        head = ((cluster.get("status") or {}).get("head") or {}).get("podName", "")
        containers = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
        declared = names.port_of(containers[0], name)
        return self.kubelet.port(cluster["metadata"]["namespace"], head, declared)

    def ask(
        self,
        about: str,
        cluster: Object,
        method: str,
        path: str,
        body: Any,
        told: Callable[[Answer], None],
        where: str = "dashboard",
    ) -> bool:
        """Begin to ask.

        Args:
            about: the object that this is about; one question at a time is about each.
            cluster: whose head is asked.
            method: of HTTP.
            path: with its slash.
            body: sent as JSON; ``None`` for none.
            told: called with the answer.
            where: the name of the head's port that is asked.

        Returns:
            Whether there is something to ask, and nothing is being asked yet.
        """
        port = self.port(cluster, where)
        if port is None or self.busy(about):
            return False
        task = asyncio.ensure_future(
            self._exchange(f"http://{dial.LOOPBACK}:{port}{path}", method, body, cluster, told)
        )
        self._asking[task] = about
        task.add_done_callback(lambda done: self._asking.pop(done, None))
        return True

    async def _exchange(
        self,
        url: str,
        method: str,
        body: Any,
        cluster: Object,
        told: Callable[[Answer], None],
    ) -> None:
        try:
            headers = self._headers(cluster)
            async with (
                asyncio.timeout(_WITHIN_S),
                dial.session() as session,
                session.request(method, url, json=body, headers=headers) as found,
            ):
                text = await found.text()
                value = await found.json() if found.content_type.endswith("json") else None
                answer = Answer(found.status, value, text[:_SHOWN])
        except TimeoutError:
            answer = Answer(0, None, f"{method} {url}: no answer within {_WITHIN_S:g} s")
        except (OSError, aiohttp.ClientError, ValueError) as error:
            answer = Answer(0, None, f"{method} {url}: {error}")
        told(answer)

    def _headers(self, cluster: Object) -> dict[str, str]:
        metadata = cluster["metadata"]
        name = names.secret_of(metadata["name"], cluster["spec"])
        secret = self.api.find("secrets", metadata["namespace"], name) if name else None
        token = ((secret or {}).get("data") or {}).get(names.TOKEN_KEY)
        return {"Authorization": f"Bearer {base64.b64decode(token).decode()}"} if token else {}
