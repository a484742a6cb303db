"""Two calculators on the size of things: a model in GPU memory, an operation under the roofline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

from mlk8s.bench import flops
from mlk8s.bench.decoder import Decoder
from mlk8s.bench.flops import Work
from mlk8s.course.calculators.inputs import Answer, Calculator, Invalid, at, choice, number, whole
from mlk8s.gpu import catalogue
from mlk8s.lm import memory
from mlk8s.provenance import Finding, Kind, Provenance, Scalar, Table, show

GIB = 2**30
ANOTHER = "another"
GPUS = {gpu.id: gpu.name for gpu in catalogue.entries()}
#: The model of the course itself fits anywhere, so it stands last.
MODELS = {name: name for name in [*list(memory.KNOWN)[1:], *list(memory.KNOWN)[:1]]}
#: Bytes of an element by number format.
ITEMSIZE = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
FORMATS = {
    "bf16": "BF16",
    "fp16": "FP16",
    "fp8": "FP8",
    "int8": "INT8",
    "tf32": "TF32",
    "fp32": "FP32 without tensor cores",
}

#: Where the figures of a model of the list come from.
CONFIG = Provenance(
    Kind.SPEC,
    "parameters counted from the sizes of the architecture",
    source="config.json of the model",
)
TYPED = Provenance(
    Kind.SPEC, "parameters counted from the sizes of the architecture", source="your input"
)
STATES = Provenance(
    Kind.SPEC,
    "bytes of a parameter × parameters: weight, gradient, AdamW's two moments, and a copy of the "
    "weight in FP32 where precision is mixed",
    source="Rajbhandari et al., arXiv:1910.02054, section 3.1",
)
ACTIVATIONS = Provenance(
    Kind.SPEC,
    "what each operation keeps for its backward pass, fused attention, nothing computed again",
    source="counted as in Korthikanti et al., arXiv:2205.05198, section 4.1",
)
ADAPTERS = Provenance(
    Kind.SPEC,
    "rank · (inputs + outputs) parameters beside each matrix of the layers",
    source="Hu et al., arXiv:2106.09685, section 4.1",
)
CACHE = Provenance(
    Kind.SPEC,
    "2 · layers · KV heads · head size · bytes · tokens · sequences",
    source="a key and a value for each layer, KV head and token",
)


def row(quantity: str, value: Scalar, unit: str, how: str) -> dict[str, Scalar]:
    """A row of the tables that the calculators answer with; three columns fit a phone."""
    named = f"{quantity} [{unit}]" if unit else quantity
    return {"quantity": named, "value": value, "how": how}


@dataclass(frozen=True)
class Memory(Calculator):
    """What a model needs on a GPU: to be trained, to be tuned with LoRA, to answer."""

    name: ClassVar = "memory"
    title: ClassVar = "GPU memory of a model"

    use: str = choice(
        "What for",
        "serving",
        {
            "training": "training, all weights",
            "lora": "training, LoRA adapters",
            "serving": "serving, with a KV cache",
        },
    )
    model: str = choice(
        "Model",
        "Llama 3 8B",
        {**MODELS, ANOTHER: "another of Llama's kind"},
        "Its sizes are those of its config.json.",
    )
    layers: int = whole("Layers", 32, "num_hidden_layers", high=1000, when={"model": [ANOTHER]})
    width: int = whole("Width", 4096, "hidden_size", high=10**6, when={"model": [ANOTHER]})
    heads: int = whole("Heads", 32, "num_attention_heads", high=10**4, when={"model": [ANOTHER]})
    kv_heads: int = whole(
        "KV heads", 8, "num_key_value_heads", high=10**4, when={"model": [ANOTHER]}
    )
    ffn: int = whole(
        "Feed-forward width", 14336, "intermediate_size", high=10**6, when={"model": [ANOTHER]}
    )
    vocabulary: int = whole(
        "Vocabulary", 128256, "vocab_size", high=10**7, when={"model": [ANOTHER]}
    )
    tied: str = choice(
        "LM head",
        "own",
        {"own": "has weights of its own", "tied": "is the embedding"},
        "tie_word_embeddings",
        when={"model": [ANOTHER]},
    )
    precision: str = choice(
        "Precision",
        "bf16-mixed",
        {"bf16-mixed": "BF16 mixed, optimizer in FP32", "fp32": "FP32 throughout"},
        when={"use": ["training", "lora"]},
    )
    tokens: int = whole(
        "Tokens of a step on one GPU",
        4096,
        "Sequences × their length, padding included, without gradient accumulation.",
        high=10**9,
        when={"use": ["training", "lora"]},
    )
    rank: int = whole("Rank of the adapters", 16, high=10**5, when={"use": ["lora"]})
    weight_bits: str = choice(
        "Bits of a weight",
        "16",
        {"16": "16", "8": "8", "4": "4", "32": "32"},
        "The scales of a quantized format are not counted.",
        when={"use": ["serving"]},
    )
    cache_bits: str = choice(
        "Bits of a KV cache element", "16", {"16": "16", "8": "8"}, when={"use": ["serving"]}
    )
    context: int = whole(
        "Tokens of a sequence", 8192, "Prompt and answer.", high=10**8, when={"use": ["serving"]}
    )
    sequences: int = whole("Sequences at a time", 8, high=10**6, when={"use": ["serving"]})
    gpu: str = choice("GPU", "h100-sxm", GPUS)
    share: float = number(
        "Share of its memory to plan with",
        90,
        "The rest is for the CUDA context, workspaces and fragments.",
        unit="%",
        low=1,
        high=100,
    )

    @property
    def decoder(self) -> Decoder:
        """The architecture.

        Raises:
            Invalid: sizes that do not go together.
        """
        if self.model != ANOTHER:
            return memory.KNOWN[self.model]
        with at("kv_heads"):
            flops.require_divisor("KV heads", self.kv_heads, "heads", self.heads)
        with at("heads"):
            flops.require_divisor("heads", self.heads, "width", self.width)
        return Decoder(
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            kv_heads=self.kv_heads,
            ffn=self.ffn,
            vocabulary=self.vocabulary,
            tied=self.tied == "tied",
        )

    @property
    def _room(self) -> float:
        """Bytes of one GPU to plan with; the vendor's GB are taken as 10⁹ bytes."""
        return catalogue.get(self.gpu).figure("memory_gb") * 1e9 * self.share / 100

    def answer(self) -> Answer:
        """The parts, their sum, and whether that fits."""
        return self._serving() if self.use == "serving" else self._training()

    def _origins(self, *others: Provenance) -> list[Provenance]:
        model = TYPED if self.model == ANOTHER else CONFIG
        return [*others, model, catalogue.get(self.gpu).provenance()]

    def _room_row(self) -> dict[str, Scalar]:
        size = catalogue.get(self.gpu).figure("memory_gb")
        return row(
            "room on one GPU", self._room / GIB, "GiB", f"{self.share:g} % of {size:g}·10⁹ bytes"
        )

    def _training(self) -> Answer:
        decoder = self.decoder
        precision = cast(memory.Precision, self.precision)
        rank = self.rank if self.use == "lora" else None
        need = memory.training(decoder, self.tokens, precision=precision, rank=rank)
        each = memory.TRAINED[precision]
        trained = decoder.parameters if rank is None else memory.lora_parameters(decoder, rank)
        kept = decoder.parameters + (0 if rank is None else trained)
        rows = [
            row("parameters", decoder.parameters, "", "all weights"),
            row("parameters trained", trained, "", "all" if rank is None else f"rank {rank}"),
            row("weights", need.weights / GIB, "GiB", f"{each['weights']} B × {kept:,}"),
            row("gradients", need.gradients / GIB, "GiB", f"{each['gradients']} B × {trained:,}"),
            row("optimizer", need.optimizer / GIB, "GiB", f"{each['optimizer']} B × {trained:,}"),
            row("activations", need.activations / GIB, "GiB", f"{self.tokens:,} tokens"),
            row("sum", need.total / GIB, "GiB", ""),
            self._room_row(),
        ]
        states = need.total - need.activations
        said = f"{show(need.total / GIB)} GiB, of which {show(need.activations / GIB)} GiB are "
        said += "activations. "
        name = GPUS[self.gpu]
        if need.total <= self._room:
            said += f"That fits on one {name}."
        elif need.activations < self._room:
            gpus = math.ceil(states / (self._room - need.activations))
            said += (
                f"That does not fit on one {name}. With weights, gradients and optimizer state "
                f"sharded evenly (FSDP, ZeRO stage 3) it takes at least {gpus:,} of them, each "
                f"with {self.tokens:,} tokens of its own."
            )
        else:
            said += (
                f"The activations alone do not fit on one {name}: take fewer tokens a step, or "
                "compute activations again in the backward pass."
            )
        origins = self._origins(STATES, ACTIVATIONS, *([] if rank is None else [ADAPTERS]))
        table = Table(rows, *origins, title="Memory of a training step with AdamW")
        return Answer(Finding(said, *origins), (table,))

    def _serving(self) -> Answer:
        decoder = self.decoder
        weights = decoder.parameters * int(self.weight_bits) / 8
        itemsize = int(self.cache_bits) // 8
        token = decoder.kv_bytes(1, itemsize)
        sequence = decoder.kv_bytes(self.context, itemsize)
        cache = sequence * self.sequences
        left = max(0.0, self._room - weights)
        rows = [
            row("parameters", decoder.parameters, "", "all weights"),
            row(
                "weights", weights / GIB, "GiB", f"{self.weight_bits} bits × {decoder.parameters:,}"
            ),
            row("KV cache of a token", token / 2**10, "KiB", f"{itemsize} B an element"),
            row("KV cache of a sequence", sequence / GIB, "GiB", f"{self.context:,} tokens"),
            row("KV cache", cache / GIB, "GiB", f"{self.sequences:,} sequences"),
            row("sum", (weights + cache) / GIB, "GiB", "weights + KV cache"),
            self._room_row(),
            row("tokens that the rest holds", int(left // token), "", "(room − weights) / token"),
            row("sequences that the rest holds", int(left // sequence), "", "of this length"),
        ]
        name = GPUS[self.gpu]
        said = f"{show((weights + cache) / GIB)} GiB: {show(weights / GIB)} GiB of weights and "
        said += f"{show(cache / GIB)} GiB of KV cache. "
        if weights > self._room:
            said += (
                f"The weights alone do not fit on one {name}; split evenly over GPUs, all of it "
                f"takes at least {math.ceil((weights + cache) / self._room):,}."
            )
        else:
            verb = "fits" if weights + cache <= self._room else "does not fit"
            said += (
                f"That {verb} on one {name}, which beside the weights holds "
                f"{int(left // sequence):,} sequences of {self.context:,} tokens."
            )
        origins = self._origins(CACHE)
        table = Table(rows, *origins, title="Memory of serving")
        return Answer(Finding(said, *origins), (table,))


@dataclass(frozen=True)
class Roofline(Calculator):
    """Whether an operation is bound by arithmetic or by memory, and its least time."""

    name: ClassVar = "roofline"
    title: ClassVar = "Place under the roofline"

    operation: str = choice(
        "Operation",
        "matmul",
        {
            "matmul": "matrix product, (m × k) · (k × n)",
            "decode": "one step of generation of a model",
            "prefill": "reading prompts into a model",
            "own": "FLOPs and bytes of your own",
        },
    )
    m: int = whole("m", 4096, "Rows of the first matrix: tokens.", high=10**7,
                   when={"operation": ["matmul"]})  # fmt: skip
    n: int = whole("n", 4096, "Columns of the second matrix: outputs.", high=10**7,
                   when={"operation": ["matmul"]})  # fmt: skip
    k: int = whole("k", 4096, "The dimension that is summed over: inputs.", high=10**7,
                   when={"operation": ["matmul"]})  # fmt: skip
    model: str = choice("Model", "Llama 3 8B", MODELS, when={"operation": ["decode", "prefill"]})
    batch: int = whole("Sequences at a time", 1, high=10**6,
                       when={"operation": ["decode", "prefill"]})  # fmt: skip
    context: int = whole(
        "Tokens of a sequence",
        1024,
        "So far, where it generates; of the prompt, where it reads.",
        high=10**8,
        when={"operation": ["decode", "prefill"]},
    )
    gflop: float = number("Arithmetic", 10, unit="GFLOP", low=0, high=1e12,
                          when={"operation": ["own"]})  # fmt: skip
    megabytes: float = number(
        "Traffic",
        100,
        "Read and written in GPU memory, 10⁶ bytes.",
        unit="MB",
        low=1e-6,
        high=1e12,
        when={"operation": ["own"]},
    )
    dtype: str = choice(
        "Number format", "bf16", FORMATS, "Of weights, activations and KV cache alike."
    )
    gpu: str = choice("GPU", "h100-sxm", GPUS)

    @property
    def work(self) -> Work:
        """The operation on paper."""
        itemsize = ITEMSIZE[self.dtype]
        if self.operation == "matmul":
            return flops.matmul(self.m, self.n, self.k, itemsize=itemsize)
        if self.operation == "own":
            return Work("your operation", round(self.gflop * 1e9), round(self.megabytes * 1e6))
        decoder = memory.KNOWN[self.model]
        if self.operation == "decode":
            return decoder.decode(self.batch, self.context, itemsize)
        return decoder.forward(self.batch, self.context, itemsize=itemsize)

    def answer(self) -> Answer:
        """Intensity beside the ridge, and what follows."""
        gpu = catalogue.get(self.gpu)
        peak, gbs = ceilings(self.gpu, self.dtype)
        work = self.work
        ridge = flops.ridge(peak, gbs)
        time_s = work.time_s(peak, gbs)
        rate = work.flops / time_s / 1e12
        bound = work.bound(peak, gbs)
        unit = "TOP/s" if self.dtype == "int8" else "TFLOP/s"
        rows = [
            row("arithmetic", work.flops / 1e9, "GFLOP", "a multiplication and an addition are 2"),
            row("traffic", work.bytes / 1e6, "MB", "inputs read once, outputs written once"),
            row("intensity", work.intensity, "FLOP/B", "arithmetic / traffic"),
            row("peak", float(peak), unit, "vendor's, dense"),
            row("bandwidth", float(gbs), "GB/s", "vendor's"),
            row("ridge", ridge, "FLOP/B", "peak / bandwidth"),
            row("time of the arithmetic", work.flops / peak / 1e6, "µs", "arithmetic / peak"),
            row("time of the traffic", work.bytes / gbs / 1e3, "µs", "traffic / bandwidth"),
            row("least time", time_s * 1e6, "µs", "the longer of the two"),
            row("rate at most", rate, unit, "arithmetic / least time"),
            row("of the peak", 100 * rate / peak, "%", "min(1, intensity / ridge)"),
        ]
        side = "below" if bound == "memory" else "at or above"
        said = (
            f"Bound by {'memory' if bound == 'memory' else 'arithmetic'}: "
            f"{show(float(work.intensity))} FLOP/B is {side} the ridge of {gpu.name}, "
            f"{show(ridge)} FLOP/B. It takes at least {show(time_s * 1e6)} µs and reaches at most "
            f"{show(100 * rate / peak)} % of the peak."
        )
        method = Provenance(
            Kind.SPEC,
            "least time = max(FLOPs / peak, bytes / bandwidth); no launch latency, no cache",
            source="Williams, Waterman, Patterson, CACM 52(4), 2009",
        )
        origins = [method, gpu.provenance()]
        if self.operation in ("decode", "prefill"):
            origins.insert(1, CONFIG)
        title = f"{work.name} in {self.dtype} on {gpu.name}, on paper"
        return Answer(Finding(said, *origins), (Table(rows, *origins, title=title),))


def ceilings(gpu: str, dtype: str) -> tuple[float, float]:
    """Dense peak, TFLOP/s, and bandwidth, GB/s, of a part on paper.

    Raises:
        Invalid: the catalogue has no verified figure.
    """
    part = catalogue.get(gpu)
    if part.figures.get("memory_bandwidth_gbs") is None:
        kept = part.unverified.get("memory_bandwidth_gbs")
        raise Invalid(
            "gpu",
            f"The catalogue has no verified bandwidth for {part.name}"
            + (f": {kept.why}" if kept else "."),
            "take another GPU.",
        )
    if dtype not in part.tflops:
        has = ", ".join(each for each in FORMATS if each in part.tflops)
        raise Invalid(
            "dtype",
            f"The catalogue has no verified {FORMATS[dtype].split()[0]} peak for {part.name}.",
            f"take {has}." if has else "take another GPU.",
        )
    return part.tflops[dtype], part.memory_bandwidth_gbs
