"""labs/ray/scale.py: the laws beside published figures, and measurements in wide ranges."""

from __future__ import annotations

from typing import Any

import pytest

from mlk8s import raylocal
from mlk8s.errors import UsageError
from mlk8s.provenance import Kind, Table
from tests.labs.ray.conftest import lab


@pytest.fixture(scope="module")
def scale() -> dict[str, Any]:
    return lab("scale")


def points(*speedups: float) -> Table:
    """A measurement with 1, 2, 4 ... workers, as scale.py gives it."""
    rows = [
        {"work": "waits", "workers": 2**i, "time [s]": 10 / s, "serial part [s]": 0.5,
         "speed-up": s, "efficiency [%]": 100 * s / 2**i, "Karp-Flatt [%]": None}
        for i, s in enumerate(speedups)
    ]  # fmt: skip
    return Table(rows, raylocal.provenance("made up"))


#: Quinn, Parallel Programming in C with MPI and OpenMP (2003), section 7.5: two programs with the
#: same speed-up on 8 processors, one held back by a serial part, one by what grows.
SERIAL = {2: 1.82, 3: 2.50, 4: 3.08, 5: 3.57, 6: 4.00, 7: 4.38, 8: 4.71}
GROWS = {2: 1.87, 3: 2.61, 4: 3.23, 5: 3.73, 6: 4.14, 7: 4.46, 8: 4.71}


def test_karp_flatt_tells_a_serial_part_from_what_grows(scale: dict[str, Any]) -> None:
    karp_flatt = scale["karp_flatt"]
    serial = [karp_flatt(s, n) for n, s in SERIAL.items()]
    assert serial == pytest.approx([0.1] * 7, abs=2e-3)
    grows = [karp_flatt(s, n) for n, s in GROWS.items()]
    assert grows == pytest.approx([0.07, 0.075, 0.08, 0.085, 0.09, 0.095, 0.1], abs=2e-3)
    with pytest.raises(UsageError, match="One worker"):
        karp_flatt(1.0, 1)


def test_the_fit_finds_the_serial_fraction(scale: dict[str, Any]) -> None:
    fit, amdahl = scale["fit"], scale["amdahl"]
    assert fit(list(SERIAL), list(SERIAL.values())) == pytest.approx(0.1, abs=1e-3)
    # By hand: x = 1/2, 3/4; y = 1/1.8 - 1/2, 1/3.2 - 1/4; s = sum(x y) / sum(x x).
    assert fit([1, 2, 4], [1, 1.8, 3.2]) == pytest.approx((1 / 36 + 3 / 64) / (13 / 16))
    exact = [amdahl(0.03, n) for n in (1, 2, 4, 8)]
    assert fit([1, 2, 4, 8], exact) == pytest.approx(0.03)
    with pytest.raises(UsageError, match="from one worker"):
        fit([1], [1.0])


def test_the_laws_give_what_their_papers_say(scale: dict[str, Any]) -> None:
    # Gustafson's paper: with 0.4 to 0.8 % Amdahl's law allows 1,024 processors no more than some
    # 200 to 110; the scaled speed-ups measured there were 1,016 to 1,021.
    assert scale["amdahl"](0.004, 1024) == pytest.approx(201, abs=1)
    assert scale["amdahl"](0.008, 1024) == pytest.approx(111.5, abs=1)
    assert 1015 < scale["gustafson"](0.008, 1024) < scale["gustafson"](0.004, 1024) < 1021
    # By hand: 1,000 nodes that fail every 1,000 h fail every 3,600 s together.
    assert scale["availability"](1000, 1000, 72, 36) == pytest.approx(1 - 0.2 - 0.01)
    assert scale["availability"](1_000_000, 1000, 72, 36) == 0
    # Llama 3: one interruption in 3.1 h on 2,048 nodes.
    assert scale["MTBF_H"] / 2048 == pytest.approx(3.09, abs=0.01)


