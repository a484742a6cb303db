"""The pods of predictors: KServe's own webhook for them, and what this machine needs besides.

KServe mounts the model when the pod is made (v0.20.0:
``pkg/webhook/admission/pod/storage_initializer_injector.go``). The rest is this model's: servers
share the machine's ports, so one that takes its port as an argument is told the port that the
kubelet has for it; the pod says so in an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlk8s.sim.addons.base import Hook
from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.predictor import first_port
from mlk8s.sim.addons.machine import note
from mlk8s.sim.kubelet.environment import PORT_PREFIX
from mlk8s.sim.kubelet.images import Catalogue, InvalidName, PullError, parse
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

# The arguments of kserve.ModelServer and of the Hugging Face server (python/kserve/kserve/
# model_server.py, python/huggingfaceserver/huggingfaceserver/__main__.py).
_HTTP_PORT, _MODEL_DIR = "--http_port", "--model_dir"
_HUGGING_FACE = "docker.io/kserve/huggingfaceserver"
_ARGUMENT = re.compile(rf"({_HTTP_PORT}=)\d+")


class PodHook(Hook):
    """Mounts the model, and tells a server its port.

    Args:
        catalogue: says which images run as processes.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Complete a new pod of a predictor."""
        labels = obj["metadata"].get("labels") or {}
        if op != "CREATE" or resource.key != "pods" or names.SERVICE_LABEL not in labels:
            return
        _mount(obj)
        changed: list[str] = []
        for container in obj["spec"].get("containers") or ():
            if container["name"] in (names.SERVER, names.TRANSFORMER):
                changed += self._adapt(container)
        note(obj, changed)

    def _adapt(self, container: Object) -> Iterator[str]:
        try:
            image = self.catalogue.resolve(container["image"])
        except (InvalidName, PullError):
            # It will not run, and its events say why.
            return
        if image.kind != "process":
            return
        if not container.get("ports"):
            container["ports"] = [{"containerPort": names.PORT, "protocol": "TCP"}]
            yield "ports"
        port = f"$({PORT_PREFIX}{first_port(container)})"
        told = False
        for part in ("command", "args"):
            words = container.get(part) or []
            for at, word in enumerate(words):
                if _ARGUMENT.fullmatch(word):
                    words[at] = f"{_HTTP_PORT}={port}"
                elif at and words[at - 1] == _HTTP_PORT and word.isdecimal():
                    words[at] = port
                else:
                    continue
                told = True
                yield _HTTP_PORT
        if parse(container["image"]).repository != _HUGGING_FACE or container.get("command"):
            return
        arguments = container.setdefault("args", [])
        if not told:
            arguments.append(f"{_HTTP_PORT}={port}")
            yield _HTTP_PORT
        mounted = any(
            each["mountPath"] == names.MODELS for each in container.get("volumeMounts") or ()
        )
        if mounted and not any(word.startswith(_MODEL_DIR) for word in arguments):
            # Its default, which is a path of this machine unless it stands in the command.
            arguments.append(f"{_MODEL_DIR}={names.MODELS}")
            yield _MODEL_DIR


def _mount(pod: Object) -> None:
    """Mount the claim that holds the model, as a whole or a path in it."""
    annotations = pod["metadata"].get("annotations") or {}
    source = annotations.get(names.SOURCE, "")
    if not source.startswith(names.CLAIM):
        return
    claim, _, path = source.removeprefix(names.CLAIM).partition("/")
    read_only = annotations.get(names.READ_ONLY) != "false"
    spec = pod["spec"]
    for container in spec["containers"]:
        mounts = container.setdefault("volumeMounts", [])
        wanted = container["name"] in (names.SERVER, names.TRANSFORMER)
        if not wanted or any(each["name"] == names.CLAIM_VOLUME for each in mounts):
            continue
        mount: Object = {"name": names.CLAIM_VOLUME, "mountPath": names.MODELS}
        mount |= {"readOnly": True} if read_only else {}
        mount |= {"subPath": path} if path else {}
        mounts.append(mount)
        for variable in container.get("env") or ():
            if variable["name"] == names.STORAGE_VARIABLE and variable.get("value"):
                variable["value"] = names.MODELS
    volumes = spec.setdefault("volumes", [])
    if all(each["name"] != names.CLAIM_VOLUME for each in volumes):
        holder = {"persistentVolumeClaim": {"claimName": claim}}
        volumes.append({"name": names.CLAIM_VOLUME, **holder})
