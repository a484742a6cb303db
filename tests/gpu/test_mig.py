"""MIG on paper: its tables against what drivers printed, its layouts, steps and packings."""

from __future__ import annotations

import functools
import itertools
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlk8s import recordings
from mlk8s.errors import UnknownGpu, UsageError
from mlk8s.gpu import mig
from mlk8s.gpu.mig import Demand, Geometry, Instance, Layout, asking
from mlk8s.provenance import Kind
from mlk8s.sim.nodes import mig as simulated
from mlk8s.sim.nodes.models import models

A30, A100, H100 = (mig.geometry(name) for name in ("a30", "a100-40gb", "h100-80gb"))
RECORDED = {"h100-sxm": "h100-80gb", "h200-sxm": "h200-141gb"}
#: What drivers listed on machines of others, each with its source.
LISTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("mig_listings.json").read_text())
LISTINGS.pop("about")
#: A GPU of the embedded cluster → the same in the table.
SIMULATED = {
    "a30": "a30",
    "a100-40": "a100-40gb",
    "a100-80": "a100-80gb",
    "h100": "h100-80gb",
    "h100-nvl": "h100-94gb",
    "h200": "h200-141gb",
}


def printed(machine: str, command: str) -> str:
    """What a recorded machine printed."""
    entry = recordings.load(machine).get("host/command", {"command": command, "timeout_s": 60})
    return "\n".join(row["line"] for row in entry.value)


# --- the tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "name"), RECORDED.items())
def test_the_table_is_what_nvidia_smi_printed(machine: str, name: str) -> None:
    geometry = mig.geometry(name)
    rows = re.findall(
        r"\|\s+0\s+MIG (\S+)\s+(\d+)\s+\d+/(\d+)\s+([\d.]+)\s+No\s+(\d+)",
        printed(machine, "nvidia-smi mig -lgip"),
    )
    listed = {(n, int(i), int(most), float(gib), int(sm)) for n, i, most, gib, sm in rows}
    assert {(p.name, p.id, p.most, p.memory_gib, p.sm) for p in geometry.profiles} == listed
    places = re.findall(
        r"Profile ID\s+(\d+) Placements?\s*: \{([\d,]+)\}:(\d+)",
        printed(machine, "nvidia-smi mig -lgipp"),
    )
    starts = {int(i): (tuple(map(int, s.split(","))), int(size)) for i, s, size in places}
    assert {p.id: (p.starts, p.size) for p in geometry.profiles} == starts


@pytest.mark.parametrize(("machine", "name"), RECORDED.items())
def test_the_drivers_own_list_comes_first(
    monkeypatch: pytest.MonkeyPatch, machine: str, name: str
) -> None:
    monkeypatch.setenv("MLK8S_GPU", machine)
    found, table = mig.here(), mig.geometry(name)
    assert found.provenance.kind is Kind.RECORDED
    assert table.provenance.kind is Kind.SPEC
    assert [p.name for p in found.profiles] == [p.name for p in table.profiles]
    for here, there in zip(found.profiles, table.profiles, strict=True):
        assert (here.id, here.compute, here.size) == (there.id, there.compute, there.size)
        assert (here.starts, here.most, here.sm) == (there.starts, there.most, there.sm)
        # nvidia-smi cuts after two digits: 20,096 MiB are 19.625 GiB, printed 19.62.
        assert here.memory_gib == pytest.approx(there.memory_gib, abs=0.011)
    assert (found.memory_slices, found.compute_slices, found.sm) == (8, 7, 132)


@pytest.mark.parametrize("name", LISTINGS)
def test_the_table_is_what_drivers_of_others_listed(name: str) -> None:
    geometry, listing = mig.geometry(name), LISTINGS[name]
    listed = {tuple(row) for row in listing["profiles"]}
    assert {(p.name, p.id, p.most, p.memory_gib, p.sm) for p in geometry.profiles} == listed
    for profile in geometry.profiles:
        # Variants of a profile, where they are not listed, have the places of the plain one.
        plain = next(p for p in geometry.plain if p.compute == profile.compute)
        known = listing["places"]
        starts, size = known.get(str(profile.id)) or known[str(plain.id)]
        assert (profile.starts, profile.size) == (tuple(starts), size)


