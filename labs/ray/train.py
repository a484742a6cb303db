#!/usr/bin/env python3
"""The training of chapter 7 on Ray Train: two workers, a crash in the middle, and the resumption.

The training function is mlk8s.lm.training.pretrain, unchanged. Ray starts the workers, sets the
variables that torchrun sets, and starts all of them again when one dies; what lets the run go on
where it was is the function's own checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Table
from mlk8s.raylocal.isolation import handlers_kept

HOW = """\
  ./train.py                            # 60 steps, killed at step 35, checkpoints every 20
  ./train.py --every 0                  # without checkpoints: all is done again
  ./train.py --crash-at 0               # nothing is killed
  ./train.py --out base                 # keep the model

Each line of the table is an attempt: the steps that it did. With a crash at step 35 and a
checkpoint at step 20 the second attempt begins at step 21, and 15 steps are done twice.
"""


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Pre-train the course's small model on Ray Train.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workers", type=int, default=2, help="processes that share each batch (default 2)")
    add("--steps", type=int, default=60, help="updates of the weights (default 60)")
    add("--texts", type=int, default=2000, help="texts to train on (default 2000)")
    add("--every", type=int, default=20, help="steps between two checkpoints (default 20)")
    add("--crash-at", type=int, default=35, help="step after which a worker is killed; 0: none")
    add("--retries", type=int, default=1, help="times that Ray starts the workers anew (default 1)")
    add("--out", type=Path, help="folder for the model")
    return parser


def loop(config: dict[str, Any]) -> None:
    """What each worker runs: the training function, and a report at the end.

    Args:
        config: ``steps``, ``texts``, ``every``, ``crash_at`` and ``folder``, in which rank 0 writes
            checkpoints and a line for each step.
    """
    import ray.train

    from mlk8s.lm import model, task, training

    folder = Path(config["folder"])
    log = folder / "steps.jsonl"
    attempt = f"{time.time():.3f}"
    crashed = folder / "crashed"

    def report(done: training.Step) -> None:
        line = {"attempt": attempt, "step": done.step, "loss": done.loss, "at": time.time()}
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if done.step == config["crash_at"] and not crashed.exists():
            crashed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    plan = replace(training.PRETRAIN, steps=config["steps"])
    small = model.create(seed=0)
    texts = task.corpus(config["texts"], seed=0)
    run = training.pretrain(
        small, texts, plan, folder=folder / "checkpoints", every=config["every"], report=report
    )
    metrics = {
        "processes": run.processes,
        "resumed at": run.resumed_at,
        "losses": list(run.losses),
        "seconds": run.seconds,
    }
    with tempfile.TemporaryDirectory() as place:
        # A result has metrics where a checkpoint came with them (ray-project/ray#56718).
        saved = None
        if ray.train.get_context().get_world_rank() == 0:
            saved = ray.train.Checkpoint.from_directory(small.save(place))
        ray.train.report(metrics, checkpoint=saved)


def train(
    folder: Path,
    *,
    workers: int = 2,
    steps: int = 60,
    texts: int = 2000,
    every: int = 20,
    crash_at: int = 35,
    retries: int = 1,
) -> dict[str, Any]:
    """Run it on the Ray that runs.

    Args:
        folder: for checkpoints, the log of steps and Ray's results. Made if it is not there.
        workers: processes.
        steps: updates of the weights.
        texts: to train on.
        every: steps between two checkpoints.
        crash_at: step after which the process of rank 0 is killed, once; 0 for none.
        retries: how often Ray starts the workers anew.

    Returns:
        What rank 0 reported: ``processes``, ``resumed at`` (steps of the checkpoint that the last
        attempt found), ``losses`` of all steps, ``seconds`` of the last attempt; and ``model``,
        the folder of the model.

    Raises:
        UsageError: the batch cannot be split over so many workers.
        Mlk8sError: workers died more often than Ray was to start them anew.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from mlk8s.lm.plan import PRETRAIN

    if PRETRAIN.batch % workers:
        raise UsageError(
            f"A batch of {PRETRAIN.batch} rows cannot be split evenly over {workers} workers.",
            "choose a number of workers that divides it.",
        )
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "folder": str(folder),
        "steps": steps,
        "texts": texts,
        "every": every,
        "crash_at": crash_at,
    }
    trainer = TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(
            name="run",
            storage_path=str(folder / "results"),
            failure_config=FailureConfig(max_failures=retries),
        ),
    )
    try:
        with handlers_kept():
            result = trainer.fit()
    except TrainingFailedError as error:
        raise Mlk8sError(
            f"The training failed: {str(error).strip().splitlines()[-1]}",
            "allow more retries, or see what kills the workers.",
        ) from error
    return {**result.metrics, "model": str(result.checkpoint.path)}


def attempts(folder: Path) -> Table:
    """A row for each start of the workers, from the log of steps."""
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    starts = [
        [line for line in lines if line["attempt"] == name]
        for name in dict.fromkeys(line["attempt"] for line in lines)
    ]
    rows = []
    for number, (before, mine) in enumerate(zip([None, *starts], starts, strict=False), 1):
        seen = before[-1]["step"] if before else 0
        rows.append(
            {
                "attempt": number,
                "first step": mine[0]["step"],
                "last step": mine[-1]["step"],
                "done again": max(0, seen - mine[0]["step"] + 1),
                "loss at the end": round(mine[-1]["loss"], 3),
                "idle before [s]": round(mine[0]["at"] - before[-1]["at"], 1) if before else None,
            }
        )
    return Table(rows, raylocal.provenance("the log of rank 0", "torch"), title="Attempts")


def main() -> int:
    """The command."""
    chosen = options().parse_args()
    try:
        if chosen.out and chosen.out.exists():
            raise UsageError(f"{chosen.out} is there already.", "name a folder that is not.")
        with (
            tempfile.TemporaryDirectory(prefix="ray-train-") as place,
            raylocal.running(cpus=max(2, -(-chosen.workers // 2))),
        ):
            found = train(
                Path(place),
                workers=chosen.workers,
                steps=chosen.steps,
                texts=chosen.texts,
                every=chosen.every,
                crash_at=chosen.crash_at,
                retries=chosen.retries,
            )
            print(attempts(Path(place)))
            if chosen.out:
                shutil.copytree(found["model"], chosen.out)
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    kept = f"; the model is in {chosen.out}" if chosen.out else ""
    print(
        f"{found['processes']} workers, {len(found['losses'])} steps, "
        f"loss {found['losses'][0]:.3f} to {found['losses'][-1]:.3f}; "
        f"the last attempt went on from step {found['resumed at']}{kept}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
