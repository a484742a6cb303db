"""Exercises from the reader's side: files, verdicts, progress, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlk8s.cluster import Connection, attach
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import ExerciseError, catalogue
from mlk8s.course.exercises.engine import Engine, home
from mlk8s.course.exercises.prove import Clusters, prove
from mlk8s.errors import ClusterError, ClusterUnavailable, Mlk8sError, UsageError
from mlk8s.provenance import Kind
from mlk8s.sim import Cluster

from .exercises_files import COUNT, POD, RUNS, write

Make = Callable[..., Engine]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Connection]:
    with Cluster("course", seed=0) as embedded, attach(embedded) as connection:
        yield connection
        log = (embedded.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture
def fresh(cluster: Connection) -> Connection:
    assert cluster.embedded is not None
    cluster.embedded.reset()
    return cluster


@pytest.fixture
def engine(tmp_path: Path) -> Make:
    """An engine over the exercises of a temporary course."""

    def make(connection: Connection | None = None) -> Engine:
        def connect(exercise: catalogue.Exercise) -> Connection:
            assert connection is not None, "nothing here should ask for a cluster"
            return connection

        return Engine(
            exercises=tmp_path / "labs" / "exercises",
            home=tmp_path / "work" / "exercises",
            connect=connect,
            command=lambda verb, number: f"do {verb} {number}",
            say=lambda text: None,
        )

    return make


def namespaces(connection: Connection) -> list[str]:
    return [each["metadata"]["name"] for each in connection.items("/api/v1/namespaces")]


# -- files and verdicts ---------------------------------------------------------------------------


def test_from_the_start_to_the_solution(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-count")
    reader = engine()
    task = reader.start("5.1")
    answer = tmp_path / "work" / "exercises" / "5.1-count" / "answer.yaml"
    assert "How many GPUs" in repr(task) and "do check 5.1" in repr(task)
    assert answer.read_text() == "gpus:\n"

    unsolved = reader.check("count")
    assert unsolved.good is False and "gpus has no value yet" in repr(unsolved)
    for text in ("many", "yes"):
        answer.write_text(f"gpus: {text}\n")
        assert f"gpus is '{text}'; write a plain number" in repr(reader.check("count"))
    answer.write_text("gpus: [\n")
    assert "answer.yaml is not YAML" in repr(reader.check("count"))
    answer.unlink()
    assert "answer.yaml is missing" in repr(reader.check("count"))

    answer.write_text("gpus: 8\n")
    solved = reader.check("5.1-count")
    assert solved.good is True
    assert "8 GPUs" in repr(solved) and "Because there are" in repr(solved)
    (row,) = reader.overview().rows
    assert row["solved"] and row["tries"] == 6
    assert reader.overview().text.endswith("1 of 1 solved")
    # What is solved stays solved, and is not counted on.
    answer.write_text("gpus: 7\n")
    assert reader.check("5.1").good is False
    (again,) = reader.overview().rows
    assert again == row


def test_start_never_overwrites_and_reset_keeps_what_it_takes(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-count")
    reader = engine()
    reader.start("5.1")
    folder = tmp_path / "work" / "exercises" / "5.1-count"
    (folder / "answer.yaml").write_text("gpus: 3\n")
    reader.start("5.1")
    assert (folder / "answer.yaml").read_text() == "gpus: 3\n"
    assert "before-reset" in repr(reader.reset("5.1"))
    assert (folder / "answer.yaml").read_text() == "gpus:\n"
    assert (folder / "before-reset" / "answer.yaml").read_text() == "gpus: 3\n"
    # A second reset has nothing to take, and so loses nothing.
    reader.reset("5.1")
    assert (folder / "before-reset" / "answer.yaml").read_text() == "gpus: 3\n"
    (folder / "answer.yaml").write_text("gpus: 4\n")
    reader.start("5.1", force=True)
    assert (folder / "before-reset" / "answer.yaml").read_text() == "gpus: 4\n"
    assert (folder / "answer.yaml").read_text() == "gpus:\n"


def test_hints_rise_and_the_solution_leaves_the_files(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-count")
    reader = engine()
    first, second, third = (repr(reader.hint("5.1")) for _ in range(3))
    assert "Count them" in first and "nvidia-smi" not in first
    assert "Count them" in second and "nvidia-smi" in second and "do solution 5.1" in second
    assert third == second
    shown = reader.solution("5.1")
    assert "gpus: 8" in repr(shown) and "Because there are" in repr(shown)
    assert not (tmp_path / "work" / "exercises" / "5.1-count").exists()
    (row,) = reader.overview().rows
    assert (row["hints"], row["solution"], row["solved"]) == (2, True, None)


def test_a_page_shows_itself_without_reading_messages_as_markup(
    tmp_path: Path, engine: Make
) -> None:
    check = (
        "from mlk8s.course.exercises import Wrong\n\n\n"
        "def check(work):\n    raise Wrong('<none> of h100*2 and l4*2 [bold]')\n"
    )
    write(tmp_path, "05-01-count", check=check, task="Use `kubectl` and **look**.")
    reader = engine()
    html = reader.start("5.1")._repr_html_()
    assert "<code>kubectl</code>" in html and "<strong>look</strong>" in html
    wrong = reader.check("5.1")
    assert "&lt;none&gt; of h100*2 and l4*2 [bold]" in wrong._repr_html_()
    assert "<none> of h100*2 and l4*2 [bold]" in repr(wrong)
    assert "<progress" in reader.overview()._repr_html_()


def test_a_check_before_the_start(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-count")
    with pytest.raises(UsageError, match=r"5\.1 has not been started\. Next: .*do start 5\.1"):
        engine().check("5.1")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("the-cuont", "did you mean the-count"),
        ("5.9", r"chapter 5 has 5\.1, 5\.2"),
        ("xyz", "mlk8s exercise list"),
    ],
)
def test_an_unknown_name(tmp_path: Path, engine: Make, name: str, suggestion: str) -> None:
    write(tmp_path, "05-01-the-count")
    write(tmp_path, "05-02-other")
    with pytest.raises(UsageError, match=rf"no exercise '{name}'.*{suggestion}"):
        engine().start(name)


# -- a reader's Python ----------------------------------------------------------------------------

CALLS = """
from mlk8s.course.exercises import Wrong

