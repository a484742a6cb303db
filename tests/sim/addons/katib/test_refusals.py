"""What Katib's webhooks complete and refuse, in the words of v0.19.0; what the model refuses."""

from __future__ import annotations

from typing import Any

import pytest

from ..lab import HOME
from .lab import EXPERIMENTS, KATIB, KatibLab, experiment, parameter, settings, template

VALIDATOR = 'admission webhook "validator.experiment.katib.kubeflow.org" denied the request: '
DEFAULTER = 'admission webhook "defaulter.experiment.katib.kubeflow.org" denied the request: '
MODEL = "Forbidden: the embedded cluster's add-on katib does not model this: "


def changed(**parts: Any) -> dict[str, Any]:
    """A trial template with other parts; ``None`` takes one away."""
    found = {**template(), **parts}
    return {part: value for part, value in found.items() if value is not None}


CONVERSION = [
    (
        {"parameters": [parameter("x", min=0.1, max="1")]},
        "json: cannot unmarshal number into Go struct field "
        "FeasibleSpace.spec.parameters.feasibleSpace.min of type string",
    ),
    (
        {"maxTrialCount": "4"},
        "json: cannot unmarshal string into Go struct field ExperimentSpec.spec.maxTrialCount of "
        "type int32",
    ),
    (
        {"parallelTrialCount": 1.5},
        "json: cannot unmarshal number 1.5 into Go struct field "
        "ExperimentSpec.spec.parallelTrialCount of type int32",
    ),
    (
        {"objective": []},
        "json: cannot unmarshal array into Go struct field ExperimentSpec.spec.objective of type "
        "v1beta1.ObjectiveSpec",
    ),
    (
        {"trialTemplate": changed(retain="yes")},
        "json: cannot unmarshal string into Go struct field "
        "TrialTemplate.spec.trialTemplate.retain of type bool",
    ),
    (
        {"trialTemplate": changed(primaryPodLabels={"rank": 0})},
        "json: cannot unmarshal number into Go struct field "
        "TrialTemplate.spec.trialTemplate.primaryPodLabels of type string",
    ),
]


@pytest.mark.parametrize(("spec", "told"), CONVERSION)
def test_what_cannot_be_read(lab: KatibLab, spec: Any, told: str) -> None:
    assert lab.refused(**spec) == DEFAULTER + told


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"maxTrialCount": 0}, "spec.maxTrialCount: Invalid value: 0: must be greater than 0"),
    (
        {"parallelTrialCount": 5},
        "spec.parallelTrialCount: Invalid value: 5: should be less than or equal to "
        "spec.maxTrialCount",
    ),
    (
        {"maxFailedTrialCount": -1},
        "spec.maxFailedTrialCount: Invalid value: -1: should not be less than 0",
    ),
    ({"objective": None}, "spec.objective: Required value: must be specified"),
    (
        {"objective": {"type": "less", "objectiveMetricName": "loss"}},
        'spec.objective.type: Invalid value: "less": must be minimize or maximize',
    ),
    (
        {"algorithm": {"algorithmName": "hyperband"}},
        'spec.algorithm.algorithmName: Invalid value: "hyperband": unable to get Suggestion config '
        "data for algorithm hyperband: failed to find suggestion config for algorithm: hyperband "
        "in ConfigMap: katib-config; the embedded cluster's add-on katib serves random, grid, tpe, "
        "multivariate-tpe: choose one of them",
    ),
    (
        {"earlyStopping": {"algorithmName": "asha"}},
        'spec.earlyStopping.algorithmName: Invalid value: "asha": unable to get EarlyStopping '
        "config data for algorithm asha: failed to find early stopping config for algorithm: asha "
        "in ConfigMap: katib-config; the embedded cluster's add-on katib serves medianstop",
    ),
    (
        {"resumePolicy": "Often"},
        'spec.resumePolicy: Invalid value: "Often": invalid ResumePolicyType',
    ),
    (
        {"parameters": None, "trialTemplate": template()},
        "spec: Required value: spec.parameters or spec.nasConfig must be specified",
    ),
    (
        {"parameters": [parameter("x", max="1")]},
        "spec.parameters[0].feasibleSpace.max: Required value: feasibleSpace.max or "
        "feasibleSpace.min must be specified for parameterType: double",
    ),
    (
        {"parameters": [parameter("x", "categorical", list=["a"], step="1")]},
        "feasibleSpace .max, .min and .step is not supported for parameterType: categorical",
    ),
    (
        {"parameters": [parameter("x", "text", list=["a"])]},
        'spec.parameters[0].parameterType: Invalid value: "text": parameterType: text is not '
        "supported",
    ),
    ({"trialTemplate": None}, "spec.trialTemplate: Required value: must be specified"),
    (
        {"trialTemplate": changed(primaryContainerName=None)},
        "spec.trialTemplate.primaryContainerName: Required value: must be specified",
    ),
    (
        {"trialTemplate": changed(trialSpec=None)},
        "successCondition and failureCondition must be specified",
    ),
    (
        {"trialTemplate": template("echo loss=1")},
        "parameter name: x in spec.trialParameters not found in spec.trialTemplate: "
        '{"apiVersion":"batch/v1"',
    ),
    (
        {"trialTemplate": template("echo ${trialParameters.x} ${trialParameters.y}")},
        "parameters: [${trialParameters.y}] in spec.trialTemplate not found in "
        "spec.trialParameters: [{x  x}]",
    ),
    (
        {"trialTemplate": changed(trialParameters=[{"name": "x", "reference": "z"}])},
        "parameter reference z does not exist in spec.parameters: ['x']",
    ),
    (
        {"trialTemplate": template(job={"backofLimit": "${trialParameters.x}"})},
        "invalid spec.trialTemplate: unable to convert spec.TrialTemplate to Job: ",
    ),
    (
        {"metricsCollectorSpec": {"source": {"filter": {"metricsFormat": ["(a"]}}}},
        'metricsFormat: Invalid value: "(a": invalid filter: error parsing regexp: ',
    ),
    (
        {"metricsCollectorSpec": {"source": {"filter": {"metricsFormat": ["a=(.)"]}}}},
        'metricsFormat: Invalid value: "a=(.)": two top subexpressions are required',
    ),
]


