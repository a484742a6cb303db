"""The matrix against the machines that were recorded, this one, and the catalogue of GPUs."""

from __future__ import annotations

import pytest
import torch

from mlk8s import recordings
from mlk8s.course.checks.gpu import agreement
from mlk8s.course.doctor import Status
from mlk8s.errors import UsageError
from mlk8s.gpu import catalogue, compatibility, is_live, source
from mlk8s.gpu.compatibility import Fit
from mlk8s.provenance import Kind


def versions(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_every_row_agrees_with_its_neighbors() -> None:
    toolkits = compatibility.toolkits()
    by_cuda = sorted(toolkits, key=lambda t: versions(t.cuda), reverse=True)
    assert list(toolkits) == by_cuda
    assert list(toolkits) == sorted(toolkits, key=lambda t: versions(t.driver), reverse=True)
    ptx = [versions(t.ptx) for t in toolkits if t.ptx]
    assert ptx == sorted(ptx, reverse=True)
    for toolkit in toolkits:
        # The driver of a toolkit starts what that toolkit builds.
        assert versions(compatibility.least_driver(toolkit.cuda)) <= versions(toolkit.driver)
    for row in compatibility.architectures():
        assert row.last is None or versions(row.first) <= versions(row.last)


def test_every_table_names_its_source() -> None:
    for table in (compatibility.toolkit_table(), compatibility.architecture_table()):
        assert {p.kind for p in table.provenance} == {Kind.SPEC}
        assert all(p.source and p.date for p in table.provenance)


def test_every_gpu_of_the_catalogue_has_its_architecture() -> None:
    known = {row.capability for row in compatibility.architectures()}
    assert {gpu.compute_capability for gpu in catalogue.entries()} <= known


@pytest.mark.parametrize("machine", recordings.names())
def test_recorded_machines_agree_with_the_matrix(machine: str) -> None:
    recording = recordings.load(machine)
    device = recording.device
    assert device.driver and device.cuda
    assert compatibility.highest_cuda(device.driver) == device.cuda
    built = {row["who"]: row["CUDA"] for row in recording.get("ch1/cuda-versions", {}).value}
    # It computed there, so the matrix may not deny it.
    assert compatibility.fit(built["PyTorch was built with"], device.cuda) is not Fit.NONE


def test_the_rules_foretell_what_was_tried_on_a_device() -> None:
    recording = recordings.load("h200-sxm")
    capability = catalogue.get(recording.device.part).compute_capability
    targets = recording.get("ch3/wheel-targets", {}).value
    assert any(compatibility.runs(row["compiled for"], capability) for row in targets)
    [images] = [entry for entry in recording.entries if entry.name == "ch3/images"]
    compiled = [row for row in images.value if not row["result"].startswith("not compiled")]
    assert {row["result"].startswith("runs") for row in compiled} == {True, False}
    for row in compiled:
        target, _, pretended = row["compiled for"].partition(" as PTX ")
        expected = compatibility.runs(target, capability)
        if row["PTX"]:
            assert recording.device.cuda
            ptx = pretended or row["PTX"]
            expected = expected and compatibility.loads_ptx(ptx, recording.device.cuda)
        assert row["result"].startswith("runs") is expected, row


def test_this_machine_agrees_with_the_matrix() -> None:
    built = torch.version.cuda
    if not is_live():
        # Nothing to compare on this machine; then the doctor may not complain about PyTorch either.
        assert agreement(built, False, "")[0] is Status.OK
        return
    device = source.device()
    assert device.driver and compatibility.highest_cuda(device.driver) == device.cuda
    assert built in {t.cuda for t in compatibility.toolkits()}
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    assert any(compatibility.runs(t, capability) for t in torch.cuda.get_arch_list())


@pytest.mark.parametrize(
    ("cuda", "highest", "expected"),
    [
        ("13.0", "13.0", Fit.FULL),
        ("12.8", "13.0", Fit.FULL),
        ("13.1", "13.0", Fit.MINOR),
        ("12.10", "12.9", Fit.MINOR),
        ("13.0", "12.9", Fit.NONE),
    ],
)
def test_a_program_on_a_driver(cuda: str, highest: str, expected: Fit) -> None:
    assert compatibility.fit(cuda, highest) is expected


@pytest.mark.parametrize(
    ("image", "capability", "expected"),
    [
        ("sm_90", "9.0", True),
        ("sm_80", "8.9", True),
        ("sm_89", "8.0", False),
        ("sm_80", "9.0", False),
        ("compute_80", "9.0", True),
        ("compute_90", "8.9", False),
        ("compute_90", "12.0", True),
        ("sm_90a", "9.0", True),
        ("sm_100a", "10.3", False),
        ("compute_90a", "10.0", False),
        ("sm_100f", "10.3", True),
        ("compute_100f", "12.0", False),
    ],
)
def test_code_on_a_device(image: str, capability: str, expected: bool) -> None:
    assert compatibility.runs(image, capability) is expected


def test_ptx_on_a_driver() -> None:
    assert compatibility.loads_ptx("8.7", "12.8")
    assert compatibility.loads_ptx("8.6", "12.8")
    assert not compatibility.loads_ptx("8.8", "12.8")
    assert compatibility.loads_ptx("9.0", "13.2")
    with pytest.raises(UsageError, match=r"PTX of CUDA 13\.2.*compatibility\.json"):
        compatibility.loads_ptx("9.2", "13.2")


def test_what_the_matrix_does_not_know_is_said() -> None:
    assert compatibility.highest_cuda("470.256.02") is None
    with pytest.raises(UsageError, match=r"no CUDA 10; it knows 13, 12, 11"):
        compatibility.least_driver("10.2")
    with pytest.raises(UsageError, match=r"'hopper' is no target.*like sm_90"):
        compatibility.runs("hopper", "9.0")
    with pytest.raises(UsageError, match=r"'latest' is no version"):
        compatibility.fit("latest", "13.0")


def test_the_doctor_judges_by_the_matrix() -> None:
    status, means, fix = agreement("13.0", False, "12.4")
    assert status is Status.FAIL
    assert "driver 580 or later" in fix
    status, means, fix = agreement("13.0", True, "13.0", "7.0", ["sm_75", "sm_80", "sm_90"])
    assert status is Status.FAIL
    assert "no code for compute capability 7.0" in means
    status, means, fix = agreement("13.1", True, "13.0", "9.0", ["sm_80", "sm_90"])
    assert status is Status.OK
    assert "PTX from CUDA 13.1 does not load" in means
