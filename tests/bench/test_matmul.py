"""The matrix product: its arithmetic, its exactness, its names, the search for the fastest shape,
and what is recorded of it.
"""

from __future__ import annotations

import signal
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest

from mlk8s import recordings
from mlk8s.bench import matmul, timing
from mlk8s.bench.matmul import DTYPES, GAIN, PATIENCE, REST_S
from mlk8s.bench.rates import Matmul, Search
from mlk8s.bench.timing import Timing
from mlk8s.errors import NotRecorded, UsageError
from mlk8s.gpu import catalogue
from mlk8s.provenance import Device, Kind, Provenance

BRIEF = 0.02  # seconds; the values are checked here, not their precision


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_error_is_of_the_order_of_the_type(dtype: str) -> None:
    found = matmul.measure(96, dtype, m=48, k=160, device="cpu", min_time_s=BRIEF)
    assert (found.m, found.n, found.k, found.dtype) == (48, 96, 160, dtype)
    roundoff = DTYPES[dtype][2]
    # Rounding errors of k random terms add up like √k (Higham, Accuracy and Stability of
    # Numerical Algorithms, 2002, section 3.1); a sum kept in more bits stays below.
    assert found.error <= roundoff * 160**0.5
    # FP64 is compared with its own kind, a processor computes TF32 in FP32, and sums of integers
    # are exact.
    if dtype not in ("fp64", "tf32", "int8"):
        assert found.error >= roundoff / 50


def test_zeros_have_no_error() -> None:
    found = matmul.measure(64, "fp32", data="zeros", device="cpu", min_time_s=BRIEF)
    assert (found.data, found.error) == ("zeros", 0)


def test_flops_and_rate() -> None:
    found = matmul.measure(64, "fp32", m=32, k=16, device="cpu", min_time_s=BRIEF)
    assert found.flops == 2 * 32 * 64 * 16
    assert found.tflops == pytest.approx(found.flops / (found.timing.median_ms * 1e-3) / 1e12)


def test_a_processor_is_named_as_one_and_has_no_peak() -> None:
    found = matmul.measure(64, "fp32", device="cpu", min_time_s=BRIEF)
    assert found.provenance.kind is Kind.LIVE
    device = found.provenance.device
    assert device is not None and device.part == "cpu" and "CPU" in device.name
    assert "torch" in dict(found.provenance.software)
    row = found.row()
    assert row["of dense peak [%]"] is None and row["SM clock [MHz]"] is None
    assert (row["shape"], row["clocks limited by"]) == ("64×64×64", "not a GPU")
    assert found.peak_tflops() is None and found.peak_tflops(at_observed_clock=True) is None
    assert repr(found) == repr(found.table())
    assert "<table>" in found._repr_html_()


