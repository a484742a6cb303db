"""Memory bandwidth: what is counted, what it is called, the kernels, the refusals."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from mlk8s.bench import memory, timing, traffic
from mlk8s.errors import UsageError
from mlk8s.provenance import Kind

Run = Callable[..., CompletedProcess[str]]

MIB = 2**20
BRIEF = 0.02  # seconds; the values are checked here, not their precision


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, as NumPy is: two on a busy machine wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- on the processor ---------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_a_sweep_on_the_processor() -> None:
    steps: list[tuple[str, int, int]] = []
    with timing.progress(lambda *step: steps.append(step)):
        table = memory.sweep(["read", "triad"], [MIB, 2 * MIB], device="cpu", min_time_s=BRIEF)
    assert [(r["operation"], r["bytes counted"]) for r in table] == [
        ("read", "n read"),
        ("read", "n read"),
        ("triad", "2n read + n written"),
        ("triad", "2n read + n written"),
    ]
    # 2^20 bytes do not divide into three arrays of pieces of 32 KiB: 10 · 96 KiB do.
    sizes = [1.0, 2.0, 10 * 96 / 1024, 21 * 96 / 1024]
    assert table.column("working set [MiB]") == sizes
    for row in table:
        assert row["of peak [%]"] is None and row["SM clock [MHz]"] is None
        assert row["level"] in ("cache", "DRAM", "unknown")
    assert steps[0] == ("read, 1 MiB", 0, 4) and steps[-1] == ("triad, 2 MiB", 3, 4)
    (origin,) = table.provenance
    assert origin.kind is Kind.LIVE
    assert origin.device is not None and origin.device.part == "cpu"


@pytest.mark.usefixtures("one_thread")
def test_the_least_size_has_a_piece_of_every_array() -> None:
    # 2^17 bytes are one piece of 32 KiB for each of three arrays, two for each of two.
    table = memory.sweep(sizes=[2**17], device="cpu", min_time_s=0.001)
    assert table.column("working set [MiB]") == [0.125, 0.125, 0.125, 96 / 1024]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("operation", "per_element"),
    # McCalpin counts 16 bytes for an element of 8 bytes that is copied and 24 for one of a triad
    # (www.cs.virginia.edu/~mccalpin/papers/bandwidth/node2.html): half of it for 4 bytes.
    [("read", 4), ("write", 4), ("copy", 8), ("triad", 12)],
)
def test_the_bytes_that_are_counted_are_those_of_the_arrays(
    operation: str, per_element: int
) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    timed = {torch.ops.aten.sum.default, torch.ops.aten.fill_.Scalar}
    timed |= {torch.ops.aten.copy_.default, torch.ops.aten.add.out}
    seen: set[tuple[tuple[int, int], ...]] = set()

    class Look(TorchDispatchMode):
        """Notes place and size of the arrays of whatever is called, the results included."""

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function in timed:
                tensors = [t for t in (*args, *(kwargs or {}).values()) if hasattr(t, "nbytes")]
                seen.add(tuple(sorted((t.data_ptr(), t.nbytes) for t in tensors)))
            return function(*args, **(kwargs or {}))

    look: Any = Look
    with look():
        row = memory.measure(operation, 3 * MIB, device="cpu", min_time_s=BRIEF)[0]
    (arrays,) = seen  # the same arrays in every call
    assert len({place for place, _ in arrays}) == len(arrays) == per_element // 4
    size = sum(nbytes for _, nbytes in arrays)
    assert size == arrays[0][1] // 4 * per_element == 3 * MIB
    assert row["working set [MiB]"] == size / MIB
    assert row["GB/s"] * 1e9 * row["time [µs]"] * 1e-6 == pytest.approx(size, rel=1e-2)


@pytest.mark.usefixtures("one_thread")
def test_the_rate_agrees_with_numpy() -> None:
    size = 256 * MIB

    def numpy_gbs() -> float:
        source = np.ones(size // 8, dtype=np.float32)
        target = np.zeros_like(source) + 1
        times = []
        for _ in range(10):
            begin = time.perf_counter()
            np.copyto(target, source)
            times.append(time.perf_counter() - begin)
        # The median, as the benchmark has it: other work on the machine slows both.
        return (source.nbytes + target.nbytes) / statistics.median(times) * 1e-9

    before = numpy_gbs()
    row = memory.measure("copy", size, device="cpu", min_time_s=0.2)[0]
    after = numpy_gbs()
    assert min(before, after) / 2 < row["GB/s"] < max(before, after) * 2


@pytest.mark.usefixtures("one_thread")
def test_access_on_the_processor() -> None:
    table = memory.access(device="cpu", table_bytes=4 * MIB + 5, min_time_s=0.002)
    useful = table.column("useful GB/s (bytes asked for)")
    whole = table.column("traffic GB/s (whole sectors, computed)")
    ratios = [moved / used for moved, used in zip(whole, useful, strict=True)]
    strided = len(memory.STRIDES)
    assert table.column("stride [words]")[:strided] == [1, 2, 4, 8, 16, 32, 64]
    assert set(table.column("row [bytes]")[:strided]) == {4}
    # A line of 64 bytes holds 16 words of 4; from a stride of 16 on each word costs a line.
    assert ratios[:strided] == pytest.approx([1, 2, 4, 8, 16, 16, 16], rel=0.02)
    rows = [4, 8, 16, 32, 64, 128, 512, 4096]
    assert table.column("row [bytes]")[strided:] == rows
    assert set(table.column("stride [words]")[strided:]) == {None}
    # Lines of the row, 4 bytes of index, the row again in the result.
    moved = [64 + 4 + 4, 64 + 4 + 8, 64 + 4 + 16, 64 + 4 + 32, 64 + 4 + 64, 128 + 4 + 128]
    moved += [512 + 4 + 512, 4096 + 4 + 4096]
    wanted = [m / row for m, row in zip(moved, rows, strict=True)]
    assert ratios[strided:] == pytest.approx(wanted, rel=0.05)
    assert set(table.column("sector [bytes]")) == {64}


@pytest.mark.usefixtures("one_thread")
def test_random_rows_are_looked_up_all_over_the_table() -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[tuple[Any, ...]] = []

    class Look(TorchDispatchMode):
        """Keeps what is looked up where."""

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.ops.aten.index_select.out:
                seen.append((*args, (kwargs or {})["out"]))
            return function(*args, **(kwargs or {}))

    look: Any = Look
    with look():
        memory.access(["random"], device="cpu", table_bytes=4 * MIB + 5, min_time_s=0.001)
    calls = {rows.shape[1]: (rows, index, found) for rows, _, index, found in seen}
    assert [4 * words for words in calls] == list(memory.ROWS)
    for rows, index, found in calls.values():
        assert rows.nbytes == 4 * MIB, "whole rows of the largest kind"
        assert index.element_size() == 4
        # As many look-ups as the table has rows, or 2^20: places that repeat, and that lie in its
        # first and its last hundredth.
        assert len(index) == len(found) == min(2**20, len(rows)) > len(index.unique())
        assert index.min() < len(rows) / 100 + 1 and index.max() > len(rows) * 0.99 - 2
        assert index.diff().abs().float().mean() > len(rows) / 4, "in no order"


@pytest.mark.usefixtures("one_thread")
def test_what_was_measured_is_kept_on_an_interrupt() -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with timing.progress(stop), pytest.raises(timing.Interrupted) as caught:
        memory.sweep(["read", "copy"], [MIB], device="cpu", min_time_s=BRIEF)
    (row,) = caught.value.rows
    assert (row["operation"], row["working set [MiB]"]) == ("read", 1)


# --- arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mib", "expected"), [(1, "L2"), (50, "L2"), (99, "L2"), (100, "HBM"), (4096, "HBM")]
)
def test_under_twice_the_l2_cache_it_is_not_hbm(mib: int, expected: str) -> None:
    # The L2 cache of an H100 SXM5 has 50 MB (NVIDIA H100 Tensor Core GPU Architecture, table 3);
    # CUDA reports 52428800 bytes.
    assert memory.level(mib * MIB, 52428800, ("L2", "HBM")) == expected
    assert memory.level(mib * MIB, None, ("L2", "HBM")) == "unknown"


@pytest.mark.parametrize(
    ("stride", "sectors"),
    # CUDA C++ Best Practices Guide: the 32 adjacent words of a warp are four transactions of 32
    # bytes; a stride of 2 halves the efficiency; it falls until the 32 threads load 32 segments.
    [(1, 4), (2, 8), (4, 16), (8, 32), (16, 32), (64, 32)],
)
def test_sectors_of_a_warp_that_reads_with_a_stride(stride: int, sectors: int) -> None:
    assert memory.sector_bytes(32, 4, 32, 4 * stride) == 32 * sectors


@pytest.mark.parametrize(("row", "sectors"), [(4, 1), (16, 1), (32, 1), (64, 2), (4096, 128)])
def test_sectors_of_a_row_on_its_own(row: int, sectors: int) -> None:
    assert memory.sector_bytes(10, row, 32) == 10 * 32 * sectors


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: memory.measure("scale", device="cpu"), "There is no operation 'scale'"),
        (lambda: memory.measure("copy", 0, device="cpu"), "size_bytes = 0 is not"),
        (lambda: memory.measure("copy", -MIB, device="cpu"), "size_bytes = -1048576 is not"),
        (lambda: memory.measure("copy", 2**17 - 1, device="cpu"), "size_bytes = 131071 is not"),
        (lambda: memory.measure("copy", 1e9, device="cpu"), "size_bytes = 1000000000.0 is"),  # type: ignore[arg-type]
        (lambda: memory.measure("copy", MIB, device="tpu"), "There is no device 'tpu'"),
        (lambda: memory.sweep([], device="cpu"), "There is nothing to measure"),
        (lambda: memory.sweep(sizes=[], device="cpu"), "There is nothing to measure"),
        (lambda: memory.access(["zigzag"], device="cpu"), "There is no access pattern 'zigzag'"),
        (lambda: memory.access(device="cpu", table_bytes=4096), "table_bytes = 4096 is not"),
        (
            lambda: memory.access(device="cpu", table_bytes=2**34),
            "table_bytes = 17179869184 is not",
        ),
        (lambda: memory.access(device="tpu"), "There is no device 'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused(call: Callable[[], Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        call()
    assert caught.value.next_step.startswith(("use ", "name "))


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: memory.measure("copy", 2**50, device="cpu"), "A working set for copy"),
        (lambda: memory.measure("read", 2**50, device="cpu"), "A working set for read"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sizes(call: Callable[[], Any], what: str) -> None:
    wanted = rf"{what}.* 1,048,576\.\d GiB, and [\d,]+\.\d GiB of this machine's memory are free"
    with pytest.raises(UsageError, match=wanted) as caught:
        call()
    assert "smaller size" in caught.value.next_step


# --- the GPU's code, without one ----------------------------------------------------------------

SHIM = """
#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>
#define __global__
struct Place { unsigned x; };
static Place blockDim, blockIdx, threadIdx;
struct float4 { float x, y, z, w; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
// How often each element of an array was loaded or stored.
struct Watch {
  const char* start;
  size_t each;
  std::vector<int> counts;
  void count(const void* place) {
    const size_t offset = (const char*)place - start;
    if (offset < counts.size() * each) ++counts[offset / each];
  }
};
static Watch loads, stores;
template <class T> T __ldcg(const T* place) {
  loads.count(place);
  return *place;
}
template <class T> void __stcg(T* place, T value) {
  stores.count(place);
  *place = value;
}
"""
MAIN = """
template <class Kernel> void launch(unsigned blocks, unsigned threads, Kernel kernel) {
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel();
}

template <class T> void watch(Watch& what, const std::vector<T>& array, size_t words) {
  const size_t count = array.size() * sizeof(T) / 4 / words;
  what = {(const char*)array.data(), words * 4, std::vector<int>(count)};
}

void report(const char* name, const std::vector<int>& counts) {
  const auto ends = std::minmax_element(counts.begin(), counts.end());
  printf("[\\"%s\\", %d, %d]\\n", name, *ends.first, *ends.second);
}

int main() {
  const unsigned threads = 32, passes = 3;
  for (u64 pieces : {1ull, 7ull, 100ull}) {
    const u64 n = pieces * threads * UNROLL;
    const unsigned blocks = pieces * passes;
    std::vector<float4> a(n), b(n), c(n);
    for (u64 k = 0; k < n; ++k) {
      b[k] = {k % 97 + 0.0f, 1, 2, 3};
      c[k] = {k % 89 + 0.0f, 4, 5, 6};
    }
    int wrong = 0;
    watch(loads, b, 4);
    launch(blocks, threads, [&] { run_read(a.data(), b.data(), b.data(), pieces); });
    report("read", loads.counts);
    watch(loads, b, 4);
    watch(stores, a, 4);
    launch(blocks, threads, [&] { run_copy(a.data(), b.data(), c.data(), pieces); });
    report("copy, read", loads.counts);
    report("copy, written", stores.counts);
    for (u64 k = 0; k < n; ++k) wrong += a[k].x != k % 97 || a[k].y != 1 || a[k].w != 3;
    watch(loads, c, 4);
    watch(stores, a, 4);
    launch(blocks, threads, [&] { run_triad(a.data(), b.data(), c.data(), pieces); });
    report("triad, read", loads.counts);
    report("triad, written", stores.counts);
    for (u64 k = 0; k < n; ++k)
      wrong += a[k].x != k % 97 + 3 * (k % 89) || a[k].y != 13 || a[k].z != 17 || a[k].w != 21;
    watch(stores, a, 4);
    launch(blocks, threads, [&] { run_write(a.data(), b.data(), c.data(), pieces); });
    report("write", stores.counts);
    for (u64 k = 0; k < n; ++k) wrong += a[k].x != 3 || a[k].y != 3 || a[k].z != 3 || a[k].w != 3;
    const std::vector<float> words(n * 8);
    watch(loads, words, 8);
    launch(blocks, threads, [&] { run_strided(&a[0].x, words.data(), 8, pieces); });
    report("strided", loads.counts);
    // Every second row of a table, in no order. Words of the others are not read.
    for (u64 bits : {0ull, 1ull, 5ull}) {
      const u64 rows = n >> bits;
      std::vector<unsigned> index(rows);
      for (u64 k = 0; k < rows; ++k) index[k] = 2 * k + 1;
      std::shuffle(index.begin(), index.end(), std::mt19937(0));
      const std::vector<float> table(2 * n);
      watch(loads, table, 1);
      launch(blocks, threads,
             [&] { run_random(&a[0].x, table.data(), index.data(), bits, pieces); });
      std::vector<int> counts;
      for (u64 k = 0; k < 2 * n; ++k) {
        if ((k >> bits) % 2) counts.push_back(loads.counts[k]);
        else wrong += loads.counts[k];
      }
      report("random", counts);
    }
    printf("[\\"wrong\\", %d, 0]\\n", wrong);
  }
}
"""


@pytest.mark.parametrize("unroll", [1, 2, 8])
def test_the_kernels_go_over_every_element_evenly(tmp_path: Path, unroll: int) -> None:
    # CUDA C++ that needs nothing of a GPU but its names: a C++ compiler runs thread after thread.
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler, "this test compiles the kernels for the processor: install g++"
    source, program = tmp_path / "kernels.cpp", tmp_path / "kernels"
    source.write_text(SHIM + traffic.KERNELS + MAIN, encoding="utf-8")
    flags = ["-std=c++17", "-w", f"-DUNROLL={unroll}"]
    subprocess.run([compiler, *flags, "-o", program, source], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name for name, *_ in results} == {
        "read",
        "write",
        "copy, read",
        "copy, written",
        "triad, read",
        "triad, written",
        "strided",
        "random",
        "wrong",
    }
    for name, least, most in results:
        if name == "wrong":
            assert least == 0, f"{least} elements have a wrong value or were not asked for"
        else:
            assert least == most == 3, f"{name} goes over an element {least} to {most} times"


# --- recorded ----------------------------------------------------------------------------------


RECORDED = """
import json
from dataclasses import asdict
from mlk8s import recordings
from mlk8s.bench import memory, timing
from mlk8s.gpu.source import fingerprint
origin = recordings.load().entries[0].provenance
def entry(name, function, value, **params):
    source = fingerprint(function.__wrapped__)
    return recordings.Entry(name, params, origin.method, source, value, origin)
time = asdict(timing.Timing(0.5, 0.49, 0.51, 9, 3, 1.0, True, 1980.0, 400.0, 0.0, "none"))
memory_value = {"operation": "copy", "working_set": 2**30, "bytes": 3 * 2**29} | time
small = memory_value | {"working_set": 2**26}
values = {
    2**30: memory_value | {"cache_bytes": 52428800},
    2**26: small | {"cache_bytes": 52428800},
}
entries = [
    entry("bench/memory", memory._on_gpu, value, operation="copy", size_bytes=size, min_time_s=0.5)
    for size, value in values.items()
]
recordings.write(recordings.FOLDER / recordings.DEFAULT, entries)
recordings.load.cache_clear()
for size in values:
    print(json.dumps(dict(memory.measure("copy", size)[0])))
"""


def test_a_recorded_row_has_its_level_and_its_part_of_the_peak(
    process: Run, library_copy: Path
) -> None:
    done = process("-c", RECORDED, PYTHONPATH=str(library_copy), MLK8S_GPU="h100-sxm")
    assert done.returncode == 0, done.stderr
    large, small = map(json.loads, done.stdout.splitlines())
    # 1.5 · 2^30 bytes in 0.5 ms are 3221.225472 GB/s; the H100 SXM has 3350 (its data sheet).
    assert large == {
        "operation": "copy",
        "working set [MiB]": 1024,
        "GB/s": 3221.23,
        "bytes counted": "n read + n written",
        "level": "HBM",
        "of peak [%]": 96.2,
        "time [µs]": 333.333,
        "SM clock [MHz]": 1980,
        "flags": "",
    }
    assert (small["level"], small["of peak [%]"], small["GB/s"]) == ("L2", None, 3221.23)


ACCESS = """
import json
from dataclasses import asdict
from mlk8s import recordings
from mlk8s.bench import memory, timing
from mlk8s.gpu.source import fingerprint
origin = recordings.load().entries[0].provenance
time = asdict(timing.Timing(0.5, 0.49, 0.51, 9, 3, 1.0, True, 1980.0, 400.0, 0.0, "none"))
source = fingerprint(memory._access_on_gpu.__wrapped__)
entries = []
for pattern, sizes in (("strided", memory.STRIDES), ("random", memory.ROWS)):
    for size in sizes:
        value = {"pattern": pattern, "size": size, "working_set": 2**32, "bytes": 2**27,
                 "moved": 2**30, "sector": 32, "cache_bytes": 52428800} | time
        params = {"pattern": pattern, "size": size, "table_bytes": 2**32, "min_time_s": 0.2}
        entries.append(
            recordings.Entry("bench/memory-access", params, origin.method, source, value, origin)
        )
recordings.write(recordings.FOLDER / recordings.DEFAULT, entries)
recordings.load.cache_clear()
print(json.dumps([dict(row) for row in memory.access()]))
"""


def test_recorded_access(process: Run, library_copy: Path) -> None:
    done = process("-c", ACCESS, PYTHONPATH=str(library_copy), MLK8S_GPU="h100-sxm")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    sizes = [(row["pattern"], row["stride [words]"], row["row [bytes]"]) for row in rows]
    assert sizes == [("strided", stride, 4) for stride in (1, 2, 4, 8, 16, 32, 64)] + [
        ("random", None, row) for row in (4, 8, 16, 32, 64, 128, 512, 4096)
    ]
    for row in rows:
        # 2^27 bytes of use and 2^30 moved in 0.5 ms.
        assert row["useful GB/s (bytes asked for)"] == 268.44
        assert row["traffic GB/s (whole sectors, computed)"] == 2147.48
        assert (row["sector [bytes]"], row["level"], row["flags"]) == (32, "HBM", "")
