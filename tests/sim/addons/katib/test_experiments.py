"""From an Experiment to its Trials and their Jobs, and what it says when they have ended.

Conditions and texts are those of Katib v0.19.0.
"""

from __future__ import annotations

from ..lab import GPU, HOME
from .lab import EXPERIMENTS, JOBS, LABEL, REPORT, SUGGESTIONS, TRIALS, KatibLab, X, template

PODS = f"/api/v1{HOME}/pods"
DONE = (
    "True",
    "ExperimentMaxTrialsReached",
    "Experiment has succeeded because max trial count has reached",
)
COLLECTOR = "metrics-logger-and-collector"


def test_four_trials_two_at_a_time(lab: KatibLab) -> None:
    lab.search("a")
    status = lab.ends("a")
    assert lab.told(status) == {
        "Created": ("True", "ExperimentCreated", "Experiment is created"),
        "Running": ("False", "ExperimentRunning", "Experiment is running"),
        "Succeeded": DONE,
    }
    trials = lab.trials("a")
    names = [trial["metadata"]["name"] for trial in trials]
    assert (status["trials"], status["trialsSucceeded"]) == (4, 4)
    assert status["succeededTrialList"] == sorted(names)
    assert "runningTrialList" not in status and "trialsRunning" not in status
    assert status["startTime"] <= status["completionTime"]
    for trial, value in zip(trials, lab.values("a"), strict=True):
        [metric] = trial["status"]["observation"]["metrics"]
        assert metric == {"name": "loss", "min": value, "max": value, "latest": value}
        assert lab.told(trial) == {
            "Created": ("True", "TrialCreated", "Trial is created"),
            "Running": ("False", "TrialRunning", "Trial is running"),
            "Succeeded": (
                "True",
                "TrialSucceeded. Job reason: CompletionsReached",
                "Trial has succeeded. Job message: Reached expected number of succeeded pods",
            ),
        }
        name = trial["metadata"]["name"]
        reasons = [reason for _, reason, _ in lab.events(name)]
        for reason in ("JobCreated", "JobRunning", "JobSucceeded", "JobDeleted"):
            assert reason in reasons
        assert ("Normal", "JobSucceeded", f"Job {name} has succeeded") in lab.events(name)
    best = min(trials, key=lambda trial: float(trial["spec"]["parameterAssignments"][0]["value"]))
    assert status["currentOptimalTrial"] == {
        "bestTrialName": best["metadata"]["name"],
        "parameterAssignments": best["spec"]["parameterAssignments"],
        "observation": best["status"]["observation"],
    }
    # Nobody asks the Suggestion again, and the Jobs go.
    final = "Suggestion is succeeded, can't be restarted"
    suggestion = lab.suggestion("a")
    assert lab.told(suggestion)["Succeeded"] == ("True", "Experiment is succeeded", final)
    assert lab.true(suggestion) == {"Created", "Succeeded"}
    lab.wait(40)
    assert lab.found(JOBS) == []


def test_the_same_seed_suggests_the_same(lab: KatibLab) -> None:
    lab.search("a")
    lab.search("b", parallelTrialCount=4)
    lab.ends("a")
    lab.ends("b")
    assert lab.values("a") == lab.values("b")
    assert len(set(lab.values("a"))) == 4


def test_what_a_trial_runs(lab: KatibLab) -> None:
    script = f"echo loss={X} in ${{trialParameters.name}} of $KATIB_TRIAL_NAME; sleep 60"
    wanted = template(script, retain=True)
    wanted["trialParameters"] += [{"name": "name", "reference": "${trialSpec.Name}"}]
    lab.search("a", trialTemplate=wanted, parallelTrialCount=1, maxTrialCount=1)
    lab.until(lambda: lab.found(PODS, lambda pod: pod["status"]["phase"] == "Running"))
    [trial], [job], [pod] = lab.trials("a"), lab.found(JOBS), lab.found(PODS)
    name, [value] = trial["metadata"]["name"], lab.values("a")
    assert name.startswith("a-") and len(name) == 10
    [owner] = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Trial", name, True)
    assert job["metadata"]["name"] == name
    labels = pod["metadata"]["labels"]
    assert (labels[LABEL], labels["katib.kubeflow.org/trial"]) == ("a", name)
    main, collector = pod["spec"]["containers"]
    assert main["command"][2] == f"echo loss={value} in {name} of $KATIB_TRIAL_NAME; sleep 60"
    assert collector["name"] == COLLECTOR
    assert collector["args"][:4] == ["-t", name, "-m", "loss"]
    assert collector["resources"]["requests"]["cpu"] == "50m"
    line = f"loss={value} in {name} of {name}"
    where = pod["metadata"]["name"]
    lab.until(lambda: line in lab.log(where, COLLECTOR))
    assert lab.log(where, "main") == f"{line}\n"


