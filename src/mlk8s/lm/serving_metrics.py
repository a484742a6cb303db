"""What a server counts about its requests, tokens and memory, for Prometheus.

The names and meanings follow vLLM's ``vllm:*`` (vllm/v1/metrics/loggers.py), so that what a reader
learns here is found again there; the prefix is ours because the server is. KServe's ``/metrics``
shows them beside its own, since it shows all of prometheus_client's default registry (kserve 0.21,
protocol/rest/server.py). Not vLLM's are ``mlk8s:kv_cache_bytes``, ``mlk8s:kv_cache_token_bytes``,
``mlk8s:kv_cache_written_tokens``, ``mlk8s:decode_steps_total`` and ``mlk8s:decode_rows_total``.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

#: Finer than vLLM's: a step of the course's model takes some milliseconds.
# fmt: off
BUCKETS_S = (
    0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2,
    0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0,
)
# fmt: on


class Metrics:
    """The metrics of one served model.

    Args:
        model: its name, the label ``model_name`` of each.
        registry: where they are registered.
    """

    def __init__(self, model: str, registry: CollectorRegistry = REGISTRY) -> None:
        def gauge(name: str, text: str) -> Gauge:
            found = Gauge(f"mlk8s:{name}", text, ["model_name"], registry=registry)
            return found.labels(model)

        def counter(name: str, text: str) -> Counter:
            found = Counter(f"mlk8s:{name}", text, ["model_name"], registry=registry)
            return found.labels(model)

        def histogram(name: str, text: str) -> Histogram:
            found = Histogram(
                f"mlk8s:{name}", text, ["model_name"], registry=registry, buckets=BUCKETS_S
            )
            return found.labels(model)

        self._model = model
        self.running = gauge("num_requests_running", "Requests in the batch.")
        self.waiting = gauge("num_requests_waiting", "Requests that wait for the batch.")
        self.cache_usage = gauge(
            "kv_cache_usage_perc", "Share of the KV cache's blocks that are reserved, 0 to 1."
        )
        self.cache_written = gauge(
            "kv_cache_written_tokens", "Tokens whose keys and values running requests have stored."
        )
        self.cache_bytes = gauge(
            "kv_cache_bytes", "Bytes of the tensors that hold keys and values, as allocated."
        )
        self.cache_token_bytes = gauge("kv_cache_token_bytes", "Bytes that one token takes there.")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts that were read.")
        self.generation_tokens = counter("generation_tokens", "Tokens that were generated.")
        self.decode_steps = counter("decode_steps", "Forward passes that decoded one token a row.")
        self.decode_rows = counter(
            "decode_rows", "Rows of those passes, the padding of static batches included."
        )
        self.first_token = histogram(
            "time_to_first_token_seconds", "From the arrival of a request to its first token."
        )
        self.between_tokens = histogram(
            "inter_token_latency_seconds", "From one token of a request to its next."
        )
        self.per_token = histogram(
            "request_time_per_output_token_seconds",
            "Mean time of a request's tokens after its first, one value for each request.",
        )
        self.latency = histogram(
            "e2e_request_latency_seconds", "From the arrival of a request to its last token."
        )
        self.queued = histogram(
            "request_queue_time_seconds", "From the arrival of a request to its start."
        )
        self._ended = Counter(
            "mlk8s:request_success",
            "Requests by how they ended: stop, length, or abort where the client had gone.",
            ["model_name", "finished_reason"],
            registry=registry,
        )

    def ended(self, reason: str) -> None:
        """Count a request that ended for a reason."""
        self._ended.labels(self._model, reason).inc()
