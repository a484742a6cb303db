"""Getting a container's image: pulled, present, refused, or tried again later and later.

The order of checks, events and texts are those of ``pkg/kubelet/images/image_manager.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlk8s.sim.kubelet.container import Container
from mlk8s.sim.kubelet.images import Image, InvalidName, PullError

if TYPE_CHECKING:
    from mlk8s.sim.kubelet.worker import Worker

# Simulated seconds. A pull of an image that the node does not have; one that only asks the
# registry whether the image is still the same (imagePullPolicy: Always).
PULL_S = 0.8
CHECK_S = 0.15
# How long ErrImagePull is shown before ImagePullBackOff.
FAILED_PULL_S = 2.0
# How long until something that cannot be made is tried again (the pod worker's back-off).
RETRY_S = 10.0


def pull(worker: Worker, container: Container, now: float) -> bool:
    """Get the image; says whether it is there."""
    name: str = container.spec["image"]
    kubelet = worker.kubelet
    shown = f'"{name}"'
    if container.step == "pulling":
        if container.pull_error:
            _failed(worker, container, now)
            return False
        kubelet.keep_image(worker.node, name)
        took = duration(now - container.pull_began)
        size = kubelet.catalogue.resolve(name).size
        worker.event(
            "Normal",
            "Pulled",
            f"Successfully pulled image {shown} in {took} ({took} including waiting). "
            f"Image size: {size} bytes.",
            container,
        )
        container.step = "create"
        return True
    if container.step == "failed-pull":
        left = container.pulls.wait(container.pulls.updated, now)
        if left > 0:
            message = f"Back-off pulling image {shown}"
            worker.event("Normal", "BackOff", message, container)
            worker.event("Warning", "Failed", "Error: ImagePullBackOff", container)
            container.wait("ImagePullBackOff", f"{message}: ErrImagePull: {container.pull_error}")
            container.due = now + left
            return False
        container.step = "new"
    try:
        image = _image(worker, container)
    except InvalidName as error:
        worker.event("Warning", "InspectFailed", str(error), container)
        worker.event("Warning", "Failed", "Error: InvalidImageName", container)
        container.wait("InvalidImageName", str(error))
        container.due = now + RETRY_S
        return False
    policy = container.spec.get("imagePullPolicy", "IfNotPresent")
    present = kubelet.has_image(worker.node, name)
    if present and policy != "Always":
        worker.event(
            "Normal",
            "Pulled",
            f"Container image {shown} already present on machine and can be accessed by the pod",
            container,
        )
        container.step = "create"
        return True
    if policy == "Never":
        message = f"Container image {shown} is not present with pull policy of Never"
        worker.event("Warning", "ErrImageNeverPull", message, container)
        worker.event("Warning", "Failed", "Error: ErrImageNeverPull", container)
        container.wait("ErrImageNeverPull", message)
        container.due = now + RETRY_S
        return False
    worker.event("Normal", "Pulling", f"Pulling image {shown}", container)
    container.pull_error = image if isinstance(image, str) else ""
    container.step, container.pull_began = "pulling", now
    container.due = now + (CHECK_S if present or container.pull_error else PULL_S)
    return False


def _image(worker: Worker, container: Container) -> Image | str:
    """The image, or why it cannot be pulled."""
    if fault := worker.kubelet.faults.of(worker.pod, "pull", container.name):
        return fault.message
    try:
        return worker.kubelet.catalogue.resolve(container.spec["image"])
    except PullError as error:
        return str(error)


def _failed(worker: Worker, container: Container, now: float) -> None:
    shown = f'"{container.spec["image"]}"'
    error = container.pull_error
    worker.event("Warning", "Failed", f"Failed to pull image {shown}: {error}", container)
    worker.event("Warning", "Failed", "Error: ErrImagePull", container)
    container.pulls.grow(now, now)
    container.wait("ErrImagePull", error)
    container.step, container.due = "failed-pull", now + FAILED_PULL_S


def duration(seconds: float) -> str:
    """A time as Go prints it, in thousandths: ``1.2s``, ``1m20s``, ``150ms``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{text}" if minutes else text