@pytest.mark.parametrize(("model", "name"), SIMULATED.items())
def test_the_embedded_cluster_has_the_same_profiles(model: str, name: str) -> None:
    theirs, ours = models()[model], mig.geometry(name)
    assert (theirs.memory_slices, theirs.compute_slices, theirs.sms) == (
        ours.memory_slices,
        ours.compute_slices,
        ours.sm,
    )
    assert {
        (p.name, p.id, p.compute, p.size, p.starts, p.most, p.sms) for p in theirs.profiles
    } == {(p.name, p.id, p.compute, p.size, p.starts, p.most, p.sm) for p in ours.profiles}
    for profile in theirs.profiles:
        memory = ours.profile(profile.name).memory_gib
        # Drivers differ in what they keep for themselves.
        assert memory is None or profile.memory_mib / 1024 == pytest.approx(memory, abs=0.3)


def test_a_part_of_the_catalogue_finds_its_table() -> None:
    assert mig.geometry("a100-sxm-40") is A100
    with pytest.raises(UnknownGpu, match=r"'l4'.* Next: use one of: a30, a100-40gb"):
        mig.geometry("l4")


@pytest.mark.parametrize("geometry", mig.known(), ids=lambda g: g.id)
def test_profiles_keep_within_their_gpu(geometry: Geometry) -> None:
    for profile in geometry.profiles:
        assert max(profile.starts) + profile.size <= geometry.memory_slices
        assert 1 <= profile.compute <= geometry.compute_slices
        assert profile.most <= len(profile.starts)
        assert (profile.sm or 0) <= geometry.sm
        assert profile.name.startswith(f"{profile.compute}g.")


def test_a_profile_has_three_names() -> None:
    profile = H100.profile("1g.10gb+me")
    assert H100.profile("20") is profile
    assert H100.profile("1g.10gb.me") is profile
    assert H100.profile("MIG 1g.10gb+me") is profile
    with pytest.raises(UsageError, match=r"no MIG profile '2g.10gb'. Next: use one of: 1g.10gb,"):
        H100.profile("2g.10gb")


# --- layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "profiles", "count", "kinds"),
    [
        # NVIDIA MIG User Guide, "MIG Device Names": the 19 configurations of an A100.
        ("a100-40gb", ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"], 19, 14),
        ("a100-40gb", None, 78, 38),
        ("a30", None, 5, 4),
        ("rtx-pro-6000", None, 5, 4),
        ("h200-141gb", None, 78, 38),
    ],
)
def test_every_full_layout_is_found_once(
    gpu: str, profiles: list[str] | None, count: int, kinds: int
) -> None:
    found = mig.maximal(mig.geometry(gpu), profiles)
    assert len(found) == len(set(found)) == count
    assert len({layout.names for layout in found}) == kinds


def brute_force(geometry: Geometry) -> set[frozenset[Instance]]:
    """All sets of plain instances without overlap, straight from the definition."""
    every = [Instance(start, p) for p in geometry.plain for start in p.starts]
    legal: set[frozenset[Instance]] = {frozenset()}
    for instance in every:
        slices = set(instance.slices)
        legal |= {
            others | {instance}
            for others in legal
            if not any(slices & set(other.slices) for other in others)
        }
    return legal


