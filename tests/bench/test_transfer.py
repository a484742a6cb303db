"""Copies between host and GPU: the arithmetic, the recorded rows, the refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s.bench import transfer
from mlk8s.errors import UsageError
from mlk8s.gpu import catalogue

Run = Callable[..., CompletedProcess[str]]


# --- arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "gbs"),
    # The generations' usual figures for one direction (Wikipedia, PCI Express, comparison table).
    [
        ("3.0 x16", 15.754),
        ("4.0 x16", 31.508),
        ("5.0 x16", 63.015),
        ("4.0 x8", 15.754),
        ("3.0 x1", 0.9846),
    ],
)
def test_what_a_link_carries(link: str, gbs: float) -> None:
    assert transfer.link_gbs(link) == pytest.approx(gbs, rel=2e-4)


@pytest.mark.parametrize("link", ["NVLink-C2C to Grace", "6.0 x16", "2.0 x16", "", "x16", "5.0"])
def test_a_link_that_is_not_known_has_no_figure(link: str) -> None:
    assert transfer.link_gbs(link) is None


def test_every_pcie_link_of_the_catalogue_has_a_figure() -> None:
    links = {str(gpu.figures["pcie"]) for gpu in catalogue.entries() if "pcie" in gpu.figures}
    assert {link for link in links if transfer.link_gbs(link) is None} == {"NVLink-C2C to Grace"}


@pytest.mark.parametrize(
    ("one", "other", "together", "share"),
    [
        (20, 20, 20, 1.0),  # side by side
        (20, 20, 40, 0.0),  # one after the other
        (20, 20, 30, 0.5),
        (10, 40, 40, 1.0),
        (40, 10, 50, 0.0),
        (40, 10, 45, 0.5),
        (20, 20, 44, -0.2),  # they hinder each other
    ],
)
def test_the_share_that_is_hidden(one: float, other: float, together: float, share: float) -> None:
    assert transfer.hidden_share(one, other, together) == pytest.approx(share)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: transfer.measure("sideways"), "There is no direction 'sideways'"),
        (lambda: transfer.measure("h2d", 0), "size_bytes = 0 is not the size of a copy"),
        (lambda: transfer.measure("h2d", -1), "size_bytes = -1 is not"),
        (lambda: transfer.measure("h2d", 1e6), "size_bytes = 1000000.0 is not"),  # type: ignore[arg-type]
        (lambda: transfer.sweep([]), "There is nothing to measure"),
        (lambda: transfer.both_ways(0), "size_bytes = 0 is not"),
        (lambda: transfer.overlap(0), "size_bytes = 0 is not"),
        (lambda: transfer.overlap(n=0), "n = 0 is not a matrix size"),
    ],
)
def test_what_cannot_be_measured_is_refused(call: Callable[[], Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        call()
    assert caught.value.next_step.startswith(("use ", "name "))


# --- recorded -----------------------------------------------------------------------------------

RECORDED = """
import json
from dataclasses import asdict
from mlk8s import recordings
from mlk8s.bench import transfer, timing
from mlk8s.gpu.source import fingerprint
origin = recordings.load().entries[0].provenance
def entry(name, function, value, **params):
    source = fingerprint(function.__wrapped__)
    return recordings.Entry(name, params, origin.method, source, value, origin)
def time(ms, **more):
    return asdict(timing.Timing(ms, ms, ms, 9, 3, 1.0, True, **more))
entries = [
    entry("bench/transfer", transfer._on_gpu, value, direction=direction, size_bytes=size,
          pinned=pinned, min_time_s=0.5)
    for direction, size, pinned, value in [
        ("h2d", 2**28, True, time(5.0, reasons="none")),
        ("d2h", 2**12, False, time(0.01, others=1)),
    ]
]
both = [
    {"transfer": name, "bytes": size} | time(ms)
    for name, size, ms in [
        ("h2d alone", 10**8, 2.0), ("d2h alone", 10**8, 2.5), ("both at once", 2 * 10**8, 4.0)
    ]
]
entries.append(entry("bench/transfer-both-ways", transfer._both_ways_on_gpu, both,
                     size_bytes=10**8, min_time_s=0.5))
