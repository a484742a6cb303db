"""The scheduler's message taken apart: texts of Kubernetes 1.36.2 and of older versions."""

from __future__ import annotations

import pytest

from mlk8s.cluster import messages

TWO = (
    "0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had "
    "untolerated taint(s), 2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: "
    "0/4 nodes are available: 4 Preemption is not helpful for scheduling."
)


def test_a_message_in_parts() -> None:
    said = messages.parse(TWO)
    assert said is not None
    assert said.nodes == 4
    assert said.reasons == {
        messages.AFFINITY: 1,
        messages.UNTOLERATED: 1,
        "Insufficient nvidia.com/gpu": 2,
    }
    assert said.could_wait == 0


def test_the_taint_of_older_versions_is_the_same_reason() -> None:
    said = messages.parse(
        "0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    assert said is not None
    assert said.reasons == {messages.UNTOLERATED: 1}
    assert said.could_wait == 1


def test_a_reason_about_the_pod_counts_all_nodes() -> None:
    said = messages.parse(
        '0/3 nodes are available: persistentvolumeclaim "data" not found. preemption: not eligible '
        "due to preemptionPolicy=Never."
    )
    assert said is not None
    assert said.reasons == {'persistentvolumeclaim "data" not found': 3}
    assert messages.meaning('persistentvolumeclaim "data" not found').of_pod


def test_another_text_is_not_taken_apart() -> None:
    assert messages.parse("no nodes available to schedule pods") is None


# Texts of the filter plugins in kubernetes/pkg/scheduler/framework/plugins, 1.36.
@pytest.mark.parametrize(
    "reason",
    [
        "Insufficient cpu",
        "Too many pods",
        "node(s) had untolerated taint(s)",
        "node(s) were unschedulable",
        "node(s) didn't match Pod's node affinity/selector",
        "node(s) didn't satisfy plugin(s) [NodeAffinity]",
        "node(s) didn't match the requested node name",
        "node(s) didn't have free ports for the requested pod ports",
        "node(s) didn't match pod affinity rules",
        "node(s) didn't match pod anti-affinity rules",
        "node(s) didn't satisfy existing pods anti-affinity rules",
        "node(s) didn't match pod topology spread constraints",
        "node(s) didn't match pod topology spread constraints (missing required label)",
        "node(s) didn't find available persistent volumes to bind",
        "node(s) didn't match PersistentVolume's node affinity",
        "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        "node(s) exceed max volume count",
        "node(s) had no available volume zone",
        "node(s) did not have enough free storage",
        "pod has unbound immediate PersistentVolumeClaims",
        'persistentvolumeclaim "data" is being deleted',
        "cannot allocate all claims",
        "resourceclaim not available on the node",
        "request gpu: device class tpu.google.com does not exist",
    ],
)
def test_every_reason_has_words_of_its_own(reason: str) -> None:
    meaning = messages.meaning(reason)
    assert reason not in meaning.words
    assert meaning.next_step.endswith(".")
    assert meaning.words.endswith(".") == meaning.of_pod


def test_an_unknown_reason_keeps_its_text() -> None:
    meaning = messages.meaning("node(s) didn't like the weather")
    assert meaning.words == "the scheduler says: node(s) didn't like the weather"
    assert not meaning.of_pod
