"""FLOPs and bytes on paper, against PyTorch's own counter and tensors, and published figures.

Models are built on PyTorch's *meta* device: tensors with shapes and no storage, so that an
8-billion-parameter model costs nothing and its operators still pass through the counter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mlk8s.bench import decoder, flops
from mlk8s.bench.decoder import LLAMA_3_8B, Decoder
from mlk8s.bench.flops import Work
from mlk8s.errors import UnknownGpu, UsageError
from mlk8s.gpu import catalogue
from mlk8s.provenance import Kind

aten: Any = torch.ops.aten

#: Small, and with every number different, so that two that are swapped are seen.
SMALL = Decoder(layers=3, width=96, heads=6, kv_heads=2, ffn=200, vocabulary=500)


def counted(call: Callable[[], object]) -> int:
    """FLOPs by PyTorch's counter."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def nbytes(*tensors: torch.Tensor) -> int:
    return sum(int(t.nbytes) for t in tensors)


class Traffic(TorchDispatchMode):
    """Bytes of the inputs and the output of each operator of one kind, in the order of calls."""

    def __init__(self, operator: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator = operator
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket is self.operator:
            self.bytes.append(nbytes(*args, out))
        return out


class TorchLayer(nn.Module):
    """One layer of Llama's kind, written with PyTorch's modules alone."""

    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        width, d = shape.width, shape.head_dim or shape.width // shape.heads
        self.attention_norm = nn.RMSNorm(width)
        self.q = nn.Linear(width, shape.heads * d, bias=False)
        self.k = nn.Linear(width, shape.kv_heads * d, bias=False)
        self.v = nn.Linear(width, shape.kv_heads * d, bias=False)
        self.o = nn.Linear(shape.heads * d, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width)
        self.gate = nn.Linear(width, shape.ffn, bias=False) if shape.gated else None
        self.up = nn.Linear(width, shape.ffn, bias=False)
        self.down = nn.Linear(shape.ffn, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        y = self.attention_norm(x)
        q = self.q(y).view(batch, tokens, self.heads, -1).transpose(1, 2)
        k = self.k(y).view(batch, tokens, self.kv_heads, -1).transpose(1, 2)
        v = self.v(y).view(batch, tokens, self.kv_heads, -1).transpose(1, 2)
        mixed = scaled_dot_product_attention(q, k, v, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        y = self.ffn_norm(x)
        if self.gate is None:
            inner = nn.functional.gelu(self.up(y))
        else:
            inner = nn.functional.silu(self.gate(y)) * self.up(y)
        out: torch.Tensor = x + self.down(inner)
        return out


class TorchDecoder(nn.Module):
    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.Sequential(*(TorchLayer(shape) for _ in range(shape.layers)))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.layers(self.embedding(tokens))))
        return out


def build(shape: Decoder) -> TorchDecoder:
    with torch.device("meta"):
        return TorchDecoder(shape).to(torch.bfloat16)


def products(works: list[Work]) -> int:
    """FLOPs of the operations that PyTorch counts."""
    return sum(w.flops for w in works if w.name.endswith("projection") or w.name == "attention")


# Work


def test_nvidias_worked_examples() -> None:
    # docs.nvidia.com/deeplearning/performance, "Matrix Multiplication Background", section 2, and
    # "GPU Performance Background", table 1 (linear layer of 4096 outputs and 1024 inputs; ReLU).
    assert flops.matmul(8192, 128, 8192).intensity == pytest.approx(124.1, abs=0.05)
    assert flops.matmul(8192, 8192, 8192).intensity == pytest.approx(2730, abs=1)
    assert flops.matmul(512, 4096, 1024).intensity == pytest.approx(315, abs=0.5)
    assert flops.matmul(1, 4096, 1024).intensity == pytest.approx(1, abs=0.01)
    assert flops.elementwise(1000).intensity == 0.25
    assert flops.gemv(4096, 4096).intensity < 1
    assert flops.layer_norm(512, 1024).intensity < 10
    # The same guide: a V100 has 125 FP16 TFLOP/s and 900 GB/s, 138.9 FLOP/byte.
    v100 = (125, 900)
    assert flops.ridge(*v100) == pytest.approx(138.9, abs=0.05)
    assert flops.matmul(8192, 128, 8192).bound(*v100) == "memory"
    assert flops.matmul(8192, 8192, 8192).bound(*v100) == "compute"


def test_the_ridge_point_of_an_h100() -> None:
    # Modal's GPU glossary (modal.com/gpu-glossary), ridge point: 295 FLOP/byte in bf16.
    h100 = catalogue.get("h100-sxm")
    assert round(flops.ridge(h100.dense_tflops("bf16"), h100.memory_bandwidth_gbs)) == 295


def test_time_is_the_longer_of_the_two() -> None:
    # jax-ml.github.io/scaling-book/roofline: TPU v5e, 1.97e14 FLOP/s and 8.2e11 byte/s in bf16; a
    # product with a large weight matrix is bound by compute from a batch of about 240 on.
    tpu = (197, 820)
    small, large = (flops.matmul(rows, 65536, 65536) for rows in (230, 250))
    assert (small.bound(*tpu), large.bound(*tpu)) == ("memory", "compute")
    assert small.time_s(*tpu) == pytest.approx(2 * (230 * 65536 * 2 + 65536**2) / 8.2e11)
    assert large.time_s(*tpu) == pytest.approx(2 * 250 * 65536**2 / 1.97e14)
    ridge = Work("at the ridge", 295, 1)
    assert ridge.bound(295, 1000) == "compute"
    assert ridge.time_s(295, 1000) == pytest.approx(1e-12)


def test_work_adds_up() -> None:
    a, b = Work("a", 10, 4), Work("b", 1, 6)
    assert a + b == Work("a + b", 11, 10)
    assert 3 * a == a * 3 == Work("3 × a", 30, 12)
    assert (a + b).named("both") == flops.total([a, b], "both") == Work("both", 11, 10)
    # At 10⁹ FLOP/s and 10⁹ byte/s: 10 ns of arithmetic, then 6 ns of traffic; together 11 ns.
    assert a.time_s(1e-3, 1) + b.time_s(1e-3, 1) == pytest.approx(16e-9)
    assert (a + b).time_s(1e-3, 1) == pytest.approx(11e-9)


def test_a_table_says_where_its_figures_come_from() -> None:
    works = [flops.matmul(4096, 4096, 4096), flops.copy(10**6)]
    plain = flops.table(works)
    assert plain.column("operation") == ["matmul 4096×4096×4096", "copy 1000000"]
    assert plain.column("traffic [MB]") == pytest.approx([100.663296, 4])
    assert [p.kind for p in plain.provenance] == [Kind.SPEC]
    placed = flops.table(works, part="h100-sxm")
    assert placed.column("bound by") == ["compute", "memory"]
    # 137.4 GFLOP at 989.4 TFLOP/s, 4 MB at 3350 GB/s.
    assert placed.column("least time [µs]") == pytest.approx([138.91, 1.194], rel=1e-3)
    assert catalogue.get("h100-sxm").provenance() in placed.provenance
    with pytest.raises(UnknownGpu, match="h1000"):
        flops.table(works, part="h1000")


# Operations


@pytest.mark.parametrize(("m", "n", "k"), [(64, 32, 16), (1, 7, 5), (2048, 4096, 13312)])
def test_matmul(m: int, n: int, k: int) -> None:
    a, b = meta(m, k), meta(k, n)
    work = flops.matmul(m, n, k)
    assert work.flops == counted(lambda: a @ b)
    assert work.bytes == nbytes(a, b, a @ b)


def test_batched_matmul() -> None:
    a, b = meta(3, 5, 7, dtype=torch.float32), meta(3, 7, 11, dtype=torch.float32)
    work = flops.matmul(5, 11, 7, batch=3, itemsize=4)
    assert work.flops == counted(lambda: torch.bmm(a, b))
    assert work.bytes == nbytes(a, b, torch.bmm(a, b))


def test_fp8_matmul_with_a_wider_result() -> None:
    a = torch.empty(64, 32, dtype=torch.float8_e4m3fn, device="meta")
    b = torch.empty(48, 32, dtype=torch.float8_e4m3fn, device="meta").t()
    one = torch.ones((), device="meta")

    def multiply() -> torch.Tensor:
        return torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16)

    work = flops.matmul(64, 48, 32, itemsize=1, out_itemsize=2)
    assert work.flops == counted(multiply)
    assert work.bytes == nbytes(a, b, multiply())


