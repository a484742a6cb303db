"""The roofline: what operations move and compute, what is predicted of them, what is drawn."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s.bench import operations as ops
from mlk8s.bench import roofline, timing
from mlk8s.bench.flops import Work
from mlk8s.bench.operations import Operation, build, operations
from mlk8s.bench.roofline import Ceilings, Roofline
from mlk8s.errors import NotRecorded, UsageError
from mlk8s.gpu import catalogue
from mlk8s.provenance import Device, Kind, Provenance, Table

Run = Callable[..., CompletedProcess[str]]
BRIEF: dict[str, Any] = {"device": "cpu", "min_time_s": 0.001}  # values are checked, not precision
NAMES = [operation.name for operation in operations()]


def named(name: str, scale: float = 1.0, dtype: str = "bf16") -> Operation:
    (found,) = [operation for operation in operations(scale, dtype) if operation.name == name]
    return found


# --- what an operation does ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_are_those_of_the_tensors_that_a_call_touches(name: str, dtype: str) -> None:
    import torch
    from torch.overrides import TorchFunctionMode

    touched: list[Any] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            used = [*args, *(kwargs or {}).values(), result]
            touched.extend(value for value in used if isinstance(value, torch.Tensor))
            return result

    operation = named(name, 1e-3, dtype)
    (call,) = build(operation, "cpu", dtype)
    watch: Any = Watch
    with watch():
        result = call()
    # A storage once, however many views of it there are.
    storages = [tensor.untyped_storage() for tensor in touched]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    assert operation.work.bytes == sum(sizes.values())
    assert torch.isfinite(result).all()
    assert result.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]


@pytest.mark.parametrize("name", NAMES)
def test_the_flops_are_those_that_pytorch_counts(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    operation = named(name)
    (call,) = build(operation, "meta")  # shapes only: no memory, no time
    counter: Any = FlopCounterMode(display=False)
    with counter:
        call()
    counted = counter.get_total_flops()
    if name.startswith("GEMM") or name == "attention, decode":
        assert operation.work.flops == counted > 0
    elif name == "attention, prefill":
        # The counter lets each of 2048 queries see all 2048 keys, in place of 1, 2, … 2048.
        assert operation.work.flops == counted * (2048 + 1) / (2 * 2048) > 0
    else:
        assert counted == 0, "counted since: compare it with the work"


def test_a_step_of_decoding_is_grouped_query_attention() -> None:
    import torch

    operation = named("attention, decode", 1e-3)
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape) for shape in operation.inputs)
    found = operation.run(torch, None, q, k, v)
    # The model's own layout: 32 heads with a query each, groups of 4 sharing a KV head.
    reference = torch.nn.functional.scaled_dot_product_attention(
        q.reshape(8, 32, 1, 128), k, v, enable_gqa=True
    )
    torch.testing.assert_close(found.reshape(8, 32, 1, 128), reference)


def test_each_call_of_a_set_has_tensors_of_its_own() -> None:
    calls = build(named("copy", 1e-3, "fp32"), "cpu", "fp32", sets=3)
    results = [call() for call in calls]
    assert len({result.data_ptr() for result in results}) == 3
    assert all(result.equal(results[0]) for result in results)


def test_no_cache_holds_what_an_operation_bound_by_memory_moves() -> None:
    h100 = catalogue.get("h100-sxm")
    least = 10 * h100.figure("l2_mb") * 1e6
    bound = [op for op in operations() if op.work.intensity < h100.ridge("bf16")]
    assert len(bound) >= 8
    assert [op.name for op in bound if op.work.bytes < least] == ["GEMM, small"]


@pytest.mark.parametrize("name", NAMES)
def test_the_scale_is_a_share_of_the_work(name: str) -> None:
    full, small = named(name).work, named(name, 1 / 64).work
    if name == "copy":
        assert (full.flops, small.flops) == (0, 0)
        assert small.bytes * 64 == full.bytes
    else:
        assert small.flops * 64 == pytest.approx(full.flops, rel=0.01)


# --- what is predicted --------------------------------------------------------------------------

H100 = Provenance(Kind.RECORDED, "typed", "2026-05-01", Device("an H100", "h100-sxm"))
CPU = Provenance(Kind.LIVE, "typed", "2026-05-01", Device("a CPU", "cpu"))


def typed(provenance: Provenance = H100, dtype: str = "bf16") -> Roofline:
    """500 TFLOP/s, 2000 GB/s, 2 µs; an operation under each ceiling, and one without FLOPs."""
    rows = [
        # name, FLOPs, bytes, measured µs
        ("slow copy", 0, 2_000_000_000, 1250.0),  # predicted 1000
        ("sum", 1_000_000_000, 1_000_000_000, 625.0),  # predicted 500
        ("product", 1_000_000_000_000, 100_000_000, 1600.0),  # predicted 2000
        ("tiny", 1000, 1000, 4.0),  # predicted 2
    ]
    evidence = [
        {
            "role": "operation",
            "operation": name,
            "shape": "1",
            "FLOPs": work,
            "bytes": moved,
            "time [µs]": time_us,
            "flags": "spread 32 %" if name == "sum" else "",
        }
        for name, work, moved, time_us in rows
    ]
    return Roofline(Ceilings(dtype, 500.0, 2000.0, 2.0, provenance), Table(evidence, provenance))


def test_predicted_and_measured_time() -> None:
    table = typed().table()
    assert table.column("predicted [µs]") == pytest.approx([1000, 500, 2000, 2])
    assert table.column("measured [µs]") == [1250, 625, 1600, 4]
    assert table.column("error [%]") == pytest.approx([20, 20, -25, 50])
    assert table.column("bound") == ["memory", "memory", "compute", "launch"]
    assert table.column("intensity [FLOP/B]") == [0, 1, 10_000, 1]
    assert table.column("TFLOP/s") == pytest.approx([0, 1.6, 625, 0.00025])
    assert table.column("GB/s") == pytest.approx([1600, 1600, 62.5, 0.25])
    assert table.column("flags") == ["", "spread 32 %", "", ""]
    assert table.provenance == (H100,)
    assert typed().median_error == pytest.approx(22.5)
    assert "median |error| 22.5 % over 4 operations" in table.title


def test_the_ridge_is_between_memory_and_compute() -> None:
    ceilings = typed().ceilings
    assert ceilings.ridge == 250
    assert ceilings.bound(Work("below", 249_000_000, 1_000_000)) == "launch"
    assert ceilings.bound(Work("below", 249_000_000_000, 1_000_000_000)) == "memory"
    assert ceilings.bound(Work("above", 251_000_000_000, 1_000_000_000)) == "compute"


def test_the_ceilings_beside_the_datasheet() -> None:
    table = typed().ceilings.table()
    rows = {row["ceiling"]: row for row in table}
    # NVIDIA H100 Tensor Core GPU datasheet, SXM: 989.4 TFLOP/s dense, 3.35 TB/s.
    assert rows["compute [TFLOP/s]"]["datasheet"] == 989.4
    assert rows["compute [TFLOP/s]"]["measured of datasheet [%]"] == pytest.approx(50.54, abs=0.01)
    assert rows["memory [GB/s]"]["datasheet"] == 3350
    assert rows["memory [GB/s]"]["measured"] == 2000
    # Modal's GPU glossary has 295 for the ridge of an H100.
    assert rows["ridge [FLOP/B]"]["datasheet"] == pytest.approx(295, abs=1)
    assert rows["launch [µs]"]["measured"] == 2
    assert rows["launch [µs]"]["datasheet"] is None
    assert {p.kind for p in table.provenance} == {Kind.RECORDED, Kind.SPEC}


@pytest.mark.parametrize(
    "device",
    [
        None,
        Device("a CPU", "cpu"),
        Device("a new GPU", "unknown"),
        Device("an H100", "h100-sxm", mig_mode="enabled"),  # a share of the part
    ],
)
def test_no_datasheet_where_none_applies(device: Device | None) -> None:
    found = typed(Provenance(Kind.LIVE, "typed", device=device))
    assert found.ceilings.datasheet() is None
    assert set(found.ceilings.table().column("datasheet")) == {None}
    assert [trace["name"] for trace in chart(found)["data"]][:2] == [
        "measured roof",
        "memory-bound operation",
    ]


# --- what is drawn ------------------------------------------------------------------------------


def chart(found: Roofline) -> dict[str, Any]:
    """The chart as a front end receives it."""
    value: dict[str, Any] = json.loads(found.plot().plotly.to_json())
    return value


def test_the_roofs() -> None:
    roofs = {trace["name"]: trace for trace in chart(typed())["data"] if trace["mode"] == "lines"}
    (x0, x1, x2), (y0, y1, y2) = (roofs["measured roof"][axis] for axis in "xy")
    assert (x1, y1, y2) == (250, 500, 500)
    assert y0 == pytest.approx(x0 * 2000e9 / 1e12)
    assert x0 < 1 and x2 > 10_000
    assert roofs["measured roof"]["line"]["dash"] == "solid"
    paper = roofs["datasheet roof"]
    assert paper["line"]["dash"] == "dash"
    assert paper["y"][1:] == [989.4, 989.4]
    assert paper["x"][1] == pytest.approx(989.4e12 / 3350e9)


def test_the_figure_holds_each_operation_that_has_flops() -> None:
    figure = chart(typed())
    markers = {trace["name"]: trace for trace in figure["data"] if "markers" in trace["mode"]}
    assert list(markers) == [
        "memory-bound operation",
        "compute-bound operation",
        "launch-bound operation",
    ]
    assert len({trace["marker"]["symbol"] for trace in markers.values()}) == 3
    (hover,) = markers["compute-bound operation"]["hovertext"]
    assert (markers["compute-bound operation"]["x"], markers["compute-bound operation"]["y"]) == (
        [10_000],
        [pytest.approx(625)],
    )
    for text in ("product", "1e+12 FLOPs", "1e+08 bytes", "predicted 2000 µs", "measured 1600 µs"):
        assert text in hover
    assert "Without FLOPs, and so not shown: slow copy." in typed().plot().caption
    assert "slow copy" not in json.dumps(figure["data"])


def test_axes_regions_and_texts() -> None:
    layout = chart(typed())["layout"]
    assert layout["xaxis"]["title"]["text"] == "arithmetic intensity [FLOP/B]"
    assert layout["yaxis"]["title"]["text"] == "rate [TFLOP/s]"
    assert layout["xaxis"]["type"] == layout["yaxis"]["type"] == "log"
    notes = {note["text"]: note for note in layout["annotations"]}
    assert set(notes) == {"memory-bound", "compute-bound", "ridge 250 FLOP/B"}
    assert {note["x"] for note in notes.values()} == {math.log10(250)}
    # Each region's name ends, or begins, at the ridge.
    assert (notes["memory-bound"]["xanchor"], notes["compute-bound"]["xanchor"]) == (
        "right",
        "left",
    )
    low, high = layout["yaxis"]["range"]
    assert low < math.log10(0.00025) and high > math.log10(989.4), "every point is inside"
    figure = typed().plot()
    assert "2,000 GB/s up to 500 TFLOP/s" in figure.caption and "an H100" in figure.caption
    assert "0 of 4 operations are within 15 %" in figure.alt
    assert "farthest off is tiny, +50 %" in figure.alt
    assert {p.kind for p in figure.provenance} == {Kind.RECORDED, Kind.SPEC}


def test_names_stand_apart() -> None:
    """All sizes at once: no two names within a factor of three in intensity under one bound."""
    ceilings = Ceilings("bf16", 700.0, 3000.0, 1.5, H100)
    rows: list[dict[str, Any]] = [
        {
            "role": "operation",
            "operation": op.name,
            "shape": op.shape,
            "FLOPs": op.work.flops,
            "bytes": op.work.bytes,
            "time [µs]": ceilings.predicted_us(op.work),
            "flags": "",
        }
        for op in operations()
    ]
    figure = chart(Roofline(ceilings, Table(rows, H100)))
    hovered, shown = [], []
    for trace in figure["data"]:
        if "markers" in trace["mode"]:
            hovered += [text.split("</b>")[0].removeprefix("<b>") for text in trace["hovertext"]]
            at = [x for x, text in zip(trace["x"], trace["text"], strict=True) if text]
            shown += at
            assert all(b > 3 * a for a, b in itertools.pairwise(at))
    assert sorted(hovered) == sorted(set(NAMES) - {"copy"})
    assert len(shown) >= 6


# --- measured on this machine's processor -------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> tuple[Roofline, list[tuple[str, int, int]]]:
    """A roofline of this processor, small and brief, and the progress that it told."""
    steps: list[tuple[str, int, int]] = []
    with timing.progress(lambda *step: steps.append(step)):
        found = roofline.measure(scale=1e-3, **BRIEF)
    return found, steps


def test_every_operation_is_measured_here(here: tuple[Roofline, Any]) -> None:
    found, _ = here
    table = found.table()
    assert table.column("operation") == NAMES
    assert all(time_us > 0 for time_us in table.column("measured [µs]"))
    assert found.ceilings.dtype == "fp32", "a processor's own type"
    assert found.median_error == statistics.median(map(abs, table.column("error [%]")))
    rows: list[Mapping[str, Any]] = list(table)
    for row, operation in zip(rows, operations(1e-3, "fp32"), strict=True):
        assert (row["FLOPs"], row["bytes"]) == (operation.work.flops, operation.work.bytes)
        expected = max(
            row["FLOPs"] / found.ceilings.tflops * 1e-6,
            row["bytes"] / found.ceilings.gbs * 1e-3,
            found.ceilings.launch_us,
        )
        assert row["predicted [µs]"] == pytest.approx(expected)


def test_the_ceilings_are_the_best_of_the_same_run(here: tuple[Roofline, Any]) -> None:
    found, _ = here
    of: dict[str, list[Mapping[str, Any]]] = {
        role: list(found.evidence.where(role=role)) for role in ("compute", "memory", "launch")
    }
    rates = [row["FLOPs"] / row["time [µs]"] * 1e-6 for row in of["compute"]]
    assert len(rates) >= 2
    assert found.ceilings.tflops == pytest.approx(max(rates))
    (copy,) = of["memory"]
    assert copy["bytes"] == 256 * 2**20, "read and written, far more than a cache holds"
    assert found.ceilings.gbs == pytest.approx(copy["bytes"] / copy["time [µs]"] * 1e-3)
    (launch,) = of["launch"]
    assert found.ceilings.launch_us == launch["time [µs]"]


def test_it_is_named_as_a_processor_and_shows_itself(here: tuple[Roofline, Any]) -> None:
    found, _ = here
    origin = found.ceilings.provenance
    assert origin.kind is Kind.LIVE and origin.device is not None and origin.device.part == "cpu"
    assert "torch" in dict(origin.software)
    assert set(found.evidence.column("clocks limited by")) == {"not a GPU"}
    assert set(found.evidence.column("power [W]")) == {None}
    text, markup = repr(found), found._repr_html_()
    for part in ("Ceilings, fp32", "ridge [FLOP/B]", *NAMES):
        assert part in text and part in markup
    assert found.plot().caption.startswith(f"Roofline of {origin.device.name}, fp32")


def test_it_says_how_far_it_is(here: tuple[Roofline, Any]) -> None:
    found, steps = here
    count = len(found.evidence)
    assert [done for _, done, _ in steps] == list(range(count))
    assert {total for _, _, total in steps} == {count}
    assert steps[-1][0] == "GEMM, large 816×816×816"


@pytest.fixture
def switch() -> Iterator[Any]:
    """PyTorch's switch for TF32, set back afterwards."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    yield torch.backends.cuda.matmul
    torch.backends.cuda.matmul.allow_tf32 = before


