"""The task that the model learns: a request in words becomes a Kubernetes manifest.

A seeded generator makes as many (request, manifest) pairs as one wants, so that the truth is known
for each. The words are a closed list, their combinations are many: a pair of a name and a namespace
is either for training or held out, never both, so a held-out request is one that no training saw.
The manifests alone are the corpus for pre-training.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from mlk8s.errors import UsageError

Manifest = dict[str, Any]
Split = Literal["train", "held out"]

KINDS = ("Pod", "Deployment", "Job", "Service", "ConfigMap", "PersistentVolumeClaim")
# fmt: off
NAMES = (
    "web", "api", "cache", "db", "worker", "auth", "mail", "queue", "proxy", "shop", "blog", "chat",
    "search", "feed", "pay", "geo", "log", "cron", "train", "infer", "vision", "speech", "bot",
    "jobs",
)
IMAGES = (
    "nginx", "redis", "postgres", "python", "httpd", "busybox", "pytorch", "triton", "vllm", "ray",
    "kafka",
)
# fmt: on
NAMESPACES = ("dev", "test", "prod", "ops", "lab")
GPUS = (1, 2, 4, 8)
PORTS = (80, 443, 5432, 6379, 8000, 8080, 9000)
SIZES = ("1Gi", "5Gi", "10Gi", "20Gi", "50Gi", "100Gi")
#: A ConfigMap holds strings only, and YAML reads some of these as something else without quotes.
SETTINGS = {
    "LEVEL": ("debug", "info", "error"),
    "VERBOSE": ("true", "false"),
    "RETRIES": ("1", "3", "5"),
    "MODE": ("fast", "safe"),
}

#: Where the request ends and the answer begins: to YAML a comment and the start of a document.
_PROMPT = "# {request}\n---\n"
#: The token that ends an answer.
STOP = "<|end|>"
#: One in so many pairs of a name and a namespace is held out.
_HELD_OUT = 5

_VERBS = ("create", "make", "add", "i need", "please create", "give me")
_WORDS = {
    "Pod": ("pod", "single pod"),
    "Deployment": ("deployment", "deploy"),
    "Job": ("job", "batch job"),
    "Service": ("service", "svc"),
    "ConfigMap": ("configmap", "config map"),
    "PersistentVolumeClaim": ("pvc", "volume claim"),
}


@dataclass(frozen=True)
class Example:
    """A request and the one manifest that answers it.

    Attributes:
        request: words, in lower case but for the keys of settings.
        manifest: the object.
    """

    request: str
    manifest: Manifest

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.manifest["kind"])

    @property
    def prompt(self) -> str:
        """What the model is given."""
        return prompt(self.request)

    @property
    def answer(self) -> str:
        """What the model is to write before :data:`STOP`."""
        return to_yaml(self.manifest)


def prompt(request: str) -> str:
    """The text that asks the model for a manifest; its answer follows, and then :data:`STOP`."""
    return _PROMPT.format(request=request)


def to_yaml(manifest: Manifest) -> str:
    """The canonical form: keys in the order of the object, as ``kubectl get -o yaml`` indents."""
    # libyaml's: the same text in a fifth of the time, for the thousands that a tokenizer reads.
    return yaml.dump(manifest, Dumper=yaml.CSafeDumper, sort_keys=False)


def examples(count: int, *, seed: int = 0, split: Split = "train") -> list[Example]:
    """Pairs of a request and its manifest, all different in their requests.

    Args:
        count: how many.
        seed: the same seed gives the same examples.
        split: for training, or held out from it.

    Raises:
        UsageError: the split has another name, or ``count`` is negative.
    """
    if split not in ("train", "held out") or count < 0:
        raise UsageError(
            f"There are no {count} examples of split {split!r}.",
            "ask for a count of at least 0, and for split 'train' or 'held out'.",
        )
    stream = _stream(seed, split)
    found: dict[str, Example] = {}
    while len(found) < count:
        example = next(stream)
        found.setdefault(example.request, example)
    return list(found.values())


def corpus(count: int, *, seed: int = 0) -> list[str]:
    """Texts for pre-training: manifests in YAML, without a request. None is of a held-out pair.

    Args:
        count: how many.
        seed: the same seed gives the same texts.
    """
    # Beside the examples' seeds, or the corpus would hold the answers to just these.
    stream = _stream(-1 - seed, "train")
    return [next(stream).answer for _ in range(count)]


def held_out(name: str, namespace: str) -> bool:
    """Whether requests for this name in this namespace are kept from training."""
    return (NAMES.index(name) + NAMESPACES.index(namespace)) % _HELD_OUT == 0


def _stream(seed: int, split: Split) -> Iterator[Example]:
    draw = random.Random(f"{split} {seed}")
    while True:
        name, namespace = draw.choice(NAMES), draw.choice(NAMESPACES)
        if held_out(name, namespace) == (split == "held out"):
            yield _example(draw, draw.choice(KINDS), name, namespace)


def _example(draw: random.Random, kind: str, name: str, namespace: str) -> Example:
    """One pair: the details of the kind, each with a way to say it."""
    said = [draw.choice(("in {}", "in namespace {}")).format(namespace)]
    if kind == "Service":
        port = draw.choice(PORTS)
        said.append(draw.choice(("on port {}", "port {}")).format(port))
        body = service(name, namespace, port)
    elif kind == "ConfigMap":
        key = draw.choice(tuple(SETTINGS))
        value = draw.choice(SETTINGS[key])
        said.append(draw.choice(("with {} {}", "where {} is {}")).format(key, value))
        body = config_map(name, namespace, key, value)
    elif kind == "PersistentVolumeClaim":
        size = draw.choice(SIZES)
        said.append(draw.choice(("of {}", "with {}")).format(size))
        body = claim(name, namespace, size)
    else:
        image, gpus = draw.choice(IMAGES), draw.choice((0, *GPUS))
        said.append(draw.choice(("from {}", "using {}")).format(image))
        if gpus:
            said.append(draw.choice(("with {} gpu", "on {} gpu")).format(gpus))
        if kind == "Pod":
            body = pod(name, namespace, image, gpus)
        else:
            times = draw.randint(1, 9)
            said.append(draw.choice(("x{}", "{} times")).format(times))
            body = (deployment if kind == "Deployment" else job)(
                name, namespace, image, gpus, times
            )
    draw.shuffle(said)
    head = f"{draw.choice(_VERBS)} {draw.choice(_WORDS[kind])} {name}"
    return Example(" ".join([head, *said]), body)


def pod(name: str, namespace: str, image: str, gpus: int) -> Manifest:
    """A pod with one container."""
    return _object("v1", "Pod", name, namespace, spec=_containers(name, image, gpus))


def deployment(name: str, namespace: str, image: str, gpus: int, replicas: int) -> Manifest:
    """A Deployment of such pods."""
    labels = {"app": name}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        # Copies, or YAML would write an anchor and two references to it.
        "template": {
            "metadata": {"labels": dict(labels)},
            "spec": _containers(name, image, gpus),
        },
    }
    return _object("apps/v1", "Deployment", name, namespace, spec=spec)


def job(name: str, namespace: str, image: str, gpus: int, parallelism: int) -> Manifest:
    """A Job with so many pods at a time."""
    inner = {**_containers(name, image, gpus), "restartPolicy": "Never"}
    spec = {"parallelism": parallelism, "template": {"spec": inner}}
    return _object("batch/v1", "Job", name, namespace, spec=spec)


def service(name: str, namespace: str, port: int) -> Manifest:
    """A Service in front of the pods with the label ``app``."""
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return _object("v1", "Service", name, namespace, spec=spec)


def config_map(name: str, namespace: str, key: str, value: str) -> Manifest:
    """A ConfigMap with one entry."""
    return _object("v1", "ConfigMap", name, namespace, data={key: value})


def claim(name: str, namespace: str, size: str) -> Manifest:
    """A claim for a volume of the default class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return _object("v1", "PersistentVolumeClaim", name, namespace, spec=spec)


def _containers(name: str, image: str, gpus: int) -> Manifest:
    container: Manifest = {"name": name, "image": image}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    return {"containers": [container]}


def _object(version: str, kind: str, name: str, namespace: str, **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}