def test_a_processor_is_measured_whatever_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    found = matmul.measure(64, "fp32", device="cpu", min_time_s=BRIEF)
    assert found.provenance.kind is Kind.LIVE


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"n": 0}, "n = 0 is not a matrix size"),
        ({"n": -1}, "n = -1 is not"),
        ({"n": 65537}, "n = 65537 is not"),
        ({"n": 8, "m": 0}, "m = 0 is not"),
        ({"n": 8, "k": 0}, "k = 0 is not"),
        ({"n": 8, "dtype": "int4"}, "There is no data type 'int4'"),
        ({"n": 8, "dtype": "float32"}, "There is no data type 'float32'"),
        ({"n": 8, "data": "ones"}, "There is no data 'ones'"),
        ({"n": 8, "device": "tpu"}, "There is no device 'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        matmul.measure(**{"device": "cpu", **arguments})
    assert caught.value.next_step.startswith("use ")


@pytest.mark.parametrize(
    ("dtype", "m", "n", "k"),
    [
        ("fp8", 32, 20, 32),
        ("fp8", 32, 32, 12),
        ("fp8-fast", 32, 20, 32),
        ("int8", 32, 20, 32),
        ("int8", 32, 32, 12),
        ("int8", 16, 32, 32),
    ],
)
def test_a_shape_that_an_8_bit_type_cannot_have(dtype: str, m: int, n: int, k: int) -> None:
    # PyTorch, aten/src/ATen/native/cuda/Blas.cpp: _scaled_mm takes n and k in multiples of 16,
    # _int_mm in multiples of 8 and, unlike _scaled_mm, m above 16. A processor takes any shape;
    # what runs on it should run on a GPU too.
    with pytest.raises(UsageError, match=f"{dtype} cannot compute {m}×{n}×{k}") as caught:
        matmul.measure(n, dtype, m=m, k=k, device="cpu")
    assert caught.value.next_step == "round the shape up."
    assert matmul.measure(n, "bf16", m=m, k=k, device="cpu", min_time_s=0.001).error < 0.01


@pytest.mark.parametrize(
    ("dtype", "m"), [("fp8", 1), ("fp8", 16), ("fp8-fast", 1), ("fp8-fast", 16), ("int8", 17)]
)
def test_the_fewest_rows_that_an_8_bit_type_can_have(dtype: str, m: int) -> None:
    # A decoder's products have a row for each sequence: fp8 is of use there from the first on.
    found = matmul.measure(32, dtype, m=m, k=48, device="cpu", min_time_s=0.001)
    assert (found.m, found.n, found.k, found.dtype) == (m, 32, 48, dtype)
    assert found.error <= DTYPES[dtype][2] * 48**0.5


# --- what the device lacks ----------------------------------------------------------------------


@pytest.fixture
def free_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set what the operating system says of free memory, bytes."""
    import psutil

    reading = namedtuple("reading", "available")

    def set_to(size: int) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: reading(size))

    return set_to


@pytest.mark.parametrize(
    ("n", "dtype", "needs"),
    [
        # Three matrices, and the float32 numbers that one of them is drawn as: of 16384² elements
        # 1 GiB each in FP32; in FP64 2 GiB and 1 GiB.
        (16384, "fp32", "4.0"),
        (16384, "fp64", "7.0"),
        (32768, "tf32", "16.0"),
    ],
)
def test_a_product_that_does_not_fit(free_memory: Any, n: int, dtype: str, needs: str) -> None:
    free_memory(2**30)
    with pytest.raises(UsageError) as caught:
        matmul.measure(n, dtype, device="cpu")
    assert caught.value.problem == (
        f"A {n}×{n}×{n} product in {dtype} needs {needs} GiB, and 1.0 GiB of this machine's memory "
        "are free, of which at most 90% are used."
    )
    assert caught.value.next_step == "use a smaller size, or end what else holds memory there."


def test_a_product_that_just_fits(free_memory: Any) -> None:
    # By hand: 4 matrices of 256² float32 numbers are 1 MiB, nine tenths of 1165084.4 bytes.
    free_memory(1165085)
    assert matmul.measure(256, "fp32", device="cpu", min_time_s=0.001).tflops > 0
    with pytest.raises(UsageError, match="A 257×256×256 product in fp32 needs"):
        matmul.measure(256, "fp32", m=257, device="cpu")
    free_memory(1165084)
    with pytest.raises(UsageError, match="A 256×256×256 product in fp32 needs"):
        matmul.measure(256, "fp32", device="cpu")


def test_a_search_without_memory_is_refused(free_memory: Any) -> None:
    free_memory(1000)
    problem = "The smallest shape of a search in fp32 needs .* of this machine's memory are free"
    with (
        timing.progress(lambda *step: pytest.fail("it began")),
        pytest.raises(UsageError, match=problem) as caught,
    ):
        matmul.search("fp32", device="cpu")
    assert caught.value.next_step.endswith("end what else holds memory there.")


@pytest.mark.usefixtures("one_thread")
def test_a_search_leaves_out_the_shapes_that_do_not_fit(free_memory: Any) -> None:
    # By hand, float32, one operand twice: m·k + k·n + m·n + k·max(m, n) numbers of 128×64×512 are
    # 172032, of 128×128×512 are 212992; the search takes half of what is free.
    free_memory(2 * 4 * 200_000)
    found = matmul.search("fp32", device="cpu")
    tried = {shape(row) for row in found.trials}
    assert (128, 64, 512) in tried and (128, 128, 512) not in tried
    assert (128, 128, 256) in tried, "smaller, so it fits"
    assert found.stopped == "all shapes tried"


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have PyTorch report a GPU with a compute capability and 1 GiB of free memory."""
    import torch

    def report(name: str, capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**34))

    return report