@pytest.mark.parametrize(("spec", "told"), REFUSED)
def test_what_katib_refuses(lab: KatibLab, spec: Any, told: str) -> None:
    message = lab.refused(**spec)
    assert message.startswith(VALIDATOR)
    assert told in message


UNMODELLED: list[tuple[dict[str, Any], str]] = [
    ({"resumePolicy": "FromVolume"}, f"spec.resumePolicy: {MODEL}choose Never or LongRunning"),
    (
        {"metricsCollectorSpec": {"collector": {"kind": "Push"}}},
        f"spec.metricsCollectorSpec.collector.kind: {MODEL}choose StdOut, and print a line such as "
        "loss=0.3",
    ),
    (
        {"parameters": [parameter("x", min="0", max="1", distribution="normal")]},
        f"spec.parameters[0].feasibleSpace.distribution: {MODEL}choose uniform or logUniform",
    ),
    (
        {"trialTemplate": template(successCondition="status.succeeded")},
        "the embedded cluster's add-on katib reads conditions of the form status.conditions"
        '.#(type=="Complete")#|#(status=="True")#, not \'status.succeeded\'',
    ),
]


@pytest.mark.parametrize(("spec", "told"), UNMODELLED)
def test_what_the_model_cannot_do(lab: KatibLab, spec: Any, told: str) -> None:
    assert told in lab.refused(**spec)


