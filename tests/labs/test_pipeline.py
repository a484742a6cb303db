"""labs/training/pipeline.py: what it compiles to, and its components that need no training."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mlk8s.lm import task

SCRIPT = Path(__file__).parents[2] / "labs" / "training" / "pipeline.py"


@pytest.fixture(scope="module")
def lab() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def compiled(lab: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    lab["compile_to"](path, "team")
    return list(yaml.safe_load_all(path.read_text()))


def task_of(component: dict[str, Any], name: str) -> dict[str, Any]:
    """The one task of a DAG that is shown under this name."""
    tasks = component["dag"]["tasks"].values()
    (found,) = [each for each in tasks if each["taskInfo"]["name"] == name]
    assert isinstance(found, dict)
    return found


def test_it_compiles_to_a_pipeline_and_its_version(compiled: list[Any]) -> None:
    pipeline, version = compiled
    assert [each["kind"] for each in compiled] == ["Pipeline", "PipelineVersion"]
    assert {each["apiVersion"] for each in compiled} == {"pipelines.kubeflow.org/v2beta1"}
    assert {each["metadata"]["namespace"] for each in compiled} == {"team"}
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "tune-and-publish"


def test_training_has_a_gpu_a_toleration_and_the_volume(compiled: list[Any]) -> None:
    spec = compiled[1]["spec"]
    steps = spec["pipelineSpec"]["deploymentSpec"]["executors"]
    gpu = steps["exec-tune"]["container"]["resources"]["accelerator"]
    assert (gpu["resourceType"], gpu["resourceCount"]) == ("nvidia.com/gpu", "1")
    with_gpu = [name for name, step in steps.items() if "resources" in step["container"]]
    assert with_gpu == ["exec-tune"]
    pods = spec["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-tune"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    mounts = {name: [each["mountPath"] for each in pod["pvcMount"]] for name, pod in pods.items()}
    # Those that read the base model or publish; artifacts go through the store of Pipelines.
    assert mounts.keys() == {"exec-check-tokenizer", "exec-tune", "exec-publish"}
    assert all(each == ["/models"] for each in mounts.values())
    claims = spec["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]
    assert claims["claim"]["defaultValue"] == "models"


def test_the_loop_has_two_rates_and_follows_the_check(compiled: list[Any]) -> None:
    spec = compiled[1]["spec"]["pipelineSpec"]
    loop = task_of(spec["root"], "rates")
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == [1e-3, 3e-3]
    assert "check-tokenizer" in loop["dependentTasks"]
    inside = task_of(spec["components"][loop["componentRef"]["name"]], "tune")
    rate = inside["inputs"]["parameters"]["rate"]["componentInputParameter"]
    assert rate == loop["parameterIterator"]["itemInput"]


def test_only_a_score_above_the_bar_is_published(compiled: list[Any]) -> None:
    spec = compiled[1]["spec"]["pipelineSpec"]
    gate = task_of(spec["root"], "better")
    score, sign, bar = gate["triggerPolicy"]["condition"].split()
    given = gate["inputs"]["parameters"]
    named = [given[side.split("'")[1]] for side in (score, bar)]
    assert sign == ">"
    assert named[0]["taskOutputParameter"]["producerTask"] == "choose"
    assert named[1] == {"componentInputParameter": "bar"}
    behind = spec["components"][gate["componentRef"]["name"]]["dag"]["tasks"]
    assert list(behind) == ["publish"] and "publish" not in spec["root"]["dag"]["tasks"]


def test_the_help_names_what_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--out OUT" in done.stdout and "PipelineVersion" in done.stdout
    assert not list(tmp_path.iterdir())


def artifact(path: Path) -> SimpleNamespace:
    """What a component sees of an artifact."""
    return SimpleNamespace(path=str(path), metadata={})


def test_the_data_is_repeatable_and_the_test_is_held_out(
    lab: dict[str, Any], tmp_path: Path
) -> None:
    def make(seed: int) -> tuple[list[str], list[str]]:
        train, test = artifact(tmp_path / "train"), artifact(tmp_path / "test")
        lab["make_data"].python_func(pairs=40, held_out=20, seed=seed, train=train, test=test)
        assert (train.metadata, test.metadata) == ({"examples": 40}, {"examples": 20})
        first, second = (Path(each.path).read_text().splitlines() for each in (train, test))
        return first, second

    train, test = make(0)
    assert make(0) == (train, test) and make(1) != (train, test)
    assert (len(train), len(test)) == (40, 20)
    assert not {*train} & {*test}
    # The next component reads the lines so.
    read = [task.Example(**json.loads(line)) for line in test]
    assert read == task.examples(20, seed=0, split="held out")


def test_publishing_replaces_the_whole_folder(lab: dict[str, Any], tmp_path: Path) -> None:
    publish = lab["publish"].python_func
    volume = tmp_path / "volume"
    for name, score in (("first", 0.5), ("second", 0.75)):
        model = tmp_path / name
        (model / "inside").mkdir(parents=True)
        (model / "inside" / name).write_text(name)
        volume.mkdir(exist_ok=True)
        said = publish(model=artifact(model), volume=str(volume), score=score)
        assert said == f"published with {score:.0%} valid"
        assert [each.name for each in volume.iterdir()] == ["published"]
        files = [each.name for each in (volume / "published").rglob("*") if each.is_file()]
        assert files == [name]
        assert (model / "inside" / name).is_file()


def test_a_model_that_is_missing_leaves_what_is_published(
    lab: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "published").mkdir()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        lab["publish"].python_func(
            model=artifact(tmp_path / "nowhere"), volume=str(tmp_path), score=1.0
        )
    assert [each.name for each in tmp_path.iterdir()] == ["published"]
