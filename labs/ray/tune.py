#!/usr/bin/env python3
"""The search of chapter 7 on Ray Tune: random search against ASHA, at the same budget of steps.

Both draw the learning rate and the rank of LoRA from the same space. Random search trains every
trial to its end. ASHA (Li et al., MLSys 2020) looks at each trial after 5, 15 and 30 steps and
goes on with those that are among the best third so far, so the same steps go into more trials.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Table
from mlk8s.raylocal.isolation import handlers_kept

HOW = """\
  ./tune.py --base base                 # a model that labs/training/train.py has pre-trained
  ./tune.py --base base --budget 360    # steps of training that each search may spend

The first table has a row for each trial, the second a row for each search: what it found, what it
spent until its best was as good as the worse of the two, and in all.
"""
SEARCHES = ("random", "asha")
#: Steps of a trial that is not stopped, and steps between two reports.
STEPS, EVERY = 30, 5
#: As in chapter 7: the lowest and the highest learning rate, and the ranks.
RATES = (3e-4, 1e-1)
RANKS = (4, 16, 64)


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Search for a learning rate and a rank of LoRA on Ray Tune.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--base", type=Path, required=True, help="folder of the model to fine-tune")
    add("--budget", type=int, default=180, help="steps of each search (default 180)")
    add("--at-once", type=int, default=2, help="trials that run together (default 2)")
    add("--examples", type=int, default=400, help="to train on (default 400)")
    add("--seed", type=int, default=0, help="of the draws from the space (default 0)")
    return parser


def trial(config: dict[str, Any]) -> None:
    """Fine-tune with one learning rate and rank, and report the loss every few steps.

    Args:
        config: ``lr`` and ``rank``, drawn; ``base``, ``examples``.
    """
    import statistics
    from dataclasses import replace

    from ray import tune

    from mlk8s.lm import model, task, training

    losses: list[float] = []

    def report(done: training.Step) -> None:
        losses.append(done.loss)
        if done.step % EVERY == 0:
            # The same measure as chapter 7's: the mean of the last five steps.
            tune.report({"loss": statistics.fmean(losses[-5:]), "step": done.step})

    training.finetune(
        model.load(config["base"]),
        task.examples(config["examples"]),
        replace(training.LORA, steps=STEPS, lr=float(config["lr"]), warmup=5, threads=1),
        rank=int(config["rank"]),
        report=report,
    )


def search(
    kind: str,
    base: Path,
    folder: Path,
    *,
    budget: int = 180,
    at_once: int = 2,
    examples: int = 400,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Run one search on the Ray that runs.

    Args:
        kind: of :data:`SEARCHES`.
        base: folder of the model to fine-tune.
        folder: for Ray's results.
        budget: steps of all trials together; trials that run when it is spent are stopped.
        at_once: trials that run together.
        examples: to train on.
        seed: of the draws.

    Returns:
        A row for each report, in the order of time: ``trial``, ``lr``, ``rank``, ``step``,
        ``loss``, ``spent`` (steps of the search so far), ``at`` (seconds since its start).

    Raises:
        UsageError: the kind is unknown, or there is no such folder.
        Mlk8sError: a trial failed.
    """
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    if kind not in SEARCHES:
        raise UsageError(f"There is no search {kind!r}.", f"choose one of {', '.join(SEARCHES)}.")
    if not base.is_dir():
        raise UsageError(
            f"There is no folder {base}.",
            "make one: labs/training/train.py pretrain --out base.",
        )
    begun = time.perf_counter()
    rows: list[dict[str, Any]] = []

    class Recorder(tune.Callback):
        """Notes each report, in this process."""

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any):
            rows.append(
                {
                    "trial": trial.trial_id.rpartition("_")[2],
                    "lr": result["config"]["lr"],
                    "rank": result["config"]["rank"],
                    "step": result["step"],
                    "loss": result["loss"],
                    "spent": (len(rows) + 1) * EVERY,
                    "at": time.perf_counter() - begun,
                }
            )

    class Budget(tune.Stopper):
        """Ends the search when its steps are spent."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return len(rows) * EVERY >= budget

    asha = ASHAScheduler(time_attr="step", max_t=STEPS, grace_period=EVERY, reduction_factor=3)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1}),
        param_space={
            "lr": tune.loguniform(*RATES),
            "rank": tune.choice(RANKS),
            "base": str(base.resolve()),
            "examples": examples,
        },
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            # More than the budget allows; the stopper ends the search.
            num_samples=-(-budget // EVERY),
            max_concurrent_trials=at_once,
            scheduler=asha if kind == "asha" else FIFOScheduler(),
            search_alg=BasicVariantGenerator(random_state=seed, max_concurrent=at_once),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=kind,
            storage_path=str(folder.resolve()),
            verbose=0,
            callbacks=[Recorder()],
            # In a notebook another one shows an empty frame for each search.
            progress_reporter=tune.CLIReporter(),
            stop=Budget(),
        ),
    )
    with handlers_kept():
        results = tuner.fit()
    if results.errors:
        raise Mlk8sError(
            f"A trial failed: {str(results.errors[0]).strip().splitlines()[-1]}",
            "try its learning rate and rank alone: labs/training/train.py finetune.",
        )
    return rows


def trials(rows: list[dict[str, Any]], kind: str) -> Table:
    """A row for each trial: its parameters, how far it came, its last loss."""
    last = {row["trial"]: row for row in rows}
    return Table(
        [
            {
                "search": kind,
                "lr": float(f"{row['lr']:.2g}"),
                "rank": row["rank"],
                "steps": row["step"],
                "loss": round(row["loss"], 3),
            }
            for row in last.values()
        ],
        _origin(),
        title="Trials",
    )


def compare(found: dict[str, list[dict[str, Any]]]) -> Table:
    """A row for each search: its best, and what it spent until it was as good as the worse one.

    Args:
        found: what :func:`search` returned, by its kind.
    """
    best = {kind: min(row["loss"] for row in rows) for kind, rows in found.items()}
    bar = max(best.values())
    table = []
    for kind, rows in found.items():
        reached = next(row for row in rows if row["loss"] <= bar)
        table.append(
            {
                "search": kind,
                "trials": len({row["trial"] for row in rows}),
                "to the end": sum(row["step"] == STEPS for row in rows),
                "best loss": round(best[kind], 3),
                f"steps to {bar:.3f}": reached["spent"],
                f"seconds to {bar:.3f}": round(reached["at"], 1),
                "steps": rows[-1]["spent"],
                "seconds": round(rows[-1]["at"], 1),
            }
        )
    return Table(table, _origin(), title="Searches")


def _origin() -> Any:
    method = "loss: mean of the last five steps of training; seconds: wall clock, starts included"
    return raylocal.provenance(method, "torch", "transformers", "peft")


def main() -> int:
    """The command."""
    chosen = options().parse_args()
    found = {}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="ray-tune-") as place,
            raylocal.running(cpus=chosen.at_once),
        ):
            for kind in SEARCHES:
                found[kind] = search(
                    kind,
                    chosen.base,
                    Path(place),
                    budget=chosen.budget,
                    at_once=chosen.at_once,
                    examples=chosen.examples,
                    seed=chosen.seed,
                )
                print(trials(found[kind], kind), end="\n\n")
        print(compare(found))
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
