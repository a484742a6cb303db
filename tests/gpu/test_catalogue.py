"""The catalogue against arithmetic, against other people's tables, and against known errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlk8s.errors import UnknownGpu, UsageError
from mlk8s.gpu import catalogue
from mlk8s.gpu.catalogue import Gpu
from mlk8s.provenance import Kind

# FP16 FMA of one tensor core and clock, tensor cores of one SM, and FP32 lanes of one SM, as the
# architecture papers count them: not the catalogue's per-SM rates, so that a slip there shows.
TENSOR_CORES = {
    "volta": (64, 8, 64),
    "turing": (64, 8, 64),
    "ampere-ga100": (256, 4, 64),
    "ampere-ga10x": (128, 4, 128),
    "ampere-a10g": (64, 4, 128),
    "ada-professional": (128, 4, 128),
    "ada-geforce": (64, 4, 128),
    "hopper": (512, 4, 128),
    "blackwell-datacenter": (1024, 4, 128),
    "blackwell-geforce": (64, 4, 128),
    "blackwell-professional": (128, 4, 128),
}
# Rate of a format relative to FP16 on tensor cores. On GeForce, FP16 and FP8 with FP32 accumulate
# run at half the rate of the integer units, so INT8 is four times FP16 there.
RELATIVE = {"tf32": 0.5, "fp16": 1, "bf16": 1, "fp8": 2, "int8": 2, "fp4": 4}
GEFORCE = {"int8": 4, "fp4": 8}

FIGURES = [(gpu, dtype) for gpu in catalogue.entries() for dtype in gpu.tflops]
CHECKED = [(gpu, dtype) for gpu, dtype in FIGURES if dtype not in gpu.circular]


def label(value: object) -> str:
    return value.id if isinstance(value, Gpu) else str(value)


def by_hand(gpu: Gpu, dtype: str, clock_mhz: float) -> float:
    """TFLOP/s from tensor cores × FMA of each, or from FP32 lanes."""
    fma, cores, lanes = TENSOR_CORES[gpu.architecture]
    if dtype == "fp32":
        units: float = lanes
    else:
        special = GEFORCE if gpu.architecture.endswith("geforce") else {}
        units = fma * cores * special.get(dtype, RELATIVE[dtype])
    return gpu.sm_count * units * clock_mhz * 2e6 / 1e12


@pytest.mark.parametrize(("gpu", "dtype"), CHECKED, ids=label)
def test_figure_follows_from_units_and_clock(gpu: Gpu, dtype: str) -> None:
    clock = gpu.figure("boost_clock_mhz" if dtype == "fp32" else "tensor_clock_mhz")
    assert gpu.dense_tflops(dtype) == pytest.approx(by_hand(gpu, dtype, clock), rel=0.015)
    assert gpu.peak_tflops(dtype) == pytest.approx(by_hand(gpu, dtype, clock), rel=1e-9)


def test_most_figures_are_checked_and_the_rest_are_marked() -> None:
    assert len(CHECKED) > 70
    for gpu in catalogue.entries():
        for dtype in gpu.tflops:
            clock = "boost_clock_mhz" if dtype == "fp32" else "tensor_clock_mhz"
            # Circular means exactly this: no verified clock to check the figure with.
            assert (dtype in gpu.circular) == (clock not in gpu.figures), (gpu.id, dtype)
            if dtype in gpu.circular:
                with pytest.raises(UsageError, match=clock):
                    gpu.peak_tflops(dtype)


def test_hopper_has_two_clocks() -> None:
    h100 = catalogue.get("h100-sxm")
    assert h100.peak_tflops("bf16") == pytest.approx(989.4, rel=0.001)
    assert h100.peak_tflops("fp32") == pytest.approx(66.9, rel=0.001)
    # The false peak of one clock for all: 8 % above anything that is published.
    assert h100.peak_tflops("bf16", sm_clock_mhz=1980) == pytest.approx(1070.5, rel=0.001)
    assert h100.peak_tflops("bf16", sm_clock_mhz=915) == pytest.approx(989.4 / 2, rel=0.001)


# Dense TFLOP/s in tables that the catalogue was not filled from, or that quote the vendor in full.
INDEPENDENT = {
    # glennklockwood.com/garden/processors/h100 and /A100
    "h100-sxm": {"fp32": 66.9, "tf32": 494.7, "fp16": 989.4, "bf16": 989.4, "fp8": 1978.9},
    "a100-sxm-40": {"fp32": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
    # archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html, whose figures are sparse: halved
    "h100-pcie": {"fp32": 51, "tf32": 756 / 2, "bf16": 1513 / 2, "fp8": 3026 / 2, "int8": 3026 / 2},
    # hmc-tech.com comparison pages
    "l40s": {"fp32": 91.61, "tf32": 183.21, "fp16": 366.43, "fp8": 732.86, "int8": 732.86},
    "t4": {"fp16": 65.13, "int8": 130.25},
    # zdszero.github.io, quoting NVIDIA's HGX B200 and GB200 NVL72 columns (sparse tensor: halved)
    "b200": {"fp32": 75, "bf16": 4500 / 2, "fp8": 9000 / 2, "fp4": 18000 / 2},
    "gb200": {"fp32": 80, "bf16": 5000 / 2, "tf32": 2500 / 2, "fp8": 10000 / 2, "fp4": 20000 / 2},
}


@pytest.mark.parametrize("id", INDEPENDENT)
def test_agrees_with_a_table_of_somebody_else(id: str) -> None:
    for dtype, published in INDEPENDENT[id].items():
        assert catalogue.get(id).dense_tflops(dtype) == pytest.approx(published, rel=0.015), dtype


# Figures that widely used tables print and that are wrong for the part.
WRONG = [
    ("h100-sxm", "bf16", 1979),  # with sparsity
    ("h100-sxm", "fp8", 3958),
    ("h100-sxm", "tf32", 156),  # an A100's
    ("l4", "bf16", 242),  # with sparsity
    ("l40s", "bf16", 312),  # an A100's
    ("rtx-4090", "bf16", 82.6),  # without tensor cores
    ("rtx-4090", "bf16", 330.3),  # FP16 accumulate
    ("a10g", "bf16", 125),  # an A10's
]


@pytest.mark.parametrize(("id", "dtype", "wrong"), WRONG)
def test_known_wrong_figures_do_not_occur(id: str, dtype: str, wrong: float) -> None:
    assert catalogue.get(id).dense_tflops(dtype) != pytest.approx(wrong, rel=0.05)


def test_formats_a_gpu_lacks_are_refused() -> None:
    with pytest.raises(UsageError, match="A100.*no fp8 units.*use one of fp32, tf32"):
        catalogue.get("a100-sxm-80").dense_tflops("fp8")
    with pytest.raises(UsageError, match="no bf16 units"):
        catalogue.get("t4").peak_tflops("bfloat16")
    with pytest.raises(UsageError, match="does not know the number format 'fp12'"):
        catalogue.get("t4").dense_tflops("fp12")


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("NVIDIA H200", "h200-sxm"),
        ("nvidia h200 nvl", "h200-nvl"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("A100-SXM4-40GB", "a100-sxm-40"),  # a driver too old to say NVIDIA
        ("Tesla T4", "t4"),
    ],
)
def test_find_by_the_drivers_name(name: str, id: str) -> None:
    assert catalogue.find(name=name).id == id


def test_every_driver_name_leads_to_its_own_entry() -> None:
    for gpu in catalogue.entries():
        for name in gpu.nvml_names:
            assert catalogue.find(name=name, compute_capability=gpu.compute_capability) is gpu


def test_all_that_is_given_must_agree() -> None:
    found = catalogue.find(name="NVIDIA H100 80GB HBM3", compute_capability=(9, 0), sm_count=132)
    assert found.id == "h100-sxm"
    with pytest.raises(UnknownGpu, match="SM count 114"):
        catalogue.find(name="NVIDIA H100 80GB HBM3", sm_count=114)
    assert catalogue.find(compute_capability="9.0", sm_count=114).id == "h100-pcie"


@pytest.mark.parametrize("name", ["NVIDIA L40", "NVIDIA H100", "NVIDIA B300", "Radeon", ""])
def test_an_unknown_gpu_is_never_answered_with_another(name: str) -> None:
    with pytest.raises(UnknownGpu, match=r"does not hold .* Next: "):
        catalogue.find(name=name)


def test_unknown_names_the_nearest_and_ambiguous_names_the_candidates() -> None:
    with pytest.raises(UnknownGpu, match="nearest are.*l40s"):
        catalogue.find(name="NVIDIA L40")
    with pytest.raises(UnknownGpu, match="nearest are h100-pcie, h100-sxm, h100-nvl"):
        catalogue.get("h100")
    with pytest.raises(UnknownGpu, match="h100-sxm, h100-nvl, h200-sxm, h200-nvl"):
        catalogue.find(compute_capability=(9, 0), sm_count=132)
    with pytest.raises(UsageError, match="nothing to look for"):
        catalogue.find()


def test_unverified_values_cannot_be_read_by_accident() -> None:
    for gpu in catalogue.entries():
        for name, kept in gpu.unverified.items():
            assert kept.why, (gpu.id, name)
            assert name not in gpu.figures
            if name.endswith("_tflops"):
                with pytest.raises(UsageError, match="no verified"):
                    gpu.dense_tflops(name.removesuffix("_tflops"))
            else:
                with pytest.raises(UsageError, match="no verified"):
                    gpu.figure(name)


def test_h200_l2_is_kept_apart_because_sources_disagree() -> None:
    h200 = catalogue.get("h200-sxm")
    assert h200.unverified["l2_mb"].value == 60
    assert "50" in h200.unverified["l2_mb"].why
    assert catalogue.get("h100-sxm").figure("l2_mb") == 50


def test_every_entry_and_rate_has_a_source_and_sane_figures() -> None:
    ids = [gpu.id for gpu in catalogue.entries()]
    assert len(ids) == len(set(ids)) == 25
    for gpu in catalogue.entries():
        assert gpu.source.strip(), gpu.id
        assert "memory" not in gpu.source, gpu.id  # recollection is no source
        assert gpu.note.strip()
        assert set(gpu.tflops) <= set(gpu.fma) <= set(catalogue.DTYPES)
        assert 40 <= gpu.sm_count <= 188
        assert gpu.fma["fp32"] == TENSOR_CORES[gpu.architecture][2]


def test_ridge_is_peak_over_bandwidth() -> None:
    assert catalogue.get("h100-sxm").ridge("bf16") == pytest.approx(295.3, abs=0.1)
    assert catalogue.get("h200-sxm").ridge("torch.bfloat16") == pytest.approx(206.1, abs=0.1)
    with pytest.raises(UsageError, match="8000 GB/s.*7700 GB/s"):
        catalogue.get("b200").ridge("bf16")


def test_table_shows_verified_figures_as_spec_with_the_source_of_each() -> None:
    two = catalogue.table("h100-sxm", "h200-sxm")
    assert [p.kind for p in two.provenance] == [Kind.SPEC, Kind.SPEC]
    assert all(p.source for p in two.provenance)
    assert two.column("bf16 [TFLOP/s]") == [989.4, 989.4]
    assert two.column("L2 [MB]") == [50, None]
    everything = catalogue.table()
    assert len(everything) == 25
    assert len(everything.provenance) == 1
    one = catalogue.get("l4")
    assert "mlk8s-spec" in one._repr_html_()
    assert one.note in str(catalogue.table("l4"))
    assert one.note not in str(everything)


def test_import_is_light() -> None:
    code = "import sys, mlk8s.gpu.catalogue as c; c.entries(); print('pynvml' in sys.modules,"
    code += " 'torch' in sys.modules, 'pandas' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False", "False"]


def test_an_unlisted_gpu_has_a_name_and_no_figure_of_another() -> None:
    gpu = catalogue.unlisted("NVIDIA GeForce RTX 3060")
    assert gpu.name == "NVIDIA GeForce RTX 3060"
    assert not gpu.figures and not gpu.tflops and not gpu.fma and not gpu.unverified
    with pytest.raises(UsageError, match=r"does not hold NVIDIA GeForce.*Next: measure it"):
        _ = gpu.memory_bandwidth_gbs
    with pytest.raises(UsageError, match="does not hold NVIDIA GeForce"):
        gpu.dense_tflops("bf16")
    assert gpu.provenance().source == "not in the catalogue"
    assert gpu not in catalogue.entries()
