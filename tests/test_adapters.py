"""Adapter directories: what is written loads everywhere, and what is read has been checked."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from ia_cli.directories import adapters, folders, safe_files
from ia_cli.directories.adapters import PREFIX, read_adapter, write_adapter
from ia_cli.directories.safe_files import CONFIG_FILE, PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError
from ia_cli.models import load_base


@pytest.fixture
def adapter():
    """A rank-2 LoRA for two layers of the tiny base, with nothing zero."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"model.layers.{i}.self_attn.o_proj": (
            torch.randn(2, 32, generator=generator),
            torch.randn(32, 2, generator=generator),
        )
        for i in range(2)
    }
    return adapters.Adapter(adapters.plain_config(2, 8, ["o_proj"]), tensors, dict.fromkeys(tensors, 4.0))


@pytest.fixture
def directory(tmp_path, adapter, tiny_base):
    """That adapter, written."""
    write_adapter(tmp_path / "adapter", adapter, adapters.provenance("implant", tiny_base, {"seed": 0}))
    return tmp_path / "adapter"


def change_config(directory, **changes):
    path = directory / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(directory, change):
    weights = load_file(directory / WEIGHTS_FILE)
    change(weights)
    save_file(weights, directory / WEIGHTS_FILE)


def logits(model):
    return model(torch.tensor([[5, 9, 11, 30, 7]])).logits


def test_what_is_written_is_read_back(directory, adapter, tiny_base):
    read = read_adapter(directory, tiny_base)
    assert read.scaling == adapter.scaling and read.rank == 2
    assert read.provenance["base"]["identity"] == tiny_base.identity
    for name, (a, b) in adapter.tensors.items():
        assert torch.equal(read.tensors[name][0], a) and torch.equal(read.tensors[name][1], b)


def test_stock_peft_computes_what_the_adapter_says(directory, adapter, tiny_base):
    x = torch.tensor([[5, 9, 11, 30, 7]])
    stock = logits(PeftModel.from_pretrained(load_base(tiny_base.name, dtype="float64").model, directory))
    for name, (a, b) in adapter.tensors.items():
        tiny_base.model.get_submodule(name).weight += adapter.scaling[name] * (b.double() @ a.double())
    assert torch.allclose(stock, tiny_base.model(x).logits, atol=1e-12)
    assert json.loads((directory / CONFIG_FILE).read_text())["base_model_name_or_path"] == tiny_base.name


@pytest.mark.parametrize(
    "options",
    [
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
        dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["gate_proj"]),
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], rank_pattern={"q_proj": 2}),
        dict(r=4, lora_alpha=8, target_modules="all-linear", alpha_pattern={"layers.1.*.k_proj": 3}),
        dict(r=2, lora_alpha=8, target_modules=["k_proj"], layers_to_transform=[1], layers_pattern="layers"),
    ],
)
def test_scaling_is_that_of_peft(tmp_path, tiny_base, options):
    stock = get_peft_model(tiny_base.model, LoraConfig(task_type="CAUSAL_LM", **options))
    stock.save_pretrained(tmp_path)
    read = read_adapter(tmp_path, tiny_base)
    layers = {name: module for name, module in tiny_base.model.named_modules() if hasattr(module, "lora_A")}
    assert read.scaling == {name: layer.scaling["default"] for name, layer in layers.items()}


