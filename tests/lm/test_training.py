"""Training: the same bits for the same plan, also when stopped; adapters alone; two ranks."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mlk8s.errors import GpuUnavailable, UsageError
from mlk8s.lm import checkpoint, generation, model, plan, processes, task, training
from mlk8s.lm.model import Model

HERE = Path(__file__).parent
SHORT = training.Plan(steps=8, batch=4, lr=3e-3, length=64, warmup=2)
TEXTS = task.corpus(100)
EXAMPLES = task.examples(60)
WORDS: Any = model.create().tokenizer


def fresh(seed: int = 0) -> Model:
    return model.create(seed=seed, tokenizer=WORDS)


def weights(of: Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Crash(Exception):
    """What ends a process between two steps."""


def crash_after(step: int) -> Callable[[training.Step], None]:
    def report(done: training.Step) -> None:
        if done.step == step:
            raise Crash

    return report


def test_a_new_model_is_small_and_its_seed_decides() -> None:
    small = fresh()
    assert small.parameters.total == small.parameters.trainable < 1_000_000
    assert same(weights(small), weights(fresh()))
    assert not same(weights(small), weights(fresh(1)))
    # Making one does not disturb who else draws random numbers.
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fresh(2)
    assert torch.equal(torch.rand(1), expected)


def test_pretraining_is_the_same_to_the_bit() -> None:
    runs = [training.pretrain(fresh(), TEXTS, SHORT) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    assert same(weights(runs[0].model), weights(runs[1].model))
    assert runs[0].losses[0] == pytest.approx(math.log(len(WORDS)), abs=0.3)  # it knows nothing
    assert runs[0].losses[-1] < runs[0].losses[0] - 1
    assert runs[0].tokens == SHORT.steps * SHORT.batch * SHORT.length
    assert runs[0].tokens_per_s == pytest.approx(runs[0].tokens / runs[0].seconds)
    assert (runs[0].processes, runs[0].resumed_at) == (1, 0)
    assert runs[0].peak_memory_bytes > 2**27
    other = training.pretrain(fresh(), TEXTS, replace(SHORT, seed=1))
    assert other.losses != runs[0].losses


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    method: training.Method, tmp_path: Path
) -> None:
    whole = training.finetune(fresh(), EXAMPLES, SHORT, method=method)
    with pytest.raises(Crash):
        training.finetune(
            fresh(), EXAMPLES, SHORT, method=method, folder=tmp_path, every=3, report=crash_after(5)
        )
    resumed = training.finetune(fresh(), EXAMPLES, SHORT, method=method, folder=tmp_path, every=3)
    assert resumed.resumed_at == 3
    assert resumed.losses == whole.losses
    assert same(weights(resumed.model), weights(whole.model))
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.FILE]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    training.pretrain(fresh(), TEXTS, replace(SHORT, steps=2), folder=tmp_path, every=2)
    with pytest.raises(UsageError, match="is of another run: plan"):
        training.pretrain(fresh(), TEXTS, SHORT, folder=tmp_path)
    with pytest.raises(UsageError, match="another run: data"):
        training.pretrain(fresh(), TEXTS[1:], replace(SHORT, steps=2), folder=tmp_path)
    again = training.pretrain(fresh(), TEXTS, replace(SHORT, steps=2, threads=2), folder=tmp_path)
    assert (again.resumed_at, again.tokens, len(again.losses)) == (2, 0, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_obeyed_after_the_step_with_a_checkpoint(
    number: signal.Signals, tmp_path: Path
) -> None:
    def interrupt(done: training.Step) -> None:
        if done.step == 3:
            signal.raise_signal(number)

    obeyed: list[int] = []
    before = signal.signal(number, lambda number, frame: obeyed.append(number))
    try:
        training.pretrain(fresh(), TEXTS, SHORT, folder=tmp_path, report=interrupt)
    finally:
        signal.signal(number, before)
    assert obeyed == [number]
    resumed = training.pretrain(fresh(), TEXTS, SHORT, folder=tmp_path)
    # The step after the signal is done whole.
    assert resumed.resumed_at == 4
    assert resumed.losses == training.pretrain(fresh(), TEXTS, SHORT).losses


def test_lora_trains_adapters_and_nothing_else() -> None:
    base = fresh()
    before = weights(base)
    run = training.finetune(base, EXAMPLES, SHORT, method="lora", rank=4)
    after = weights(run.model)
    adapters = {name for name in after if "lora_" in name}
    assert len(adapters) == 2 * 7 * 4  # two matrices beside each of seven, in each of four layers
    plain = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): value
        for name, value in after.items()
        if name not in adapters
    }
    assert same(plain, before)
    assert run.parameters.trainable == sum(after[name].numel() for name in adapters)
    # B begins at zero, so that the model begins as its base.
    assert all(after[name].any() for name in adapters if "lora_B" in name)


def test_what_is_saved_answers_the_same(tmp_path: Path) -> None:
    run = training.finetune(fresh(), EXAMPLES, SHORT, method="lora")
    prompts = [each.prompt for each in task.examples(3, split="held out")]
    said = generation.generate(run.model, prompts, longest=12)
    merged = run.model.merged()
    assert generation.generate(merged, prompts, longest=12) == said
    merged.save(tmp_path / "tuned")
    read = model.load(tmp_path / "tuned")
    assert generation.generate(read, prompts, longest=12) == said
    # Whatever stands beside it in the batch.
    assert [generation.generate(read, [each], longest=12)[0] for each in prompts] == said
    with pytest.raises(UsageError, match="no adapters"):
        read.merged()


def test_adapters_alone_are_saved_and_loaded_onto_their_base(tmp_path: Path) -> None:
    fresh().save(tmp_path / "base")
    base = model.load(tmp_path / "base")
    run = training.finetune(base, EXAMPLES, SHORT, method="lora")
    run.model.save(tmp_path / "adapters")
    sizes = [
        (tmp_path / name).stat().st_size
        for name in ("adapters/adapter_model.safetensors", "base/model.safetensors")
    ]
    assert sizes[0] < sizes[1] / 4
    read = model.load(tmp_path / "adapters")
    prompts = [EXAMPLES[0].prompt]
    assert generation.generate(read, prompts, longest=8) == generation.generate(
        run.model, prompts, longest=8
    )


def test_a_rank_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.WAIT_S, "cpu", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    missing = pytest.raises(RuntimeError, match=r"1/2 clients joined|[Tt]imed out")
    with missing, processes.joined("cpu"):
        raise AssertionError("the other rank is not there")


def test_two_processes_compute_the_gradients_of_one(tmp_path: Path) -> None:
    script = str(HERE / "gradients.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("one", []), ("two", torchrun)):
        done = subprocess.run(
            [sys.executable, *launcher, script, str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name) for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    for name, expected in one["gradients"].items():
        largest = expected.abs().max()
        assert (two["gradients"][name] - expected).abs().max() < 1e-5 * largest, name


def test_the_learning_rate_grows_and_falls() -> None:
    long = training.Plan(steps=100, lr=1.0, warmup=10)
    rates = [plan.learning_rate(long, step) for step in range(100)]
    assert rates[0] < 0.11 and max(rates) > 0.95
    assert rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.001)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="method='qlora' is unknown"):
        training.finetune(fresh(), EXAMPLES, SHORT, method="qlora")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="device='tpu' is unknown"):
        training.pretrain(fresh(), TEXTS, SHORT, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(GpuUnavailable, match="finds no GPU"):
            training.pretrain(fresh(), TEXTS, SHORT, device="cuda")
    with pytest.raises(UsageError, match="holds no model"):
        model.load(tmp_path)