@pytest.mark.parametrize("geometry", [A30, A100, H100], ids=lambda g: g.id)
def test_full_layouts_against_brute_force(geometry: Geometry) -> None:
    legal = brute_force(geometry)
    full = {one for one in legal if not any(one < other for other in legal)}
    assert {frozenset(layout.instances) for layout in mig.maximal(geometry)} == full
    # No overlap is all there is to it: the limits on instances and compute slices follow.
    for one in legal:
        Layout(geometry, tuple(one))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3g.40gb@0 3g.40gb@2", r"may start at slice 0, 4 only.*free for it: 4\."),
        ("4g.40gb@0 2g.20gb@2", r"2g.20gb@2 cannot be on .*: it overlaps 4g.40gb@0.*: 4\."),
        ("7g.80gb@0 1g.10gb@6", r"overlaps 7g.80gb@0.*none, so destroy another"),
        ("1g.10gb+me@0 1g.10gb+me@1", r"a GPU has 1 of them at most"),
        ("1g.10gb", r"'1g.10gb' is not an instance.*PROFILE@START"),
        ("9g.90gb@0", r"no MIG profile '9g.90gb'"),
    ],
)
def test_a_layout_that_cannot_be_says_why(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Layout.parse(H100, text)


def test_a_layout_reads_and_prints_itself() -> None:
    layout = Layout.parse(H100, "3g.40gb@4, 1g.10gb@0")
    assert Layout.parse(H100, str(layout)) == layout
    head, cells = layout.text(width=10).splitlines()
    assert head.split() == list("01234567")
    assert cells == "[1g.10gb ]    ·         ·         ·     [" + "3g.40gb".center(38) + "]"
    assert layout.table().column("memory slices") == ["0", "4-7"]
    assert layout.unused_sm == 132 - 60 - 16


def test_three_and_three_leave_sms_to_nobody() -> None:
    layout = mig.fit(H100, ["3g.40gb", "3g.40gb"])
    assert layout is not None
    assert layout.full
    assert layout.unused_sm == 12


def test_order_decides_what_still_fits() -> None:
    at_0, at_6 = (Layout(H100).plus(H100.profile("1g.10gb"), start) for start in (0, 6))
    assert at_0.places(H100.profile("4g.40gb")) == []
    assert at_6.places(H100.profile("4g.40gb")) == [0]
    assert mig.fit(H100, ["4g.40gb"], beside=at_0) is None
    beside = mig.fit(H100, ["4g.40gb", "2g.20gb"], beside=at_6)
    assert beside is not None
    assert str(beside) == "4g.40gb@0 2g.20gb@4 1g.10gb@6"


@st.composite
def sets_of_profiles(draw: st.DrawFn) -> tuple[Geometry, list[str]]:
    geometry = draw(st.sampled_from(mig.known()))
    names = st.sampled_from([p.name for p in geometry.profiles])
    return geometry, draw(st.lists(names, max_size=5))


@st.composite
def sets_of_simulated_profiles(draw: st.DrawFn) -> tuple[str, list[str]]:
    model = draw(st.sampled_from(list(SIMULATED)))
    names = st.sampled_from([p.name for p in models()[model].profiles])
    return model, draw(st.lists(names, max_size=5))


@given(sets_of_simulated_profiles())
def test_the_embedded_cluster_places_what_fits(case: tuple[str, list[str]]) -> None:
    model, names = case
    geometry = mig.geometry(SIMULATED[model])
    try:
        placed = simulated.place(models()[model], names)
    except simulated.LayoutError:
        assert mig.fit(geometry, names) is None
    else:
        text = " ".join(f"{profile.name}@{start}" for profile, start in placed)
        assert Layout.parse(geometry, text).names == tuple(sorted(names))
        assert mig.fit(geometry, names) is not None


@given(sets_of_profiles())
def test_what_fits_is_legal_and_complete(case: tuple[Geometry, list[str]]) -> None:
    geometry, names = case
    layout = mig.fit(geometry, names)
    every = [
        [Instance(start, geometry.profile(n)) for start in geometry.profile(n).starts]
        for n in names
    ]
    possible = any(
        all(not set(a.slices) & set(b.slices) for a, b in itertools.combinations(choice, 2))
        and all(choice.count(i) == 1 for i in choice)
        for choice in itertools.product(*every)
    )
    within = all(names.count(n) <= geometry.profile(n).most for n in names)
    assert (layout is not None) == (possible and within)
    if layout is not None:
        assert Counter(layout.names) == Counter(names)
        assert all(i.start in i.profile.starts for i in layout.instances)


# --- from one layout to another -----------------------------------------------------------------


def test_a_change_keeps_what_it_can_and_names_who_is_in_the_way() -> None:
    current = Layout.parse(H100, "1g.10gb@0 1g.10gb@1 3g.40gb@4")
    change = mig.change(current, ["4g.40gb", "3g.40gb"], running=[1, 4])
    assert [str(i) for i in change.keep] == ["3g.40gb@4"]
    assert [str(i) for i in change.destroy] == ["1g.10gb@0", "1g.10gb@1"]
    assert [str(i) for i in change.create] == ["4g.40gb@0"]
    assert [str(i) for i in change.blocked_by] == ["1g.10gb@1"]
    assert change.steps == 3
    assert str(change) == (
        "destroy 1g.10gb@0, 1g.10gb@1; create 4g.40gb@0; blocked by what runs on 1g.10gb@1"
    )


def test_what_runs_is_kept_even_at_the_cost_of_steps() -> None:
    # One of the two has to go. It is the one that runs nothing, wherever it is.
    current = Layout.parse(H100, "3g.40gb@0 3g.40gb@4")
    for running, gone in ((0, 4), (4, 0)):
        change = mig.change(current, ["3g.40gb", "2g.20gb"], running=[running])
        assert [i.start for i in change.destroy] == [gone]
        assert change.blocked_by == ()


def test_a_change_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"4g.40gb \+ 4g.40gb do not fit on NVIDIA H100"):
        mig.change(Layout(H100), ["4g.40gb", "4g.40gb"])
    with pytest.raises(UsageError, match=r"No instance starts at slice 3.*the GPU has no instance"):
        mig.change(Layout(H100), ["4g.40gb"], running=[3])
    [cut, *_] = mig.maximal(H100)
    taken = {instance.start for instance in cut.instances}
    free = next(start for start in range(8) if start not in taken)
    with pytest.raises(UsageError, match=rf"slice {free}.*the start of one that is there: \S"):
        mig.change(cut, ["1g.10gb"], running=[free])


