"""The model server as a process, asked over HTTP: protocols, streaming, bounds, how it ends.

One server answers all tests, since starting takes longest; the last one ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import trustme

from mlk8s.bench import timing
from mlk8s.errors import UsageError
from mlk8s.lm import load
from mlk8s.lm.kv_cache import BLOCK_TOKENS
from mlk8s.lm.load_client import Target, Workload, closed_loop, open_loop
from mlk8s.provenance import Kind
from tests.conftest import Run
from tests.lm import random_model

START_S = 120.0
PLACES, WAITING = 4, 3
SHORT = Workload(("kind: Job",), (2, 6), seed=3)


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    log: Path

    def until_ready(self) -> Server:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/v2/health/ready").json() == {"ready": True}:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def ask(self, **fields: Any) -> httpx.Response:
        body = {"model": "manifest", "prompt": "kind: Job", "temperature": 0, **fields}
        return httpx.post(f"{self.url}/openai/v1/completions", json=body, timeout=60)

    def metric(self, name: str) -> float:
        """The value of a metric, all labels but the model's in the name."""
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(rf"^mlk8s:{re.escape(name)} (\S+)$", text.replace(MODEL, ""), re.M)
        return float(found[1]) if found else 0.0

    def until(self, name: str, value: float) -> None:
        deadline = time.monotonic() + 20
        while (now := self.metric(name)) != value:
            assert time.monotonic() < deadline, f"{name} is {now}, not {value}"
            time.sleep(0.02)


MODEL = '{model_name="manifest"}'


def start(folder: Path, log: Path, *options: str) -> Server:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "mlk8s.lm.serving", "--model_name", "manifest"]
    command += ["--model_dir", str(folder), "--http_port", str(port), *options]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True)
    return Server(process, f"http://127.0.0.1:{port}", log)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = random_model.save(tmp_path_factory.mktemp("model"))
    log = tmp_path_factory.mktemp("log") / "server.log"
    found = start(folder, log, "--max_batch_size", str(PLACES), "--max_waiting", str(WAITING))
    try:
        yield found.until_ready()
    finally:
        found.process.kill()
        found.process.wait()


def events(response: httpx.Response) -> Iterator[Any]:
    """The values of server-sent events, and ``None`` for the one that ends them."""
    for line in response.iter_lines():
        if line:
            data = line.removeprefix("data: ")
            yield None if data == "[DONE]" else json.loads(data)


def streaming(server: Server, **fields: Any) -> Any:
    body = {"model": "manifest", "prompt": "kind: Job", "temperature": 0, "stream": True, **fields}
    return httpx.stream("POST", f"{server.url}/openai/v1/completions", json=body, timeout=60)


def test_what_is_served(server: Server) -> None:
    models = httpx.get(f"{server.url}/openai/v1/models").json()
    assert [(m["id"], m["max_model_len"]) for m in models["data"]] == [("manifest", 256)]
    assert httpx.get(f"{server.url}/v2/models/manifest/ready").json()["ready"] is True


def test_a_completion_with_its_usage(server: Server) -> None:
    answer = server.ask(max_tokens=12, ignore_eos=True).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["total_tokens"] == usage["prompt_tokens"] + 12
    assert server.ask(prompt=[5, 6], max_tokens=3).json()["usage"]["prompt_tokens"] == 2


def test_a_stream_is_the_same_text_token_by_token(server: Server) -> None:
    whole = server.ask(max_tokens=100, ignore_eos=True).json()
    usage = {"stream_options": {"include_usage": True}}
    with streaming(server, max_tokens=100, ignore_eos=True, **usage) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        arriving = events(response)
        first = next(arriving)
        # The first token is here while the answer is being made.
        assert server.metric("num_requests_running") == 1
        *tokens, reason, counted, done = arriving
    texts = [event["choices"][0]["text"] for event in (first, *tokens)]
    assert len(texts) == 100
    assert "".join(texts) + reason["choices"][0]["text"] == whole["choices"][0]["text"]
    assert reason["choices"][0]["finish_reason"] == "length"
    assert counted["usage"] == whole["usage"]
    assert done is None


def test_answers_do_not_depend_on_who_else_asks(server: Server) -> None:
    prompts = [f"name: {n}" * n for n in range(1, PLACES + WAITING + 1)]
    alone = [server.ask(prompt=p, max_tokens=30).json()["choices"][0]["text"] for p in prompts]

    async def all_at_once() -> list[str]:
        async with aiohttp.ClientSession(server.url) as session:

            async def one(prompt: str) -> str:
                body = {"model": "manifest", "prompt": prompt, "max_tokens": 30, "temperature": 0}
                async with session.post("/openai/v1/completions", json=body) as response:
                    return str((await response.json())["choices"][0]["text"])

            return await asyncio.gather(*map(one, prompts))

    assert asyncio.run(all_at_once()) == alone


