"""The task of chapter 7 by Kubeflow's controllers and by Ray: one function, one budget, one run.

Training, search and serving, each by both, one after the other on this machine. Kubeflow's side is
the embedded cluster with its models of Trainer, Katib and KServe, so pods are processes that start
without an image to pull; Ray's side is one private Ray. What is compared is what the two do around
the same functions: starts, restarts, trials, batches. Neither says anything about a network.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from runpy import run_path
from typing import Any

from _common import of_processor, origin, run, store, stored

from mlk8s import cluster, raylocal
from mlk8s.provenance import Kind, Table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".json")
STEPS, EVERY, CRASH_AT, TEXTS = 60, 20, 35, 2000
TRIALS, TRIAL_STEPS = 6, 30
CLIENTS, SECONDS, MAX_BATCH = (1, 4, 16), 3.0, 16
WAIT_MS = 100


def pretrain(steps, every, crash_at, texts):  # type: ignore[no-untyped-def]
    """Of a TrainJob, which sends the source: the loop of labs/ray/train.py around the function."""
    import json
    import os
    import signal
    import time
    from dataclasses import replace
    from pathlib import Path

    from mlk8s.lm import model, task, training

    log, crashed = Path("/models/log/steps.jsonl"), Path("/models/crashed")
    log.parent.mkdir(exist_ok=True)
    attempt = str(time.time())

    def report(done):  # type: ignore[no-untyped-def]
        if os.environ["RANK"] == "0":
            line = {"attempt": attempt, "step": done.step, "loss": done.loss, "at": time.time()}
            with log.open("a") as file:
                print(json.dumps(line), file=file)
            if done.step == crash_at and not crashed.exists():
                crashed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    run = training.pretrain(
        model.create(seed=0),
        task.corpus(texts, seed=0),
        replace(training.PRETRAIN, steps=steps, threads=1),
        folder=Path("/models/checkpoints"),
        every=every,
        report=report,
    )
    if os.environ["RANK"] == "0":
        run.model.save("/models/base")


def trial(lr, rank, steps):  # type: ignore[no-untyped-def]
    """Of an Experiment: the loop of labs/ray/tune.py around the function."""
    import statistics
    from dataclasses import replace

    from mlk8s.lm import model, task, training

    run = training.finetune(
        model.load("/models/base"),
        task.examples(400),
        replace(training.LORA, steps=int(steps), lr=float(lr), warmup=5, threads=1),
        rank=int(rank),
    )
    print(f"loss={statistics.fmean(run.losses[-5:]):.4f}")


def by_kubeflow(folder: Path) -> dict[str, Any]:
    """Train, search and serve on the embedded cluster; the base model is left in the folder."""
    from kubeflow.common.types import KubernetesBackendConfig
    from kubeflow.optimizer import Objective, OptimizerClient, RandomSearch, Search, TrialConfig
    from kubeflow.optimizer.types.optimization_types import Direction
    from kubeflow.trainer import CustomTrainer, TrainerClient, TrainJobTemplate

    from mlk8s.lm import access, load

    k = cluster.connect("simulated", nodes="t4x4")
    try:
        for addon in ("trainer", "katib", "kserve"):
            k.enable(addon)
        k.ensure_namespace()
        label = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
        k.patch("namespace", k.namespace, {"metadata": {"labels": label}})
        k.apply(ROOT / "labs/training/runtime.yaml")
        where = KubernetesBackendConfig(config_file=k.kubeconfig, namespace=k.namespace)

        def of(function: Any, nodes: int, **arguments: Any) -> CustomTrainer:
            return CustomTrainer(
                func=function,
                func_args=arguments,
                num_nodes=nodes,
                resources_per_node={"gpu": 1},
            )

        trainer = TrainerClient(backend_config=where)
        begun = time.time()
        job = trainer.train(
            runtime="mlk8s-course",
            trainer=of(pretrain, 2, steps=STEPS, every=EVERY, crash_at=CRASH_AT, texts=TEXTS),
        )
        trainer.wait_for_job_status(job, status={"Complete"}, timeout=600, polling_interval=1)
        ended = time.time()
        k.fetch("models", "log", folder / "kubeflow")
        training = trained(folder / "kubeflow", begun, ended)
        k.fetch("models", "base", folder / "base")

        optimizer = OptimizerClient(backend_config=where)
        begun = time.time()
        search = optimizer.optimize(
            trial_template=TrainJobTemplate(
                runtime="mlk8s-course",
                trainer=of(trial, 1, rank="16", steps=TRIAL_STEPS),
            ),
            search_space={
                "lr": Search.loguniform(3e-4, 1e-1),
                "rank": Search.choice([4, 16, 64]),
            },
            objectives=[Objective(metric="loss", direction=Direction.MINIMIZE)],
            algorithm=RandomSearch(random_state=0),
            trial_config=TrialConfig(num_trials=TRIALS, parallel_trials=2),
        )
        while (found := optimizer.get_job(search)).status not in ("Complete", "Failed"):
            time.sleep(0.5)
        losses = [float(each.metrics[0].latest) for each in found.trials]
        searching = {
            "random": {
                "trials": len(losses),
                "steps": len(losses) * TRIAL_STEPS,
                "seconds": time.time() - begun,
                "best": min(losses),
            }
        }
        optimizer.delete_job(search)

        begun = time.time()
        k.apply(ROOT / "labs/manifests/07-serving-runtime.yaml")
        server = deepcopy(dict(cluster.Manifest.load(ROOT / "labs/manifests/07-serving.yaml")))
        server["spec"]["predictor"]["model"]["storageUri"] = "pvc://models/base"
        server["spec"]["predictor"]["model"]["args"] = [
            "--batching=continuous",
            f"--max_batch_size={MAX_BATCH}",
        ]
        k.apply(server)
        k.wait("inferenceservice", "manifests", "Ready")
        target = access.through(k, "manifests-predictor", model="manifests")
        for _ in access.stream(target, "kind:", max_tokens=1):
            ready = time.time() - begun
        measured = load.closed(target, clients=CLIENTS, seconds=SECONDS)
        serving = {"ready": ready, "curve": [dict(row) for row in measured.table()]}
        return {"training": training, "searching": searching, "serving": serving}
    finally:
        k.remove_namespace()
        k.close()


def by_ray(folder: Path) -> dict[str, Any]:
    """The same on one private Ray, with the base model that is in the folder."""
    train, tune, serve = (
        run_path(str(ROOT / f"labs/ray/{name}.py")) for name in ("train", "tune", "serve")
    )
    with raylocal.running(cpus=2):
        begun = time.time()
        train["train"](folder / "ray", steps=STEPS, every=EVERY, crash_at=CRASH_AT, texts=TEXTS)
        training = trained(folder / "ray", begun, time.time())
        searching = {}
        for kind in tune["SEARCHES"]:
            begun = time.time()
            rows = tune["search"](
                kind, folder / "base", folder / "tune", budget=TRIALS * TRIAL_STEPS
            )
            searching[kind] = {
                "trials": len({row["trial"] for row in rows}),
                "steps": rows[-1]["spent"],
                "seconds": time.time() - begun,
                "best": min(row["loss"] for row in rows),
            }
        begun = time.time()
        with serve["served"](
            {"base": folder / "base"}, max_batch=MAX_BATCH, wait_ms=WAIT_MS
        ) as target:
            ready = time.time() - begun
            curve = [dict(row) for row in serve["measure"](target, CLIENTS, SECONDS)]
    serving = {"ready": ready, "curve": curve}
    return {"training": training, "searching": searching, "serving": serving}


def trained(folder: Path, begun: float, ended: float) -> dict[str, float]:
    """What the log of steps says about a training that crashed once."""
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    [_, second] = list(dict.fromkeys(line["attempt"] for line in lines))
    at = next(number for number, line in enumerate(lines) if line["attempt"] == second)
    return {
        "to the first step": lines[0]["at"] - begun,
        "from the crash to the next step": lines[at]["at"] - lines[at - 1]["at"],
        "done again": lines[at - 1]["step"] - lines[at]["step"] + 1,
        "all": ended - begun,
        "loss": lines[-1]["loss"],
    }


def measure() -> dict[str, Any]:
    """Both, one after the other."""
    work = Path(tempfile.mkdtemp(prefix="mlk8s-both-"))
    try:
        kubeflow = by_kubeflow(work)
        ray = by_ray(work)
    finally:
        shutil.rmtree(work)
    here = raylocal.provenance("wall clock", "kubeflow", "torch", "transformers", "peft")
    return {
        "kubeflow": kubeflow,
        "ray": ray,
        "origin": origin(here),
    }


def recorded() -> dict[str, Any]:
    """What ``--record`` has stored."""
    return stored(RESULTS)


def tables(results: dict[str, Any], kind: Kind = Kind.RECORDED) -> tuple[Table, Table]:
    """The comparison, and the two curves.

    Args:
        results: of :func:`measure` or :func:`recorded`.
        kind: whether they were measured now.

    Returns:
        A row for each question with both answers; and the latency-throughput curves.
    """
    method = (
        "both in one run on one machine; wall clock; Kubeflow's pods are processes of the embedded "
        "cluster, and its server is asked through the API server's proxy"
    )
    told = of_processor(results, kind, method)
    kubeflow, ray = results["kubeflow"], results["ray"]

    def both(what: str, value: Any, digits: int = 1) -> dict[str, Any]:
        one, other = (round(value(each), digits) for each in (kubeflow, ray))
        return {"what": what, "Kubeflow": one, "Ray": other}

    rows = [
        both("training: submitted to first step [s]", lambda r: r["training"]["to the first step"]),
        both(
            "training: killed to next step [s]",
            lambda r: r["training"]["from the crash to the next step"],
        ),
        both("training: steps done again", lambda r: r["training"]["done again"], 0),
        both(f"training: all {STEPS} steps, with the crash [s]", lambda r: r["training"]["all"]),
        both("training: loss at the end [nats]", lambda r: r["training"]["loss"], 3),
        both(
            f"search: random, {TRIALS * TRIAL_STEPS} steps [s]",
            lambda r: r["searching"]["random"]["seconds"],
        ),
        both("search: random, best loss [nats]", lambda r: r["searching"]["random"]["best"], 3),
        both("serving: asked for to first answer [s]", lambda r: r["serving"]["ready"]),
        both(
            f"serving: {CLIENTS[0]} client, latency p50 [ms]",
            lambda r: r["serving"]["curve"][0]["latency p50 [ms]"],
            0,
        ),
        both(
            f"serving: {CLIENTS[-1]} clients, answers/s",
            lambda r: r["serving"]["curve"][-1]["requests/s"],
        ),
    ]
    asha = ray["searching"]["asha"]
    rows[7:7] = [
        {
            "what": f"search: ASHA, {asha['steps']} steps [s]",
            "Kubeflow": None,
            "Ray": round(asha["seconds"], 1),
        },
        {
            "what": f"search: ASHA, best loss of {asha['trials']} trials [nats]",
            "Kubeflow": None,
            "Ray": round(asha["best"], 3),
        },
    ]
    curves = [
        {
            "server": name,
            "clients": row["clients"],
            "requests/s": row["requests/s"],
            "latency p50 [ms]": row["latency p50 [ms]"],
        }
        for name, found in (("KServe, continuous", kubeflow), ("Serve, dynamic", ray))
        for row in found["serving"]["curve"]
    ]
    return (
        Table(rows, told, title="The same functions and budget"),
        Table(curves, told, title="The same model and load"),
    )


def show(results: dict[str, Any]) -> str:
    """All of it as text."""
    return "\n\n".join(map(str, tables(results, Kind.LIVE)))


if __name__ == "__main__":
    run(lambda: store(__doc__ or "", RESULTS, measure, show))