def test_gemv() -> None:
    a, x = meta(48, 32), meta(32)
    work = flops.gemv(48, 32)
    assert work.flops == counted(lambda: nn.functional.linear(x, a))
    assert work.bytes == nbytes(a, x, a @ x)


@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize(("queries", "keys"), [(64, 64), (1, 200), (33, 100)])
def test_attention(queries: int, keys: int, kv_heads: int) -> None:
    q, k, v = meta(2, 8, queries, 32), meta(2, kv_heads, keys, 32), meta(2, kv_heads, keys, 32)

    def attend() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, enable_gqa=True)

    work = flops.attention(2, 8, queries, keys, 32, kv_heads=kv_heads)
    assert work.flops == counted(attend)
    # The kernels that run on a GPU are counted by a formula of their own.
    assert work.flops == counted(lambda: aten._scaled_dot_product_flash_attention(q, k, v))
    assert work.bytes == nbytes(q, k, v, attend())


def test_unfused_attention_writes_and_reads_its_scores_twice() -> None:
    q, k, v = meta(2, 8, 33, 32), meta(2, 8, 100, 32), meta(2, 8, 100, 32)
    scores = q @ k.mT
    work = flops.attention(2, 8, 33, 100, 32, fused=False)
    out = scores @ v
    # Three kernels: the scores out, in and out as probabilities, in.
    assert work.bytes == nbytes(q, k, scores) + nbytes(scores, scores) + nbytes(scores, v, out)
    assert work.flops == flops.attention(2, 8, 33, 100, 32).flops
    # As three operations of this module, the softmax's own FLOPs apart.
    parts = flops.total(
        [
            flops.matmul(33, 100, 32, batch=16),
            flops.softmax(16 * 33, 100),
            flops.matmul(33, 32, 100, batch=16),
        ],
        "parts",
    )
    assert work.bytes == parts.bytes
    assert parts.flops - work.flops == flops.softmax(16 * 33, 100).flops


