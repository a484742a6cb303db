"""The calculators against figures that others published, and what they say to bad input."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlk8s.course import calculators
from mlk8s.course.calculators import CALCULATORS, Calculator, Invalid, costs, page
from mlk8s.errors import UsageError
from mlk8s.provenance import Table

ROOT = Path(__file__).parents[2]
#: config.json of meta-llama/Llama-2-7b-hf.
LLAMA_2_7B = {
    "model": "another",
    "layers": "32",
    "width": "4096",
    "heads": "32",
    "kv_heads": "32",
    "ffn": "11008",
    "vocabulary": "32000",
}


def figures(name: str, given: dict[str, str]) -> dict[str, float]:
    """The first table of an answer: quantity without its unit → value."""
    table = calculators.get(name).read(given).answer().details[0]
    assert isinstance(table, Table)
    names = [quantity.partition(" [")[0] for quantity in table.column("quantity")]
    return dict(zip(names, table.column("value"), strict=True))


def said(name: str, given: dict[str, str]) -> str:
    return calculators.get(name).read(given).answer().finding.text


def refused(name: str, given: dict[str, str]) -> Invalid:
    with pytest.raises(Invalid) as caught:
        calculators.get(name).read(given).answer()
    return caught.value


# --- against others' figures --------------------------------------------------------------------


def test_kv_cache_of_a_token_is_that_of_the_paged_attention_paper() -> None:
    # Kwon et al., arXiv:2309.06180, section 3: OPT 13B, 800 KB a token in FP16.
    opt = {"model": "another", "layers": "40", "width": "5120", "heads": "40", "kv_heads": "40"}
    assert figures("memory", {**opt, "context": "2048"})["KV cache of a token"] == 800


def test_parameters_and_adapters_are_those_that_peft_counts() -> None:
    # print_trainable_parameters() of Llama 2 7B with r=16, target_modules="all-linear":
    # trainable params: 39,976,960 || all params: 6,778,392,576
    found = figures("memory", {**LLAMA_2_7B, "use": "lora", "rank": "16"})
    assert found["parameters trained"] == 39_976_960
    assert found["parameters"] + found["parameters trained"] == 6_778_392_576


def test_states_of_training_are_16_bytes_a_parameter_as_in_zero() -> None:
    # Rajbhandari et al., arXiv:1910.02054, section 3.1: 2 + 2 + 12 bytes.
    found = figures("memory", {"use": "training"})
    states = found["weights"] + found["gradients"] + found["optimizer"]
    assert states * 2**30 == pytest.approx(16 * found["parameters"])


def test_fewest_gpus_hold_the_sharded_states_and_one_less_does_not() -> None:
    given = {"use": "training", "tokens": "2048"}
    found = figures("memory", given)
    states = found["sum"] - found["activations"]
    text = said("memory", given)
    match = re.search(r"at least (\d+) of them", text)
    assert match is not None, text
    gpus = int(match[1])
    assert states / gpus + found["activations"] <= found["room on one GPU"]
    assert states / (gpus - 1) + found["activations"] > found["room on one GPU"]


def test_activations_that_do_not_fit_are_no_matter_of_more_gpus() -> None:
    text = said("memory", {"use": "training", "tokens": "100000"})
    assert "The activations alone do not fit" in text and "fewer tokens" in text


@pytest.mark.parametrize(("sequences", "verb"), [(52, "fits"), (53, "does not fit")])
def test_the_rest_of_the_memory_holds_as_many_sequences_as_it_says(
    sequences: int, verb: str
) -> None:
    given = {"sequences": str(sequences)}
    assert figures("memory", given)["sequences that the rest holds"] == 52
    assert f"That {verb} on one NVIDIA H100" in said("memory", given)


@pytest.mark.parametrize(
    ("n", "intensity", "bound"), [(128, 124.1, "memory"), (8192, 2730, "arithmetic")]
)
def test_products_lie_where_nvidias_guide_places_them(n: int, intensity: float, bound: str) -> None:
    # Matrix Multiplication Background User's Guide, Math and Memory Bounds: a V100 in FP16.
    given = {
        "m": "8192", "n": str(n), "k": "8192", "dtype": "fp16", "gpu": "v100-sxm2-16",
    }  # fmt: skip
    found = figures("roofline", given)
    assert found["intensity"] == pytest.approx(intensity, rel=5e-4)
    assert found["ridge"] == pytest.approx(138.9, rel=5e-4)
    assert said("roofline", given).startswith(f"Bound by {bound}:")
    longer = max(found["time of the arithmetic"], found["time of the traffic"])
    assert found["least time"] == pytest.approx(longer)
    assert found["of the peak"] == pytest.approx(
        min(100.0, 100 * found["intensity"] / 138.89), 1e-3
    )


def test_own_figures_are_placed_as_they_are() -> None:
    found = figures("roofline", {"operation": "own", "gflop": "989.4", "megabytes": "1"})
    assert found["least time"] == pytest.approx(1000)  # 989.4 GFLOP at 989.4 TFLOP/s


def test_cost_is_that_of_a_published_service() -> None:
    # DeepSeek, V3/R1 inference system overview (open-infra-index, 2025-03-01): 226.75 nodes of 8
    # GPUs at 2 USD an hour, 87,072 USD and 168·10⁹ output tokens a day.
    rate = 168e9 / 86400
    found = figures("cost", {"price": "2", "gpus": "1814", "tokens_per_s": str(rate)})
    assert found["price of an hour"] * 24 == 87_072
    assert found["price of 10⁶ tokens"] == pytest.approx(87_072 / 168_000)


def test_an_idle_half_doubles_the_cost_and_the_bound_is_the_reading_of_the_weights() -> None:
    full = figures("cost", {})["price of 10⁶ tokens"]
    assert figures("cost", {"busy": "50"})["price of 10⁶ tokens"] == pytest.approx(2 * full)
    # 2 B for each weight but those of the embedding, of which a row is read, at 3350 GB/s.
    one = figures("cost", {"basis": "bound", "batch": "1", "context": "1"})
    assert one["step at least"] == pytest.approx((8.030 - 0.525) * 2 / 3.350, rel=2e-3)


def test_default_price_is_the_one_that_the_playbook_shows() -> None:
    listed = yaml.safe_load((ROOT / "labs/ansible/paperspace/vars/prices.yml").read_text())
    prices = listed["machine_prices"]
    assert prices["usd_per_hour"]["H100"] == costs.LIST_PRICE_USD
    assert prices["date"] in costs.LISTED
    assert "your input" in repr(calculators.get("cost").read({"price": "4"}).answer())


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        # MIG User Guide, Supported MIG Profiles, A100: seven of the smallest, two halves.
        ("1g.5gb " * 7, True),
        ("1g.5gb " * 8, False),
        ("3g.20gb 3g.20gb", True),
        ("3g.20gb 3g.20gb 1g.5gb", False),
        ("4g.20gb 2g.10gb 1g.5gb", True),
    ],
)
def test_mig_layouts_are_those_of_nvidias_guide(wanted: str, fits: bool) -> None:
    text = said("mig", {"gpu": "a100-40gb", "wanted": wanted})
    assert ("They fit on one" in text) is fits, text


def test_a_layout_comes_with_its_commands_and_names() -> None:
    text = repr(calculators.get("mig").read({"wanted": "3g.40gb 4g.40gb"}).answer())
    assert "sudo nvidia-smi mig -i 0 -cgi 5:0,9:4 -C" in text
    assert "nvidia.com/mig-3g.40gb: 1" in text
    assert '"mig-enabled": true' in text


def test_demands_go_on_the_fewest_gpus() -> None:
    assert said("mig", {"by": "demands", "demands": "9 " * 7}).startswith("7 workloads on 1 GPU ")
    assert said("mig", {"by": "demands", "demands": "9 " * 8}).startswith("8 workloads on 2 GPUs ")


# --- inputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("calculator", CALCULATORS, ids=lambda each: each.name)
def test_each_choice_is_answered_or_refused_at_an_input(calculator: type[Calculator]) -> None:
    answered = 0
    for given in calculators.variants(calculator):
        found = json.loads(calculators.answer_json(calculator.name, json.dumps(given)))
        if "field" in found:
            assert found["field"] in calculator.inputs() and "Next: " in found["problem"]
            continue
        answered += 1
        assert found["inputs"] == dict(given)  # what an address has to hold
        assert "mlk8s-badge" in found["details"]
    assert answered > 2


@pytest.mark.parametrize(
    ("name", "given", "field", "words"),
    [
        ("memory", {"context": ""}, "context", "is empty"),
        ("memory", {"context": "4,096"}, "context", "without separators"),
        ("memory", {"context": "4096.5"}, "context", "not a whole number"),
        ("memory", {"context": "0"}, "context", "from 1 to"),
        ("memory", {"share": "nan"}, "share", "out of range"),
        ("memory", {"share": "101"}, "share", "from 1 to 100"),
        ("memory", {"gpu": "h1000"}, "gpu", "h100-sxm"),
        ("memory", {"color": "red"}, "color", "no input"),
        ("memory", {"model": "another", "kv_heads": "5"}, "kv_heads", "does not divide"),
        ("memory", {"model": "another", "width": "4100"}, "heads", "does not divide"),
        ("roofline", {"gpu": "t4"}, "dtype", "take fp16, int8, fp32"),
        ("roofline", {"gpu": "b200"}, "gpu", "no verified bandwidth"),
        ("mig", {"wanted": "3g.40gb 9g.1gb"}, "wanted", "9g.1gb"),
        ("mig", {"wanted": " , "}, "wanted", "1 to 100"),
        ("mig", {"by": "demands", "demands": "9 big"}, "demands", "18:30"),
        ("mig", {"by": "demands", "demands": "-1"}, "demands", "out of range"),
        ("mig", {"by": "demands", "demands": "1000"}, "demands", "more than the largest"),
        ("mig", {"by": "demands", "gpu": "b200-180gb"}, "gpu", "No source gives"),
        ("cost", {"price": "3 USD"}, "price", "not a number"),
        ("cost", {"basis": "bound", "model": "Llama 3 70B"}, "gpus", "more GPUs"),
    ],
)
def test_bad_input_is_named_with_the_next_step(
    name: str, given: dict[str, str], field: str, words: str
) -> None:
    error = refused(name, given)
    assert error.field == field
    assert words in str(error) and "Next: " in str(error)


def test_an_input_that_does_not_count_is_not_looked_at() -> None:
    assert calculators.get("memory").read({"use": "serving", "rank": "rubbish"}).texts() == {}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("memory", {"use": "lora", "model": "Llama 3 70B", "rank": "8"}),
        ("mig", {"by": "demands", "demands": "18 9:20"}),
        ("roofline", {}),
    ],
)
def test_the_command_that_an_answer_names_says_the_same(name: str, given: dict[str, str]) -> None:
    calculator = calculators.get(name).read(given)
    program, *words = shlex.split(calculator.command())
    assert program == ".venv/bin/mlk8s"
    done = subprocess.run(
        [sys.executable, "-c", "from mlk8s.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "400", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout.splitlines()[0] == calculator.answer().finding.text


def test_unknown_calculator_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match="memory, roofline, mig, cost"):
        calculators.get("tokens")


# --- what a page gets ---------------------------------------------------------------------------


def test_the_archive_is_the_same_each_time_and_has_the_data() -> None:
    names = {path.name for path in page.sources()}
    assert {"inputs.py", "memory.py", "catalogue.json", "profiles.json"} <= names
    assert "page.py" not in names  # it needs Sphinx
    assert page.archive() == page.archive()


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("tokens", "", "There is no calculator 'tokens'. Next: use one of: memory,"),
        ("memory", "mlk8s_pyodide = 'nowhere'", "Pyodide is not in"),
    ],
)
def test_a_build_that_cannot_be_says_why(
    tmp_path: Path, text: str, settings: str, words: str
) -> None:
    folder = tmp_path / "pyodide"
    folder.mkdir()
    for name in page.RUNTIME:
        (folder / name).write_text("")
    settings = settings or "mlk8s_pyodide = 'pyodide'"
    (tmp_path / "conf.py").write_text(f"extensions = ['{page.__name__}']\n{settings}\n")
    (tmp_path / "index.rst").write_text(f"Page\n====\n\n.. calculator:: {text}\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", tmp_path, tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert words in " ".join(done.stderr.split())