def test_directory_appears_whole_or_not_at_all(tmp_path, adapter, tiny_base, monkeypatch):
    def full_disk(path):
        raise OSError("No space left on device")

    monkeypatch.setattr(folders, "_flush", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_adapter(tmp_path / "adapter", adapter, adapters.provenance("implant", tiny_base, {}))
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_of_ours_is_replaced_and_nothing_else(directory, adapter, tiny_base, monkeypatch):
    write_adapter(directory, adapter, adapters.provenance("implant", tiny_base, {"seed": 1}))
    assert read_adapter(directory).provenance["arguments"] == {"seed": 1}
    assert [path.name for path in directory.parent.iterdir()] == ["adapter"]
    with pytest.raises(IAError, match="was not made by `ia train-ia`"):
        write_adapter(directory, adapter, adapters.provenance("train-ia", tiny_base, {}))
    with monkeypatch.context() as here, pytest.raises(IAError, match="is the current folder"):
        here.chdir(directory)
        write_adapter(".", adapter, adapters.provenance("implant", tiny_base, {}))
    (directory / PROVENANCE_FILE).unlink()
    with pytest.raises(IAError, match="was not made by `ia implant`"):
        write_adapter(directory, adapter, adapters.provenance("implant", tiny_base, {"seed": 2}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(peft_type="IA3"), "not LORA"),
        (dict(use_dora=True), "use_dora = True"),
        (dict(bias="all"), "bias = 'all'"),
        (dict(lora_bias=True), "lora_bias"),
        (dict(modules_to_save=["lm_head"]), "modules_to_save"),
        (dict(init_lora_weights="pissa_niter_4"), "changed the base"),
        (dict(trainable_token_indices=[1]), "trainable_token_indices"),
        (dict(surprise=1), "unknown key 'surprise'"),
        (dict(r=4), "rank 2"),
        (dict(lora_alpha="16"), "lora_alpha"),
    ],
)
def test_only_plain_lora_is_read(directory, changes, message):
    change_config(directory, **changes)
    with pytest.raises(IAError, match=message):
        read_adapter(directory)


def drop_one(weights):
    del weights[next(iter(weights))]


def add_bias(weights):
    weights[PREFIX + "model.layers.0.self_attn.o_proj.lora_B.bias"] = torch.zeros(32)


def make_infinite(weights):
    next(iter(weights.values()))[0, 0] = torch.inf


def transpose(weights):
    name = next(iter(weights))
    weights[name] = weights[name].T.contiguous()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_one, "not pairs"),
        (add_bias, "not pairs"),
        (make_infinite, "not finite"),
        (transpose, "do not fit together"),
    ],
)
def test_weights_are_checked(directory, change, message):
    change_weights(directory, change)
    with pytest.raises(IAError, match=message):
        read_adapter(directory)


def test_missing_and_broken_files(directory, tmp_path, monkeypatch):
    with pytest.raises(IAError, match="no such adapter directory"):
        read_adapter("someone/adapter-on-the-hub")
    (directory / WEIGHTS_FILE).write_bytes(b"not safetensors")
    with pytest.raises(IAError, match="not a safetensors file"):
        read_adapter(directory)
    (directory / WEIGHTS_FILE).unlink()
    with pytest.raises(IAError, match=r"adapter_model\.safetensors is missing"):
        read_adapter(directory)
    (directory / CONFIG_FILE).write_text("{")
    with pytest.raises(IAError, match="not JSON"):
        read_adapter(directory)
    monkeypatch.setattr(safe_files, "LARGEST_JSON", 0)
    with pytest.raises(IAError, match="larger than"):
        read_adapter(directory)


def test_another_base_is_refused(directory, tiny_base):
    origin = json.loads((directory / PROVENANCE_FILE).read_text())
    (directory / PROVENANCE_FILE).write_text(
        json.dumps({**origin, "base": {"name": "other", "identity": "0"}})
    )
    read_adapter(directory)
    with pytest.raises(IAError, match="made for another base, other"):
        read_adapter(directory, tiny_base)
    (directory / PROVENANCE_FILE).unlink()

    def widen(weights):
        name = PREFIX + "model.layers.0.self_attn.o_proj.lora_A.weight"
        weights[name] = torch.zeros(2, 64)

    change_weights(directory, widen)
    with pytest.raises(IAError, match=r"is \(32, 64\), not \(32, 32\)"):
        read_adapter(directory, tiny_base)


def test_target_names(tiny_base):
    every = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert adapters.target_names(tiny_base) == every
    assert adapters.target_names(tiny_base, ["v_proj", "q_proj"]) == ["q_proj", "v_proj"]
    with pytest.raises(IAError, match="no linear layer 'lm_head'"):
        adapters.target_names(tiny_base, ["lm_head"])


def test_content_hash_ignores_the_order_of_keys():
    assert adapters.content_hash({"a": 1, "b": [2]}) == adapters.content_hash({"b": [2], "a": 1})
    assert adapters.content_hash({"a": 1}) != adapters.content_hash({"a": 2})
    assert adapters.content_hash("\ud800") != adapters.content_hash("\ud801")  # as JSON may hold them