LAYOUTS = {g.id: [Layout(g), *mig.maximal(g)] for g in (A30, H100)}


@given(st.data())
def test_a_change_is_the_shortest(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(LAYOUTS)))
    current, wanted = (data.draw(st.sampled_from(LAYOUTS[name])) for _ in range(2))
    running = data.draw(st.sets(st.sampled_from([i.start for i in current.instances] or [0])))
    running = {start for start in running if current.instances}
    change = mig.change(current, wanted.names, running)
    # Nothing is lost, and the result is what was wanted.
    assert {*change.keep, *change.destroy} == set(current.instances)
    after = Layout(current.geometry, (*change.keep, *change.create))
    assert after.names == wanted.names
    assert {i.start for i in change.blocked_by} == {i.start for i in change.destroy} & running
    # No layout with these profiles asks for less.
    for other in LAYOUTS[name]:
        if other.names == wanted.names:
            gone = set(current.instances) - set(other.instances)
            blocked = sum(i.start in running for i in gone)
            assert (len(change.blocked_by), len(change.destroy)) <= (blocked, len(gone))


# --- packing ------------------------------------------------------------------------------------


@functools.cache
def fits(geometry_id: str, names: tuple[str, ...]) -> bool:
    return mig.fit(mig.geometry(geometry_id), names) is not None


def fewest_by_brute_force(geometry: Geometry, demands: list[Demand]) -> int:
    """Try every profile for each demand, on every GPU, for more and more GPUs."""

    def place(i: int, gpus: tuple[tuple[str, ...], ...]) -> bool:
        if i == len(demands):
            return True
        for profile in geometry.plain:
            if (profile.memory_gib or 0) < demands[i].memory_gib:
                continue
            if (profile.sm or 0) < demands[i].sm:
                continue
            for gpu, names in enumerate(gpus):
                more = tuple(sorted((*names, profile.name)))
                if fits(geometry.id, more) and place(i + 1, (*gpus[:gpu], more, *gpus[gpu + 1 :])):
                    return True
        return False

    return next(n for n in itertools.count(1) if place(0, ((),) * n))


CUT = [A30, A100, H100, mig.geometry("h200-141gb")]


@st.composite
def demands(draw: st.DrawFn, most: int) -> tuple[Geometry, list[Demand]]:
    geometry = draw(st.sampled_from(CUT))
    whole = geometry.plain[-1]
    memory = st.floats(0, whole.memory_gib or 0)
    sm = st.integers(0, whole.sm or 0)
    drawn = draw(st.lists(st.tuples(memory, sm), min_size=1, max_size=most))
    return geometry, [Demand(f"d{i}", gib, sms) for i, (gib, sms) in enumerate(drawn)]


@given(demands(most=5))
def test_packing_against_brute_force(case: tuple[Geometry, list[Demand]]) -> None:
    geometry, wanted = case
    packing = mig.pack(geometry, wanted)
    assert packing.exact
    assert len(packing.layouts) == fewest_by_brute_force(geometry, wanted)


@given(demands(most=60))
@settings(max_examples=50)
def test_everybody_gets_an_instance_of_his_own(case: tuple[Geometry, list[Demand]]) -> None:
    geometry, wanted = case
    packing = mig.pack(geometry, wanted)
    assert [name for name, _, _ in packing.given] == [d.name for d in wanted]
    assert len({(gpu, start) for _, gpu, start in packing.given}) == len(wanted)
    for demand, (_, gpu, start) in zip(wanted, packing.given, strict=True):
        (instance,) = (i for i in packing.layouts[gpu].instances if i.start == start)
        assert (instance.profile.memory_gib or 0) >= demand.memory_gib
        assert (instance.profile.sm or 0) >= demand.sm
    assert sum(len(layout.instances) for layout in packing.layouts) == len(wanted)
    assert packing.least <= len(packing.layouts)