def test_a_kind_that_is_not_served(lab: KatibLab) -> None:
    run = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "spec": {"trainer": {"args": ["${trialParameters.x}"]}},
    }
    message = lab.refused(trialTemplate={**template(), "trialSpec": run})
    told = "spec.trialTemplate.trialSpec.kind: Forbidden: no TrainJobs are served: enable the "
    assert told + "add-on trainer first" in message
    ended = 'status.conditions.#(type=="Succeeded")#|#(status=="True")#'
    other = {**run, "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    wanted = {**template(successCondition=ended, failureCondition=ended), "trialSpec": other}
    told = f"{MODEL}the kinds that it runs are batch/v1 Job and trainer.kubeflow.org/v1alpha1 "
    assert f"{told}TrainJob" in lab.refused(trialTemplate=wanted)


def test_a_namespace_without_the_label(lab: KatibLab) -> None:
    lab.inject(None)
    assert lab.refused() == (
        f'{VALIDATOR}Cannot create the Experiment "a" in namespace "default": the namespace lacks '
        'label "katib.kubeflow.org/metrics-collector-injection: enabled"'
    )


def test_defaults(lab: KatibLab) -> None:
    objective = {
        "type": "maximize",
        "objectiveMetricName": "loss",
        "additionalMetricNames": ["speed", "power"],
        "metricStrategies": [{"name": "speed", "value": "latest"}],
    }
    spec: dict[str, Any] = {"objective": objective, "parallelTrialCount": None, "surprise": 1}
    answer = lab.post(EXPERIMENTS, experiment("a", **spec))
    assert answer.status == 201, answer.message
    made = answer.json["spec"]
    assert (made["parallelTrialCount"], made["resumePolicy"]) == (3, "Never")
    assert made["metricsCollectorSpec"] == {"collector": {"kind": "StdOut"}}
    assert made["parameters"][0]["feasibleSpace"]["distribution"] == "uniform"
    assert made["objective"]["metricStrategies"] == [
        {"name": "speed", "value": "latest"},
        {"name": "loss", "value": "max"},
        {"name": "power", "value": "max"},
    ]
    for part, type in (("successCondition", "Complete"), ("failureCondition", "Failed")):
        told = f'status.conditions.#(type=="{type}")#|#(status=="True")#'
        assert made["trialTemplate"][part] == told
    # What Katib has no field for is gone.
    assert "surprise" not in made


def test_what_may_change(lab: KatibLab) -> None:
    lab.search("a")
    answer = lab.change("a", algorithm={"algorithmName": "tpe"})
    assert answer.status == 400
    assert (
        "spec: Forbidden: only spec.parallelTrialCount, spec.maxTrialCount and "
        "spec.maxFailedTrialCount are editable" in answer.message
    )
    lab.ends("a")
    answer = lab.change("a", maxTrialCount=9)
    assert "Experiment can be restarted if it is in succeeded state by" in answer.message
    assert lab.client("DELETE", f"{EXPERIMENTS}/a").status == 200


def test_trials_are_made_by_experiments(lab: KatibLab) -> None:
    body = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "metadata": {"name": "a"}}
    answer = lab.post(f"{KATIB}/trials", body)
    assert answer.status == 400
    assert "a Trial is made by the controller: create an Experiment" in answer.message


SETTINGS: list[tuple[dict[str, Any], str]] = [
    (
        {"algorithm": {"algorithmName": "random", "algorithmSettings": settings(seed=1)}},
        "ValidateAlgorithmSettings Error: unknown setting seed for algorithm random",
    ),
    (
        {"algorithm": {"algorithmName": "tpe", "algorithmSettings": settings(random_state=-1)}},
        "ValidateAlgorithmSettings Error: random_state should be greate or equal than zero",
    ),
    (
        {"algorithm": {"algorithmName": "grid"}},
        "ValidateAlgorithmSettings Error: failed to validate parameters(['x']): Param x step is "
        "nil; For discrete search space, all parameters must include step",
    ),
    (
        {
            "algorithm": {"algorithmName": "grid"},
            "parameters": [parameter("x", "int", min="1", max="3")],
        },
        "ValidateAlgorithmSettings Error: Max Trial Count: 4 > all possible search combinations: 3",
    ),
    (
        {
            "earlyStopping": {
                "algorithmName": "medianstop",
                "algorithmSettings": settings(start_step=0),
            }
        },
        "ValidateEarlyStoppingSettings Error: start_step must be greater or equal than one (>=1)",
    ),
]


@pytest.mark.parametrize(("spec", "told"), SETTINGS)
def test_settings_that_the_algorithm_refuses(lab: KatibLab, spec: Any, told: str) -> None:
    lab.search("a", **spec)
    status = lab.ends("a")
    failed = lab.told(lab.suggestion("a"))["Failed"]
    assert failed == ("True", "SuggestionFailed", f"Validation failed: {told}")
    assert lab.told(status)["Failed"] == ("True", "ExperimentFailed", "Suggestion has failed")
    assert lab.trials("a") == []


def test_a_container_that_no_pod_has(lab: KatibLab) -> None:
    lab.search("a", trialTemplate=template(primaryContainerName="node"))
    lab.until(lambda: lab.trials("a"))
    job = lab.trials("a")[0]["metadata"]["name"]
    told = "Unable to find primary container node in mutated pod containers ['main']"
    lab.until(lambda: any(told in message for _, _, message in lab.events(job)))
    assert lab.found(f"/api/v1{HOME}/pods") == []


def test_a_space_that_optuna_cannot_search(lab: KatibLab) -> None:
    lab.search("a", parameters=[parameter("x", min="2", max="1")])
    lab.until(lambda: any(reason == "ReconcileError" for _, reason, _ in lab.events("a")))
    [message] = {text for _, reason, text in lab.events("a") if reason == "ReconcileError"}
    assert message.startswith("rpc error: code = Unknown desc = Exception calling application: ")
    assert lab.trials("a") == []