def test_the_goal_ends_it_at_once(lab: KatibLab) -> None:
    objective = {"type": "maximize", "objectiveMetricName": "loss", "goal": 0.0}
    lab.search("a", objective=objective, parallelTrialCount=1)
    status = lab.ends("a")
    told = "Experiment has succeeded because Objective goal has reached"
    assert lab.told(status)["Succeeded"] == ("True", "ExperimentGoalReached", told)
    assert status["trials"] == 1
    assert lab.trials("a")[0]["spec"]["objective"]["metricStrategies"] == [
        {"name": "loss", "value": "max"}
    ]


def test_trials_that_fail(lab: KatibLab) -> None:
    # One at a time: of two that run together a third may have begun before the second is counted.
    fails = template(f": {X}; exit 3")
    lab.search("a", trialTemplate=fails, maxFailedTrialCount=2, parallelTrialCount=1)
    status = lab.ends("a")
    told = "Experiment has failed because max failed count has reached"
    assert lab.told(status)["Failed"] == ("True", "ExperimentFailed", told)
    assert status["trialsFailed"] == len(status["failedTrialList"]) == 2
    trial = lab.trials("a")[0]
    assert lab.told(trial)["Failed"] == (
        "True",
        "TrialFailed. Job reason: BackoffLimitExceeded",
        "Trial has failed. Job message: Job has reached the specified backoff limit",
    )
    assert "observation" not in trial["status"]
    assert lab.true(lab.suggestion("a")) == {"Created", "Succeeded"}


def test_trials_that_do_not_report(lab: KatibLab) -> None:
    lab.search("a", trialTemplate=template(f"echo accuracy={X}"), maxFailedTrialCount=1)
    status = lab.ends("a")
    assert "Failed" in lab.true(status)
    assert status["trialMetricsUnavailable"] == len(status["metricsUnavailableTrialList"])
    assert status["currentOptimalTrial"] == {"observation": {}}
    trial = next(trial for trial in lab.trials("a") if "MetricsUnavailable" in lab.true(trial))
    assert lab.told(trial)["MetricsUnavailable"][2].startswith("Metrics are not available. Job")
    [metric] = trial["status"]["observation"]["metrics"]
    assert metric["latest"] == "unavailable"
    told = f"Metrics are not available for Job {trial['metadata']['name']}"
    assert ("Warning", "MetricsUnavailable", told) in lab.events(trial["metadata"]["name"])


def test_it_goes_on_when_it_may_make_more_trials(lab: KatibLab) -> None:
    lab.search("a", resumePolicy="LongRunning", maxTrialCount=2)
    lab.ends("a")
    assert lab.true(lab.suggestion("a")) == {"Created", "DeploymentReady", "Running"}
    first = lab.values("a")
    assert lab.change("a", maxTrialCount=4).status == 200
    lab.until(lambda: lab.status("a")["trials"] == 4)
    status = lab.ends("a")
    told = ("True", "ExperimentRestarting", "Experiment is restarted")
    assert lab.told(status)["Restarting"] == told
    assert lab.told(status)["Succeeded"] == DONE
    values = lab.values("a")
    assert values[:2] == first and len(set(values)) == 4


def test_fewer_at_a_time_deletes_the_newest(lab: KatibLab) -> None:
    lab.search("a", trialTemplate=template(f"{REPORT}; sleep 600"), parallelTrialCount=1)
    lab.until(lambda: lab.status("a").get("trialsRunning") == 1)
    [oldest] = [trial["metadata"]["name"] for trial in lab.trials("a")]
    lab.wait(5)
    assert lab.change("a", parallelTrialCount=3).status == 200
    lab.until(lambda: lab.status("a").get("trialsRunning") == 3)
    assert lab.change("a", parallelTrialCount=1).status == 200
    lab.until(lambda: lab.status("a").get("trialsRunning") == 1)
    lab.wait(40)
    assert [trial["metadata"]["name"] for trial in lab.trials("a")] == [oldest]
    suggestion = lab.suggestion("a")
    assert suggestion["spec"]["requests"] == suggestion["status"]["suggestionCount"] == 1
    assert [job["metadata"]["name"] for job in lab.found(JOBS)] == [oldest]