def test_forty_demands_on_eight_gpus_take_less_than_a_second() -> None:
    # 8 × (1g.10gb ×2, 1g.20gb, 2g.20gb, 3g.40gb), from which nothing can be left out.
    sizes = [(9.0, 16), (9.0, 16), (19.0, 20), (19.0, 30), (39.0, 60)]
    wanted = [Demand(f"d{i}", *sizes[i % 5]) for i in range(40)]
    begin = time.process_time()
    packing = mig.pack(H100, wanted)
    assert time.process_time() - begin < 1
    assert packing.exact
    # 8 × (1 + 1 + 2 + 2 + 4) memory slices, 80 of which 64 are on eight GPUs: ten are needed.
    assert len(packing.layouts) == 10
    fewer = mig.pack(H100, wanted[:32])
    assert (len(fewer.layouts), fewer.exact) == (8, True)


def test_beyond_the_exact_search_there_is_a_bound() -> None:
    packing = mig.pack(H100, [Demand(f"d{i}", 60) for i in range(33)])
    assert len(packing.layouts) == packing.least == 33
    mixed = [Demand(f"d{i}", 30 if i % 3 else 60) for i in range(90)]
    packing = mig.pack(H100, mixed)
    assert 60 == packing.least <= len(packing.layouts) <= 61


@pytest.mark.parametrize(
    ("gpu", "wanted", "words"),
    [
        ("h100-80gb", [], "There is no demand"),
        ("h100-80gb", [Demand("a"), Demand("a")], "two demands named a"),
        ("h100-80gb", [Demand("a", 80)], r"a needs 80 GiB.*7g.80gb has 79.25 GiB and 132 SMs"),
        ("h100-96gb", [Demand("a")], r"No source gives the SMs and the memory of 1g.12gb"),
    ],
)
def test_demands_that_cannot_be_packed(gpu: str, wanted: list[Demand], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mig.pack(mig.geometry(gpu), wanted)


# --- in the words of those who make it ----------------------------------------------------------


def test_nvidia_smi_creates_at_the_places() -> None:
    change = mig.change(Layout.parse(H100, "1g.10gb@0"), ["4g.40gb", "3g.40gb"])
    assert asking.nvidia_smi(change, gpu=2) == [
        "sudo nvidia-smi mig -i 2 -dci -gi '<GPU instance ID of 1g.10gb@0>'",
        "sudo nvidia-smi mig -i 2 -dgi -gi '<GPU instance ID of 1g.10gb@0>'",
        "sudo nvidia-smi mig -i 2 -cgi 5:0,9:4 -C",
    ]


def test_kubernetes_counts_them_by_strategy() -> None:
    mixed = [Layout.parse(H100, text) for text in ("1g.10gb+me@0 3g.40gb@4", "3g.40gb@4")]
    assert asking.resources(mixed) == {"nvidia.com/mig-1g.10gb.me": 1, "nvidia.com/mig-3g.40gb": 2}
    with pytest.raises(UsageError, match=r"same profile on every GPU.*MIG-INVALID"):
        asking.resources(mixed, "single")
    alike = [Layout.parse(H100, "3g.40gb@0 3g.40gb@4")] * 2
    for layouts, have in (
        ([Layout(H100)], "these have no instance on a GPU: the plugin"),
        ([alike[0], Layout(H100)], "these have 3g.40gb, no instance on a GPU: the plugin"),
    ):
        with pytest.raises(UsageError, match=have):
            asking.resources(layouts, "single")
    assert asking.resources(alike, "single") == {"nvidia.com/gpu": 4}
    with pytest.raises(UsageError, match="no strategy 'none'"):
        asking.resources(alike, "none")


def test_mig_parted_counts_and_names_no_place() -> None:
    first, second = (Layout.parse(H100, text) for text in ("3g.40gb@4 1g.10gb@0", "7g.80gb@0"))
    assert asking.mig_parted("mine", [first, second, first]) == {
        "version": "v1",
        "mig-configs": {
            "mine": [
                {
                    "devices": [0, 2],
                    "mig-enabled": True,
                    "mig-devices": {"1g.10gb": 1, "3g.40gb": 1},
                },
                {"devices": [1], "mig-enabled": True, "mig-devices": {"7g.80gb": 1}},
            ]
        },
    }


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    with pytest.raises(UsageError, match="There is no GPU 9: 1 answer"):
        mig.here(9)
