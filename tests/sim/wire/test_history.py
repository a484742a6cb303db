"""Random histories against a dict: every list is the model at its revision, no event is lost."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlk8s.sim import Cluster

from .client import MERGE, Client, configmap

NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.sampled_from(["", "x", "y"])
STEP = st.one_of(
    st.tuples(st.just("create"), NAMES, LABELS),
    st.tuples(st.just("replace"), NAMES, LABELS),
    st.tuples(st.just("merge"), NAMES, LABELS),
    st.tuples(st.just("strategic"), NAMES, LABELS),
    st.tuples(st.just("json"), NAMES, LABELS),
    st.tuples(st.just("apply"), NAMES, LABELS),
    st.tuples(st.just("delete"), NAMES, st.just("")),
    st.tuples(st.just("hold"), NAMES, st.just("")),
    st.tuples(st.just("release"), NAMES, st.just("")),
    st.tuples(st.just("page"), st.just(""), LABELS),
)
Model = dict[str, dict[str, Any]]
RUNS = itertools.count()
FINALIZER = "example.com/held"


class History:
    """What was done in one namespace, and what should be there after each of it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.namespace = f"history-{next(RUNS)}"
        client("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        listed = client("GET", self.path).json
        self.now: Model = {item["metadata"]["name"]: item for item in listed["items"]}
        # The namespace's own ConfigMap comes when its controller has got to it.
        while "kube-root-ca.crt" not in self.now:
            listed = client("GET", self.path).json
            self.now = {item["metadata"]["name"]: item for item in listed["items"]}
        self.moments: list[tuple[int, Model]] = [
            (int(listed["metadata"]["resourceVersion"]), self.now)
        ]
        self.events: list[tuple[str, dict[str, Any]]] = []

    def step(self, action: str, name: str, label: str) -> None:
        if action == "page":
            self.check_pages(label)
            return
        answer = self.send(action, name, label)
        old = self.now.get(name)
        if old is None and action not in ("create", "apply"):
            assert answer.status == 404, answer.body
            return
        if old is not None and action == "create":
            assert answer.status == 409, answer.body
            return
        assert answer.status in (200, 201), answer.body
        found = self.client("GET", f"{self.path}/{name}")
        if found.status == 404:
            assert action in ("delete", "release")
            assert old is not None
            assert action == "delete" or "deletionTimestamp" in old["metadata"]
            self.changed("DELETED", name, None)
            return
        new = found.json
        assert action != "delete" or "finalizers" in new["metadata"]
        if old is None:
            self.changed("ADDED", name, new)
        elif new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            self.changed("MODIFIED", name, new)
        if action not in ("delete", "hold", "release"):
            assert new["data"]["v"] == label

    def send(self, action: str, name: str, label: str) -> Any:
        one, labels = f"{self.path}/{name}", {"l": label} if label else {}
        match action:
            case "create":
                return self.client("POST", self.path, configmap(name, labels, v=label))
            case "replace":
                body = configmap(name, labels, v=label)
                held = self.now.get(name, {}).get("metadata", {}).get("finalizers")
                body["metadata"]["finalizers"] = held or []
                return self.client("PUT", one, body)
            case "merge" | "strategic":
                kind = MERGE if action == "merge" else "application/strategic-merge-patch+json"
                body = {"metadata": {"labels": {"l": label or None}}, "data": {"v": label}}
                return self.client("PATCH", one, body, kind)
            case "json":
                operations = [
                    {"op": "add", "path": "/metadata/labels", "value": labels},
                    {"op": "add", "path": "/data", "value": {"v": label}},
                ]
                return self.client("PATCH", one, operations, "application/json-patch+json")
            case "apply":
                options = "?fieldManager=test&force=true"
                body = configmap(name, labels, v=label)
                return self.client("PATCH", one + options, body, "application/apply-patch+yaml")
            case "delete":
                return self.client("DELETE", one)
            case "hold" | "release":
                held = [FINALIZER] if action == "hold" else []
                if "deletionTimestamp" in self.now.get(name, {}).get("metadata", {}):
                    held = []  # none may be added any more
                body = {"metadata": {"finalizers": held}}
                return self.client("PATCH", one, body, MERGE)
        raise AssertionError(action)

    def changed(self, type: str, name: str, obj: dict[str, Any] | None) -> None:
        revision = int((obj or self.listed(""))["metadata"]["resourceVersion"])
        assert revision > self.moments[-1][0], "resourceVersions rise"
        self.events.append((type, obj or self.now[name]))
        self.now = {key: value for key, value in self.now.items() if key != name}
        if obj is not None:
            self.now[name] = obj
        self.moments.append((revision, self.now))

    def listed(self, query: str) -> Any:
        return self.client("GET", f"{self.path}?{query}").json

    def check_pages(self, label: str) -> None:
        """Pages of a list are one moment, whatever happens between them."""
        selector = quote(f"l={label}") if label else ""
        base = f"labelSelector={selector}&limit=1"
        page = self.listed(base)
        expected, revision = selected(self.now, label), page["metadata"]["resourceVersion"]
        items = page["items"]
        disturbance = iter(["merge", "delete"])
        while token := page["metadata"].get("continue"):
            if action := next(disturbance, ""):
                self.step(action, "b", "y")
            page = self.listed(f"{base}&continue={token}")
            assert page["metadata"]["resourceVersion"] == revision
            items += page["items"]
        assert plain(items) == plain(expected)

    def check_lists(self) -> None:
        """Every moment can still be read, and is what the model was."""
        for revision, model in self.moments:
            exact = f"resourceVersion={revision}&resourceVersionMatch=Exact"
            for label in ("", "x"):
                selector = quote(f"l={label}") if label else ""
                found = self.listed(f"{exact}&labelSelector={selector}")
                assert found["metadata"]["resourceVersion"] == str(revision)
                assert plain(found["items"]) == plain(selected(model, label))

    def check_watch(self, start: int, label: str) -> None:
        """A watch from a moment brings its model to the last one, event by event."""
        revision, model = self.moments[start]
        held = {item["metadata"]["name"]: item for item in selected(model, label)}
        selector = quote(f"l={label}") if label else ""
        expected = self.expected(start, label)
        path = f"{self.path}?watch=true&resourceVersion={revision}&labelSelector={selector}"
        last, got = revision, []
        # It ends by itself: what was to come has come, and there is nothing more behind it.
        answer = self.client("GET", f"{path}&timeoutSeconds=-1") if not expected else None
        assert answer is None or answer.body == b""
        if not expected:
            return
        with self.client.watch(path) as events:
            for _ in expected:
                event = next(events)
                obj = event["object"]
                name = obj["metadata"]["name"]
                assert int(obj["metadata"]["resourceVersion"]) > last, "events are in order"
                last = int(obj["metadata"]["resourceVersion"])
                got.append((event["type"], name))
                if event["type"] == "DELETED":
                    del held[name]
                else:
                    assert (event["type"] == "ADDED") == (name not in held)
                    held[name] = obj
        assert got == expected
        assert plain(list(held.values())) == plain(selected(self.now, label))

    def expected(self, start: int, label: str) -> list[tuple[str, str]]:
        found = []
        for before, (type, obj) in zip(self.moments[start:], self.events[start:], strict=False):
            name = obj["metadata"]["name"]
            was = any(item["metadata"]["name"] == name for item in selected(before[1], label))
            is_now = type != "DELETED" and matches(obj, label)
            if was or is_now:
                kind = "MODIFIED" if was and is_now else "ADDED" if is_now else "DELETED"
                found.append((kind, name))
        return found


def matches(obj: dict[str, Any], label: str) -> bool:
    return not label or (obj["metadata"].get("labels") or {}).get("l") == label


def selected(model: Model, label: str) -> list[dict[str, Any]]:
    return [model[name] for name in sorted(model) if matches(model[name], label)]


def plain(items: list[dict[str, Any]]) -> list[str]:
    """Objects without their kind, which items of a list do not repeat."""
    kept = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items]
    return sorted(json.dumps(item, sort_keys=True) for item in kept)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(STEP, min_size=5, max_size=25), starts=st.lists(st.integers(0, 100), max_size=3)
)
def test_random_histories(
    cluster: Cluster, steps: list[tuple[str, str, str]], starts: list[int]
) -> None:
    history = History(Client(cluster))
    for step in steps:
        history.step(*step)
    assert plain(history.listed("")["items"]) == plain(selected(history.now, ""))
    history.check_lists()
    for start, label in itertools.product(
        {0, *(s % len(history.moments) for s in starts)}, ("", "x")
    ):
        history.check_watch(start, label)