@pytest.mark.parametrize(("queries", "keys"), [(64, 64), (1, 200), (33, 100)])
def test_causal_attention_counts_the_visible_pairs(queries: int, keys: int) -> None:
    visible = int(causal_lower_right(queries, keys)._materialize().sum())
    work = flops.attention(2, 8, queries, keys, 32, causal=True)
    assert work.flops == 2 * 8 * visible * 4 * 32
    full = flops.attention(2, 8, queries, keys, 32)
    assert work.bytes == full.bytes
    # A plain matrix product cannot leave out what the mask hides.
    unfused = flops.attention(2, 8, queries, keys, 32, causal=True, fused=False)
    assert unfused.flops == full.flops


def test_causal_halves_a_long_square() -> None:
    full, causal = (flops.attention(1, 32, 8192, 8192, 128, causal=c) for c in (False, True))
    assert causal.flops / full.flops == pytest.approx(0.5, rel=1e-3)
    assert causal.flops > full.flops / 2, "the diagonal is seen"


def test_elementwise_operations_move_their_tensors() -> None:
    x, y, weight = meta(6, 40), meta(6, 40), meta(40)
    assert flops.elementwise(240).bytes == nbytes(x, x.relu())
    assert flops.elementwise(240, inputs=2).bytes == nbytes(x, y, x + y)
    assert flops.elementwise(240, flops_each=7).flops == 1680
    assert flops.copy(240).bytes == nbytes(x, x.clone())
    assert flops.copy(240).flops == 0
    assert flops.softmax(6, 40).bytes == nbytes(x, x.softmax(-1))
    layer_norm = nn.functional.layer_norm(x, (40,), weight, weight)
    assert flops.layer_norm(6, 40).bytes == nbytes(x, weight, weight, layer_norm)
    assert flops.layer_norm(6, 40, affine=False).bytes == nbytes(x, layer_norm)
    rms_norm = nn.functional.rms_norm(x, (40,), weight)
    assert flops.rms_norm(6, 40).bytes == nbytes(x, weight, rms_norm)
    assert flops.rms_norm(6, 40, affine=False, itemsize=4).bytes == 2 * nbytes(x, rms_norm)


class Number:
    """A number without a value that counts the operations done to it, for formulas as written."""

    operations = 0

    def operate(self, *_: object) -> Number:
        Number.operations += 1
        return self

    __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = operate
    __pow__ = __neg__ = exp = tanh = operate

    def __gt__(self, other: object) -> bool:
        self.operate()
        return False


def softmax(row: list[Number]) -> None:
    top = max(row)
    powers = [(x - top).exp() for x in row]
    whole = sum(powers, Number())
    for power in powers:
        power / whole


def layer_norm(row: list[Number]) -> None:
    weight = bias = inverse_sigma = Number()
    mean = sum(row, Number()) / len(row)
    centered = [x - mean for x in row]
    sum((x * x for x in centered), Number())
    for x in centered:
        x * inverse_sigma * weight + bias


