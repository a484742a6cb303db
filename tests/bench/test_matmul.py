"""The matrix product: its arithmetic, its exactness, its names, and what is recorded of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from mlk8s import recordings
from mlk8s.bench import matmul
from mlk8s.bench.matmul import DTYPES, Matmul
from mlk8s.bench.timing import Timing
from mlk8s.errors import RecordingError, UsageError
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
    # FP64 is compared with its own kind, and a processor computes TF32 in FP32.
    if dtype not in ("fp64", "tf32"):
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
        ({"n": 8, "dtype": "int8"}, "There is no data type 'int8'"),
        ({"n": 8, "dtype": "float32"}, "There is no data type 'float32'"),
        ({"n": 8, "data": "ones"}, "There is no data 'ones'"),
        ({"n": 8, "device": "tpu"}, "There is no device 'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        matmul.measure(**{"device": "cpu", **arguments})
    assert caught.value.next_step.startswith("use ")


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
    with pytest.raises(RecordingError, match="does not hold bench/matmul with m=77") as caught:
        matmul.measure(77, "bf16")
    assert "m=8192" in caught.value.next_step


def test_recorded_products_for_comparison() -> None:
    table = matmul.recorded(8192, ["bf16", "fp32"])
    assert table is not None
    assert table.column("dtype") == ["bf16", "fp32"]
    assert {p.kind for p in table.provenance} == {Kind.RECORDED}
    assert matmul.recorded(77, ["bf16"]) is None
    assert matmul.recorded(8192, ["int8"]) is None


def product(part: str, dtype: str) -> Matmul:
    provenance = Provenance(Kind.RECORDED, "timed", device=Device("a GPU", part))
    return Matmul(8, 8, 8, dtype, "random", Timing(1.0, 1.0, 1.0, 1, 1, 0.0, True), 0.0, provenance)


def test_no_peak_where_none_is_known() -> None:
    assert product("unknown", "bf16").peak_tflops() is None
    assert product("h100-sxm", "fp64").peak_tflops() is None  # not in the catalogue
    assert product("h100-sxm", "bf16").peak_tflops(at_observed_clock=True) is None  # not sampled


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