@pytest.mark.parametrize(
    ("name", "capability", "dtype", "has", "lacks"),
    [
        # What the parts have, by NVIDIA's datasheets: V100 has no INT8, TF32 or BF16 in its tensor
        # cores, T4 adds INT8, A100 TF32 and BF16, L4 and H100 FP8.
        ("V100", (7, 0), "int8", "fp64, fp32, fp16", "7.5"),
        ("V100", (7, 0), "bf16", "fp64, fp32, fp16", "8.0"),
        ("T4", (7, 5), "tf32", "fp64, fp32, fp16, int8", "8.0"),
        ("A100", (8, 0), "fp8", "fp64, fp32, tf32, fp16, bf16, int8", "8.9"),
        ("A10", (8, 6), "fp8-fast", "fp64, fp32, tf32, fp16, bf16, int8", "8.9"),
    ],
)
def test_a_type_that_the_gpu_lacks(
    old_gpu: Any, name: str, capability: tuple[int, int], dtype: str, has: str, lacks: str
) -> None:
    old_gpu(name, capability)
    with pytest.raises(UsageError) as caught, matmul.prepared(64, 64, 64, dtype):
        pass
    assert caught.value.problem == (
        f"{name} does not compute {dtype}: its compute capability is {capability[0]}."
        f"{capability[1]}, {dtype} needs {lacks}."
    )
    assert caught.value.next_step == f"use one of {has}."


