"""Verdicts: valid, right kind, right fields, exact; by the schemas and by an API server."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import yaml

from mlk8s.cluster import Connection, connect
from mlk8s.errors import UsageError
from mlk8s.lm import judging, model, task

EXAMPLES = {each.kind: each for each in task.examples(200)}
DEPLOYMENT = EXAMPLES["Deployment"]


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with connect("simulated") as found:
        yield found


@pytest.fixture(scope="module")
def server(connection: Connection) -> judging.Server:
    return judging.Server(connection)


def changed(path: str, value: object) -> str:
    """The right answer to the Deployment, but for one field."""
    body = copy.deepcopy(DEPLOYMENT.manifest)
    *parents, last = path.split(".")
    place = body
    for name in parents:
        place = place[name]
    place[last] = value
    return yaml.safe_dump(body, sort_keys=False)


def test_the_right_answer_of_every_kind_is_exact(server: judging.Server) -> None:
    assert set(EXAMPLES) == set(task.KINDS)
    for example in EXAMPLES.values():
        for judge in (judging.Schemas(), server):
            found = judging.verdict(example, example.answer, judge)
            assert (found.refusal, found.wrong, found.right_fields) == ("", {}, 1.0)
            assert found.valid and found.right_kind and found.exact and not found.difference


def test_a_dry_run_stores_nothing(server: judging.Server, connection: Connection) -> None:
    assert server(DEPLOYMENT.manifest) is None
    where = f"/apis/apps/v1/namespaces/{connection.namespace}/deployments"
    assert list(connection.items(where)) == []


def test_a_name_that_is_taken_is_no_fault_of_the_manifest(
    server: judging.Server, connection: Connection
) -> None:
    claim = EXAMPLES["PersistentVolumeClaim"].manifest
    name = claim["metadata"]["name"]
    connection.apply({**claim, "metadata": {"name": name}})
    try:
        assert server(claim) is None
    finally:
        connection.delete("pvc", name)


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (changed("spec.replicas", "many"), "replicas"),
        (changed("spec.replica", 3), "replica"),
        (changed("kind", "Deploy"), "Deploy"),
    ],
)
def test_both_judges_refuse_what_no_cluster_takes(
    answer: str, refusal: str, server: judging.Server
) -> None:
    for judge in (judging.Schemas(), server):
        found = judging.verdict(DEPLOYMENT, answer, judge)
        assert not found.valid and not found.exact
        assert refusal in found.refusal


@pytest.mark.parametrize(
    "answer",
    [
        changed("metadata.name", "Web_1"),
        changed("spec.selector.matchLabels.app", "another"),
        changed("spec.replicas", -1),
    ],
)
def test_the_server_knows_more_than_the_schemas(answer: str, server: judging.Server) -> None:
    assert judging.verdict(DEPLOYMENT, answer, judging.Schemas()).valid
    assert not judging.verdict(DEPLOYMENT, answer, server).valid


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ("", "0 documents"),
        (DEPLOYMENT.answer + "---\n" + DEPLOYMENT.answer, "2 documents"),
        ("kind: [", "no YAML"),
        ("just words", "a str, not an object"),
        ("kind: Pod\napiVersion: v1\n", "metadata.name is missing"),
        ("kind: Pod\napiVersion: 1\nmetadata:\n  name: a\n", "or is no text"),
    ],
)
def test_what_is_not_one_object(answer: str, refusal: str) -> None:
    found = judging.verdict(DEPLOYMENT, answer, judging.Schemas())
    assert refusal in found.refusal
    assert (found.valid, found.right_kind, found.right_fields) == (False, False, 0.0)


def test_valid_is_not_right() -> None:
    found = judging.verdict(DEPLOYMENT, changed("metadata.namespace", "moon"), judging.Schemas())
    assert found.valid and found.right_kind and not found.exact
    expected = DEPLOYMENT.manifest["metadata"]["namespace"]
    assert found.wrong == {"metadata.namespace": (expected, "moon")}
    assert found.right_fields == 1 - 1 / found.fields
    assert "+  namespace: moon" in found.difference
    extra = judging.verdict(DEPLOYMENT, changed("spec.paused", True), judging.Schemas())
    assert list(extra.wrong) == ["spec.paused"]


def test_leaves_are_told_apart_by_type() -> None:
    body = {"a": [{"b": 1}, {}], "c": {"d": None}, "e": []}
    assert judging.leaves(body) == {"a[0].b": 1, "a[1]": "{}", "c.d": None, "e": "[]"}
    example = task.Example(
        "x", {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}, "n": 1}
    )
    found = judging.verdict(example, example.answer.replace("n: 1", "n: true"), lambda body: None)
    assert found.wrong == {"n": (1, True)}


def test_a_report_counts_and_says_where_the_mistakes_are() -> None:
    schemas = judging.Schemas()
    answers = [DEPLOYMENT.answer, changed("spec.replicas", 77), changed("spec.replicas", 77), "no"]
    verdicts = tuple(judging.verdict(DEPLOYMENT, answer, schemas) for answer in answers)
    origin = judging.judge(model.create(), [DEPLOYMENT], longest=2).provenance
    report = judging.Report(verdicts, origin)
    assert (report.valid, report.right_kind, report.exact) == (0.75, 0.75, 0.25)
    fields = verdicts[0].fields
    assert report.right_fields == pytest.approx((3 - 2 / fields) / 4)
    assert report.summary[0]["valid [%]"] == 75.0
    [row] = report.mistakes()
    expected = str(DEPLOYMENT.manifest["spec"]["replicas"])
    assert list(row.values()) == ["spec.replicas", 2, 3, expected, "77"]
    assert "judged by the JSON schemas of Kubernetes 1.36, strict" in origin.method


def test_a_model_that_was_not_trained_answers_nothing_valid() -> None:
    held = task.examples(4, split="held out")
    report = judging.judge(model.create(), held, longest=8)
    assert (report.valid, report.exact, len(report.verdicts)) == (0, 0, 4)
    with pytest.raises(UsageError, match="no examples"):
        judging.judge(model.create(), [])
