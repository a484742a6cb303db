"""One operation written in every layer of a GPU's software: the softmax of each row of a matrix.

Each way takes the matrix, prepares what a call needs, and returns the call. The answers are the
same; the kernels that run, and the bytes that they move, are not. Chapter 3 measures them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlk8s.errors import UsageError

#: Computes every row and returns the result, as a tensor of PyTorch or an array of CuPy.
Call = Callable[[], Any]

#: A row has to fit into the shared memory that a block gets without asking for more.
MAX_COLUMNS = 8192
THREADS = 256

CUDA_C = r"""
__device__ float over_block(float value, bool largest, float* partial) {
    // First the 32 threads of each warp through registers, then the warps' results.
    for (int round = 0; round < 2; ++round) {
        for (int step = 16; step > 0; step /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, value, step);
            value = largest ? fmaxf(value, other) : value + other;
        }
        if (round == 0) {
            int lane = threadIdx.x % 32, warps = blockDim.x / 32;
            __syncthreads();
            if (lane == 0) partial[threadIdx.x / 32] = value;
            __syncthreads();
            value = lane < warps ? partial[lane] : (largest ? partial[0] : 0.0f);
        }
    }
    return value;
}

extern "C" __global__ void softmax_rows(const float* x, float* y, int columns) {
    extern __shared__ float row[];  // read from memory once, then kept on the SM
    __shared__ float partial[32];
    x += (size_t)blockIdx.x * columns;
    y += (size_t)blockIdx.x * columns;
    float largest = x[0], total = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        row[i] = x[i];
        largest = fmaxf(largest, row[i]);
    }
    largest = over_block(largest, true, partial);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        row[i] = expf(row[i] - largest);
        total += row[i];
    }
    total = over_block(total, false, partial);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[i] = row[i] / total;
}
"""


def in_cuda_c(x: Any) -> Call:
    """CUDA C, compiled by NVRTC while the program runs: one block of threads for each row."""
    rows, columns = x.shape
    if columns > MAX_COLUMNS:
        raise UsageError(
            f"A row of {columns:,} numbers does not fit into 32 KiB of shared memory.",
            f"use at most {MAX_COLUMNS:,} columns.",
        )
    import cupy
    import numpy
    import torch

    kernel = cupy.RawKernel(CUDA_C, "softmax_rows")
    y = torch.empty_like(x)
    arguments = (cupy.asarray(x), cupy.asarray(y), numpy.int32(columns))

    def call() -> Any:
        kernel((rows,), (THREADS,), arguments, shared_mem=4 * columns)
        return y

    return call


def in_cupy(x: Any) -> Call:
    """CuPy: NumPy's operations, each a kernel that CuPy generates."""
    import cupy

    a = cupy.asarray(x)

    def call() -> Any:
        e = cupy.exp(a - a.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return call


def written_out(x: Any) -> Any:
    """The formula in PyTorch's operations, with the largest value taken off first."""
    e = (x - x.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


def eagerly(x: Any) -> Call:
    """PyTorch, operation by operation: each is a kernel out of its library."""
    return lambda: written_out(x)


def in_one_operation(x: Any) -> Call:
    """``torch.softmax``: a kernel that was written for it."""
    import torch

    return lambda: torch.softmax(x, 1)


def compiled(x: Any) -> Call:
    """``torch.compile``: the formula of :func:`written_out`, from which PyTorch writes Triton."""
    import torch

    optimized = torch.compile(written_out, dynamic=False)
    return lambda: optimized(x)


def in_triton(x: Any) -> Call:
    """Triton: a program for each row, written for a whole row at once; no threads in sight."""
    import torch
    import triton
    import triton.language as tl

    # No other annotations: the compiler would look for the names in them.
    @triton.jit  # type: ignore[untyped-decorator]
    def softmax_rows(source, target, columns, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        first = tl.program_id(0).to(tl.int64) * columns
        index = tl.arange(0, WIDTH)
        inside = index < columns
        row = tl.load(source + first + index, mask=inside, other=-float("inf"))
        e = tl.exp(row - tl.max(row, axis=0))
        tl.store(target + first + index, e / tl.sum(e, axis=0), mask=inside)

    y = torch.empty_like(x)
    rows, columns = x.shape
    width = triton.next_power_of_2(columns)

    def call() -> Any:
        softmax_rows[(rows,)](x, y, columns, WIDTH=width, num_warps=8)
        return y

    return call


def ways() -> dict[str, Callable[[Any], Call]]:
    """The ways by name, from the lowest layer up."""
    return {
        "CUDA C": in_cuda_c,
        "Triton": in_triton,
        "CuPy": in_cupy,
        "PyTorch, written out": eagerly,
        "torch.softmax": in_one_operation,
        "torch.compile": compiled,
    }