def stop_after_one(what: str, done: int, total: int) -> None:
    if done == 1:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("dtype", "allowed"), [("tf32", True), ("fp32", False)])
def test_the_switch_is_what_the_type_says_and_set_back(
    switch: Any, dtype: str, allowed: bool
) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[bool] = set()

    class Look(TorchDispatchMode):
        """Notes the switch whenever a product is computed."""

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.ops.aten.mm.out:
                seen.add(switch.allow_tf32)
            return function(*args, **(kwargs or {}))

    switch.allow_tf32 = not allowed
    look: Any = Look
    with look(), timing.progress(stop_after_one), pytest.raises(timing.Interrupted):
        roofline.ceilings(dtype, **BRIEF)
    assert seen == {allowed}
    assert switch.allow_tf32 is not allowed


def test_an_interruption_keeps_what_was_measured() -> None:
    with timing.progress(stop_after_one), pytest.raises(timing.Interrupted) as caught:
        roofline.measure(scale=1e-3, **BRIEF)
    (row,) = caught.value.rows
    what = row["role"], row["operation"], row["shape"], row["FLOPs"]
    assert what == ("compute", "matrix product", "1024×1024×1024", 2 * 1024**3)
    assert row["time [µs]"] > 0


def test_the_ceilings_alone() -> None:
    steps: list[str] = []
    with timing.progress(lambda what, done, total: steps.append(f"{done + 1}/{total} {what}")):
        found = roofline.ceilings(**BRIEF)
    assert [step.split(" ")[0] for step in steps] == ["1/4", "2/4", "3/4", "4/4"]
    assert found.dtype == "fp32"
    assert found.tflops > 0 and found.gbs > 0 and found.launch_us > 0
    assert repr(found) == repr(found.table()) and "<table>" in found._repr_html_()


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "fp64", "bfloat16", ""])
def test_an_unknown_type_is_refused(dtype: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: roofline.measure(dtype, device="cpu"),
        lambda: roofline.ceilings(dtype, device="cpu"),
        lambda: operations(1.0, dtype),
        lambda: build(operations()[0], "cpu", dtype),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=f"There is no data type '{dtype}'") as caught:
            call()
        assert caught.value.next_step == "use one of bf16, fp16, tf32, fp32."


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_scale_that_is_none_is_refused(scale: float, device: str) -> None:
    with pytest.raises(UsageError, match=f"The scale {scale} is not a positive number"):
        roofline.measure(scale=scale, device=device)


