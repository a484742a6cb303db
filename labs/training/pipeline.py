"""The model's pipeline: data, a check of the tokenizer, training in a loop, a test, a gate.

``tune_and_publish`` is a Kubeflow pipeline. It runs on this machine through kfp's local runner, and
compiled it runs in a cluster: ``python labs/training/pipeline.py --help``.
"""

# No "from __future__ import annotations": kfp reads the types of components at run time.
import argparse
from pathlib import Path

from kfp import compiler, dsl, kubernetes
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl import Dataset, Input, Model, Output

IMAGE = "ghcr.io/mlk8s/course:latest"
MOUNT = "/models"
RATES = [1e-3, 3e-3]


@dsl.component(base_image=IMAGE)
def make_data(pairs: int, held_out: int, seed: int, train: Output[Dataset], test: Output[Dataset]):
    """Write requests and their manifests, for training and held out from it, one JSON a line."""
    import json

    from mlk8s.lm import task

    for data, count, split in ((train, pairs, "train"), (test, held_out, "held out")):
        examples = task.examples(count, seed=seed, split=split)
        with open(data.path, "w") as file:
            for example in examples:
                row = {"request": example.request, "manifest": example.manifest}
                file.write(json.dumps(row) + "\n")
        data.metadata["examples"] = len(examples)


@dsl.component(base_image=IMAGE)
def check_tokenizer(base: str, train: Input[Dataset], longest: int) -> int:
    """The most tokens that an example has; fails where one would not fit into a row."""
    import json

    from mlk8s.lm import data, model, task

    tokenizer = model.load(base).tokenizer
    with open(train.path) as file:
        examples = [task.Example(**json.loads(line)) for line in file]
    most = max(len(row.ids) for row in data.pairs(tokenizer, examples, 10_000))
    if most > longest:
        raise ValueError(f"an example has {most} tokens, and a row has room for {longest}")
    return most


@dsl.component(base_image=IMAGE)
def tune(
    base: str,
    train: Input[Dataset],
    rate: float,
    steps: int,
    seed: int,
    longest: int,
    model: Output[Model],
) -> float:
    """Fine-tune all weights of the base; the mean loss of the last ten steps, nats per token."""
    import json
    import statistics
    from dataclasses import replace

    import torch

    from mlk8s.lm import model as models
    from mlk8s.lm import task, training

    with open(train.path) as file:
        examples = [task.Example(**json.loads(line)) for line in file]
    plan = replace(training.FULL, steps=steps, lr=rate, seed=seed, length=longest)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run = training.finetune(models.load(base), examples, plan, method="full", device=device)
    run.model.save(model.path)
    model.metadata["learning rate"] = rate
    model.metadata["steps"] = steps
    return statistics.fmean(run.losses[-10:])


@dsl.component(base_image=IMAGE)
def choose(
    models: Input[list[Model]],
    losses: list[float],
    test: Input[Dataset],
    best: Output[Model],
) -> float:
    """Keep the model with the lowest loss; the share of held-out requests it answers validly."""
    import json
    import shutil

    from mlk8s.lm import judging, task
    from mlk8s.lm import model as lm

    chosen = models[losses.index(min(losses))]
    shutil.copytree(chosen.path, best.path)
    with open(test.path) as file:
        examples = [task.Example(**json.loads(line)) for line in file]
    score = judging.judge(lm.load(best.path), examples, judging.Schemas()).valid
    best.metadata.update(chosen.metadata)
    best.metadata["valid"] = score
    return score


@dsl.component(base_image=IMAGE)
def publish(model: Input[Model], volume: str, score: float) -> str:
    """Put the model where the service reads it: copied first, then swapped in by two renames."""
    import os
    import shutil
    import tempfile

    place = os.path.join(volume, "published")
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=volume) as work:
        new = shutil.copytree(model.path, os.path.join(work, "new"))
        if os.path.exists(place):
            os.rename(place, os.path.join(work, "old"))
        os.rename(new, place)
    return f"published with {score:.0%} valid"


@dsl.pipeline(name="tune-and-publish")
def tune_and_publish(
    base: str = f"{MOUNT}/base",
    volume: str = MOUNT,
    bar: float = 0.0,
    pairs: int = 1000,
    held_out: int = 30,
    steps: int = 120,
    longest: int = 160,
    seed: int = 0,
    claim: str = "models",
) -> float:
    """Fine-tune at two learning rates, test the better, publish it if it beats the bar.

    Args:
        base: folder of the base model.
        volume: folder that the service reads.
        bar: share of valid answers of what is served now, from 0 to 1.
        pairs: examples for training.
        held_out: examples for the test.
        steps: of each training.
        longest: tokens of a row.
        seed: of data and training.
        claim: the PersistentVolumeClaim behind ``base`` and ``volume``, in a cluster.
    """
    data = make_data(pairs=pairs, held_out=held_out, seed=seed)
    check = check_tokenizer(base=base, train=data.outputs["train"], longest=longest)
    with dsl.ParallelFor(RATES, parallelism=2, name="rates") as rate:
        tuned = tune(
            base=base,
            train=data.outputs["train"],
            rate=rate,
            steps=steps,
            seed=seed,
            longest=longest,
        ).after(check)
        tuned.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
        tuned.set_memory_limit("4Gi").set_retry(1)
        kubernetes.add_toleration(tuned, key="nvidia.com/gpu", operator="Exists")
    best = choose(
        models=dsl.Collected(tuned.outputs["model"]),
        losses=dsl.Collected(tuned.outputs["Output"]),
        test=data.outputs["test"],
    )
    with dsl.If(best.outputs["Output"] > bar, name="better"):
        published = publish(model=best.outputs["best"], volume=volume, score=best.outputs["Output"])
    for each in (check, tuned, published):
        kubernetes.mount_pvc(each, pvc_name=claim, mount_path=MOUNT)
    return best.outputs["Output"]


def compile_to(path: Path, namespace: str) -> None:
    """Write the pipeline as objects for ``kubectl apply``.

    Args:
        path: of the YAML file.
        namespace: where Kubeflow Pipelines looks for them.
    """
    options = KubernetesManifestOptions(
        pipeline_name="tune-and-publish",
        pipeline_version_name="tune-and-publish-1",
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    compiler.Compiler().compile(
        tune_and_publish,
        str(path),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=options,
    )


def main() -> None:
    """Compile the pipeline."""
    parser = argparse.ArgumentParser(
        description="Compile the pipeline for Kubeflow Pipelines 2.17 with its Kubernetes API: "
        "a Pipeline and a PipelineVersion, for kubectl apply.",
    )
    parser.add_argument("--out", type=Path, default=Path("pipeline.yaml"), help="the file to write")
    parser.add_argument("--namespace", default="kubeflow", help="where Pipelines is installed")
    options = parser.parse_args()
    compile_to(options.out, options.namespace)
    print(f"{options.out} written. Next: kubectl apply -f {options.out}")


if __name__ == "__main__":
    main()
