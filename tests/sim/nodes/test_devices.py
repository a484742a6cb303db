"""Devices of a node: what is advertised, where MIG instances go, who gets what."""

import pytest

from mlk8s.sim.nodes import mig
from mlk8s.sim.nodes.config import MPS, TIME_SLICING, ConfigError, PluginConfig, Sharing, parse
from mlk8s.sim.nodes.devices import GPU, AdmissionError, Devices
from mlk8s.sim.nodes.models import Model, models

H100, A30 = models()["h100"], models()["a30"]


def shared(
    kind: str = TIME_SLICING, rename: bool = False, fail_above_one: bool = False
) -> PluginConfig:
    return PluginConfig("single", Sharing(kind, ((GPU, 4),), rename, fail_above_one))


def cut(layout: str, strategy: str = "mixed", gpus: int = 1, model: Model = H100) -> Devices:
    return Devices("n", model, gpus, PluginConfig(strategy), mig.layout(layout, model, gpus))


# The layouts of NVIDIA's GPU Operator documentation.
@pytest.mark.parametrize(
    ("model", "layout", "expected"),
    [
        ("h100", "all-balanced", {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}),
        ("h100", "all-1g.10gb", {"1g.10gb": 7}),
        ("h100", "all-3g.40gb", {"3g.40gb": 2}),
        ("h100", "all-1g.20gb", {"1g.20gb": 4}),
        ("h200", "all-balanced", {"1g.18gb": 2, "2g.35gb": 1, "3g.71gb": 1}),
        ("a100-40", "all-balanced", {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}),
        ("a30", "all-balanced", {"1g.6gb": 2, "2g.12gb": 1}),
        ("a30", "all-4g.24gb", {"4g.24gb": 1}),
    ],
)
def test_layouts_of_the_operator(model, layout, expected):
    devices = cut(layout, model=models()[model])
    capacity, allocatable = devices.resources()
    assert capacity == allocatable
    assert capacity == {GPU: "0"} | {f"nvidia.com/mig-{k}": str(v) for k, v in expected.items()}


def test_every_generated_layout_is_legal():
    for model in models().values():
        for name in mig.names(model):
            for gpu in cut(name, model=model).gpus:
                slots = [
                    slot
                    for each in gpu.instances or ()
                    for slot in range(each.start, each.start + each.profile.size)
                ]
                assert len(slots) == len(set(slots))
                assert all(slot < model.memory_slices for slot in slots)
                assert all(each.start in each.profile.starts for each in gpu.instances or ())


# 7 compute slices and 8 memory slices (NVIDIA MIG User Guide).
@pytest.mark.parametrize(
    "profiles",
    [
        ["1g.10gb"] * 8,
        ["3g.40gb", "3g.40gb", "1g.10gb"],
        ["4g.40gb", "4g.40gb"],
        ["7g.80gb", "1g.10gb"],
        ["2g.20gb"] * 4,
        ["1g.10gb+me", "1g.10gb+me"],
    ],
)
def test_impossible_layouts(profiles):
    with pytest.raises(mig.LayoutError, match="no legal placement"):
        mig.place(H100, profiles)


def test_possible_mixtures():
    assert sorted(start for _, start in mig.place(H100, ["4g.40gb", "2g.20gb", "1g.10gb"])) == [
        0,
        4,
        6,
    ]
    assert sorted(s for _, s in mig.place(H100, ["3g.40gb"] * 2)) == [0, 4]


def test_a_profile_of_another_model():
    with pytest.raises(mig.LayoutError, match="selected mig-config not present: all-1g.5gb"):
        mig.layout("all-1g.5gb", H100, 1)


def test_a_layout_of_ones_own():
    text = """
    version: v1
    mig-configs:
      half:
      - devices: [0]
        mig-enabled: true
        mig-devices: {3g.40gb: 2}
      - devices: [1]
        mig-enabled: false
    """
    assert mig.layout("half", H100, 2, text) == [("3g.40gb", "3g.40gb"), None]


def test_mixed_keeps_whole_gpus_beside_slices():
    layout = [None, ("7g.80gb",)]
    devices = Devices("n", H100, 2, PluginConfig("mixed"), layout)
    assert devices.resources()[0] == {GPU: "1", "nvidia.com/mig-7g.80gb": "1"}


def test_single_advertises_slices_as_gpus_and_refuses_mixtures():
    assert cut("all-1g.10gb", "single").resources()[1] == {GPU: "7"}
    assert cut("all-balanced", "single").resources()[1] == {GPU: "0"}
    assert cut("all-balanced", "none").resources()[1] == {GPU: "1"}


