"""A day of the two groups, minute by minute in sums: waiting, GPU-hours, and what fits."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

QUOTA, NODE = 6, 4
BURSTS, AT_ONCE, LASTS_MIN, PAUSE_MIN, NOON_MIN = 20, 2, 16.0, 8.0, 60.0
START_MIN, WAIT_MIN = 5.0, 15.0
TRAIN, TRAIN_MIN = 4, 300.0
DAY_MIN, BUDGET_H = 24 * 60.0, 38.0


def check(work: Work) -> str:
    """What fits, who waits, what it costs; the first bound that is broken is named."""
    if head := work.count("head_num_cpus"):
        raise Wrong(f"head_num_cpus: with {head} tasks run beside the state of the whole cluster.")
    trial, train = _group(work, "trial"), _group(work, "train")
    for name, group in (("trial", trial), ("train", train)):
        if group["least"] > group["most"]:
            raise Wrong(f"{name}_min is more than {name}_max, which KubeRay refuses.")
        if not 1 <= group["gpus"] <= NODE:
            raise Wrong(f"{name}_gpus: {group['gpus']}. A pod has 1 to {NODE} GPUs of a node.")
    if train["gpus"] < TRAIN:
        raise Wrong(
            f"train_gpus: {train['gpus']}. Into which Ray node would the four bundles of a "
            "STRICT_PACK group go together?"
        )
    if train["most"] < 1:
        raise Wrong("train_max: the training never gets a worker.")
    if trial["gpus"] * trial["most"] < AT_ONCE:
        raise Wrong(f"GPUs for trials: {trial['gpus'] * trial['most']}. Two tasks come at once.")
    most = trial["gpus"] * trial["most"] + train["gpus"] * train["most"]
    if most > QUOTA:
        raise Wrong(f"Both groups at their most want {most} GPUs; the quota is {QUOTA}.")
    waited, trials_h = _trials(**trial)
    if waited > WAIT_MIN:
        raise Wrong(
            f"People wait for {waited:g} minutes a day, {waited / START_MIN:g} times for a start; "
            f"{WAIT_MIN:g} minutes are accepted. Which pauses should a worker outlive?"
        )
    hours = trials_h + _training(**train)
    if hours > BUDGET_H:
        raise Wrong(
            f"A day takes {hours:.1f} GPU-hours, {trials_h:.1f} of them for trials; {BUDGET_H:g} "
            "are to be had. Which workers are there and do nothing?"
        )
    return f"{waited:g} minutes of waiting, {hours:.1f} of {BUDGET_H:g} GPU-hours a day."


def _group(work: Work, name: str) -> dict[str, int]:
    keys = {"gpus": "gpus", "least": "min", "most": "max", "idle_s": "idle_s"}
    return {key: work.count(f"{name}_{suffix}") for key, suffix in keys.items()}


def _trials(*, gpus: int, least: int, most: int, idle_s: int) -> tuple[float, float]:
    """Minutes that people wait in a day, and GPU-hours of their group."""
    workers = -(-AT_ONCE // gpus)
    idle = idle_s / 60
    night = DAY_MIN - BURSTS * LASTS_MIN - (BURSTS - 2) * PAUSE_MIN - NOON_MIN
    pauses = [PAUSE_MIN] * (BURSTS - 2) + [NOON_MIN, night]
    # A pause that is longer than the idle time ends with a start.
    starts = 0 if least >= workers else sum(pause > idle for pause in pauses)
    added = max(workers - least, 0)
    there = BURSTS * LASTS_MIN + starts * START_MIN + sum(min(pause, idle) for pause in pauses)
    return starts * START_MIN, gpus * (least * DAY_MIN + added * there) / 60


def _training(*, gpus: int, least: int, most: int, idle_s: int) -> float:
    """GPU-hours of the group in a day."""
    if least:
        return gpus * least * DAY_MIN / 60
    return gpus * (START_MIN + TRAIN_MIN + idle_s / 60) / 60
