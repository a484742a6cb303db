"""The cluster's side of an exercise: its namespace, its faults, and taking all of it away again.

What is under way is written in the cluster itself, as labels of the exercise's namespace. So it is
known after a new start of the cluster (nothing is), from a notebook and from a terminal, and
however an earlier command ended.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mlk8s.cluster import Connection
from mlk8s.cluster.connection import MANAGED
from mlk8s.cluster.wire import path
from mlk8s.course.exercises.catalogue import Exercise, ExerciseError
from mlk8s.course.exercises.repairs import OPERANDS
from mlk8s.course.exercises.work import Work, Wrong
from mlk8s.errors import ClusterError, Mlk8sError

_EXERCISE, _LABS, _READY = "mlk8s.dev/exercise", "mlk8s.dev/labs", "mlk8s.dev/ready"
_GONE_WITHIN_S = 120.0
_READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05
_README = "labs/exercises/README.md describes the form; tell the course's authors."


class Stage:
    """One exercise on one cluster.

    Args:
        exercise: what is worked on.
        folder: the reader's files.
        connection: the cluster; ``None`` for an exercise without one.
        say: shows what is waited for.
    """

    def __init__(
        self,
        exercise: Exercise,
        folder: Path,
        connection: Connection | None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.exercise = exercise
        self.connection = connection
        self.k = None if connection is None else inside(connection, exercise.number)
        self.labs = "" if connection is None else connection.namespace
        self.work = Work(folder, self.k, say)
        self._module: ModuleType | None = None

    @property
    def ready(self) -> bool:
        """Whether the cluster is in the state that the task describes, or the reader's since."""
        if self.k is None:
            return True
        home = self.k.find(path("namespaces", self.k.namespace))
        return (
            home is not None
            and _READY in (home["metadata"].get("annotations") or {})
            and "deletionTimestamp" not in home["metadata"]
        )

    def prepare(self) -> None:
        """Bring the cluster into the state that the task describes, from whatever it is in.

        Raises:
            ClusterError: the cluster refused something.
            ExerciseError: the exercise's own code failed.
        """
        if self.k is None:
            self._call("prepare")
            return
        self.clean()
        self.k.request("POST", path("namespaces"), self._home())
        if self.k.embedded is not None:
            for name in self.exercise.addons:
                self.k.enable(name)
            if self.exercise.faults:
                self._await_operands()
            for name, node in self.exercise.faults:
                _ask(self.k.embedded.fault_on, name, node)
        self._call("prepare")
        ready = {"metadata": {"annotations": {_READY: "true"}}}
        self.work.k.patch("namespaces", self.k.namespace, ready)

    def clean(self) -> bool:
        """Take away all that the exercise brought into the cluster; files stay.

        Returns:
            Whether there was anything.
        """
        if self.k is None or self.k.find(path("namespaces", self.k.namespace)) is None:
            return False
        self._call("clean")
        if self.k.embedded is not None:
            for name, _ in self.exercise.faults:
                _ask(self.k.embedded.fault_off, name)
        remove(self.k)
        return True

    def check(self) -> str:
        """What was proven.

        Raises:
            Wrong: the answer is not right.
            ExerciseError: the exercise's own code failed.
        """
        if switched_off := self._switched_off():
            raise Wrong(
                f"The fault {switched_off[0]} was switched off. That undoes what broke the "
                "cluster, and repairs nothing. Begin anew (start, with force), and repair it as on "
                "a real node."
            )
        said = self._call("check")
        if not isinstance(said, str) or not said:
            raise ExerciseError(
                f"check() of exercise {self.exercise.number} returned {said!r}, no sentence.",
                _README,
            )
        return said

    def others(self) -> Iterator[str]:
        """The numbers of the other exercises that this reader has under way in the cluster."""
        if self.k is None:
            return
        for home in self.k.items(path("namespaces"), labelSelector=f"{_LABS}={self.labs}"):
            number = home["metadata"]["labels"].get(_EXERCISE, "")
            if number != self.exercise.number:
                yield number

    def strange_faults(self) -> list[str]:
        """Faults that are on in the embedded cluster, and not by this exercise."""
        if self.k is None or self.k.embedded is None:
            return []
        own = {name for name, _ in self.exercise.faults}
        embedded = self.k.embedded
        return [name for name in _ask(embedded.status)["faults"] if name not in own]

    def _switched_off(self) -> list[str]:
        """Faults of this exercise that are no longer on; a repair leaves them on."""
        if self.k is None or self.k.embedded is None or not self.exercise.faults:
            return []
        on = _ask(self.k.embedded.status)["faults"]
        return [name for name, _ in self.exercise.faults if name not in on]

    def _await_operands(self) -> None:
        """A fault finds NVIDIA's pods at work, as on a cluster that has been up for a while."""
        k = self.k
        assert k is not None

        def ready() -> bool:
            found = [each["status"] for each in k.items(path("apps/v1/daemonsets", "", OPERANDS))]
            return bool(found) and all(
                "numberReady" in each and each["numberReady"] == each["desiredNumberScheduled"]
                for each in found
            )

        if self.work.until("NVIDIA's pods to be ready", ready, _READY_WITHIN_S) is None:
            raise ClusterError(
                f"Not all of NVIDIA's pods became ready within {_READY_WITHIN_S:g} s.",
                f"look at them: kubectl get pods -n {OPERANDS}.",
            )

    def _home(self) -> dict[str, Any]:
        assert self.k is not None
        marks = {_EXERCISE: self.exercise.number, _LABS: self.labs}
        return {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.k.namespace, "labels": {**MANAGED, **marks}},
        }

    def _call(self, name: str) -> Any:
        """Call a function of the exercise's ``check.py``, if it has it."""
        if self._module is None:
            self._module = load_module(self.exercise.folder / "check.py")
        function = getattr(self._module, name, None)
        if function is None and name != "check":
            return None
        try:
            return function(self.work)  # type: ignore[misc]
        except (Wrong, Mlk8sError):
            raise
        except Exception as error:
            raise ExerciseError(
                f"{name}() of exercise {self.exercise.number} failed by itself "
                f"({type(error).__name__}: {error}); your answer was not judged.",
                "tell the course's authors, with your files.",
            ) from error


