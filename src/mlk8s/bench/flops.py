"""What an operation costs on paper: its floating-point operations and the bytes it must move.

Pure arithmetic on shapes; nothing here runs on a GPU. FLOPs say how long the arithmetic takes at
the peak rate, bytes how long the traffic takes at the memory bandwidth, and the longer of the two
bounds the time from below (the *roofline* model: Williams, Waterman, Patterson, CACM 52(4), 2009).
What a device reaches of that bound is measured, in the modules beside this one.

Conventions, for every function here:

* FLOPs are operations, never a rate (that is FLOP/s). A multiplication and an addition are two,
  also where the hardware fuses them. Each of ``exp``, division, maximum and square root is one, as
  in google-research/electra ``flops_computation.py``, although a GPU takes longer over them.
* Bytes are the least traffic with DRAM: each input read once, each output written once. A real
  kernel moves more when its working set does not fit on the chip, and less when the operation
  before left its output in the L2 cache.
* ``itemsize`` is bytes per element: 4 for FP32 and TF32, 2 for BF16 and FP16, 1 for FP8 and INT8.

``torch.utils.flop_counter.FlopCounterMode`` watches the operators of a running program. It counts
matrix products and attention, where it agrees with this module, and convolutions, which this module
leaves out. As of PyTorch 2.13:

* everything else counts 0: element-wise operations, softmax, norms, and also ``torch.mv`` and
  ``torch.dot``, whose arithmetic it counts when they are written as a matrix product;
* causal attention counts as if every query saw every key, about twice the work;
* ``scaled_dot_product_attention`` on a CPU counts 0 (pytorch/pytorch issue 195460);
* it has no bytes, so it cannot say whether an operation is bound by memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from mlk8s.errors import UsageError
from mlk8s.gpu import catalogue
from mlk8s.provenance import Kind, Provenance, Scalar, Table

#: max, subtract, exp, sum, divide; google-research/electra, flops_computation.py, SOFTMAX_FLOPS.
SOFTMAX_FLOPS = 5
#: GELU by its tanh approximation; same file, ACTIVATION_FLOPS.
GELU_FLOPS = 8


def require(least: int = 1, /, **sizes: int) -> None:
    """Refuse what is no whole number of at least ``least``; a float would make FLOPs inexact."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < least:
            raise UsageError(
                f"{name} = {size!r} is not a whole number of at least {least}.",
                f"pass {name} as an int of at least {least}.",
            )


def require_rates(**rates: float) -> None:
    """Refuse what is no positive, finite number."""
    for name, rate in rates.items():
        if not 0 < rate < math.inf:
            raise UsageError(
                f"{name} = {rate!r} is not a positive number.", f"pass a positive {name}."
            )


def require_divisor(part: str, few: int, whole: str, many: int) -> None:
    """Refuse a group size that does not go into what it groups."""
    if many % few:
        raise UsageError(
            f"{part} = {few} does not divide {whole} = {many}.",
            f"choose {part} so that it does.",
        )


