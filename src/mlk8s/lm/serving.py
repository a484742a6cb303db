"""A model server for the course's language model: KServe's, with OpenAI's completions beside.

Run it as ``python -m mlk8s.lm.serving --model_name manifest --model_dir DIR --http_port 8080``. The
options that KServe's own Hugging Face server has as well are named as there
(kserve/kserve, python/huggingfaceserver).
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.lm.batching import Kind
from mlk8s.lm.runner import check_folder

if TYPE_CHECKING:
    from mlk8s.lm.engine import Engine

_ABOUT = """\
Serve a language model over HTTP, as the predictor container of a KServe InferenceService does.

  GET  /v2/health/ready               200 once the model is loaded; before, nothing listens
  GET  /metrics                       for Prometheus: mlk8s:* (named as vLLM's vllm:*) and KServe's
  GET  /openai/v1/models              what is served
  POST /openai/v1/completions         OpenAI's completions, "stream": true for server-sent events
  POST /v1/models/NAME:predict        KServe V1
  POST /v2/models/NAME/infer          KServe V2, the Open Inference Protocol
"""

_EXAMPLES = """\
How requests share the model (--batching):
  none        one after the other
  static      wait up to --static_wait_ms for a batch to fill, run it until its longest request ends
  continuous  requests join and leave the running batch after every token

Bounds: a request reserves the KV cache of its prompt and max_tokens before it starts, and waits
where the batch or the cache is full. Prompt and max_tokens over --max_model_len: status 400. More
requests than --max_batch_size and --max_waiting together: status 429. SIGTERM: no new connections,
what runs ends within --grace_period seconds, exit status 0.

Example:
  python -m mlk8s.lm.serving --model_name manifest --model_dir ./model --http_port 8080
  curl -N localhost:8080/openai/v1/completions -H 'content-type: application/json' \\
    -d '{"model": "manifest", "prompt": "kind:", "max_tokens": 20, "stream": true}'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        arguments: the command line without the program's name; ``None`` takes this process's.

    Returns:
        The exit status: 0; 1 after one line about what is wrong; 130 on Ctrl-C while it loads.
    """
    options = _parser().parse_args(arguments)
    try:
        check_folder(options.model_dir)
        _check_port(options.http_port)
        _serve(options)
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted before the model was loaded", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlk8s.lm.serving",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model_name", default="model", help="its name in paths and requests (default: model)")
    add(
        "--model_dir",
        type=Path,
        default=Path("/mnt/models"),
        help="folder of save_pretrained, model and tokenizer (default: /mnt/models, where KServe's "
        "storage initializer puts it)",
    )
    add("--http_port", type=int, default=8080, help="default: 8080")
    add(
        "--batching",
        type=Kind,
        choices=list(Kind),
        default=Kind.CONTINUOUS,
        metavar="{none,static,continuous}",
        help="default: continuous",
    )
    add("--max_batch_size", type=_positive, default=8, help="requests that run together (8)")
    add("--static_wait_ms", type=float, default=20.0, help="of --batching static (20)")
    add("--max_waiting", type=_positive, default=64, help="requests beyond a full batch (64)")
    add("--max_model_len", type=_positive, help="tokens of prompt and answer (the model's own)")
    add(
        "--kv_cache_tokens",
        type=_positive,
        help="tokens whose keys and values fit (max_batch_size times max_model_len)",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add(
        "--threads",
        type=_positive,
        default=os.environ.get("OMP_NUM_THREADS", "1"),
        help="of PyTorch on the processor (OMP_NUM_THREADS, or 1: the course's model is too small "
        "to gain from more)",
    )
    add("--grace_period", type=_positive, default=30, help="seconds to end requests in (30)")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _check_port(port: int) -> None:
    """Refuse a port that is in use, before the model is loaded.

    Raises:
        UsageError: the port cannot be listened on.
    """
    # KServe listens on all addresses, and leaves no choice (kserve 0.21, protocol/rest/server.py).
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("0.0.0.0", port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"Port {port} cannot be listened on: {reason}.", "give another --http_port."
            ) from error


def _serve(options: argparse.Namespace) -> None:
    """Load the model, then listen."""
    gc.disable()  # 600,000 objects that stay are made now, and each collection walks over them
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read when PyTorch is imported
    import prometheus_client
    import torch

    from mlk8s.lm.engine import Engine
    from mlk8s.lm.runner import ModelRunner, warm_up
    from mlk8s.lm.serving_metrics import Metrics

    # They are a second series for each counter.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    torch.set_num_threads(options.threads)
    runner = ModelRunner(
        options.model_dir,
        max_model_len=options.max_model_len,
        kv_cache_tokens=options.kv_cache_tokens,
        max_batch_size=options.max_batch_size,
        device=options.device,
    )
    warm_up(runner)
    engine = Engine(
        runner,
        Metrics(options.model_name),
        kind=options.batching,
        max_batch_size=options.max_batch_size,
        max_waiting=options.max_waiting,
        static_wait_s=options.static_wait_ms / 1000,
    )
    _listen(options, engine)


def _listen(options: argparse.Namespace, engine: Engine) -> None:
    """Hand the loaded model to KServe's server, which returns when it is told to stop."""
    with _without("kubernetes_validate"):
        from kserve import ModelServer  # type: ignore[import-untyped]
        from kserve.model_server import app  # type: ignore[import-untyped]

    from mlk8s.lm.completions import router
    from mlk8s.lm.engine import QueueFull, Stopped
    from mlk8s.lm.predictor import Predictor, unavailable

    # KServe's own examples add routes to its application this way
    # (kserve/kserve, python/custom_model/model_remote.py).
    app.include_router(router(engine, options.model_name))
    app.add_exception_handler(QueueFull, unavailable)
    app.add_exception_handler(Stopped, unavailable)
    # Of FastAPI to KServe, at the first request; there is nothing a reader could do.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    server = ModelServer(
        http_port=options.http_port,
        workers=1,  # the model and its batch are in this process
        enable_grpc=False,
        enable_latency_logging=False,
        grace_period=options.grace_period,
    )
    # Two lines for each request, beside the access log's.
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    gc.freeze()
    gc.enable()
    server.start([Predictor(options.model_name, engine)])


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Import without a package that is optional: to Python it is not installed meanwhile.

    kserve imports the Kubernetes client, which takes kubernetes_validate where it is there
    (kubernetes 30.1, dynamic/client.py), and that builds a grammar for 1.6 s. A server of one
    model validates no manifests. ``None`` in ``sys.modules`` is Python's own way to say so (The
    Python Language Reference, section 5.3.1).
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


if __name__ == "__main__":
    sys.exit(main())