def quota(lab: KatibLab, gpus: int) -> None:
    answer = lab.post(
        f"/api/v1{HOME}/resourcequotas",
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "gpus"},
            "spec": {"hard": {f"requests.{GPU}": str(gpus)}},
        },
    )
    assert answer.status == 201, answer.message


def test_more_trials_than_the_quota_has_gpus(lab: KatibLab) -> None:
    quota(lab, 2)
    script = f"{REPORT}; sleep 600"
    lab.search("a", trialTemplate=template(script, gpus=1), parallelTrialCount=4)
    lab.until(lambda: lab.status("a").get("trialsRunning") == 4)
    running = lab.found(PODS, lambda pod: pod["status"]["phase"] == "Running")
    assert len(running) == len(lab.found(PODS)) == 2
    # The other two Jobs are refused their pods, and try again.
    refused = [
        job["metadata"]["name"] for job in lab.found(JOBS) if not job["status"].get("active")
    ]
    assert len(refused) == 2
    for name in refused:
        assert any(
            reason == "FailedCreate" and "exceeded quota: gpus" in message
            for _, reason, message in lab.events(name)
        )
    used = lab.get(f"/api/v1{HOME}/resourcequotas/gpus")["status"]["used"]
    assert used == {f"requests.{GPU}": "2"}


def test_gpus_are_given_back_to_the_next_trials(lab: KatibLab) -> None:
    quota(lab, 2)
    script = f"echo gpus=$(nvidia-smi -L | grep -c ^GPU); {REPORT}"
    objective = {
        "type": "minimize",
        "objectiveMetricName": "loss",
        "additionalMetricNames": ["gpus"],
    }
    wanted = template(script, gpus=1)
    lab.search("a", objective=objective, trialTemplate=wanted, parallelTrialCount=4)
    status = lab.ends("a", within_s=30)
    assert status["trialsSucceeded"] == 4
    for trial in lab.trials("a"):
        metrics = {
            each["name"]: each["latest"] for each in trial["status"]["observation"]["metrics"]
        }
        assert metrics["gpus"] == "1"


def test_deleting_it_deletes_all_that_it_owns(lab: KatibLab) -> None:
    lab.search("a", trialTemplate=template(f"{REPORT}; sleep 600", retain=True))
    lab.until(lambda: lab.status("a").get("trialsRunning") == 2)
    lab.until(lambda: len(lab.found(PODS)) == 2)
    lab.wait(40)
    # Two at a time: no more are asked for.
    assert lab.suggestion("a")["spec"]["requests"] == len(lab.trials("a")) == 2
    assert lab.get(f"{EXPERIMENTS}/a")["metadata"]["finalizers"] == ["update-prometheus-metrics"]
    assert lab.client("DELETE", f"{EXPERIMENTS}/a").status == 200
    lab.wait(40)
    for path in (EXPERIMENTS, SUGGESTIONS, TRIALS, JOBS, PODS):
        assert lab.found(path) == [], path


def test_disabling_it_leaves_nothing(lab: KatibLab) -> None:
    lab.search("a", trialTemplate=template(f"{REPORT}; sleep 600"))
    lab.until(lambda: len(lab.found(PODS)) == 2)
    lab.cluster.disable("katib")
    lab.wait(40)
    assert lab.found(JOBS) == lab.found(PODS) == []
    assert lab.client("GET", EXPERIMENTS).status == 404


def test_tables(lab: KatibLab) -> None:
    lab.search("a")
    lab.ends("a")
    name = lab.trials("a")[0]["metadata"]["name"]
    assert lab.table(EXPERIMENTS)[0] == ["NAME", "TYPE", "STATUS", "AGE"]
    [row] = lab.table(EXPERIMENTS)[1]
    assert row[:3] == ["a", "Succeeded", "True"]
    columns, [row] = lab.table(SUGGESTIONS)
    assert columns == ["NAME", "TYPE", "STATUS", "REQUESTED", "ASSIGNED", "AGE"]
    assert row[:5] == ["a", "Succeeded", "True", "4", "4"]
    rows = lab.table(TRIALS)[1]
    assert [name, "Succeeded", "True"] in [row[:3] for row in rows]
