"""The task: the same for a seed, split in two, and true by the schemas of Kubernetes."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlk8s.errors import UsageError
from mlk8s.lm import task
from mlk8s.lm.judges import Schemas


def pair(example: task.Example) -> tuple[str, str]:
    metadata = example.manifest["metadata"]
    return metadata["name"], metadata["namespace"]


def test_a_seed_gives_the_same_examples_and_another_gives_others() -> None:
    assert task.examples(50, seed=3) == task.examples(50, seed=3)
    assert task.examples(50, seed=3) != task.examples(50, seed=4)
    assert task.corpus(50, seed=3) == task.corpus(50, seed=3)
    assert task.examples(20, seed=3) == task.examples(50, seed=3)[:20]


def test_no_held_out_pair_is_ever_trained_on() -> None:
    train = task.examples(3000, seed=1)
    held = task.examples(400, seed=1, split="held out")
    assert not {each.request for each in train} & {each.request for each in held}
    assert not {pair(each) for each in train} & {pair(each) for each in held}
    documents = [yaml.safe_load(text)["metadata"] for text in task.corpus(3000)]
    written = {(each["name"], each["namespace"]) for each in documents}
    assert not written & {pair(each) for each in held}
    # And yet each word alone was seen in training: what is new is their combination.
    for index in (0, 1):
        assert {pair(each)[index] for each in held} <= {pair(each)[index] for each in train}


def test_a_request_names_its_pair_so_the_split_of_pairs_is_one_of_requests() -> None:
    for example in task.examples(300, split="held out"):
        words = example.request.split()
        name, namespace = pair(example)
        assert [word for word in words if word in task.NAMES] == [name]
        assert [word for word in words if word in task.NAMESPACES] == [namespace]
    vocabulary = (*task.NAMES, *task.NAMESPACES, *task.IMAGES)
    assert len(set(vocabulary)) == len(vocabulary)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["train", "held out"]))
def test_the_truth_is_valid_and_canonical(seed: int, split: task.Split) -> None:
    examples = task.examples(12, seed=seed, split=split)
    for example in examples:
        assert Schemas()(example.manifest) is None
        assert yaml.safe_load(example.answer) == example.manifest
        assert task.to_yaml(yaml.safe_load(example.answer)) == example.answer
        assert "&" not in example.answer  # no YAML anchors
        # The prompt is a comment and the start of a document, so the whole is one YAML file.
        assert list(yaml.safe_load_all(example.prompt + example.answer)) == [example.manifest]
    assert len({each.request for each in examples}) == len(examples)


def test_every_kind_comes_in_both_splits() -> None:
    for split in ("train", "held out"):
        assert {each.kind for each in task.examples(80, split=split)} == set(task.KINDS)


def test_what_the_request_says_stands_in_the_manifest() -> None:
    for example in task.examples(400, seed=5):
        leaves = yaml.safe_dump(example.manifest)
        for word in example.request.split():
            if word.isdigit() or word in (*task.NAMES, *task.NAMESPACES, *task.IMAGES, *task.SIZES):
                assert word in leaves, example
        assert (" gpu" in example.request) == ("nvidia.com/gpu" in leaves)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UsageError, match="split 'test'"):
        task.examples(1, split="test")  # type: ignore[arg-type]
