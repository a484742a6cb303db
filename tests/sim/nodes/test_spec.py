"""Which nodes a text names, and what is said of a text that names none."""

import pytest

from mlk8s.sim.nodes.spec import SpecError, load, presets


def test_every_preset_gives_nodes():
    for name, sentence in presets().items():
        nodes = load(name)
        assert sentence
        assert len({node.name for node in nodes}) == len(nodes)
        assert bool(nodes) == (name != "none")


def test_counts_and_several():
    names = [node.name for node in load("cpu, h100x8*3,cpu")]
    assert names == ["cpu-0", "h100x8-0", "h100x8-1", "h100x8-2", "cpu-1"]
    assert load("h100*0") == []


def test_the_default_is_the_course():
    assert load("") == load("course")
    assert [node.gpu for node in load("course")] == ["", "h100", "a30", "l4"]


def test_a_file(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(
        """
        nodes:
        - {name: train, count: 2, gpu: h100, gpus: 8, taints: [{key: nvidia.com/gpu}]}
        - {gpu: a30, mig: all-balanced, migStrategy: mixed, labels: {zone: a}}
        - {preset: cpu, name: small}
        - {gpu: t4, sharing: {replicas: 3, renameByDefault: true}, cores: 2}
        """
    )
    train, _, a30, small, t4 = load(str(path))
    assert (train.name, train.gpus) == ("train-0", 8)
    assert train.taints == (("nvidia.com/gpu", "", "NoSchedule"),)
    assert (a30.name, a30.strategy, a30.labels) == ("a30-0", "mixed", (("zone", "a"),))
    assert (small.name, small.gpu) == ("small-0", "")
    assert t4.sharing is not None
    assert (t4.cores, t4.sharing.of("nvidia.com/gpu"), t4.sharing.rename) == (2, 3, True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{gpu: h99}", "nodes[0].gpu: 'h99' is not known; known: h100,"),
        ("{gpus: 2}", "nodes[0].gpus: 2 of what? 'gpu' is missing"),
        ("{gpu: h100, gpus: 0}", "nodes[0].gpus: 0 is not a whole number from 1 to 16"),
        ("{gpu: h100, color: red}", "nodes[0].color: no such key; known: name,"),
        ("{gpu: h100, mig: all-1g.5gb}", "nodes[0].mig: 'all-1g.5gb' is not for NVIDIA H100"),
        ("{gpu: t4, mig: all-balanced}", "known: all-disabled: the model has no MIG"),
        ("{gpu: h100, migStrategy: both}", "'both' is not known; known: none, single, mixed"),
        ("{gpu: l4, sharing: {kind: vgpu}}", "nodes[0].sharing.kind: 'vgpu' is not known"),
        ("{gpu: l4, sharing: 4}", "nodes[0].sharing: a mapping is expected, not 4"),
        ("{taints: [a]}", "nodes[0].taints[0]: a mapping with 'key' and 'effect'"),
        ("{preset: cpu, gpu: l4}", "nodes[0].gpu: cannot stand beside 'preset'"),
        ("7", "nodes[0]: a mapping is expected, not 7"),
    ],
)
def test_errors_name_the_key_and_the_value(tmp_path, row, message):
    path = tmp_path / "nodes.yaml"
    path.write_text(f"nodes: [{row}]")
    with pytest.raises(SpecError) as error:
        load(str(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h99", "nodes 'h99': no such preset; known: none, cpu, h100,"),
        ("h100*x", "'x' is not a count"),
        ("./absent.yaml", "absent.yaml: No such file or directory"),
    ],
)
def test_errors_of_a_text(text, message):
    with pytest.raises(SpecError) as error:
        load(text)
    assert message in str(error.value)
