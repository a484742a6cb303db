"""The calculator of what a token costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlk8s.course.calculators.inputs import Answer, Calculator, Invalid, choice, number, whole
from mlk8s.course.calculators.sizes import CONFIG, FORMATS, GPUS, ITEMSIZE, MODELS, ceilings, row
from mlk8s.gpu import catalogue
from mlk8s.lm import memory
from mlk8s.provenance import Finding, Kind, Provenance, Scalar, Table, show

#: An hour of an H100 as labs/ansible/paperspace/vars/prices.yml has it.
LIST_PRICE_USD = 3.09
LISTED = "Paperspace's list price of an H100, read 2026-09-20"
_BOUND = ["bound"]


@dataclass(frozen=True)
class Cost(Calculator):
    """What a million tokens cost, at a rate that you measured or at best."""

    name: ClassVar = "cost"
    title: ClassVar = "Cost per token"

    basis: str = choice(
        "Rate",
        "measured",
        {
            "measured": "measured: you know the tokens per second",
            "bound": "at best: generation at the roofline, nothing lost",
        },
    )
    tokens_per_s: float = number(
        "Tokens per second",
        2500,
        "Of all GPUs together, as a load test counts them.",
        unit="tokens/s",
        low=1e-6,
        high=1e12,
        when={"basis": ["measured"]},
    )
    model: str = choice("Model", "Llama 3 8B", MODELS, when={"basis": _BOUND})
    batch: int = whole("Sequences at a time", 32, high=10**6, when={"basis": _BOUND})
    context: int = whole(
        "Tokens of a sequence",
        2048,
        "Its prompt and the answer so far, on average.",
        high=10**8,
        when={"basis": _BOUND},
    )
    dtype: str = choice(
        "Number format",
        "bf16",
        FORMATS,
        "Of weights, activations and KV cache alike.",
        when={"basis": _BOUND},
    )
    gpu: str = choice("GPU", "h100-sxm", GPUS, when={"basis": _BOUND})
    price: float = number(
        "Price of a GPU hour",
        LIST_PRICE_USD,
        f"The default is {LISTED}.",
        unit="USD",
        low=0,
        high=1e6,
    )
    gpus: int = whole("GPUs", 1, "Those that you pay for.", high=10**6)
    busy: float = number(
        "Time under this load",
        100,
        "An idle GPU is paid for, too.",
        unit="%",
        low=0.01,
        high=100,
    )

    def answer(self) -> Answer:
        """The price of a million tokens."""
        price = Provenance(
            Kind.SPEC,
            "price × GPUs / (tokens per second · 3600 · share of the time) · 10⁶",
            source=LISTED if self.price == LIST_PRICE_USD else "the price is your input",
        )
        rate, origins, rows = self._rate()
        hourly = rate * 3600 * self.busy / 100
        usd = self.price * self.gpus / hourly * 1e6
        rows += [
            row("tokens in an hour", hourly, "", f"{self.busy:g} % of 3600 s"),
            row("price of an hour", self.price * self.gpus, "USD", "price × GPUs"),
            row("price of 10⁶ tokens", usd, "USD", "price of an hour / tokens in an hour"),
        ]
        said = f"{show(usd)} USD for a million tokens, at {show(rate)} tokens a second."
        if self.basis == "bound":
            said += " That is a lower bound: no launch, no network, no prompt is in it."
        origins = [price, *origins]
        return Answer(Finding(said, *origins), (Table(rows, *origins, title="Price of tokens"),))

    def _rate(self) -> tuple[float, list[Provenance], list[dict[str, Scalar]]]:
        if self.basis == "measured":
            origin = Provenance(Kind.SPEC, "as given", source="tokens per second are your input")
            return (
                self.tokens_per_s,
                [origin],
                [row("rate", self.tokens_per_s, "tokens/s", "as given")],
            )
        peak, gbs = ceilings(self.gpu, self.dtype)
        part = catalogue.get(self.gpu)
        decoder = memory.KNOWN[self.model]
        itemsize = ITEMSIZE[self.dtype]
        need = decoder.parameters * itemsize + decoder.kv_bytes(self.context, itemsize) * self.batch
        room = part.figure("memory_gb") * 1e9 * self.gpus
        if need > room:
            raise Invalid(
                "gpus",
                f"Weights and KV cache are {show(need / 1e9)} GB, and there are "
                f"{show(room / 1e9)} GB on {self.gpus:,} × {part.name}.",
                "take more GPUs, fewer sequences or fewer tokens.",
            )
        step = decoder.decode(self.batch, self.context, itemsize)
        time_s = step.time_s(peak * self.gpus, gbs * self.gpus)
        rate = self.batch / time_s
        method = Provenance(
            Kind.SPEC,
            "step = max(FLOPs / peak, bytes / bandwidth), of all GPUs together; one token of each "
            "sequence a step",
            source="Williams, Waterman, Patterson, CACM 52(4), 2009",
        )
        ceiling = "memory" if step.bound(peak, gbs) == "memory" else "arithmetic"
        rows = [
            row("step at least", time_s * 1e3, "ms", f"bound by {ceiling}"),
            row("rate at most", rate, "tokens/s", "sequences / step"),
        ]
        return rate, [method, CONFIG, part.provenance()], rows