beside = [
    {"memory": memory, "first": first, "bytes": 2**30, "products": 12, "copy_ms": copy,
     "products_ms": 20.0, "together_ms": together, "blocked_ms": blocked, "flags": ""}
    for (memory, first), copy, together, blocked in zip(
        transfer.ORDERS, (19.0, 80.0, 80.0), (21.0, 99.0, 85.0), (0.0214, 79.0, 79.5)
    )
]
entries.append(entry("bench/transfer-overlap", transfer._overlap_on_gpu, beside,
                     size_bytes=2**30, n=8192, min_time_s=0.5))
recordings.write(recordings.FOLDER / recordings.DEFAULT, entries)
recordings.load.cache_clear()
for table in (
    transfer.measure("h2d", 2**28, min_time_s=0.5),
    transfer.measure("d2h", 2**12, pinned=False, min_time_s=0.5),
    transfer.both_ways(10**8, min_time_s=0.5),
    transfer.overlap(2**30, n=8192, min_time_s=0.5),
):
    print(json.dumps([dict(row) for row in table]))
"""


def test_recorded_rows(process: Run, library_copy: Path) -> None:
    done = process("-c", RECORDED, PYTHONPATH=str(library_copy), MLK8S_GPU="h100-sxm")
    assert done.returncode == 0, done.stderr
    (large,), (small,), both, beside = map(json.loads, done.stdout.splitlines())
    # 2^28 bytes in 5 ms are 53.687 GB/s; sixteen lanes of PCIe 5.0 carry 63.015.
    assert large == {
        "direction": "h2d",
        "memory": "pinned",
        "size [KiB]": 262144,
        "time [µs]": 5000,
        "GB/s": 53.687,
        "of PCIe peak [%]": 85.2,
        "flags": "",
    }
    assert (small["memory"], small["size [KiB]"], small["GB/s"]) == ("pageable", 4, 0.41)
    assert small["flags"] == "busy: other processes on the GPU: 1"
    assert [row["transfer"] for row in both] == ["h2d alone", "d2h alone", "both at once"]
    assert [row["GB/s"] for row in both] == [50, 40, 50]
    assert both[2]["of h2d + d2h alone [%]"] == 55.6  # 50 of 90: no more than one direction
    orders = [(row["memory"], row["enqueued first"]) for row in beside]
    assert orders == [("pinned", "copy"), ("pageable", "copy"), ("pageable", "products")]
    # (19 + 20 − 21) / 19, (80 + 20 − 99) / 20, (80 + 20 − 85) / 20
    assert [row["hidden [%]"] for row in beside] == [94.7, 5.0, 75.0]
    assert [row["host blocked [ms]"] for row in beside] == [0.021, 79.0, 79.5]


SCARCE = """
from collections import namedtuple
import psutil
import torch
from mlk8s.bench import transfer
from mlk8s.errors import UsageError
reading = namedtuple("reading", "available")
torch.cuda.is_available = lambda: True
torch.ones = None  # nothing is allocated
for gpu, host in ((1, 64), (64, 1), (3, 64), (64, 3)):
    torch.cuda.mem_get_info = lambda: (gpu * 2**30, 80 * 2**30)
    psutil.virtual_memory = lambda: reading(host * 2**30)
    call = transfer.measure if 1 in (gpu, host) else transfer.both_ways
    try:
        call(size_bytes=2 * 2**30)
    except UsageError as error:
        print(error)
"""


def test_what_does_not_fit_on_either_side_is_refused(on_gpu: Run) -> None:
    done = on_gpu("-c", SCARCE, MLK8S_GPU="live")
    assert done.returncode == 0, done.stderr
    # A pair of buffers of 2 GiB each; for both ways at once there are two pairs.
    expected = [
        ("2.0", "1.0", "the GPU's memory"),
        ("2.0", "1.0", "this machine's memory"),
        ("4.0", "3.0", "the GPU's memory"),
        ("4.0", "3.0", "this machine's memory"),
    ]
    assert done.stdout.splitlines() == [
        f"A copy between host and GPU needs {needs} GiB, and {free} GiB of {where} are free, of "
        "which at most 90% are used. Next: use a smaller size, or end what else holds memory there."
        for needs, free, where in expected
    ]
