"""The softmax in every layer: the same answer, the CUDA C run thread by thread on the processor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
import torch

from mlk8s.bench import softmax
from mlk8s.errors import UsageError

# CUDA's words for the C++ compiler: a thread of the processor for each thread of a block, a barrier
# for each __syncthreads, and for each warp one around the exchange of its shuffle.
SHIM = r"""
#include <barrier>
#include <math.h>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#define __device__
#define __global__
#define __shared__ static
struct Index { int x; };
thread_local Index threadIdx, blockIdx;
static Index blockDim;
static float row[THREADS * 64];
static float lanes[THREADS];
static std::barrier<>* everybody;
static std::vector<std::barrier<>*> warps;
static void __syncthreads() { everybody->arrive_and_wait(); }
static float __shfl_xor_sync(unsigned, float value, int step) {
    auto& warp = *warps[threadIdx.x / 32];
    lanes[threadIdx.x] = value;
    warp.arrive_and_wait();
    float other = lanes[threadIdx.x ^ step];
    warp.arrive_and_wait();
    return other;
}
"""
MAIN = r"""
int main(int, char** arguments) {
    int rows = atoi(arguments[1]), columns = atoi(arguments[2]);
    std::vector<float> x(rows * columns), y(rows * columns);
    if (fread(x.data(), 4, x.size(), stdin) != x.size()) return 1;
    blockDim.x = THREADS;
    std::barrier<> all(THREADS);
    everybody = &all;
    for (int w = 0; w < THREADS / 32; ++w) warps.push_back(new std::barrier<>(32));
    for (int r = 0; r < rows; ++r) {
        std::vector<std::thread> block;
        for (int t = 0; t < THREADS; ++t) block.emplace_back([&, t, r] {
            threadIdx.x = t; blockIdx.x = r;
            softmax_rows(x.data(), y.data(), columns);
        });
        for (auto& thread : block) thread.join();
    }
    fwrite(y.data(), 4, y.size(), stdout);
}
"""


@pytest.fixture(scope="module")
def in_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler, "no C++ compiler: apt-get install g++"
    folder = tmp_path_factory.mktemp("softmax")
    kernel = softmax.CUDA_C.replace("extern __shared__ float row[];", "")
    (folder / "kernel.cpp").write_text(SHIM + kernel + MAIN)
    flags = ["-std=c++20", "-O1", "-w", "-pthread", f"-DTHREADS={softmax.THREADS}"]
    subprocess.run(
        [compiler, *flags, "kernel.cpp", "-o", "kernel"], cwd=folder, check=True, timeout=120
    )
    return folder / "kernel"


# A row that fills the block's threads, one that leaves most without work, one that is no multiple.
@pytest.mark.parametrize(("rows", "columns"), [(3, 1024), (2, 7), (2, 1000)])
def test_cuda_c_gives_the_softmax(in_threads: Path, rows: int, columns: int) -> None:
    x = numpy.random.default_rng(0).normal(0, 5, (rows, columns)).astype(numpy.float32)
    done = subprocess.run(
        [in_threads, str(rows), str(columns)],
        input=x.tobytes(),
        capture_output=True,
        check=True,
        timeout=120,
    )
    found = numpy.frombuffer(done.stdout, numpy.float32).reshape(rows, columns)
    exact = torch.softmax(torch.from_numpy(x).double(), 1).numpy()
    numpy.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("way", ["PyTorch, written out", "torch.softmax", "torch.compile"])
def test_ways_of_pytorch_agree_with_float64(way: str) -> None:
    torch.manual_seed(0)
    # Without taking off the largest number first, the exponential of 200 overflows.
    x = 50 * torch.randn(16, 333)
    found = softmax.ways()[way](x)()
    exact = torch.softmax(x.double(), 1)
    assert float((found - exact).abs().max()) < 1e-6
    assert found.sum(1).tolist() == pytest.approx([1.0] * 16, abs=1e-5)


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"10,000 numbers .* at most 8,192"):
        softmax.in_cuda_c(torch.empty(1, 10_000))