def check(work):
    found = work.call("answer.py", "double", 4, within_s=2)
    if found != 8:
        raise Wrong(f"double(4) gives {found}")
    return "double(4) is 8"
"""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("def double(n):\n    print('noise')\n    return 2 * n\n", "double(4) is 8"),
        ("def double(n):\n    return n\n", "double(4) gives 4"),
        ("x = 1\n", "double() of answer.py is not there"),
        ("def double(n):\n    return n / 0\n", "ZeroDivisionError: division by zero"),
        ("def double(n):\n    return n / 0\n", 'File "answer.py", line 2, in double'),
        ("def double(n:\n", "SyntaxError"),
        ("def double(n):\n    while True: pass\n", "has not returned after 2 s"),
        ("def double(n):\n    return object()\n", "object is not JSON serializable"),
    ],
)
def test_a_function_of_the_reader(tmp_path: Path, engine: Make, answer: str, message: str) -> None:
    write(tmp_path, "05-01-count", check=CALLS, starter={"answer.py": answer})
    reader = engine()
    reader.start("5.1")
    found = reader.check("5.1")
    assert message in repr(found)
    assert found.good is (message == "double(4) is 8")


# -- progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"what": "something else"}',
        '{"what": "mlk8s exercises", "format": 2, "exercises": {}}',
        '{"what": "mlk8s exercises", "format": 1, "exercises": {"5.1-count": {"tries": "x"}}}',
    ],
)
def test_a_damaged_or_foreign_progress_file_is_left_alone(
    tmp_path: Path, engine: Make, text: str
) -> None:
    write(tmp_path, "05-01-count")
    reader = engine()
    reader.start("5.1")
    file = tmp_path / "work" / "exercises" / "progress.json"
    file.write_text(text)
    calls = (reader.start, reader.check, reader.hint, reader.solution, reader.reset)
    for call in (*calls, lambda name: reader.overview()):
        with pytest.raises(UsageError, match=r"progress\.json is not a progress file.*move it"):
            call("5.1")
    assert file.read_text() == text


def test_entries_of_other_versions_stay(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-count")
    reader = engine()
    reader.start("5.1")
    file = tmp_path / "work" / "exercises" / "progress.json"
    document = json.loads(file.read_text())
    document["exercises"]["9.9-later"] = {"tries": 1, "stars": 3}
    file.write_text(json.dumps(document))
    reader.check("5.1")
    assert json.loads(file.read_text())["exercises"]["9.9-later"] == {"tries": 1, "stars": 3}


def test_a_folder_that_cannot_be_written(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-count")
    (tmp_path / "work").write_text("a file")
    with pytest.raises(UsageError, match=r"cannot be written.*Next: set MLK8S_WORK"):
        engine().start("5.1")


def test_the_answers_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exercises = tmp_path / "course" / "labs" / "exercises"
    monkeypatch.delenv("MLK8S_WORK", raising=False)
    assert home(exercises) == tmp_path / "course" / "work" / "exercises"
    monkeypatch.setenv("MLK8S_WORK", str(tmp_path / "mine"))
    assert home(exercises) == tmp_path / "mine" / "exercises"


# -- the cluster ----------------------------------------------------------------------------------


def test_an_exercise_has_a_namespace_of_its_own(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    write(tmp_path, "05-01-pod", needs="cluster", check=RUNS, starter={"pod.yaml": POD})
    reader = engine(fresh)
    before = namespaces(fresh)
    assert "mlk8s-labs-5-1" in repr(reader.start("5.1"))
    found = fresh.request("GET", path("namespaces", "mlk8s-labs-5-1"))
    assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlk8s"
    assert reader.check("5.1").good and reader.check("5.1").good
    assert fresh.find(path("pods", "one", "mlk8s-labs-5-1")) is not None
    assert "mlk8s-labs-5-1" in repr(reader.check("5.1", clean=True))
    assert namespaces(fresh) == before
    # The files are still there, so a check prepares the cluster anew.
    assert reader.check("5.1").good
    reader.reset("5.1")
    assert namespaces(fresh) == before


def test_a_renamed_pod_does_not_stand_in_its_own_way(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    # The cluster has one whole GPU: the pod of the last check must not hold it.
    gpu = "    resources: {limits: {nvidia.com/gpu: 1}}\n"
    write(tmp_path, "05-01-pod", needs="cluster", check=RUNS, starter={"pod.yaml": POD + gpu})
    reader = engine(fresh)
    reader.start("5.1")
    assert reader.check("5.1").good
    file = reader.home / "5.1-pod" / "pod.yaml"
    file.write_text(file.read_text().replace("name: one", "name: two"))
    assert reader.check("5.1").good


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: Pod", "kind: Secret", "pod.yaml holds a Secret; this is about: Pod"),
        ("name: one", "{}", "has no metadata.name"),
        ("name: one", "name: one\n  namespace: default", "Leave metadata.namespace out"),
        ("name: one", "name: One", "a lowercase RFC 1123 subdomain must consist of"),
        ("image: busybox", "image: nowhere.example/none", "ImagePull"),
        ("- sleep", "- exit 3 #", "exit code 3"),
        (
            "spec:",
            "spec:\n  nodeSelector: {disk: ssd}",
            "didn't match Pod's node affinity/selector",
        ),
    ],
)
def test_a_manifest_that_does_not_do(
    tmp_path: Path, engine: Make, fresh: Connection, old: str, new: str, message: str
) -> None:
    write(tmp_path, "05-01-pod", needs="cluster", check=RUNS, starter={"pod.yaml": POD})
    reader = engine(fresh)
    reader.start("5.1")
    file = reader.home / "5.1-pod" / "pod.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    found = reader.check("5.1")
    assert found.good is False and message in repr(found)


def test_a_pod_that_ends_again_and_again(tmp_path: Path, engine: Make, fresh: Connection) -> None:
    pod = POD.replace("Never", "Always").replace("- sleep 100", "- exit 3")
    write(tmp_path, "05-01-pod", needs="cluster", check=RUNS, starter={"pod.yaml": pod})
    reader = engine(fresh)
    reader.start("5.1")
    found = reader.check("5.1")
    assert found.good is False and "CrashLoopBackOff" in repr(found)


def test_a_fault_is_on_while_the_exercise_is_under_way(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    write(tmp_path, "05-01-count", needs="embedded", faults="[plugin-not-running]")
    write(tmp_path, "05-02-other", needs="embedded")
    reader = engine(fresh)
    assert fresh.embedded is not None
    reader.start("5.1")
    assert fresh.embedded.status()["faults"] == ["plugin-not-running"]
    # The next exercise finds a cluster in which nothing of this one is left.
    assert "Exercise 5.1 was put away" in repr(reader.start("5.2"))
    assert fresh.embedded.status()["faults"] == []
    assert "mlk8s-labs-5-1" not in namespaces(fresh)
    reader.start("5.1")
    reader.reset("5.1")
    assert fresh.embedded.status()["faults"] == []


def test_a_fault_that_is_switched_off_is_not_repaired(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    check = "def check(work):\n    return 'It works.'\n"
    faults = "[plugin-not-running@h100-0]"
    write(tmp_path, "05-01-count", needs="embedded", faults=faults, check=check)
    reader = engine(fresh)
    reader.start("5.1")
    assert reader.check("5.1").good
    assert fresh.embedded is not None
    fresh.embedded.fault_off("plugin-not-running")
    page = reader.check("5.1")
    assert page.good is False and "plugin-not-running was switched off" in repr(page)
    reader.start("5.1", force=True)
    assert reader.check("5.1").good


def test_a_fault_finds_the_operands_at_work(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    # A cluster that starts: a plugin that comes up now would forget the device that failed.
    write(tmp_path, "05-01-count", needs="embedded", faults="[device-unhealthy@h100-0]")
    engine(fresh).start("5.1")
    (plugin,) = fresh.items(
        "/api/v1/namespaces/gpu-operator-resources/pods",
        labelSelector="app=nvidia-device-plugin-daemonset",
        fieldSelector="spec.nodeName=h100-0",
    )
    assert plugin["status"]["phase"] == "Running"
    node = fresh.request("GET", path("nodes", "h100-0"))
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "0"


def test_a_start_leaves_what_the_reader_changed(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    write(tmp_path, "05-01-count", needs="embedded")
    reader = engine(fresh)
    reader.start("5.1")
    there = path("configmaps", namespace="mlk8s-labs-5-1")
    fresh.request("POST", there, {"metadata": {"name": "mine"}})
    assert "as you left it" in repr(reader.start("5.1"))
    assert fresh.find(f"{there}/mine") is not None
    reader.start("5.1", force=True)
    assert fresh.find(f"{there}/mine") is None


def test_a_fault_of_somebody_else_is_named(tmp_path: Path, engine: Make, fresh: Connection) -> None:
    write(tmp_path, "05-01-count", needs="embedded")
    assert fresh.embedded is not None
    fresh.embedded.fault_on("containerd-down")
    with pytest.raises(ClusterError, match=r"containerd-down is on.*fault off containerd-down"):
        engine(fresh).start("5.1")


def test_a_repair_is_not_judged_in_another_cluster(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    write(tmp_path, "05-01-count", needs="embedded", starter={})
    reader = engine(fresh)
    reader.start("5.1")
    assert fresh.embedded is not None
    fresh.embedded.reset()
    with pytest.raises(ClusterError, match=r"not under way in this cluster.*do start 5\.1"):
        reader.check("5.1")


def test_an_interrupted_start_is_begun_again(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    prepare = (
        "def prepare(work):\n"
        "    work.k.request('POST', f'/api/v1/namespaces/{work.namespace}/configmaps',\n"
        "                   {'metadata': {'name': 'here'}})\n"
        "    if (work.folder / 'interrupt').exists():\n        raise KeyboardInterrupt\n"
    )
    write(tmp_path, "05-01-count", needs="embedded", check=COUNT + prepare)
    reader = engine(fresh)
    folder = reader.home / "5.1-count"
    folder.mkdir(parents=True)
    (folder / "interrupt").touch()
    with pytest.raises(KeyboardInterrupt):
        reader.start("5.1")
    (folder / "interrupt").unlink()
    assert "as you left it" not in repr(reader.start("5.1"))
    (folder / "answer.yaml").write_text("gpus: 8\n")
    assert reader.check("5.1").good


def test_a_namespace_of_somebody_else_stays(
    tmp_path: Path, engine: Make, fresh: Connection
) -> None:
    write(tmp_path, "05-01-count", needs="cluster")
    fresh.request("POST", path("namespaces"), {"metadata": {"name": "mlk8s-labs-5-1"}})
    with pytest.raises(ClusterError, match="was not made by the course"):
        engine(fresh).start("5.1")
    assert "mlk8s-labs-5-1" in namespaces(fresh)


def test_what_breaks_a_cluster_refuses_a_live_one(
    tmp_path: Path, engine: Make, fresh: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "05-01-count", needs="embedded")
    monkeypatch.setenv("MLK8S_CLUSTER", "live")
    # Not even asked for: engine() has no cluster to give.
    with pytest.raises(ClusterUnavailable, match=r"embedded one alone.*unset MLK8S_CLUSTER"):
        engine().start("5.1")
    monkeypatch.delenv("MLK8S_CLUSTER")
    live = replace(fresh, kind=Kind.LIVE, embedded=None)
    before = namespaces(fresh)
    with pytest.raises(ClusterUnavailable, match="is a real one. Nothing was touched"):
        engine(live).start("5.1")
    assert namespaces(fresh) == before


def test_a_cluster_that_is_gone_is_no_wrong_answer(tmp_path: Path, engine: Make) -> None:
    write(tmp_path, "05-01-pod", needs="cluster", check=RUNS, starter={"pod.yaml": POD})
    with Cluster("cpu") as embedded, attach(embedded) as connection:
        reader = engine(connection)
        reader.start("5.1")
        embedded.stop()
        with pytest.raises(ClusterUnavailable, match="does not answer"):
            reader.check("5.1")
    (row,) = reader.overview().rows
    assert row["tries"] == 0


# -- who writes exercises -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "5-1-count"}, "the folder's name is not NN-MM-slug"),
        ({"task": None}, "task.md: No such file"),
        ({"header": "no front matter"}, "no front matter between two lines '---'"),
        ({"header": "---\n[\n---\nTask."}, "the front matter is not YAML"),
        ({"chapter": "4"}, "chapter 4 is not the folder's, 5"),
        ({"minutes": "soon"}, "minutes 'soon' is no whole number"),
        ({"needs": "luck"}, "needs 'luck' is not one of none, cluster, embedded, gpu"),
        ({"faults": "[containerd-down]"}, "faults need the embedded cluster"),
        ({"nodes": "h100"}, "nodes make no sense with needs: none"),
        ({"extra": "1"}, "extra is no key; known: title"),
        ({"hints": None}, "hints.md: No such file"),
        ({"hints": "None.\n"}, '0 sections that begin with "## "'),
        ({"hints": "## a\nx\n" * 4}, '4 sections that begin with "## "'),
        ({"hints": "## a\n\n## b\nx\n"}, "a section is empty"),
        ({"explanation": None}, "explanation.md: No such file"),
        ({"check": None}, "check.py is missing"),
        ({"solution": {}}, "solution/ holds neither files nor repair.py"),
        ({"wrong": {"a": ("gpus: 7\n", "8")}}, "wrong/ holds 1 answers; two at least"),
        ({"wrong": {"a": ("gpus: 7\n", ""), "b": ("gpus: 6\n", "8")}}, "wrong/a/message.txt is"),
    ],
)
def test_a_form_that_is_not_kept(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write(tmp_path, **{"name": "05-01-count", **change})  # type: ignore[arg-type]
    with pytest.raises(ExerciseError) as caught:
        catalogue.load_all(tmp_path / "labs" / "exercises")
    assert message in str(caught.value) and "labs/exercises/README.md" in str(caught.value)


def test_two_of_one_number(tmp_path: Path) -> None:
    write(tmp_path, "05-01-count")
    write(tmp_path, "05-01-again")
    with pytest.raises(ExerciseError, match="05-01-again and 05-01-count have the same number"):
        catalogue.load_all(tmp_path / "labs" / "exercises")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("def check(work):\n    return {}['pods']\n", "check() of exercise 5.1 failed by itself"),
        ("def check(work):\n    return None\n", "returned None"),
        ("import nothing_like_it\n", "does not load"),
    ],
)
def test_a_check_with_a_fault_judges_nothing(
    tmp_path: Path, engine: Make, check: str, message: str
) -> None:
    write(tmp_path, "05-01-count")
    reader = engine()
    reader.start("5.1")
    (tmp_path / "labs/exercises/05-01-count/check.py").write_text(check)
    with pytest.raises(Mlk8sError) as caught:
        reader.check("5.1")
    assert message in str(caught.value)
    (row,) = reader.overview().rows
    assert row["tries"] == 0


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        ({}, None, ""),
        ({"starter": {"answer.yaml": "gpus: 8\n"}}, "starter", "must fail, and passes"),
        ({"solution": {"answer.yaml": "gpus: 9\n"}}, "solution", "must pass, and fails"),
        (
            {"wrong": {"a": ("gpus: 8\n", "8"), "b": ("gpus: 1\n", "1 GPU")}},
            "wrong/a",
            "must fail, and passes",
        ),
        (
            {"wrong": {"a": ("gpus: 1\n", "a light year"), "b": ("gpus: 2\n", "2")}},
            "wrong/a",
            "the message lacks ['a light year']",
        ),
    ],
)
def test_the_proof_finds_what_is_not_proven(
    tmp_path: Path, change: dict[str, object], line: str | None, said: str
) -> None:
    write(tmp_path, "05-01-count", **change)  # type: ignore[arg-type]
    with Clusters() as clusters:
        proof = prove(catalogue.find("5.1", tmp_path / "labs" / "exercises"), clusters)
    assert proof.holds is (line is None)
    assert [each.answer for each in proof.lines if not each.holds] == ([line] if line else [])
    assert said in str(proof)


def test_the_proof_names_nodes_that_cannot_be(tmp_path: Path) -> None:
    write(tmp_path, "05-01-count", needs="embedded", nodes="abacus")
    exercise = catalogue.find("5.1", tmp_path / "labs" / "exercises")
    with (
        Clusters() as clusters,
        pytest.raises(ClusterUnavailable, match="'abacus': no such preset"),
    ):
        prove(exercise, clusters)


def test_the_proof_finds_what_is_left_behind(tmp_path: Path) -> None:
    prepare = (
        "def prepare(work):\n"
        "    work.k.patch('nodes', 'cpu-0', {'spec': {'unschedulable': True}})\n"
    )
    write(tmp_path, "05-01-count", needs="embedded", nodes="cpu", check=COUNT + prepare)
    with Clusters() as clusters:
        proof = prove(catalogue.find("5.1", tmp_path / "labs" / "exercises"), clusters)
    assert "it leaves behind: changes of node cpu-0" in str(proof) and not proof.holds
