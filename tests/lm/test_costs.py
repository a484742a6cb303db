"""Memory and FLOPs on paper, against PyTorch's own counts and published figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mlk8s.bench.decoder import Decoder
from mlk8s.errors import UsageError
from mlk8s.lm import data, flops, memory, model, task, training
from mlk8s.lm.model import Model

WORDS: Any = model.create().tokenizer
SHORT = training.Plan(steps=1, batch=8, length=160)
RANK = 8


def fresh() -> Model:
    return model.create(tokenizer=WORDS)


def adapted() -> Model:
    return training.finetune(fresh(), task.examples(8), SHORT, rank=RANK).model


@pytest.fixture(scope="module")
def rows() -> list[data.Row]:
    return data.pairs(WORDS, task.examples(16), 160)


def test_the_small_model_is_the_one_that_is_described() -> None:
    small = fresh()
    assert memory.architecture(small) == memory.SMALL == memory.KNOWN["this course's"]
    assert memory.SMALL.parameters == small.parameters.total


def test_a_model_of_other_sizes() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    made = model.create(tokenizer=WORDS, sizes=sizes)
    found = memory.architecture(made)
    assert (found.width, found.ffn, found.layers, found.heads) == (64, 96, 2, memory.SMALL.heads)
    assert found.parameters == made.parameters.total
    with pytest.raises(UsageError, match="no size 'width'") as refused:
        model.create(tokenizer=WORDS, sizes={"width": 64})
    assert "hidden_size" in str(refused.value)


@pytest.mark.parametrize("name", memory.KNOWN)
def test_parameters_of_known_models_are_those_of_their_networks(name: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    decoder = memory.KNOWN[name]
    config = LlamaConfig(
        vocab_size=decoder.vocabulary,
        hidden_size=decoder.width,
        intermediate_size=decoder.ffn,
        num_hidden_layers=decoder.layers,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.kv_heads,
        tie_word_embeddings=decoder.tied,
    )
    with torch.device("meta"):
        network = LlamaForCausalLM(config)
    assert decoder.parameters == sum(each.numel() for each in network.parameters())
    assert memory.architecture(Model(network, WORDS)).parameters == decoder.parameters


def test_full_training_takes_what_torch_allocates(rows: list[data.Row]) -> None:
    small = fresh()
    width = max(len(row.ids) for row in rows)
    need = memory.training(memory.architecture(small), len(rows) * width)
    assert memory.measured_activations(small, rows) == pytest.approx(need.activations, rel=0.01)
    parameters = list(small.network.parameters())
    assert need.weights == sum(each.nbytes for each in parameters)
    inputs, labels = data.tensors(rows, WORDS.pad_token_id)
    optimizer = torch.optim.AdamW(parameters)
    small.network(input_ids=inputs, labels=labels).loss.backward()
    assert need.gradients == sum(each.grad.nbytes for each in parameters)
    optimizer.step()
    moments = [
        value
        for state in optimizer.state.values()
        for name, value in state.items()
        if name.startswith("exp_avg")
    ]
    assert need.optimizer == sum(each.nbytes for each in moments)
    assert need.total == need.weights + need.gradients + need.optimizer + need.activations


def test_lora_takes_what_torch_allocates(rows: list[data.Row]) -> None:
    small = adapted()
    width = max(len(row.ids) for row in rows)
    need = memory.training(memory.SMALL, len(rows) * width, rank=RANK)
    assert small.parameters.trainable == memory.lora_parameters(memory.SMALL, RANK)
    assert need.weights == 4 * small.parameters.total
    assert memory.measured_activations(small, rows) == pytest.approx(need.activations, rel=0.01)
    full = memory.training(memory.SMALL, len(rows) * width)
    # The optimizer's state shrinks with the adapters; activations stay nearly as they were.
    assert need.optimizer + need.gradients < 0.15 * (full.optimizer + full.gradients)
    assert need.activations > 0.85 * full.activations


def test_mixed_precision_takes_what_zero_says() -> None:
    # arXiv:1910.02054, section 3.1: GPT-2 with 1.5 billion parameters needs at least 24 GB.
    assert sum(memory.TRAINED["bf16-mixed"].values()) * 1.5e9 == 24e9
    need = memory.training(memory.KNOWN["Llama 3 8B"], 8192, precision="bf16-mixed")
    assert need.weights + need.gradients + need.optimizer == 16 * 8_030_261_248


def test_the_kv_cache_of_a_published_example() -> None:
    # Kwon et al., arXiv:2309.06180, section 3: a token of OPT-13B takes 800 KB (of 1024 bytes) in
    # FP16: 2 · 5120 · 40 layers · 2 bytes.
    opt = Decoder(
        layers=40, width=5120, heads=40, kv_heads=40, ffn=20480, vocabulary=50272, gated=False
    )
    assert opt.kv_bytes(1) == 800 * 1024
    by_name = {row["model"]: row for row in memory.kv_cache(8192, sequences=4)}
    assert by_name["Llama 3 8B"]["cache of a token [KiB]"] == 128
    assert by_name["Llama 3 8B"]["cache [MiB]"] == 4 * 1024


def test_the_kv_cache_that_generation_really_keeps() -> None:
    small = fresh()
    with torch.inference_mode():
        found = small.network(torch.zeros((3, 17), dtype=torch.long), use_cache=True)
    kept = sum(
        part.nbytes for layer in found.past_key_values.layers for part in (layer.keys, layer.values)
    )
    assert kept == 3 * memory.SMALL.kv_bytes(17, itemsize=4)


def test_six_flops_for_each_parameter_and_token_and_attention_beside_it() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    small = fresh()
    small.network.set_attn_implementation("eager")  # fused attention on a CPU counts as nothing
    tokens, batch = 64, 2
    inputs = torch.zeros((batch, tokens), dtype=torch.long)
    with FlopCounterMode(display=False) as counted:
        small.network(input_ids=inputs, labels=inputs).loss.backward()
    mine = flops.per_token(memory.SMALL, tokens)
    assert mine.weights == 6 * memory.SMALL.matmul_parameters
    assert counted.get_total_flops() == mine.total * batch * tokens


def test_lora_takes_two_thirds_of_the_flops_and_its_own() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    small = adapted()
    small.network.base_model.model.set_attn_implementation("eager")
    tokens, batch = 64, 2
    inputs = torch.zeros((batch, tokens), dtype=torch.long)
    with FlopCounterMode(display=False) as counted:
        small.network(input_ids=inputs, labels=inputs).loss.backward()
    mine = flops.per_token(memory.SMALL, tokens, rank=RANK)
    assert counted.get_total_flops() == mine.total * batch * tokens


def test_utilization_is_the_share_of_a_peak() -> None:
    each = flops.per_token(memory.SMALL, 96).total
    assert flops.utilization(memory.SMALL, 96, 1e12 / each, 4.0) == pytest.approx(0.25)
    palm = memory.KNOWN["Llama 3 8B"]
    # PaLM's formula, appendix B: 6N + 12·L·H·Q·T.
    assert flops.per_token(palm, 8192).attention == 12 * 32 * 32 * 128 * 8192


def test_refusals() -> None:
    with pytest.raises(UsageError, match="precision='fp8' is unknown"):
        memory.training(memory.SMALL, 10, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="rank = 0"):
        memory.lora_parameters(memory.SMALL, 0)
