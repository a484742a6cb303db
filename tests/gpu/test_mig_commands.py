"""``mlk8s mig`` as a shell runs it, and the picture of a layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from mlk8s.errors import UsageError
from mlk8s.gpu import mig

Run = Callable[..., CompletedProcess[str]]
MAIN = ("-c", "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()", "mig")
H100 = mig.geometry("h100-80gb")


@pytest.fixture
def command(without_gpu: Run) -> Callable[..., str]:
    """The command's output on a machine without a GPU; it has to end well."""

    def run(*arguments: str, **variables: str) -> str:
        done = without_gpu(*MAIN, *arguments, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_profiles_are_the_machines_where_none_is_named(command: Callable[..., str]) -> None:
    shown = json.loads(command("profiles", "--json", MLK8S_GPU="h200-sxm"))
    assert [row["profile"] for row in shown["rows"]][:2] == ["1g.18gb", "1g.18gb+me"]
    assert shown["provenance"][0]["kind"] == "recorded"
    table = json.loads(command("profiles", "--json", "--gpu", "a30"))
    assert [row["of the SMs [%]"] for row in table["rows"]] == [25, 25, 50, 50, 100]
    assert table["provenance"][0]["kind"] == "spec"


def test_fits_shows_where(command: Callable[..., str]) -> None:
    shown = command("fits", "4g.40gb", "--beside", "1g.10gb@6", "--gpu", "h100-80gb")
    assert mig.Layout.parse(H100, "4g.40gb@0 1g.10gb@6").text() in shown


def test_plan_names_steps_commands_and_resources(command: Callable[..., str]) -> None:
    asked = ["4g.40gb", "3g.40gb", "--now", "1g.10gb@0 3g.40gb@4", "--running", "0"]
    shown = command("plan", *asked, "--gpu", "h100-80gb")
    assert "blocked by what runs on 1g.10gb@0 (2 steps)" in shown
    assert "sudo nvidia-smi mig -i 0 -cgi 5:0 -C\n" in shown
    parted = yaml.safe_load(shown[shown.index("version:") : shown.index("nvidia.com/mig-")])
    (row,) = parted["mig-configs"]["planned"]
    assert row["mig-devices"] == {"3g.40gb": 1, "4g.40gb": 1}
    assert "nvidia.com/mig-4g.40gb: 1" in shown
    found = json.loads(command("plan", *asked, "--gpu", "h100-80gb", "--json"))
    assert found["keep"] == ["3g.40gb@4"]
    assert found["blocked_by"] == ["1g.10gb@0"]


def test_pack_gives_each_an_instance(command: Callable[..., str]) -> None:
    shown = command("pack", "ana=8", "ben=18:30", "eva=39:60", "--gpu", "h100-80gb")
    assert "GPUs: 1, demands: 3" in shown
    assert "ben    │   0 │  2g.20gb" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profiles", "--gpu", "l4"], "does not have 'l4'. Next: use one of: a30,"),
        (["fits", "9g.1gb", "--gpu", "a30"], "no MIG profile '9g.1gb'. Next: use one of: 1g.6gb"),
        (
            ["fits", "4g.40gb", "--beside", "1g.10gb@0", "--gpu", "h100-80gb"],
            "beside 1g.10gb@0. Next: see what is in the way",
        ),
        (["fits", *["4g.40gb"] * 2, "--gpu", "h100-80gb"], "together. Next: ask for fewer"),
        (["plan", "4g.40gb", "--now", "what", "--gpu", "h100-80gb"], "'what' is not an instance"),
        (["pack", "ana", "--gpu", "a30"], "'ana' is not a demand. Next: write NAME=GIB"),
        (["pack", "ana=100", "--gpu", "a30"], "more than the largest instance of NVIDIA A30"),
    ],
)
def test_bad_input_is_one_sentence(without_gpu: Run, arguments: list[str], words: str) -> None:
    done = without_gpu(*MAIN, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_picture_has_a_bar_where_each_instance_is() -> None:
    layouts = {t: mig.Layout.parse(H100, t) for t in ("3g.40gb@4 1g.10gb@0", "1g.10gb@6")}
    figure = mig.draw(layouts, caption="Two layouts.")
    bars: set[Any] = {
        (y, base, x, bar.name)
        for bar in figure.plotly.data
        for y, base, x in zip(bar.y, bar.base, bar.x, strict=True)
    }
    first, second = layouts
    assert bars == {
        (first, 4, 4, "3g.40gb"),
        (first, 0, 1, "1g.10gb"),
        (second, 6, 1, "1g.10gb"),
    }
    assert "1g.10gb@0 3g.40gb@4" in figure.alt


def test_a_picture_is_of_one_kind_of_gpu() -> None:
    two = {"a": mig.Layout(H100), "b": mig.Layout(mig.geometry("a30"))}
    for layouts in ({}, two):
        with pytest.raises(UsageError, match="one kind of GPU"):
            mig.draw(layouts, caption="x")


def test_a_picture_of_one_row_has_room_and_each_profile_its_color() -> None:
    figure = mig.draw({"one": mig.Layout.parse(H100, "1g.20gb@0")}, caption="One layout.").plotly
    assert figure.layout.height - figure.layout.margin.t - figure.layout.margin.b >= 40
    # Colors go by place in the list: every profile is in it, with an instance or without.
    assert [bar.name for bar in figure.data] == [profile.name for profile in H100.profiles]
