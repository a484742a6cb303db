"""``exec`` and ``attach`` as kubectl (v5) and the Python client (v4) speak them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kubernetes
import pytest
from aiohttp import ClientSession, WSMsgType, web
from kubernetes.stream import stream

from mlk8s.sim.kubelet.stream import exec_stream
from mlk8s.sim.nodes.smi import NOTICE
from mlk8s.sim.status import StatusError

V5 = "v5.channel.k8s.io"


@asynccontextmanager
async def served(c: Any) -> AsyncIterator[str]:
    """The two subresources alone, over HTTP."""

    async def handle(request: web.Request) -> web.StreamResponse:
        path = request.match_info
        try:
            return await exec_stream(request, c.kubelet, path["namespace"], path["name"])
        except StatusError as error:
            return web.json_response(error.as_status(), status=error.code)

    app = web.Application()
    where = "/api/v1/namespaces/{namespace}/pods/{name}/"
    app.router.add_get(where + "exec", handle)
    app.router.add_get(where + "attach", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def execute(
    url: str,
    pod: str,
    *command: str,
    what: str = "exec",
    send: list[bytes] | None = None,
    **flags: str,
) -> tuple[str, str, Any]:
    """Standard output, error output and the final Status."""
    query = [("stdout", "true"), ("stderr", "true"), *flags.items()]
    query += [("command", part) for part in command]
    found = {1: b"", 2: b"", 3: b""}
    async with ClientSession() as session:
        path = f"{url}/api/v1/namespaces/default/pods/{pod}/{what}"
        async with session.ws_connect(path, params=query, protocols=(V5,)) as socket:
            assert socket.protocol == V5
            for typed in send or ():
                await socket.send_bytes(typed)
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    found[message.data[0]] += message.data[1:]
    return found[1].decode(), found[2].decode(), json.loads(found[3])


def test_exec(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c, served(c) as url:
            c.pod(
                "p",
                image="busybox",
                command=["sleep", "100"],
                env=[{"name": "A", "value": "1"}],
                resources={"limits": {"nvidia.com/gpu": "1"}},
            )
            c.pod("server", image="nginx")
            await c.until(
                lambda: all(c.get(n)["status"]["phase"] == "Running" for n in ("p", "server"))
            )
            done = {"metadata": {}, "status": "Success"}
            assert await execute(url, "p", "sh", "-c", "echo $A; echo e >&2") == (
                "1\n",
                "e\n",
                done,
            )
            listed = f"{NOTICE}\nGPU 0: A GPU of a (UUID: GPU-0)\n"
            assert await execute(url, "p", "nvidia-smi", "-L") == (listed, "", done)
            assert (await execute(url, "p", "sh", "-c", "nvidia-smi -L"))[0] == listed
            assert "A GPU of a" in (await execute(url, "p", "nvidia-smi"))[0]
            query = ("nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader")
            assert await execute(url, "p", *query) == ("0, 81559 MiB\n", f"{NOTICE}\n", done)
            _, _, status = await execute(
                url, "p", "nvidia-smi", "--query-gpu=wrong", "--format=csv"
            )
            assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "2"}]
            out, err, _ = await execute(url, "server", "sh", "-c", "nvidia-smi")
            assert (out, err) == ("", "sh: 1: nvidia-smi: not found\n")
            assert (await execute(url, "server", "sh", "-c", "echo $HOSTNAME"))[0] == "server\n"
            out, err, status = await execute(url, "p", "sh", "-c", "exit 3")
            assert (out, err) == ("", "")
            assert status["reason"] == "NonZeroExitCode"
            assert status["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}
            out, err, status = await execute(url, "p", "foo")
            # What kubectl shows after "error: " where the runtime is containerd.
            before, _, after = status["message"].partition(' exec "')
            assert before == (
                "Internal error occurred: error executing command in container: failed to exec in "
                "container: failed to start"
            )
            assert after.partition('"')[2] == (
                ": OCI runtime exec failed: exec failed: unable to start container process: exec: "
                '"foo": executable file not found in $PATH'
            )
            assert (err, status["reason"], status["code"]) == ("", "InternalError", 500)
            typed = [b"\x00some text", bytes([255, 0])]
            assert await execute(url, "p", "cat", send=typed, stdin="true") == (
                "some text",
                "",
                done,
            )
            size = b'\x04{"Width": 99, "Height": 33}'
            out, _, status = await execute(
                url, "p", "sh", "-c", "sleep 0.3; stty size", send=[size], stdin="true", tty="true"
            )
            assert (out, status) == ("33 99\r\n", done)

    asyncio.run(body())


def test_attach(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c, served(c) as url:
            c.pod("p", image="busybox", command=["sh", "-c", "sleep 1; echo late"])
            await c.until(lambda: c.get("p")["status"]["phase"] == "Running")
            out, _, status = await execute(url, "p", what="attach")
            assert (out, status["status"]) == ("late\n", "Success")
            c.pod("cat", image="busybox", command=["cat"], stdin=True)
            await c.until(lambda: c.get("cat")["status"]["phase"] == "Running")
            out, _, status = await execute(
                url,
                "cat",
                what="attach",
                stdin="true",
                send=[b"\x00back\n", bytes([255, 0])],
            )
            assert (out, status["status"]) == ("back\n", "Success")

    asyncio.run(body())


def test_refusals(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c, served(c) as url:
            c.pod("waits", image="foo")
            c.pod("away", node="elsewhere", image="nginx")
            two = [{"name": "a", "image": "nginx"}, {"name": "b", "image": "nginx"}]
            c.pod("two", containers=two)
            await asyncio.sleep(0.2)
            _, _, status = await execute(url, "waits", "ls")
            assert status["message"] == (
                "Internal error occurred: unable to upgrade connection: container not found "
                '("main")'
            )
            async with ClientSession() as session:
                for name, code, message in (
                    ("none", 404, 'pods "none" not found'),
                    (
                        "two",
                        400,
                        "a container name must be specified for pod two, choose one of: [a b]",
                    ),
                    (
                        "away",
                        500,
                        "error dialing backend: dial tcp: lookup elsewhere: no such host",
                    ),
                ):
                    where = f"{url}/api/v1/namespaces/default/pods/{name}/exec?command=ls"
                    async with session.get(where) as answer:
                        assert answer.status == code
                        assert (await answer.json())["message"] == message

    asyncio.run(body())


def test_the_python_client(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c, served(c) as url:
            c.pod("p", image="python:3", command=["sleep", "100"])
            await c.until(lambda: c.get("p")["status"]["phase"] == "Running")

            def ask() -> tuple[str, int, str]:
                configuration = kubernetes.client.Configuration(host=url)
                api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))

                def run(*command: str, **more: Any) -> Any:
                    return stream(
                        api.connect_get_namespaced_pod_exec,
                        "p",
                        "default",
                        command=list(command),
                        stdout=True,
                        stderr=True,
                        stdin=False,
                        tty=False,
                        **more,
                    )

                text = run("python3", "-c", "print('six')")
                failing = run("sh", "-c", "echo x; exit 5", _preload_content=False)
                failing.run_forever(timeout=10)
                return text, failing.returncode, failing.read_stdout()

            assert await asyncio.to_thread(ask) == ("six\n", 5, "x\n")

    asyncio.run(body())


def test_a_client_that_goes_takes_its_command_with_it(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c, served(c) as url:
            c.pod("p", image="busybox", command=["sleep", "100"])
            await c.until(lambda: c.get("p")["status"]["phase"] == "Running")
            before = len(c.kubelet.processes.groups())
            async with ClientSession() as session:
                path = f"{url}/api/v1/namespaces/default/pods/p/exec"
                query = [("command", "yes"), ("stdout", "true")]
                async with session.ws_connect(path, params=query, protocols=(V5,)) as socket:
                    await socket.receive()
                    assert len(c.kubelet.processes.groups()) == before + 1
            await c.until(lambda: len(c.kubelet.processes.groups()) == before)

    asyncio.run(body())


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: Any) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