def test_kserve_protocols_give_the_same_texts(server: Server) -> None:
    prompts = ["kind: Job", "name"]
    expected = [server.ask(prompt=p, max_tokens=9).json()["choices"][0]["text"] for p in prompts]
    how = {"max_tokens": 9, "temperature": 0}
    body: dict[str, Any] = {"instances": prompts, "parameters": how}
    answer = httpx.post(f"{server.url}/v1/models/manifest:predict", json=body)
    assert answer.json() == {"predictions": expected}
    given = {"name": "text", "datatype": "BYTES", "shape": [2], "data": prompts}
    body = {"inputs": [given], "parameters": how}
    answer = httpx.post(f"{server.url}/v2/models/manifest/infer", json=body)
    assert answer.json()["outputs"][0]["data"] == expected
    body = {"instances": ["kind"], "parameters": {"max_tokens": 0}}
    refused = httpx.post(f"{server.url}/v1/models/manifest:predict", json=body)
    assert refused.status_code == 400
    assert "max_tokens" in refused.json()["error"]


@pytest.mark.parametrize(
    ("fields", "status", "code", "message"),
    [
        ({"model": "gpt"}, 404, "model_not_found", "'gpt' is not served here"),
        ({"max_tokens": 300}, 400, "context_length_exceeded", "context is 256 tokens"),
        ({"max_tokens": 0}, 400, None, "max_tokens: Input should be greater than or equal to 1"),
        ({"logprobs": 2}, 400, None, "no field 'logprobs'"),
        ({"prompt": ""}, 400, None, "no tokens"),
        ({"prompt": [99999]}, 400, None, "no token 99999"),
    ],
)
def test_errors_in_openai_form(
    server: Server, fields: dict[str, Any], status: int, code: str | None, message: str
) -> None:
    answer = server.ask(**fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_leaves_the_batch(server: Server, stream: bool) -> None:
    ended = 'request_success_total{finished_reason="abort",model_name="manifest"}'
    before = server.metric(ended)
    if stream:
        with streaming(server, max_tokens=240, ignore_eos=True) as response:
            next(events(response))
    else:
        body = {"model": "manifest", "prompt": "kind", "max_tokens": 240, "ignore_eos": True}
        request = httpx.Request("POST", f"{server.url}/openai/v1/completions", json=body)
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /openai/v1/completions HTTP/1.1\r\nhost: {host}\r\n"
            head += f"content-length: {len(request.content)}\r\n\r\n"
            connection.sendall(head.encode() + request.content)
            server.until("num_requests_running", 1)
    server.until(ended, before + 1)
    server.until("num_requests_running", 0)
    assert server.metric("kv_cache_usage_perc") == 0


def test_too_many_waiting_requests_are_refused(server: Server) -> None:
    async def flood() -> list[tuple[int, Any, Any]]:
        async with aiohttp.ClientSession(server.url) as session:

            async def one() -> tuple[int, Any, Any]:
                body = {"model": "manifest", "prompt": "kind", "max_tokens": 60}
                body["ignore_eos"] = True
                async with session.post("/openai/v1/completions", json=body) as response:
                    return response.status, response.headers, await response.json()

            return await asyncio.gather(*(one() for _ in range(4 * (PLACES + WAITING))))

    answers = asyncio.run(flood())
    refused = [answer for answer in answers if answer[0] != 200]
    assert {status for status, _, _ in refused} == {429}
    assert refused[0][1]["retry-after"] == "1"
    assert refused[0][2]["error"]["code"] == "rate_limit_exceeded"
    assert len(answers) - len(refused) >= PLACES + WAITING


def test_metrics_count_tokens_and_memory(server: Server) -> None:
    token = 2 * random_model.LAYERS * random_model.HEADS * random_model.HEAD_DIM * 4
    assert server.metric("kv_cache_token_bytes") == token
    room = PLACES * random_model.CONTEXT + BLOCK_TOKENS
    assert server.metric("kv_cache_bytes") == token * room
    before = {name: server.metric(name) for name in COUNTED}
    server.ask(prompt=[5, 6, 7], max_tokens=10, ignore_eos=True)
    server.until("e2e_request_latency_seconds_count", before[COUNTED[3]] + 1)
    grown = {name: server.metric(name) - before[name] for name in COUNTED}
    assert list(grown.values()) == [3, 10, 1, 1, 9, 9]


COUNTED = (
    "prompt_tokens_total",
    "generation_tokens_total",
    "time_to_first_token_seconds_count",
    "e2e_request_latency_seconds_count",
    "inter_token_latency_seconds_count",
    "decode_rows_total",
)


def test_a_closed_loop_is_a_table_with_its_origin(server: Server) -> None:
    found = load.closed(Target(server.url), SHORT, clients=(1, 3), seconds=0.5)
    table = found.table()
    assert table.column("clients") == [1, 3]
    assert table.column("errors") == [0, 0]
    assert table.column("requests") == [len(run.samples) for run in found.runs]
    assert min(table.column("requests/s")) > 0
    first, whole = table.column("first token p50 [ms]"), table.column("latency p50 [ms]")
    assert all(0 < a <= b for a, b in zip(first, whole, strict=True))
    asked = [SHORT.request(n)[1] for n in range(len(found.runs[0].samples))]
    assert [sample.tokens for sample in found.runs[0].samples] == asked
    (origin,) = table.provenance
    assert origin.kind is Kind.LIVE
    assert origin.device is not None and origin.device.part == "cpu"


def test_an_open_loop_has_the_arrivals_of_its_seed(server: Server) -> None:
    runs = [
        load.open_(Target(server.url), SHORT, rates=[20.0], seconds=0.5).runs[0] for _ in range(2)
    ]
    arrivals = [[round(sample.at_s, 6) for sample in run.samples] for run in runs]
    assert arrivals[0] == arrivals[1]
    assert len(arrivals[0]) > 3
    # A slow machine may refuse some: arrivals do not wait for answers.
    assert {sample.error for run in runs for sample in run.samples} <= {None, "status 429"}


def test_an_interrupted_sweep_keeps_what_it_measured(server: Server) -> None:
    def show(what: str, done: int, total: int) -> None:
        if done == 1:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(timing.Interrupted) as caught, timing.progress(show):
        load.closed(Target(server.url), SHORT, clients=(1, 2), seconds=0.6)
    assert [run.offered for run in caught.value.rows] == [1]
    server.until("num_requests_running", 0)


def test_the_load_command_prints_its_table(server: Server, process: Run) -> None:
    options = ("--rates", "10", "--seconds", "0.5", "--max_tokens", "2", "--header", "x-who: me")
    done = process("-m", "mlk8s.lm.load", server.url, *options)
    assert done.returncode == 0, done.stderr
    assert "requests/s" in done.stdout and "live · " in done.stdout
    done = process("-m", "mlk8s.lm.load", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert re.match(r"error: http://127\.0\.0\.1:9/openai/v1/models does not list", done.stderr)


def test_refusals_and_broken_answers_are_errors_also_through_a_proxy() -> None:
    from aiohttp import web
    from aiohttp.test_utils import TestServer

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.headers["authorization"] == "Bearer me"
        if (await request.json())["max_tokens"] == 2:
            return web.json_response({}, status=503)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n')
        return response

    authority = trustme.CA()
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(asking)

    async def both() -> list[str | None]:
        app = web.Application()
        app.router.add_post("/services/lm:80/proxy/openai/v1/completions", answer)
        running = TestServer(app, scheme="https")
        await running.start_server(ssl=serving)
        try:
            url = str(running.make_url("/services/lm:80/proxy/"))
            target = Target(url, headers={"Authorization": "Bearer me"}, tls=asking)
            one = await closed_loop(target, "m", Workload(("a",), (2,)), 1, 0.01)
            two = await open_loop(target, "m", Workload(("a",), (3,)), 100.0, 0.1)
            return [one.samples[0].error, two.samples[0].error]
        finally:
            await running.close()

    assert asyncio.run(both()) == ["status 503", "the answer broke off"]


def test_what_cannot_be_served_is_one_clear_error(process: Run, tmp_path: Path) -> None:
    serve = ("-m", "mlk8s.lm.serving", "--model_dir")
    done = process(*serve, str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: There is no folder {tmp_path / 'none'}. "
        "Next: give --model_dir the folder that save_pretrained wrote.\n"
    )
    done = process(*serve, str(tmp_path))
    assert done.returncode == 1
    assert "has no config.json, model.safetensors, tokenizer.json." in done.stderr
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = process(*serve, str(tmp_path), "--http_port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Port {port} cannot be listened on: Address already in")
    assert len(done.stderr.splitlines()) == 1
    assert process(*serve, str(tmp_path), "--max_batch_size", "0").returncode == 2


def test_help_teaches(process: Run) -> None:
    done = process("-m", "mlk8s.lm.serving", "--help")
    assert done.returncode == 0
    for text in ("/openai/v1/completions", "continuous", "SIGTERM", "status 429", "curl -N"):
        assert text in done.stdout


def test_importing_costs_nothing_heavy(process: Run) -> None:
    names = "('torch', 'transformers', 'kserve', 'fastapi', 'rich', 'pandas')"
    code = "import sys, mlk8s.lm.serving, mlk8s.lm.load"
    done = process("-c", f"{code}; print([name for name in {names} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


def test_an_unreachable_server_is_named() -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9/openai/v1/models does not list a model"):
        load.closed(Target("http://127.0.0.1:9"), clients=(1,))


def test_sigterm_lets_what_runs_end(server: Server) -> None:
    with streaming(server, max_tokens=240, ignore_eos=True) as response:
        arriving = events(response)
        next(arriving)
        server.process.send_signal(signal.SIGTERM)
        *_, reason, done = arriving
    assert reason["choices"][0]["finish_reason"] == "length"
    assert done is None
    assert server.process.wait(30) == 0
    # What was refused above is in the log with KServe's traceback; nothing is after the signal.
    log = server.log.read_text()
    assert "Traceback" not in log[log.rindex("Shutting down") :]