def test_time_slicing_with_and_without_rename():
    assert Devices("n", A30, 2, shared()).resources()[0] == {GPU: "8"}
    renamed = Devices("n", A30, 2, shared(rename=True))
    assert renamed.resources()[0] == {GPU: "0", "nvidia.com/gpu.shared": "8"}


def test_mps_does_not_go_with_mig():
    layout = mig.layout("all-1g.10gb", H100, 1)
    assert Devices("n", H100, 1, shared(MPS), layout).resources()[0] == {GPU: "0"}


def test_shares_are_spread_or_packed():
    devices = Devices("n", A30, 2, shared())
    first, second = (devices.allocate(f"p{i}", "c", GPU, 1)[0] for i in range(2))
    assert first.partition("::")[0] != second.partition("::")[0]
    packed = PluginConfig("single", shared().sharing, packed=True)
    devices = Devices("n", A30, 2, packed)
    given = [devices.allocate(f"p{i}", "c", GPU, 1)[0] for i in range(4)]
    assert {each.partition("::")[0] for each in given} == {devices.gpus[0].uuid}
    assert [each.partition("::")[2] for each in given] == ["0", "1", "2", "3"]


def test_busy():
    devices = Devices("n", H100, 1, PluginConfig())
    devices.allocate("a", "c", GPU, 1)
    with pytest.raises(AdmissionError) as refused:
        devices.allocate("b", "c", GPU, 1)
    # The kubelet's own words (pkg/kubelet/cm/devicemanager/manager.go).
    assert refused.value.reason == "UnexpectedAdmissionError"
    assert refused.value.message == (
        "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. "
        "Requested: 1, Available: 0, which is unexpected"
    )
    devices.release("a")
    assert devices.allocate("b", "c", GPU, 1) == [devices.gpus[0].uuid]
    assert devices.holders() == {devices.gpus[0].uuid: "b"}


def test_more_than_one_share():
    devices = Devices("n", A30, 1, shared(fail_above_one=True))
    with pytest.raises(AdmissionError) as refused:
        devices.allocate("a", "c", GPU, 2)
    # NVIDIA's documentation of failRequestsGreaterThanOne.
    assert refused.value.message == (
        "Allocate failed due to rpc error: code = Unknown desc = request for 'nvidia.com/gpu: 2' "
        "too large: maximum request size for shared resources is 1, which is unexpected"
    )
    assert devices.holders() == {}
    assert len(Devices("n", A30, 1, shared()).allocate("a", "c", GPU, 2)) == 2


def test_a_sick_device_lowers_allocatable_until_the_plugin_restarts():
    devices = Devices("n", H100, 2, PluginConfig())
    devices.fail(devices.gpus[0].uuid)
    assert devices.resources() == ({GPU: "2"}, {GPU: "1"})
    assert devices.allocate("a", "c", GPU, 1) == [devices.gpus[1].uuid]
    devices.register(devices.config)
    assert devices.resources() == ({GPU: "2"}, {GPU: "2"})
    with pytest.raises(KeyError):
        devices.fail("GPU-of-another-node")


def test_a_sick_gpu_takes_its_slices_with_it():
    devices = cut("all-balanced")
    devices.fail(devices.gpus[0].uuid)
    assert set(devices.resources()[1].values()) == {"0"}


def test_without_a_plugin():
    devices = Devices("n", H100, 1, PluginConfig())
    devices.unregister()
    assert devices.resources() == ({GPU: "1"}, {GPU: "0"})
    with pytest.raises(AdmissionError, match="no healthy devices present; cannot allocate"):
        devices.allocate("a", "c", GPU, 1)


def test_identities_follow_from_the_name():
    one, same, other = (Devices(name, H100, 2, PluginConfig()) for name in ("n", "n", "m"))
    assert [g.uuid for g in one.gpus] == [g.uuid for g in same.gpus]
    assert not {g.uuid for g in one.gpus} & {g.uuid for g in other.gpus}


def test_a_key_in_the_wrong_place_has_no_effect():
    text = """
    version: v1
    flags: {renameByDefault: true, migStrategy: none}
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}
    """
    config = parse(text, "mixed")
    assert config.strategy == "mixed"
    assert config.sharing is not None
    assert not config.sharing.rename
    assert Devices("n", A30, 1, config).resources()[0] == {GPU: "4"}


def test_a_configuration_survives_being_written():
    config = shared(rename=True, fail_above_one=True)
    assert parse(config.text(), "single") == config


@pytest.mark.parametrize("text", ["version: v2", "[", "- a"])
def test_configurations_that_the_plugin_refuses(text):
    with pytest.raises(ConfigError, match="unable to load config"):
        parse(text, "single")