@pytest.mark.parametrize(("name", "capability"), [("L4", (8, 9)), ("H100", (9, 0))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_is_checked_where_the_type_is_there(
    old_gpu: Any, name: str, capability: tuple[int, int], dtype: str
) -> None:
    old_gpu(name, capability)
    problem = (
        f"A 65536×65536×65536 product in {dtype} needs .* GiB, and 1.0 GiB of the GPU's memory"
    )
    with pytest.raises(UsageError, match=problem), matmul.prepared(65536, 65536, 65536, dtype):
        pass


# --- what is multiplied -------------------------------------------------------------------------


def operands(dtype: str, data: str = "random") -> tuple[dict[str, Any], float]:
    """What PyTorch is asked to multiply for an 80×96×112 product, and the reported error."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    products = (torch.ops.aten.mm.out, torch.ops.aten._scaled_mm.out, torch.ops.aten._int_mm.out)
    seen: list[dict[str, Any]] = []

    class Look(TorchDispatchMode):
        """Keeps the operands of every product into a given result."""

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = kwargs or {}
            if function in products:
                a, b, *others = args
                seen.append({"a": a, "b": b, "c": given["out"], "others": others})
            return function(*args, **given)

    with matmul.prepared(80, 96, 112, dtype, data, device="cpu") as (call, error):
        look: Any = Look
        with look():
            call()
        (product,) = seen
        return product, error()


def as_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor of any type in float64."""
    array: np.ndarray[Any, Any] = tensor.double().numpy()
    return array


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_and_its_error_agree_with_numpy(dtype: str) -> None:
    product, error = operands(dtype)
    a, b, c = (as_numpy(product[name]) for name in "abc")
    assert (a.shape, b.shape, c.shape) == ((80, 112), (112, 96), (80, 96))
    # All of C is the product of A and B, not only the corner that the error is taken over.
    exact = a @ b
    assert np.linalg.norm(c - exact) <= DTYPES[dtype][2] * 112**0.5 * np.linalg.norm(exact)
    corner, found = exact[:64, :64], c[:64, :64]
    norm = np.linalg.norm(found - corner) / np.linalg.norm(corner)
    assert error == pytest.approx(norm, rel=0.06, abs=1e-15)  # it is given with two digits


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_data_uses_the_range_of_the_type(dtype: str) -> None:
    # An FP8 benchmark whose operands all saturate multiplies constants, draws less power and
    # measures a rate that no model reaches.
    product, _ = operands(dtype)
    spread = 32 if dtype == "int8" else 1
    for name in "ab":
        values = as_numpy(product[name])
        assert values.std() == pytest.approx(spread, rel=0.05)
        assert abs(values.mean()) < 0.05 * spread
        assert np.abs(values).max() > 3 * spread
        assert len(np.unique(values)) > 80  # E4M3 has 253 finite values, 16 for each power of two
        assert (np.abs(values) == np.abs(values).max()).sum() < 0.01 * values.size, "saturated"


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_are_zeros(dtype: str) -> None:
    product, error = operands(dtype, "zeros")
    assert not any(as_numpy(product[name]).any() for name in "abc")
    assert error == 0


@pytest.mark.parametrize(
    ("dtype", "storage", "result"),
    [
        ("fp64", "float64", "float64"),
        ("fp32", "float32", "float32"),
        ("tf32", "float32", "float32"),
        ("fp16", "float16", "float16"),
        ("bf16", "bfloat16", "bfloat16"),
        ("fp8", "float8_e4m3fn", "bfloat16"),
        ("fp8-fast", "float8_e4m3fn", "bfloat16"),
        ("int8", "int8", "int32"),
    ],
)
def test_the_type_is_what_the_name_says(dtype: str, storage: str, result: str) -> None:
    import torch

    product, _ = operands(dtype)
    assert product["a"].dtype == product["b"].dtype == getattr(torch, storage)
    assert product["c"].dtype == getattr(torch, result)
    # cuBLAS takes 8-bit operands in the "TN" layout only: both contiguous along k.
    assert product["a"].stride() == (112, 1)
    assert product["b"].stride() == ((1, 112) if storage in ("float8_e4m3fn", "int8") else (96, 1))


def test_only_the_fast_fp8_has_fast_sums() -> None:
    import torch

    # The last argument of aten::_scaled_mm is use_fast_accum, which PyTorch leaves out when False.
    (schema,) = [a for a in torch.ops.aten._scaled_mm.out._schema.arguments if "fast" in a.name]
    assert (schema.name, schema.default_value) == ("use_fast_accum", False)
    assert all(value is not True for value in operands("fp8")[0]["others"])
    assert operands("fp8-fast")[0]["others"][-1] is True


# --- TF32 is not FP32 ---------------------------------------------------------------------------


@pytest.fixture
def allow_tf32() -> Iterator[Any]:
    """PyTorch's switch, set back afterwards."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    yield torch.backends.cuda.matmul
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16"])
def test_the_switch_is_what_the_name_says_and_set_back(
    allow_tf32: Any, before: bool, dtype: str
) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[bool] = []

    class Look(TorchDispatchMode):
        """Notes the switch whenever a product into a given result is computed: the timed calls."""

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.ops.aten.mm.out:
                seen.append(allow_tf32.allow_tf32)
            return function(*args, **(kwargs or {}))

    allow_tf32.allow_tf32 = before
    look: Any = Look
    with look():
        matmul.measure(32, dtype, device="cpu", min_time_s=0.001)
    assert seen
    assert set(seen) == {dtype == "tf32"}
    assert allow_tf32.allow_tf32 is before


@pytest.mark.parametrize("before", [True, False])
def test_the_switch_is_set_back_after_an_error(allow_tf32: Any, before: bool) -> None:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError

    allow_tf32.allow_tf32 = before
    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeoutError):
            matmul.measure(128, "tf32" if not before else "fp32", device="cpu", min_time_s=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert allow_tf32.allow_tf32 is before


# --- the search, on a processor -----------------------------------------------------------------

Steps = list[tuple[str, int, int]]

#: One thread, tiles of 64 × 64, up to 8 waves, an even number of rows of tiles, sides in a ratio
#: up to 4. By hand: 2·1, 2·2, 2·3, 2·4, 4·1 and 4·2 tiles, with 512 and with 256 terms each.
CANDIDATES = [
    (128, 64, 512),
    (128, 128, 512),
    (128, 192, 512),
    (128, 256, 512),
    (256, 64, 512),
    (256, 128, 512),
    (128, 64, 256),
    (128, 128, 256),
    (128, 192, 256),
    (128, 256, 256),
    (256, 64, 256),
    (256, 128, 256),
]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small shapes, and no thread that waits for another while the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def searched(one_thread: None) -> tuple[Search, Steps]:
    """A whole search of a device that has rested, and the steps that it announced."""
    steps: Steps = []
    times: list[float] = []

    def note(*step: Any) -> None:
        steps.append(step)
        times.append(time.perf_counter())

    begin = time.perf_counter()
    with timing.progress(note):
        found = matmul.search("fp32", device="cpu")
    # The first shape would pay for what ran before. A sleep is never shorter than it was asked for.
    assert times[0] - begin >= REST_S
    return found, steps


def shape(row: Any) -> tuple[int, int, int]:
    return row["m"], row["n"], row["k"]


def rate(row: Any) -> float:
    return float(row["TFLOP/s"])


def test_the_stages_of_a_search(searched: tuple[Search, Steps]) -> None:
    found, _ = searched
    stages = found.trials.column("stage")
    tried = stages.count("candidate")
    assert stages == ["candidate"] * tried + ["final"] * 4 + ["winner"]
    assert (tried, found.stopped) == (len(CANDIDATES), "all shapes tried")
    times = found.trials.column("at [s]")
    assert times == sorted(times) and found.seconds == times[-1] > 0


def test_the_fastest_candidates_are_measured_at_length(searched: tuple[Search, Steps]) -> None:
    trials = searched[0].trials
    fastest = sorted(trials.where(stage="candidate"), key=rate, reverse=True)[:4]
    assert [shape(row) for row in trials.where(stage="final")] == [shape(row) for row in fastest]


def test_the_winner_is_measured_again(searched: tuple[Search, Steps]) -> None:
    found, _ = searched
    *_, last = found.trials
    fastest = max(found.trials.where(stage="final"), key=rate)
    assert shape(last) == shape(fastest)
    best = found.best
    assert (best.m, best.n, best.k, best.dtype, best.data) == (*shape(last), "fp32", "random")
    assert best.tflops == pytest.approx(last["TFLOP/s"])
    # Twenty bursts: its own measurement, longer than any before.
    assert best.timing.blocks == 20
    assert best.timing.calls in range(20 * 3, 20 * 12 + 1, 20)
    assert 0 < best.error < 1e-5
    device = best.provenance.device
    assert device is not None and device.part == "cpu"
    assert found.trials.provenance == (best.provenance,)


def test_a_search_fills_whole_waves(searched: tuple[Search, Steps]) -> None:
    trials = searched[0].trials
    assert sorted(map(shape, trials.where(stage="candidate"))) == sorted(CANDIDATES)
    for row in trials:
        m, n, _ = shape(row)
        assert row["waves"] == m / 64 * n / 64


def test_a_search_says_how_far_it_is(searched: tuple[Search, Steps]) -> None:
    found, steps = searched
    count = len(CANDIDATES)
    tried = [shape(row) for row in found.trials.where(stage="candidate")]
    assert steps[:count] == [
        (f"fp32 {m}×{n}×{k}", done, count) for done, (m, n, k) in enumerate(tried)
    ]
    # Four at length and the winner once more are five.
    finals = [("fp32 final", done, 5) for done in range(4)]
    assert steps[count:] == [*finals, ("fp32 winner", 4, 5)]


def test_the_row_of_a_search(searched: tuple[Search, Steps]) -> None:
    found, _ = searched
    (row,) = found.table()
    assert row["figure"] == "peak-shape, rested"
    assert row["TFLOP/s"] == pytest.approx(found.best.tflops, abs=0.001)
    assert row["stopped"] == "all shapes tried"
    # A final is no further shape: it was a candidate.
    assert row["shapes tried"] == len(CANDIDATES) < len(found.trials)
    assert repr(found) == repr(found.table())
    assert "<table>" in found._repr_html_()


@pytest.mark.usefixtures("one_thread")
def test_the_limit_ends_a_search_with_a_winner() -> None:
    steps: Steps = []
    with timing.progress(lambda *step: steps.append(step)):
        found = matmul.search("fp32", device="cpu", limit_s=0)
    assert found.stopped == "the limit of 0 s"
    assert found.trials.column("stage") == ["candidate", "final", "winner"]
    assert steps[1:] == [("fp32 final", 0, 2), ("fp32 winner", 1, 2)], "as many as there are"
    assert len({shape(row) for row in found.trials}) == 1
    assert found.table()[0]["shapes tried"] == 1
    assert found.best.timing.blocks == 20


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("faster", "tried", "stopped"),
    [
        (set(), 1 + 3, "3 shapes in a row gained less than 9900 %"),
        ({3}, 4 + 3, "3 shapes in a row gained less than 9900 %"),  # patience starts again
        (set(range(12)), 12, "all shapes tried"),
    ],
)
def test_a_search_ends_when_it_gains_nothing(
    monkeypatch: pytest.MonkeyPatch, faster: set[int], tried: int, stopped: str
) -> None:
    def set_rule(what: str, done: int, total: int) -> None:
        # A processor has fewer shapes than the search has patience. No shape is 100 times as fast
        # as the best before it, and each is faster than nothing: so the gain that is asked for
        # decides. Both are set once the search is under way, since the number of a processor's
        # shapes depends on the patience at the start.
        monkeypatch.setattr(matmul, "PATIENCE", 3)
        monkeypatch.setattr(matmul, "GAIN", -1.0 if done in faster else 99.0)

    with timing.progress(set_rule):
        found = matmul.search("fp32", device="cpu")
    assert found.trials.column("stage").count("candidate") == tried
    assert found.stopped == stopped


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_search_keeps_its_trials() -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with timing.progress(interrupt), pytest.raises(timing.Interrupted) as caught:
        matmul.search("fp32", device="cpu")
    assert len(caught.value.rows) == 3
    for row in caught.value.rows:
        assert row["stage"] == "candidate" and row["TFLOP/s"] > 0
        assert row["blocks"] == 1 and 3 <= row["calls"] <= 12
    timing.step("after", 3, 4)  # nobody listens any more


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("before", [True, False])
def test_a_product_that_is_interrupted_leaves_no_trace(allow_tf32: Any, before: bool) -> None:
    done_by_then = 2

    def interrupt_soon(what: str, done: int, total: int) -> None:
        if done == done_by_then:
            # In the middle of a trial, which rests for longer than this.
            signal.setitimer(signal.ITIMER_REAL, 0.005)

    allow_tf32.allow_tf32 = before
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with timing.progress(interrupt_soon), pytest.raises(timing.Interrupted) as caught:
            matmul.search("fp32" if before else "tf32", device="cpu")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert len(caught.value.rows) >= done_by_then
    assert allow_tf32.allow_tf32 is before


@pytest.mark.parametrize(
    ("dtype", "device", "problem"),
    [
        ("int4", "cpu", "There is no data type 'int4'"),
        ("int4", "cuda", "There is no data type 'int4'"),
        ("bf16", "tpu", "There is no device 'tpu'"),
    ],
)
def test_a_search_that_cannot_be(dtype: str, device: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        matmul.search(dtype, device=device)


# --- recorded -----------------------------------------------------------------------------------


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
def test_a_recorded_product_is_compared_with_its_own_peak(dtype: str) -> None:
    found = matmul.measure(8192, dtype)
    assert found.provenance.kind is Kind.RECORDED
    share = found.row()["of dense peak [%]"]
    dense = catalogue.get("h100-sxm").dense_tflops(dtype)
    assert found.peak_tflops() == dense
    assert share == pytest.approx(100 * found.tflops / dense, abs=0.06)
    assert 50 < share < 100
    assert found.error <= DTYPES[dtype][2] * 8192**0.5
    clock, observed = found.timing.sm_clock_mhz, found.peak_tflops(at_observed_clock=True)
    assert clock is not None and 1000 < clock <= 1980
    assert observed is not None and found.tflops < observed


@pytest.mark.usefixtures("h100")
def test_recorded_fp32_is_not_tf32() -> None:
    fp32, tf32 = (matmul.measure(8192, dtype) for dtype in ("fp32", "tf32"))
    # Seven times slower and a thousand times more exact: TF32 keeps 10 bits of the mantissa.
    assert fp32.tflops < tf32.tflops / 4
    assert fp32.error < tf32.error / 50
    assert fp32.tflops < catalogue.get("h100-sxm").dense_tflops("fp32")


@pytest.mark.usefixtures("h100")
def test_a_product_that_was_not_recorded_is_refused() -> None:
    with pytest.raises(NotRecorded, match="does not hold bench/matmul with m=77") as caught:
        matmul.measure(77, "bf16")
    assert "m=8192" in caught.value.next_step


@pytest.mark.usefixtures("h100")
def test_a_search_that_was_not_recorded_is_refused() -> None:
    with pytest.raises(NotRecorded, match="does not hold bench/matmul-search"):
        matmul.search("bf16", limit_s=0.125)


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_the_recorded_search_went_as_its_rule_says(dtype: str) -> None:
    found = matmul.search(dtype)
    assert found.best.provenance.kind is Kind.RECORDED
    candidates = found.trials.where(stage="candidate")
    best, since, ended = 0.0, 0, []
    for row in candidates:
        since = 0 if rate(row) > best * (1 + GAIN) else since + 1
        best = max(best, rate(row))
        ended.append(since >= PATIENCE)
    assert not any(ended[:-1])
    if ended[-1]:
        assert found.stopped == "24 shapes in a row gained less than 0.3 %"
    else:
        assert found.stopped in ("the limit of 60 s", "all shapes tried")
    assert len({shape(row) for row in candidates}) == len(candidates)
    # In a minute, below what the tensor cores can do at the clock that was seen.
    assert found.seconds <= 60
    observed = found.best.peak_tflops(at_observed_clock=True)
    assert observed is not None and found.best.tflops < observed


@pytest.mark.usefixtures("h100")
def test_the_recorded_peak_shape_is_what_a_grid_finds() -> None:
    # stas00/ml-engineering, compute/accelerator/README.md: 794.5 TFLOP/s is the best bf16 shape of
    # mamf-finder's grid on an H100 SXM.
    assert matmul.search("bf16").best.tflops >= 0.97 * 794.5


@pytest.mark.usefixtures("h100")
def test_the_three_figures_are_told_apart() -> None:
    table = matmul.figures("bf16")
    assert table.column("figure") == ["peak-shape, rested", "sustained", "sustained, zeros"]
    assert table.column("data") == ["random", "random", "zeros"]
    peak, sustained, zeros = table.column("TFLOP/s")
    # Heat and the power cap slow down what lasts; zeros draw less power.
    assert peak > sustained and zeros > sustained
    rested, capped, _ = table.column("power-capped [%]")
    assert rested < capped
    assert {p.kind for p in table.provenance} == {Kind.RECORDED}


def product(part: str, dtype: str, **known: Any) -> Matmul:
    provenance = Provenance(Kind.RECORDED, "timed", device=Device("a GPU", part))
    timed = Timing(1.0, 1.0, 1.0, 1, 1, 0.0, True, **known)
    return Matmul(8, 8, 8, dtype, "random", timed, 0.0, provenance)


def test_no_peak_where_none_is_known() -> None:
    assert product("unknown", "bf16").peak_tflops() is None
    assert product("h100-sxm", "fp64").peak_tflops() is None  # not in the catalogue
    assert product("h100-sxm", "bf16").peak_tflops(at_observed_clock=True) is None  # not sampled


@pytest.mark.parametrize("dtype", ["fp8", "fp8-fast", "int8"])
def test_the_peak_of_the_8_bit_types(dtype: str) -> None:
    # NVIDIA H100 datasheet: 3958 with sparsity, so 1979 dense. By hand for another clock: 132 SMs,
    # 4096 multiply-adds a clock each, 1755 MHz: 132 · 4096 · 2 · 1.755e9 = 1897.8e12.
    found = product("h100-sxm", dtype, sm_clock_mhz=1755.0)
    assert found.peak_tflops() == pytest.approx(3958 / 2, rel=1e-3)
    assert found.peak_tflops(at_observed_clock=True) == pytest.approx(1897.8, rel=1e-4)


def test_a_row_carries_the_flags() -> None:
    throttled = product("h100-sxm", "bf16", reasons="hardware thermal slowdown", others=2)
    assert throttled.row()["flags"] == (
        "throttled: hardware thermal slowdown, busy: other processes on the GPU: 2"
    )
    assert product("h100-sxm", "bf16").row()["flags"] == ""


@pytest.mark.parametrize(("p95_ms", "flags"), [(1.05, ""), (1.15, ""), (1.16, "spread 26 %")])
def test_a_swing_at_the_power_cap_is_no_flag(p95_ms: float, flags: str) -> None:
    # An H100 at its power cap swings by up to 17 % from block to block.
    timed = Timing(1.0, 0.9, p95_ms, 10, 10, 1.0, True)
    found = replace(product("h100-sxm", "bf16"), timing=timed)
    assert found.row()["flags"] == flags


def test_every_recorded_product_is_under_its_peak() -> None:
    for name in recordings.names():
        for entry in recordings.load(name).entries:
            if entry.name == "bench/matmul":
                value = {k: v for k, v in entry.value.items() if k != "error"}
                shape = {k: entry.params[k] for k in ("m", "n", "k", "dtype", "data")}
                found = Matmul(
                    **shape,
                    timing=Timing(**value),
                    error=entry.value["error"],
                    provenance=entry.provenance,
                )
                peak = found.peak_tflops()
                assert peak is None or found.tflops < peak, (name, entry.params)