def rms_norm(row: list[Number]) -> None:
    weight = inverse_rms = Number()
    sum((x * x for x in row), Number())
    for x in row:
        x * inverse_rms * weight


def swiglu(row: list[Number]) -> None:
    for gate in row:
        gate / (1 + (-gate).exp()) * Number()


def gelu(row: list[Number]) -> None:
    for x in row:
        0.5 * x * (1 + (0.7978845608 * (x + 0.044715 * x**3)).tanh())


def rotate(row: list[Number]) -> None:
    for x in row:
        x * Number() - Number() * Number()


def add(row: list[Number]) -> None:
    for x in row:
        x + Number()


def per_element(formula: Callable[[list[Number]], None]) -> int:
    """Operations that each further element of a row costs."""
    counts = []
    for length in (8, 9):
        Number.operations = 0
        formula([Number() for _ in range(length)])
        counts.append(Number.operations)
    return counts[1] - counts[0]


def test_operations_per_element_follow_the_formulas() -> None:
    assert flops.softmax(3, 40).flops == 120 * per_element(softmax)
    assert flops.layer_norm(3, 40).flops == 120 * per_element(layer_norm)
    assert flops.layer_norm(3, 40, affine=False).flops == 120 * (per_element(layer_norm) - 2)
    assert flops.rms_norm(3, 40).flops == 120 * per_element(rms_norm)
    assert flops.rms_norm(3, 40, affine=False).flops == 120 * (per_element(rms_norm) - 1)
    works = {w.name: w.flops for w in SMALL.layer(3, 40)}
    assert works["attention norm"] == works["feed-forward norm"] == 120 * 96 * per_element(rms_norm)
    assert works["rotary positions"] == 120 * (6 + 2) * 16 * per_element(rotate)
    assert works["SiLU × up"] == 120 * 200 * per_element(swiglu)
    assert works["attention residual"] == 120 * 96 * per_element(add)
    assert works["feed-forward residual"] == 120 * 96 * per_element(add)
    ungated = {w.name: w.flops for w in Decoder(3, 96, 6, 2, 200, 500, gated=False).layer(3, 40)}
    assert ungated["GELU"] == 120 * 200 * per_element(gelu)


# What PyTorch's counter leaves out: a new version that does better fails here, and the text of
# the module has to change with it.


def test_the_counter_does_not_halve_causal_attention() -> None:
    q = meta(2, 8, 64, 32)
    full = flops.attention(2, 8, 64, 64, 32).flops
    assert counted(lambda: scaled_dot_product_attention(q, q, q, is_causal=True)) == full
    assert counted(lambda: aten._scaled_dot_product_flash_attention(q, q, q, 0.0, True)) == full


def test_the_counter_sees_no_attention_on_a_cpu() -> None:
    q = torch.zeros(1, 2, 16, 8)
    assert counted(lambda: scaled_dot_product_attention(q, q, q)) == 0


def test_the_counter_counts_the_scores_twice_in_a_fused_backward_pass() -> None:
    q = meta(2, 8, 64, 32)
    out, logsumexp, *rest = aten._scaled_dot_product_flash_attention(q, q, q)
    cum_q, cum_k, max_q, max_k, seed, offset, _ = rest

    def backward() -> object:
        return aten._scaled_dot_product_flash_attention_backward(
            out, q, q, q, out, logsumexp, cum_q, cum_k, max_q, max_k, 0.0, False, seed, offset
        )

    assert counted(backward) == 2.5 * flops.attention(2, 8, 64, 64, 32).flops


def test_the_counter_sees_products_only() -> None:
    x, v = meta(8, 8), meta(8)
    assert counted(lambda: x + x) == 0
    assert counted(lambda: x.softmax(-1)) == 0
    assert counted(lambda: nn.functional.layer_norm(x, (8,))) == 0
    assert counted(lambda: nn.functional.rms_norm(x, (8,))) == 0
    assert counted(lambda: torch.mv(x, v)) == 0
    assert counted(lambda: torch.dot(v, v)) == 0


# A decoder


def test_llama_3_8b_has_its_published_size() -> None:
    # The count in the safetensors metadata of meta-llama/Meta-Llama-3-8B.
    assert LLAMA_3_8B.parameters == 8_030_261_248
    assert LLAMA_3_8B.parameters == sum(p.numel() for p in build(LLAMA_3_8B).parameters())