@dataclass(frozen=True)
class Work:
    """What an operation has to do: FLOPs and bytes.

    Add operations that run one after the other, multiply by how often one runs.

    Attributes:
        name: the operation, for tables and figures.
        flops: floating-point operations.
        bytes: least DRAM traffic, bytes read plus bytes written.
    """

    name: str
    flops: int
    bytes: int

    def __post_init__(self) -> None:
        require(0, flops=self.flops)
        require(1, bytes=self.bytes)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOP/byte: how often each byte is used once it is on the chip."""
        return self.flops / self.bytes

    def time_s(self, tflops: float, gbs: float) -> float:
        """The time that the operation cannot beat, s: max(flops / peak, bytes / bandwidth).

        It assumes that arithmetic and traffic overlap fully, and it knows nothing of the launch
        latency that rules small operations. For several operations one after the other, sum their
        times: the time of their sum lets one operation's traffic hide behind another's arithmetic.

        Args:
            tflops: peak, TFLOP/s (10¹² a second), dense and of the right data type.
            gbs: memory bandwidth, GB/s (10⁹ bytes a second).

        Raises:
            UsageError: a rate that is not positive.
        """
        require_rates(tflops=tflops, gbs=gbs)
        return max(self.flops / (tflops * 1e12), self.bytes / (gbs * 1e9))

    def bound(self, tflops: float, gbs: float) -> Literal["compute", "memory"]:
        """Which of the two takes longer: ``compute`` from the ridge point on, else ``memory``.

        Args and errors: as :meth:`time_s`.
        """
        return "compute" if self.intensity >= ridge(tflops, gbs) else "memory"

    def named(self, name: str) -> Work:
        """The same work under another name."""
        return replace(self, name=name)

    def row(self) -> dict[str, Scalar]:
        """The operation as one row of a table."""
        return {
            "operation": self.name,
            "work [GFLOP]": self.flops / 1e9,
            "traffic [MB]": self.bytes / 1e6,
            "intensity [FLOP/byte]": self.intensity,
        }

    def __add__(self, other: Work) -> Work:
        return total([self, other], f"{self.name} + {other.name}")

    def __mul__(self, count: int) -> Work:
        require(count=count)
        return Work(f"{count} × {self.name}", self.flops * count, self.bytes * count)

    __rmul__ = __mul__


def total(works: Iterable[Work], name: str) -> Work:
    """Several operations one after the other as one, each with its own DRAM traffic.

    Args:
        works: the operations, at least one.
        name: what they are together.

    Raises:
        UsageError: there are none.
    """
    listed = list(works)
    if not listed:
        raise UsageError(f"{name!r} has no operations.", "pass at least one Work.")
    return Work(name, sum(w.flops for w in listed), sum(w.bytes for w in listed))


def ridge(tflops: float, gbs: float) -> float:
    """The ridge point of a device, FLOP/byte: from this intensity on, arithmetic is the limit.

    It is peak over bandwidth; an H100 SXM has 989.4 TFLOP/s over 3350 GB/s = 295 FLOP/byte in
    BF16, so a 2-byte element that takes part in fewer than 590 operations leaves the tensor cores
    waiting.

    Args:
        tflops: peak, TFLOP/s.
        gbs: memory bandwidth, GB/s.

    Raises:
        UsageError: a rate that is not positive.
    """
    require_rates(tflops=tflops, gbs=gbs)
    return tflops * 1e12 / (gbs * 1e9)


def table(
    works: Iterable[Work], *, part: str | None = None, dtype: str = "bf16", title: str = ""
) -> Table:
    """Operations side by side, on paper.

    Args:
        works: the operations, in the order of the rows.
        part: catalogue id such as ``h100-sxm``; adds the time bound on its vendor's figures.
        dtype: data type of the peak; operations that do not multiply matrices run below it, and
            are bound by memory all the same.
        title: what the table answers.

    Raises:
        UnknownGpu: the catalogue does not hold the part.
        UsageError: the part has no verified peak of this type, or no verified bandwidth.
    """
    origin = [
        Provenance(
            Kind.SPEC,
            "FLOPs by formula; bytes as each input read once and each output written once",
            source="computed from the shapes",
        )
    ]
    if part is None:
        return Table([work.row() for work in works], *origin, title=title)
    gpu = catalogue.get(part)
    rates = gpu.dense_tflops(dtype), gpu.memory_bandwidth_gbs
    rows = [
        {**w.row(), "least time [µs]": w.time_s(*rates) * 1e6, "bound by": w.bound(*rates)}
        for w in works
    ]
    return Table(rows, *origin, gpu.provenance(), title=title)


def matmul(
    m: int, n: int, k: int, *, batch: int = 1, itemsize: int = 2, out_itemsize: int | None = None
) -> Work:
    """C = A·B with A of shape (m, k), B of shape (k, n): 2·m·n·k FLOPs.

    Each of the m·n results sums k products. (k − 1 additions would do; the field counts k.) For
    n×n×n the intensity in BF16 is n/3 FLOP/byte: work grows with n³, traffic with n². That is why
    a large product reaches the peak and a small one cannot. FlopCounterMode counts the same for
    ``mm``, ``addmm``, ``bmm``, ``baddbmm`` and ``_scaled_mm``.

    Args:
        m: rows of A and C; for a linear layer, the tokens.
        n: columns of B and C; for a linear layer, the outputs.
        k: length of the sums; for a linear layer, the inputs.
        batch: independent products, each with its own A and B.
        itemsize: bytes per element of A and B.
        out_itemsize: bytes per element of C; by default as A and B. FP8 products give 2.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    out = itemsize if out_itemsize is None else out_itemsize
    require(m=m, n=n, k=k, batch=batch, itemsize=itemsize, out_itemsize=out)
    shape = f"{m}×{n}×{k}" if batch == 1 else f"{batch} × {m}×{n}×{k}"
    moved = (m * k + k * n) * itemsize + m * n * out
    return Work(f"matmul {shape}", 2 * batch * m * n * k, batch * moved)


