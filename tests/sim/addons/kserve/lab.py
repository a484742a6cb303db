"""What tests do with KServe, asked over HTTP, on a clock that they drive."""

from __future__ import annotations

from typing import Any

from ..lab import HOME, Lab, Object

GROUP = "serving.kserve.io"
SERVICES = f"/apis/{GROUP}/v1beta1{HOME}/inferenceservices"
RUNTIMES = f"/apis/{GROUP}/v1alpha1{HOME}/servingruntimes"
CLUSTER_RUNTIMES = f"/apis/{GROUP}/v1alpha1/clusterservingruntimes"
DEPLOYMENTS = f"/apis/apps/v1{HOME}/deployments"
AUTOSCALERS = f"/apis/autoscaling/v2{HOME}/horizontalpodautoscalers"
INGRESSES = f"/apis/networking.k8s.io/v1{HOME}/ingresses"
CORE = f"/api/v1{HOME}"
PAUSE = "registry.k8s.io/pause:3.10"


def runtime(name: str, format: str = "onnx", **spec: Any) -> Object:
    """A runtime for a format, whose server runs until it is stopped."""
    formats = spec.pop("formats", [{"name": format, "autoSelect": True}])
    container = {"name": "kserve-container", "image": PAUSE, **spec.pop("container", {})}
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name},
        "spec": {"supportedModelFormats": formats, "containers": [container], **spec},
    }


class ServingLab(Lab):
    """A cluster with KServe, in few words."""

    def runtime(self, name: str, format: str = "onnx", **spec: Any) -> None:
        answer = self.post(RUNTIMES, runtime(name, format, **spec))
        assert answer.status == 201, answer.message

    def body(self, name: str, predictor: Object, annotations: Any = None, **spec: Any) -> Object:
        metadata = {"name": name, "annotations": annotations or {}}
        return {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "InferenceService",
            "metadata": metadata,
            "spec": {"predictor": predictor, **spec},
        }

    def serve(self, name: str, predictor: Object, annotations: Any = None, **spec: Any) -> None:
        answer = self.post(SERVICES, self.body(name, predictor, annotations, **spec))
        assert answer.status == 201, answer.message
        self.wait()

    def own(self, name: str, annotations: Any = None, **predictor: Any) -> None:
        """An InferenceService with a container of its own, which runs until it is stopped."""
        container = {"image": PAUSE, **predictor.pop("container", {})}
        self.serve(name, {"containers": [container], **predictor}, annotations)

    def model(self, name: str, **model: Any) -> None:
        """An InferenceService for a model in a format that a test's runtime serves."""
        predictor = model.pop("predictor", {})
        wanted = {"modelFormat": {"name": "onnx"}, **model}
        self.serve(name, {"model": wanted, **predictor})

    def refused(self, predictor: Object, name: str = "m", **spec: Any) -> str:
        """What the server says to an InferenceService that it does not take."""
        answer = self.post(SERVICES, self.body(name, predictor, **spec))
        assert answer.status in (403, 422), answer.body
        return answer.message

    def service(self, name: str) -> Any:
        return self.get(f"{SERVICES}/{name}")

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """Status and reason of each condition."""
        found = self.service(name).get("status", {}).get("conditions", [])
        return {each["type"]: (each["status"], each.get("reason", "")) for each in found}

    def deployment(self, name: str) -> Any:
        return self.get(f"{DEPLOYMENTS}/{name}-predictor")

    def container(self, name: str) -> Any:
        """The server's container as the Deployment has it."""
        return self.deployment(name)["spec"]["template"]["spec"]["containers"][0]

    def predictors(self, name: str) -> list[Object]:
        """The pods of a predictor."""
        selector = f"{GROUP}/inferenceservice%3D{name}"
        return list(self.get(f"{CORE}/pods?labelSelector={selector}")["items"])

    def there(self, path: str) -> bool:
        return bool(self.client("GET", path).status == 200)

    def clear(self) -> None:
        """Delete what a test made, and wait for its pods to end."""
        for path in (SERVICES, RUNTIMES, f"{CORE}/resourcequotas", f"{CORE}/events"):
            assert self.client("DELETE", path).status in (200, 404)
        self.wait(40)