def inside(connection: Connection, number: str) -> Connection:
    """The same connection in an exercise's namespace: beside the labs', so readers do not meet."""
    own = f"{connection.namespace}-{number.replace('.', '-')}"
    return replace(connection, namespace=own, on_close=None)


def remove(k: Connection) -> None:
    """Delete the connection's namespace, and wait until it is gone.

    Raises:
        ClusterError: somebody else made it, or it is still there after two minutes.
    """
    k.remove_namespace()
    deadline = time.monotonic() + _GONE_WITHIN_S
    while k.find(path("namespaces", k.namespace)) is not None:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"The namespace {k.namespace} is still there {_GONE_WITHIN_S:g} s after its "
                "deletion.",
                f"see what holds it: kubectl get namespace {k.namespace} -o yaml.",
            )
        time.sleep(_LOOK_EVERY_S)


def load_module(source: Path) -> ModuleType:
    """A Python file as a module of its own.

    Raises:
        ExerciseError: it does not load.
    """
    spec = importlib.util.spec_from_file_location(f"{source.parent.name}.{source.stem}", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ExerciseError(
            f"{source} does not load ({type(error).__name__}: {error}).", _README
        ) from error
    return module


def _ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the embedded cluster answers; its refusal as an error of the library."""
    from mlk8s.sim import ClusterError as Broken

    try:
        return call(*arguments)
    except Broken as error:
        raise ClusterError(
            f"The embedded cluster: {str(error).rstrip('.')}.", "see: mlk8s cluster status."
        ) from error