def test_what_does_not_fit_is_refused_before_anything_is_measured() -> None:
    # By hand, keys and values of attention in decoding: 64·10³ sequences, 8 heads, 4096·10³
    # positions of 128 numbers of 4 bytes, twice, are 2,000,000 GiB; queries and result are 2 more.
    problem = (
        "The largest operation needs 2,000,002.0 GiB, and .* of this machine's memory are free"
    )
    with (
        timing.progress(lambda *step: pytest.fail("it began")),
        pytest.raises(UsageError, match=problem) as caught,
    ):
        roofline.measure(scale=1e6, device="cpu")
    assert caught.value.next_step.startswith("use a smaller size")


@pytest.mark.parametrize("device", ["tpu", "cuda:0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match=f"There is no device '{device}'"):
        roofline.measure(device=device)


def test_a_roofline_that_was_not_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    with pytest.raises(NotRecorded, match="does not hold bench/roofline"):
        roofline.measure(scale=0.123)


@pytest.mark.parametrize("call", ["measure()", "ceilings()"])
def test_live_without_a_gpu_is_refused(without_gpu: Run, call: str) -> None:
    code = (
        "from mlk8s.bench import roofline\nfrom mlk8s.errors import expected, GpuUnavailable\n"
        f"with expected(GpuUnavailable):\n    roofline.{call}\n"
    )
    done = without_gpu("-c", code, MLK8S_GPU="live")
    assert done.returncode == 0, done.stderr
    assert "the kernel module `nvidia` is not loaded. Next: " in done.stdout


def test_the_names_are_those_of_the_module_that_measures() -> None:
    assert roofline.operations is ops.operations