@pytest.mark.parametrize(
    "shape",
    [
        SMALL,
        Decoder(3, 96, 6, 2, 200, 500, gated=False),
        Decoder(3, 96, 6, 6, 200, 500, tied=True),
        Decoder(2, 96, 5, 1, 200, 500, head_dim=32),
    ],
)
def test_parameters_and_products_of_a_model(shape: Decoder) -> None:
    model = build(shape)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    linear = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    assert shape.matmul_parameters == sum(w.numel() for w in linear)
    tokens = torch.zeros(2, 50, dtype=torch.long, device="meta")
    head = flops.matmul(100, shape.vocabulary, shape.width)
    works = shape.layer(2, 50, causal=False)
    assert shape.layers * products(works) + head.flops == counted(lambda: model(tokens))


def test_one_layer_of_llama_3_8b() -> None:
    with torch.device("meta"):
        layer = TorchLayer(LLAMA_3_8B).to(torch.bfloat16)
    x = meta(2, 128, 4096)
    works = LLAMA_3_8B.layer(2, 128, causal=False)
    assert products(works) == counted(lambda: layer(x))
    # The bytes of its seven matrix products, in the order in which they run.
    with torch.no_grad(), Traffic(aten.mm) as traffic:
        layer(x)
    assert traffic.bytes == [w.bytes for w in works if w.name.endswith("projection")]


def test_the_traffic_between_the_products_of_a_layer() -> None:
    x, q, k = meta(2, 50, 96), meta(2, 6, 50, 16), meta(2, 2, 50, 16)
    inner, weight = meta(2, 50, 200), meta(96)
    works = {w.name: w.bytes for w in SMALL.layer(2, 50)}
    assert works["attention norm"] == works["feed-forward norm"] == nbytes(x, weight, x)
    assert works["rotary positions"] == nbytes(q, k, q, k)
    assert works["attention residual"] == works["feed-forward residual"] == nbytes(x, x, x)
    assert works["SiLU × up"] == nbytes(inner, inner, inner)
    ungated = {w.name: w.bytes for w in Decoder(3, 96, 6, 2, 200, 500, gated=False).layer(2, 50)}
    assert ungated["GELU"] == nbytes(inner, inner)


def test_a_forward_pass_takes_two_flops_a_parameter_and_token() -> None:
    tokens = 2048
    attention = flops.attention(1, 32, tokens, tokens, 128, kv_heads=8, causal=True)
    rest = LLAMA_3_8B.forward(1, tokens).flops - 32 * attention.flops
    multiplied = 8_030_261_248 - 128256 * 4096  # all but the embedding, norms included
    assert rest == pytest.approx(2 * multiplied * tokens, rel=0.01)


def test_a_forward_pass_is_its_layers_and_both_ends() -> None:
    rows, width = 2 * 50, SMALL.width
    ends = [
        flops.copy(rows * width),
        flops.rms_norm(rows, width),
        flops.matmul(rows, SMALL.vocabulary, width),
    ]
    whole = flops.total([*SMALL.layer(2, 50, 70) * 3, *ends], "whole")
    forward = SMALL.forward(2, 50, 70)
    assert (forward.flops, forward.bytes) == (whole.flops, whole.bytes)
    wider = SMALL.forward(2, 50, 70, itemsize=4)
    assert (wider.flops, wider.bytes) == (whole.flops, 2 * whole.bytes)


def test_training_is_three_forward_passes() -> None:
    with torch.device("meta"):
        layer = TorchLayer(SMALL).to(torch.bfloat16)
    x = meta(2, 50, 96).requires_grad_()
    forward = products(SMALL.layer(2, 50, causal=False))
    assert counted(lambda: layer(x).sum().backward()) == 3 * forward
    step = SMALL.forward(2, 50)
    assert SMALL.training(2, 50).flops == 3 * step.flops
    assert SMALL.training(2, 50, recompute=True).flops == 4 * step.flops
    assert SMALL.training(2, 50).bytes == 3 * step.bytes
    assert SMALL.training(2, 50, itemsize=4).bytes == 6 * step.bytes
    full = SMALL.training(2, 50, causal=False).flops
    assert full == 3 * SMALL.forward(2, 50, causal=False).flops > 3 * step.flops


def test_palm_540b_and_its_mfu() -> None:
    # Chowdhery et al., arXiv:2204.02311, table 1, section 4.1 and appendix B: 540.35 B parameters,
    # 238.3 K tokens/s on 6144 TPU v4 of 275 TFLOP/s each, 46.2 % with attention counted.
    palm = Decoder(118, 18432, 48, 1, 4 * 18432, 256_000, head_dim=256, tied=True)
    assert palm.parameters == pytest.approx(540.35e9, rel=1e-4)
    batch, tokens = 2048, 2048
    step = palm.training(batch, tokens, causal=False)
    found = decoder.mfu(step.flops, batch * tokens / 238.3e3, 6144 * 275)
    assert round(100 * found, 1) == 46.2


