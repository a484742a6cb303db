"""Kernels that do nothing but move bytes, and what launches them.

CUDA C++, compiled on the machine by CuPy: no library offers a kernel that only reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

#: A launch moves at least this much, so that starting it (some µs) does not count.
LAUNCH_BYTES = 2**30
#: Threads of a block, and how many elements of 16 bytes each has in flight: the best of 45 pairs
#: tried on an H100. More, or fewer blocks that live longer, gave 1 to 6 % less.
THREADS, VECTORS = 1024, 2
#: Elements of 4 bytes that a thread has in flight: smaller ones, so more of them.
WORDS = 8

#: Every block goes over one piece of the arrays, threads × UNROLL elements; block j over piece
#: j mod pieces, so a small set is gone over many times in one launch, with as many loads in flight
#: as a large one. Each thread issues UNROLL loads before it uses the first. __ldcg and __stcg
#: cache in L2 only; with L1 small sets would show L1.
KERNELS = """
typedef unsigned long long u64;
#define AT ((blockIdx.x % (u64)pieces) * (UNROLL * blockDim.x) + threadIdx.x)
#define EACH _Pragma("unroll") for (int u = 0; u < UNROLL; ++u)
#define I (at + u * blockDim.x)

extern "C" __global__ void run_read(float4* a, const float4* b, const float4* c, u64 pieces) {
  const u64 at = AT;
  float4 v[UNROLL], s = make_float4(0, 0, 0, 0);
  EACH v[u] = __ldcg(b + I);
  EACH { s.x += v[u].x; s.y += v[u].y; s.z += v[u].z; s.w += v[u].w; }
  // Never true, as the data is not negative, which the compiler cannot know.
  if (s.x + s.y + s.z + s.w == -1.0f) *a = s;
}

extern "C" __global__ void run_write(float4* a, const float4* b, const float4* c, u64 pieces) {
  const u64 at = AT;
  EACH __stcg(a + I, make_float4(3, 3, 3, 3));
}

extern "C" __global__ void run_copy(float4* a, const float4* b, const float4* c, u64 pieces) {
  const u64 at = AT;
  float4 v[UNROLL];
  EACH v[u] = __ldcg(b + I);
  EACH __stcg(a + I, v[u]);
}

extern "C" __global__ void run_triad(float4* a, const float4* b, const float4* c, u64 pieces) {
  const u64 at = AT;
  float4 v[UNROLL], w[UNROLL];
  EACH { v[u] = __ldcg(b + I); w[u] = __ldcg(c + I); }
  EACH __stcg(a + I, make_float4(v[u].x + 3 * w[u].x, v[u].y + 3 * w[u].y,
                                 v[u].z + 3 * w[u].z, v[u].w + 3 * w[u].w));
}

// Words, `stride` words apart.
extern "C" __global__ void run_strided(float* a, const float* b, u64 stride, u64 pieces) {
  const u64 at = AT;
  float v[UNROLL], s = 0;
  EACH v[u] = __ldcg(b + I * stride);
  EACH s += v[u];
  if (s == -1.0f) *a = s;
}

// Rows of 2^bits words at the places that the index says; neighboring threads share a row.
extern "C" __global__ void run_random(float* a, const float* b, const unsigned* index, u64 bits,
                                      u64 pieces) {
  const u64 at = AT;
  float v[UNROLL], s = 0;
  EACH v[u] = __ldcg(b + ((u64)index[I >> bits] << bits) + (I & ((1ull << bits) - 1)));
  EACH s += v[u];
  if (s == -1.0f) *a = s;
}
"""


def launch(
    name: str, arguments: Sequence[int], elements: int, element_bytes: int, unroll: int
) -> tuple[Callable[[], None], int]:
    """What launches a kernel once, and how many elements that goes over.

    CuPy launches on its default stream and PyTorch records its events on its own: both are CUDA's
    legacy default stream.

    Args:
        name: ``read``, ``write``, ``copy``, ``triad``, ``strided`` or ``random``.
        arguments: the kernel's pointers and numbers, without the last.
        elements: what one pass goes over; a multiple of threads × elements in flight.
        element_bytes: of all arrays together. A launch has as many passes as move
            :data:`LAUNCH_BYTES`.
        unroll: elements that a thread has in flight, :data:`VECTORS` or :data:`WORDS`.
    """
    import cupy
    import numpy as np

    kernel = cupy.RawKernel(KERNELS, f"run_{name}", options=(f"-DUNROLL={unroll}",))
    pieces = elements // (THREADS * unroll)
    passes = math.ceil(LAUNCH_BYTES / (elements * element_bytes))
    passed = tuple(map(np.uint64, [*arguments, pieces]))
    blocks = pieces * passes
    return lambda: kernel((blocks,), (THREADS,), passed), blocks * THREADS * unroll