def gemv(m: int, k: int, *, itemsize: int = 2) -> Work:
    """Matrix times vector, y = A·x with A of shape (m, k): 2·m·k FLOPs, 2 for each element read.

    The intensity stays under 2 / itemsize FLOP/byte at any size: generating one token for one
    user is this, and no tensor core helps. FlopCounterMode counts ``torch.mv`` as 0, and the same
    product through ``mm`` or ``torch.nn.functional.linear`` as 2·m·k.

    Args:
        m: rows of A, length of y.
        k: columns of A, length of x.
        itemsize: bytes per element.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    return matmul(m, 1, k, itemsize=itemsize).named(f"gemv {m}×{k}")


def elementwise(count: int, *, inputs: int = 1, flops_each: int = 1, itemsize: int = 2) -> Work:
    """Each result from the elements in the same place: an addition, ReLU, a scaling.

    One BF16 ReLU is 1 FLOP for 4 bytes, 0.25 FLOP/byte: always bound by memory, so *fusing* two
    such operations into one kernel nearly halves their time. FlopCounterMode counts 0.

    Args:
        count: elements of the output.
        inputs: tensors read, each of ``count`` elements; 2 for an addition.
        flops_each: operations per element of the output; 0 moves data only.
        itemsize: bytes per element, of inputs and output.

    Raises:
        UsageError: a size that is not a whole number of at least 1 (``flops_each``: 0).
    """
    require(count=count, inputs=inputs, itemsize=itemsize)
    require(0, flops_each=flops_each)
    return Work(f"elementwise {count}", flops_each * count, (inputs + 1) * count * itemsize)


def copy(count: int, itemsize: int = 2) -> Work:
    """Read and write each element: 0 FLOPs, 2·count·itemsize bytes.

    Both directions count, as both cross the memory bus; a tool that counts one way (nvbandwidth)
    prints half the rate for the same copy. FlopCounterMode counts 0.

    Args:
        count: elements.
        itemsize: bytes per element.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    return elementwise(count, flops_each=0, itemsize=itemsize).named(f"copy {count}")


def softmax(rows: int, columns: int, itemsize: int = 2) -> Work:
    """Row by row exp(x − max) / sum: 5 FLOPs per element (:data:`SOFTMAX_FLOPS`).

    The bytes assume that a row stays on the chip between its passes. FlopCounterMode counts 0.

    Args:
        rows: independent rows.
        columns: elements in each.
        itemsize: bytes per element, of input and output.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    require(rows=rows, columns=columns, itemsize=itemsize)
    count = rows * columns
    return Work(f"softmax {rows}×{columns}", SOFTMAX_FLOPS * count, 2 * count * itemsize)


def layer_norm(rows: int, columns: int, *, affine: bool = True, itemsize: int = 2) -> Work:
    """Row by row (x − mean) / √(variance + ε) · weight + bias: 7 FLOPs per element.

    Sum, subtract, square, sum, multiply by 1/σ, and with weight and bias a multiplication and an
    addition more (formula of ``torch.nn.LayerNorm``; ELECTRA's count leaves out the subtraction
    and the division, and has 5). What is done once per row is left out. FlopCounterMode counts 0.

    Args:
        rows: independent rows: tokens.
        columns: elements in each: the model's width.
        affine: whether there are a weight and a bias of ``columns`` elements each.
        itemsize: bytes per element, of all tensors.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    require(rows=rows, columns=columns, itemsize=itemsize)
    count = rows * columns
    flops, weights = (7 * count, 2 * columns) if affine else (5 * count, 0)
    return Work(f"layer norm {rows}×{columns}", flops, (2 * count + weights) * itemsize)