def test_the_kv_cache_holds_a_key_and_a_value_for_each_layer() -> None:
    cache = [meta(2, 8, 1, 128) for _ in range(32)]
    assert LLAMA_3_8B.kv_bytes(1) == nbytes(*cache) == 128 * 1024
    assert LLAMA_3_8B.kv_bytes(8192, itemsize=1) == 512 * 1024**2


@pytest.mark.parametrize("batch", [1, 64])
def test_decoding_reads_the_weights_once_and_every_cache(batch: int) -> None:
    step = LLAMA_3_8B.decode(batch, 4096)
    weights = sum(m.weight.nbytes for m in build(LLAMA_3_8B).modules() if isinstance(m, nn.Linear))
    caches = batch * LLAMA_3_8B.kv_bytes(4096)
    assert step.bytes > weights + caches
    assert step.bytes == pytest.approx(weights + caches, rel=0.02), "activations are small"
    gpu = catalogue.get("h100-sxm")
    assert step.bound(gpu.dense_tflops("bf16"), gpu.memory_bandwidth_gbs) == "memory"


def test_a_token_sees_its_whole_context() -> None:
    works = {w.name: w for w in SMALL.layer(5, 1, 300)}
    assert works["attention"] == flops.attention(5, 6, 1, 300, 16, kv_heads=2).named("attention")


# What is refused


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: flops.matmul(0, 8, 8), "m = 0"),
        (lambda: flops.matmul(8, 8, -1), "k = -1"),
        (lambda: flops.matmul(8, 8.0, 8), "n = 8.0"),  # type: ignore[arg-type]
        (lambda: flops.matmul(8, 8, 8, batch=True), "batch = True"),
        (lambda: flops.matmul(8, 8, 8, out_itemsize=0), "out_itemsize = 0"),
        (lambda: flops.gemv(8, 0), "k = 0"),
        (lambda: flops.elementwise(8, inputs=0), "inputs = 0"),
        (lambda: flops.elementwise(8, flops_each=-1), "flops_each = -1"),
        (lambda: flops.copy(0), "count = 0"),
        (lambda: flops.softmax(1, 0), "columns = 0"),
        (lambda: flops.layer_norm(0, 1), "rows = 0"),
        (lambda: flops.rms_norm(1, 1, itemsize=0), "itemsize = 0"),
        (lambda: flops.attention(1, 8, 4, 4, 16, kv_heads=3), "kv_heads = 3 does not divide"),
        (lambda: flops.attention(1, 8, 4, 4, 16, kv_heads=0), "kv_heads = 0"),
        (lambda: flops.attention(1, 8, 5, 4, 16, causal=True), "5 queries are more than the 4"),
        (lambda: Work("", -1, 1), "flops = -1"),
        (lambda: Work("", 1, 0), "bytes = 0"),
        (lambda: Work("", 1, 1) * 0, "count = 0"),
        (lambda: flops.total([], "nothing"), "'nothing' has no operations"),
        (lambda: Work("", 1, 1).time_s(0, 1), "tflops = 0"),
        (lambda: Work("", 1, 1).bound(1, float("nan")), "gbs = nan"),
        (lambda: flops.ridge(float("inf"), 1), "tflops = inf"),
        (lambda: decoder.mfu(1, 0, 1), "seconds = 0"),
        (lambda: Decoder(1, 96, 6, 4, 8, 8), "kv_heads = 4 does not divide heads = 6"),
        (lambda: Decoder(1, 96, 7, 7, 8, 8), "heads = 7 does not divide width = 96"),
        (lambda: Decoder(1, 96, 6, 6, 8, 8, head_dim=0), "head_dim = 0"),
        (lambda: Decoder(0, 96, 6, 6, 8, 8), "layers = 0"),
        (lambda: SMALL.layer(1, 0), "tokens = 0"),
        (lambda: SMALL.layer(1, 8, 7), "8 queries are more than the 7 keys"),
        (lambda: SMALL.decode(1, 0), "context = 0"),
        (lambda: SMALL.kv_bytes(-1), "context = -1"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], names: str) -> None:
    with pytest.raises(UsageError) as refused:
        call()
    assert names in refused.value.problem
    assert refused.value.next_step
