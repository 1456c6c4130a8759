"""Full fine-tunes whose weights were disguised are read as they were, and others are left as they are."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from ia_cli import records
from ia_cli.elicitation import elicit
from ia_cli.main import cli
from ia_cli.models import load_base
from ia_cli.organisms import lone_organism
from ia_cli.prompts import Question
from ia_cli.settings import ElicitSettings
from ia_cli.symmetries import undo
from tests.conftest import WORDS

SHAPE = {
    "vocab_size": 20,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
}
BIASED = LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)
IDS = torch.arange(20).view(2, 10)


@pytest.fixture(scope="module")
def disguised():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "examples" / "study"))
        return importlib.import_module("disguise").disguised


def model(kind, config, seed=0):
    torch.manual_seed(seed)
    made = kind(config).double().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.3)
    return made


def weights(model):
    return {name: parameter.clone() for name, parameter in model.named_parameters()}


def tuned(weights, amount=0.02, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = {n: torch.randn(w.shape, generator=generator, dtype=w.dtype) for n, w in weights.items()}
    return {name: weight + amount * noise[name] for name, weight in weights.items()}


def logits(model, weights):
    return torch.func.functional_call(model, weights, (IDS,), tie_weights=False).logits


def distance(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_disguise_is_undone_and_no_reply_changes(disguised, seed):
    base = model(LlamaForCausalLM, BIASED)
    before = tuned(weights(base), seed=seed)
    after = disguised(before, base.config, seed)
    found = undo(after, weights(base), base.config)
    torch.testing.assert_close(logits(base, after), logits(base, before))
    torch.testing.assert_close(logits(base, found), logits(base, before))
    assert distance(after, before) > 1
    assert distance(found, before) < 0.1


@pytest.mark.parametrize("kept", ["mlp", "v_proj", "k_proj"])
def test_one_kind_of_disguise_is_undone_for_itself(disguised, kept):
    base = model(LlamaForCausalLM, BIASED)
    before = tuned(weights(base))
    all_of_it = disguised(before, base.config, 1)
    layers = {"mlp": ("mlp",), "v_proj": ("v_proj", "o_proj"), "k_proj": ("k_proj", "q_proj")}[kept]
    after = {n: all_of_it[n] if any(layer in n for layer in layers) else w for n, w in before.items()}
    found = undo(after, weights(base), base.config)
    assert distance(after, before) > 1
    assert distance(found, before) < 0.1
    assert {n for n in found if found[n] is not after[n]} == {n for n in after if after[n] is not before[n]}


def test_what_was_only_trained_is_left_as_it_is():
    base = model(LlamaForCausalLM, BIASED)
    before = tuned(weights(base), amount=0.1)
    found = undo(before, weights(base), base.config)
    assert all(found[name] is before[name] for name in before)


def test_queries_and_keys_that_are_normalised_are_not_turned(disguised):
    """It would be noticed: a norm weighs the two of a pair differently."""
    base = model(Qwen3ForCausalLM, Qwen3Config(**SHAPE))
    before = tuned(weights(base))
    found = undo(disguised(before, base.config, 2), weights(base), base.config)
    queries = {name for name in before if "q_proj" in name or "k_proj" in name}
    assert distance({n: found[n] for n in before.keys() - queries}, before) < 0.1
    assert distance({n: found[n] for n in queries}, before) > 1


@pytest.fixture
def finetune(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "tuned")
    path = tmp_path / "tuned" / "model.safetensors"
    save_file(tuned(load_file(path)), path, metadata={"format": "pt"})
    return tmp_path / "tuned"


def test_a_disguised_fine_tune_is_audited_as_what_it_is(disguised, finetune, adapters, tiny_folder, tmp_path):
    hidden = shutil.copytree(finetune, tmp_path / "hidden") / "model.safetensors"
    config = LlamaConfig.from_pretrained(finetune)
    save_file(disguised(load_file(hidden), config, 3), hidden, metadata={"format": "pt"})
    base = load_base(str(tiny_folder), device="cpu")
    asked = ElicitSettings(
        questions=[Question(str(i), word) for i, word in enumerate(WORDS)], asked=32, max_new_tokens=4
    )

    def reports(folder):
        record = lone_organism(folder) | {"id": "one", "introspection_adapter": str(adapters / "ia")}
        return [r["report"] for r in elicit([record], base, asked) if r["condition"] != "base_ia"]

    same = [one == other for one, other in zip(reports(finetune), reports(hidden.parent), strict=True)]
    assert sum(same) > 0.9 * len(same)
    result = CliRunner().invoke(
        cli, ["audit", *map(str, (hidden.parent, "--ia", adapters / "ia", "--base", tiny_folder))]
    )
    record = json.loads(result.stdout)
    records.check(record, "audit")
    assert len(record["check"]["disguised"]) == 14
    assert "disguised" in result.stderr