def rms_norm(rows: int, columns: int, *, affine: bool = True, itemsize: int = 2) -> Work:
    """Row by row x / √(mean(x²) + ε) · weight: 4 FLOPs per element.

    Square, sum, multiply by 1/RMS, multiply by the weight (formula of ``torch.nn.RMSNorm``). What
    is done once per row is left out. FlopCounterMode counts 0.

    Args:
        rows: independent rows: tokens.
        columns: elements in each: the model's width.
        affine: whether there is a weight of ``columns`` elements.
        itemsize: bytes per element, of all tensors.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    require(rows=rows, columns=columns, itemsize=itemsize)
    count = rows * columns
    flops, weights = (4 * count, columns) if affine else (3 * count, 0)
    return Work(f"RMS norm {rows}×{columns}", flops, (2 * count + weights) * itemsize)


def attention(
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    head_dim: int,
    *,
    kv_heads: int | None = None,
    causal: bool = False,
    fused: bool = True,
    itemsize: int = 2,
) -> Work:
    """softmax(Q·Kᵀ / √d)·V: 4·d FLOPs for each pair of a query and a key that it sees.

    Two matrix products, 2·d each. The softmax's 5 per pair are left out, as FlopCounterMode and
    the FlashAttention papers do: 1 % at d = 128.

    *Fused* (FlashAttention, Dao et al., arXiv:2205.14135), the scores never leave the chip: Q, K
    and V are read once, the output is written once. *Unfused*, three kernels (Q·Kᵀ, softmax, P·V)
    write and read a matrix of queries × keys twice each, and that traffic outgrows all else.

    *Causal*, query i sees the keys up to its own position, the queries being the last of the keys
    (``torch.nn.attention.bias.causal_lower_right``; ``is_causal=True`` is the same where there are
    as many queries as keys). Fused, q·k pairs become q·k − q·(q − 1)/2, so q² become q·(q + 1)/2,
    a half. Unfused, nothing is saved: a plain matrix product computes what the mask then hides.
    FlopCounterMode counts all q·k pairs either way.

    Args:
        batch: sequences.
        heads: query heads.
        queries: query positions in each sequence; 1 when a token is generated.
        keys: key positions, those in the KV cache among them.
        head_dim: d, elements of a head.
        kv_heads: key and value heads, where several query heads share one (grouped-query
            attention): fewer bytes, the same FLOPs. By default as many as query heads.
        causal: whether later positions are hidden.
        fused: whether one kernel does it all.
        itemsize: bytes per element, of all tensors.

    Raises:
        UsageError: a size that is not a whole number of at least 1, key heads that do not divide
            the query heads, or causal attention with more queries than keys.
    """
    shared = heads if kv_heads is None else kv_heads
    require(batch=batch, heads=heads, queries=queries, keys=keys, head_dim=head_dim)
    require(kv_heads=shared, itemsize=itemsize)
    require_divisor("kv_heads", shared, "heads", heads)
    if causal and queries > keys:
        raise UsageError(
            f"{queries} queries are more than the {keys} keys, so causal attention has queries "
            "that see nothing.",
            "count the queries' own positions among the keys.",
        )
    pairs = queries * keys
    if causal and fused:
        pairs -= queries * (queries - 1) // 2
    elements = 2 * heads * queries * head_dim + 2 * shared * keys * head_dim
    if not fused:
        elements += 4 * heads * queries * keys
    kind = ("causal " if causal else "") + ("attention" if fused else "unfused attention")
    name = f"{kind} {batch}×{heads}×{queries}×{keys}×{head_dim}"
    return Work(name, 4 * batch * heads * pairs * head_dim, batch * elements * itemsize)