def test_what_is_projected_says_so(scale: dict[str, Any]) -> None:
    found = points(1, 1 / 0.55, 1 / 0.325)  # a serial fraction of 10 %
    costs = Table({"one driver [tasks/s]": 1000}, raylocal.provenance("made up"))
    table = scale["project"](
        found, costs, (10, 1000), task_s=0.1, mtbf_h=1000, checkpoint_s=72, restart_s=36
    )
    measured = table.where(kind="measured")
    assert measured.column("workers") == [1, 2, 4]
    assert measured.column("speed-up") == pytest.approx([1, 1.82, 3.08], abs=0.01)
    projected = table.where(kind="projected")
    assert len(projected) == len(table) - 3
    speedups = {(row["law"], row["workers"]): row["speed-up"] for row in projected}
    assert speedups == {
        ("Amdahl", 10): pytest.approx(5.26, abs=0.01),
        ("Amdahl", 1000): pytest.approx(9.91, abs=0.01),
        ("Gustafson", 10): pytest.approx(9.1),
        ("Gustafson", 1000): pytest.approx(900.1),
        ("one driver", 10): 10,
        ("one driver", 1000): pytest.approx(100),
        ("failures", 10): pytest.approx(10 * (1 - 0.02 - 0.0001), abs=0.01),
        ("failures", 1000): pytest.approx(790),
    }
    assert {origin.kind for origin in table.provenance} == {Kind.LIVE, Kind.SIMULATED}
    default = scale["project"](found, costs)
    assert any("arXiv:2407.21783" in (origin.source or "") for origin in default.provenance)
    with pytest.raises(UsageError, match="positive"):
        scale["project"](found, costs, (0,))
    [fitted] = scale["fitted"](found)
    assert fitted["serial fraction, fitted [%]"] == pytest.approx(10)
    assert fitted["serial part, timed [%]"] == pytest.approx(5)
    assert fitted["speed-up at most"] == pytest.approx(10)


def test_more_workers_are_faster(scale: dict[str, Any], local: raylocal.Local) -> None:
    found = scale["measure"](local, workers=(1, 2, 4), tasks=8, task_s=0.2, serial_s=0.1, repeats=1)
    waits, computes = found.where(work="waits"), found.where(work="computes")
    assert waits.column("workers") == [1, 2, 4]
    # A processor more than there are cores would measure nothing.
    assert computes.column("workers") == [n for n in (1, 2, 4) if n <= scale["_cores"]()]
    for row in waits:
        # Tasks wait as long as they say, so no more than the wanted number ran at once.
        assert row["time [s]"] >= 8 * 0.2 / row["workers"]
        assert row["efficiency [%]"] == pytest.approx(100 * row["speed-up"] / row["workers"], 0.01)
    for row in found:
        assert 0.05 < row["serial part [s]"] < row["time [s]"]
    one, two, four = waits.column("speed-up")
    assert one == 1 and 1.2 < two < four < 4
    for row in scale["fitted"](found):
        # 0.1 s of 1.7 s are serial, 6 %; a busy machine makes it more, or the rest longer.
        assert 0 < row["serial part, timed [%]"] < 60


def test_what_a_task_costs(scale: dict[str, Any], local: raylocal.Local) -> None:
    [row] = scale["overhead"](local, tasks=100)
    assert 0.1 < row["one task and its result [ms]"] < 200
    assert 5 < row["one worker [tasks/s]"] < 50_000
    assert 5 < row["one driver [tasks/s]"] < 50_000
    assert row["least task for 90 % [ms]"] == pytest.approx(9000 / row["one worker [tasks/s]"], 0.2)
    assert 40 < row["efficiency at it [%]"] <= 100


def test_a_measurement_without_one_worker_is_refused(
    scale: dict[str, Any], local: raylocal.Local
) -> None:
    with pytest.raises(UsageError, match=r"Workers \[2, 4\]"):
        scale["measure"](local, workers=(2, 4))
