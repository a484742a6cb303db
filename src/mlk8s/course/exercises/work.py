"""What an exercise's ``check.py`` gets: the reader's files, the cluster, and waits that end.

A check raises :class:`Wrong` for what the reader can put right. Every other error is ours (the
cluster is gone, the check has a fault) and never counts as a wrong answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mlk8s.cluster import Connection
from mlk8s.cluster.owners import RESOURCES
from mlk8s.cluster.wire import path, status
from mlk8s.course.exercises import calling, repairs
from mlk8s.course.exercises.pods import STAYS_S, Found, look_at
from mlk8s.errors import ClusterError, Mlk8sError, UsageError

Object = dict[str, Any]
T = TypeVar("T")

#: The file of the reader's values.
ANSWER = "answer.yaml"
#: On the exercise's namespace: what a check has applied, so that the next one can take it away.
APPLIED = "mlk8s.dev/applied"
_LOOK_EVERY_S = 0.05
# A wait that takes longer is said.
_QUIET_S = 1.0
# A live cluster pulls images.
_PATIENCE_S, _PATIENCE_LIVE_S = 20.0, 300.0


class Wrong(Exception):
    """The answer is not right (yet).

    Args:
        message: what is wrong, and where to look next; never the answer itself.
    """


class Work:
    """One reader's work on one exercise.

    Args:
        folder: the reader's files.
        connection: the cluster, in the exercise's own namespace; ``None`` with ``needs: none``.
        say: shows what a check is waiting for.
    """

    def __init__(
        self,
        folder: Path,
        connection: Connection | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder = folder
        self._connection = connection
        self._say = say

    @property
    def k(self) -> Connection:
        """The cluster; ``k.apply``, ``k.get`` and the rest work in the exercise's namespace."""
        if self._connection is None:
            raise RuntimeError("an exercise with a cluster says so in task.md (needs)")
        return self._connection

    @property
    def namespace(self) -> str:
        """The exercise's namespace."""
        return self.k.namespace

    # -- the reader's files ------------------------------------------------------------------------

    def file(self, name: str) -> Path:
        """A file of the reader.

        Raises:
            Wrong: it is not there.
        """
        found = self.folder / name
        if not found.is_file():
            there = ", ".join(each.name for each in sorted(self.folder.iterdir())) or "nothing"
            raise Wrong(f"{name} is missing; in {self.folder.name} there is: {there}.")
        return found

    def documents(self, name: str) -> list[Any]:
        """The documents of a YAML file.

        Raises:
            Wrong: the file is missing, is not YAML, or is empty.
        """
        try:
            found = [
                each for each in yaml.safe_load_all(self.file(name).read_text("utf-8")) if each
            ]
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise Wrong(f"{name} is not YAML: {error}.") from error
        if not found:
            raise Wrong(f"{name} is empty.")
        return found

    def objects(self, name: str, *kinds: str) -> list[Object]:
        """The Kubernetes objects of a manifest.

        Args:
            name: the reader's file.
            *kinds: those that the exercise is about; others are wrong.

        Raises:
            Wrong: it holds something else, or an object for another namespace.
        """
        found = self.documents(name)
        for body in found:
            if not isinstance(body, dict) or not {"apiVersion", "kind"} <= body.keys():
                raise Wrong(f"{name} holds something that is no Kubernetes object: {body!r:.60}.")
            metadata = body.get("metadata")
            if not isinstance(metadata, dict) or not metadata.get("name"):
                raise Wrong(f"A {body['kind']} in {name} has no metadata.name.")
            if kinds and body["kind"] not in kinds:
                raise Wrong(f"{name} holds a {body['kind']}; this is about: {', '.join(kinds)}.")
            if metadata.get("namespace", self.namespace) != self.namespace:
                raise Wrong(
                    f"{name} puts {metadata['name']} into the namespace {metadata['namespace']}. "
                    "Leave metadata.namespace out: the check chooses it."
                )
        return found

    def answer(self, key: str) -> Any:
        """A value that the reader wrote down; YAML reads yes and no as truth, here they are words.

        Raises:
            Wrong: it is not there.
        """
        document = self.documents(ANSWER)[0]
        if not isinstance(document, dict):
            raise Wrong(f"{ANSWER} is no list of `key: value` lines.")
        found = document.get(key)
        if found is None:
            raise Wrong(f"{ANSWER}: {key} has no value yet.")
        if isinstance(found, bool):
            return "yes" if found else "no"
        return found

    def number(self, key: str, unit: str) -> float:
        """The same for a figure.

        Raises:
            Wrong: it is not a plain number.
        """
        found = self.answer(key)
        if not isinstance(found, int | float):
            raise Wrong(f"{ANSWER}: {key} is {found!r}; write a plain number, in {unit}.")
        return float(found)

    def count(self, key: str) -> int:
        """The same for a number of things.

        Raises:
            Wrong: it is not whole, or less than nothing.
        """
        found = self.number(key, "whole numbers")
        if not found.is_integer() or found < 0:
            raise Wrong(f"{ANSWER}: {key} is {found:g}; write a whole number, 0 or more.")
        return int(found)

    def judge(
        self, right: Mapping[str, str], words: Collection[str], look: Mapping[str, str]
    ) -> None:
        """Judge cases that the reader gave a word each.

        Args:
            right: the word of each case.
            words: those that there are.
            look: where to look again, for each case.

        Raises:
            Wrong: the first case with another word, and how many there are.
        """
        given = {key: str(self.answer(key)).strip().lower() for key in right}
        for key, word in given.items():
            if word not in words:
                raise Wrong(f"{key}: {word!r} is none of {', '.join(words)}.")
        wrong = [key for key in right if given[key] != right[key]]
        if wrong:
            rest = f" ({len(wrong)} are wrong in all)" if len(wrong) > 1 else ""
            raise Wrong(f"Not {given[wrong[0]]} for {wrong[0]}{rest}. {look[wrong[0]]}")

    def unchanged(self, name: str, starter: Path, what_for: str) -> None:
        """Make sure that a file which only runs the reader's is the one that was handed out.

        Args:
            name: the file.
            starter: the folder that it was handed out from.
            what_for: one sentence: what it does.

        Raises:
            Wrong: it is another.
        """
        if self.file(name).read_text("utf-8") != (starter / name).read_text("utf-8"):
            raise Wrong(f"{name} is not as it was. {what_for}")

    def call(self, name: str, function: str, *arguments: Any, within_s: float = 60.0) -> Any:
        """Call a function of the reader's Python file, in a process of its own.

        Args:
            name: the file.
            function: in it.
            *arguments: JSON values, as the result must be.
            within_s: seconds that it may take, imports included.

        Raises:
            Wrong: the function is missing, raises, takes too long or returns something else.
        """
        source = self.file(name)
        self._say(f"{function}() of {name} to return, at most {within_s:g} s")
        try:
            return calling.call(source, function, arguments, within_s)
        except calling.CallFailed as error:
            raise Wrong(f"{function}() of {name} {error}.") from error

    def ray(self, name: str, function: str, within_s: float = 400.0) -> Object:
        """The same for a function that starts a Ray.

        Raises:
            Wrong: as :meth:`call`.
            Mlk8sError: the machine starts no Ray, which is no fault of the reader.
        """
        try:
            return dict(self.call(name, function, within_s=within_s))
        except Wrong as wrong:
            if "Mlk8sError: A node with" in str(wrong):
                raise Mlk8sError(
                    "No Ray starts on this machine, so your answer was not judged.",
                    "close what else is running, and check again.",
                ) from wrong
            raise

    # -- the cluster -------------------------------------------------------------------------------

    def apply(self, name: str, *kinds: str) -> list[Object]:
        """Apply a manifest of the reader in the place of what the last check applied.

        Args:
            name: the file.
            *kinds: those that are accepted.

        Raises:
            Wrong: it is no manifest, or the API server refuses it; in the server's words.
        """
        bodies = self.objects(name, *kinds)
        self.remove_applied()
        self._note(bodies)
        for body in bodies:
            kind, title = body["kind"], body["metadata"]["name"]
            try:
                # The reader may have applied it by hand, and most of a pod cannot be changed.
                self.remove(kind.lower(), title)
                self.k.apply(body)
            except UsageError as error:
                raise Wrong(f"{name}: {error.problem} {_sentence(error.next_step)}") from error
            except ClusterError as error:
                cause = error.__cause__
                refusal = cause if isinstance(cause, ClusterError) else error
                if status(refusal) not in (400, 403, 404, 409, 422):
                    raise
                said = error.problem.partition("The API server refused: ")[2] or error.problem
                raise Wrong(f"The API server refuses {kind} {title} of {name}: {said}") from error
        return bodies

    def remove_applied(self) -> None:
        """Delete what the last check applied."""
        home = self.k.find(path("namespaces", self.namespace)) or {"metadata": {}}
        noted = (home["metadata"].get("annotations") or {}).get(APPLIED)
        for kind, name in json.loads(noted) if noted else ():
            self.remove(kind, name)

    def _note(self, bodies: list[Object]) -> None:
        listed = [(body["kind"].lower(), body["metadata"]["name"]) for body in bodies]
        note = {"metadata": {"annotations": {APPLIED: json.dumps(listed)}}}
        self.k.patch("namespaces", self.namespace, note)

    def remove(self, kind: str, name: str) -> None:
        """Delete at once: nobody waits for the thirty seconds of grace of a pod under test."""
        if kind != "pod":
            self.k.delete(kind, name)
            if kind in RESOURCES:
                self.until(f"the pods of {kind} {name} to be gone", lambda: not self._owned(name))
            return
        where = path("pods", name, self.namespace)
        if self.k.find(where, "DELETE", {"gracePeriodSeconds": 0}) is not None:
            self.until(f"pod {name} to be gone", lambda: self.k.find(where) is None)

    def _owned(self, name: str) -> list[Object]:
        """The pods of a workload, or of what it made."""
        return [
            pod
            for pod in self.k.items(path("pods", namespace=self.namespace))
            for owner in pod["metadata"].get("ownerReferences") or ()
            if owner["name"] == name or owner["name"].startswith(f"{name}-")
        ]

    def node(self, name: str) -> Object:
        """A node."""
        return self.k.request("GET", path("nodes", name))

    def operands(self, app: str, node: str) -> list[Object]:
        """The pods of one of NVIDIA's parts that run on a node; ``app`` names its DaemonSet."""
        return repairs.operands(self.k, app, node)

    def pod(self, name: str) -> Object:
        """A pod of the exercise's namespace; empty when there is none."""
        return self.k.find(path("pods", name, self.namespace)) or {}

    def until(self, what: str, look: Callable[[], T | None], within_s: float | None = None) -> Any:
        """Look again and again until there is something to see.

        Args:
            what: what is waited for; the reader sees "waiting for …".
            look: gives something true at the end.
            within_s: give up after so many seconds; 20 by default, 300 on a live cluster.

        Returns:
            What ``look`` gave; ``None`` when the time was up.
        """
        limit = within_s or (_PATIENCE_S if self.k.embedded is not None else _PATIENCE_LIVE_S)
        began, said = time.monotonic(), False
        while not (found := look()):
            passed = time.monotonic() - began
            if passed > limit:
                return None
            if passed > _QUIET_S and not said:
                self._say(f"{what}, at most {limit:g} s")
                said = True
            time.sleep(_LOOK_EVERY_S)
        return found

    def settled(self, pod: str, within_s: float | None = None) -> Found:
        """What becomes of a pod: it runs, it ends, it cannot start, or it finds no node.

        Only what lasts counts: a container that fails at once is seen to run for a moment, and the
        scheduler's "no" may be about a node that is just changing.
        """
        return self.all_settled(pod, within_s=within_s)[pod]

    def all_settled(self, *pods: str, within_s: float | None = None) -> dict[str, Found]:
        """The same for several pods at a time, by name."""
        live = self.k.embedded is None
        missing = "there is no pod {} in namespace " + self.namespace
        last = {pod: Found("missing", {}, missing.format(pod)) for pod in pods}
        since = dict.fromkeys(pods, time.monotonic())

        def look() -> bool:
            lasts = []
            for pod in pods:
                before, last[pod] = last[pod], look_at(self.pod(pod), last[pod])
                if last[pod].state != before.state:
                    since[pod] = time.monotonic()
                stays = STAYS_S.get(last[pod].state)
                lasts.append(stays is not None and time.monotonic() - since[pod] >= stays[live])
            return all(lasts)

        noun = "pod" if len(pods) == 1 else "pods"
        self.until(f"{noun} {', '.join(pods)} to run", look, within_s)
        return last

    def running(self, pod: str, within_s: float | None = None) -> Object:
        """A pod that runs or has ended well.

        Raises:
            Wrong: it does not; with the cluster's words and the command that says more.
        """
        found = self.settled(pod, within_s)
        if found.state in ("runs", "done"):
            return found.pod
        did = {
            "waits": "has no node",
            "failed": "failed",
            "stuck": f"is on {found.node} and cannot run",
            "starting": f"is on {found.node or 'no node'} and does not run yet",
            "missing": "is not there",
        }[found.state]
        raise Wrong(
            f"Pod {pod} {did}: {found.says.rstrip('.')}.\n"
            f"Look at: mlk8s cluster why {self.namespace}/{pod}"
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
