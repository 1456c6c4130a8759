"""A sound adapter passes, and PEFT does with it what we read; everything else is refused in one line."""

import contextlib
import copy
import json
import os
import pickle
import re
import shutil
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from ia_cli.directories import checking
from ia_cli.directories.adapters import Adapter, plain_config, provenance, read_adapter, write_adapter
from ia_cli.directories.checking import A_SUFFIX, B_SUFFIX, PREFIX
from ia_cli.directories.safe_files import CONFIG_FILE, PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError
from ia_cli.models import load_base
from ia_cli.trainable import put_on

LAYERS = [f"model.layers.{i}.self_attn.{name}_proj" for i in range(2) for name in ("o", "q")]
FIRST = PREFIX + LAYERS[0]
IDS = torch.tensor([[5, 9, 11, 30, 7]])
MANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def base(tiny_folder):
    return load_base(str(tiny_folder), dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def original(base, tmp_path_factory):
    """A sound adapter, written once: nobody changes it."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: (0.3 * torch.randn(2, 32, generator=generator), 0.3 * torch.randn(32, 2, generator=generator))
        for name in LAYERS
    }
    made = Adapter(plain_config(2, 4, ["o_proj", "q_proj"]), tensors, dict.fromkeys(tensors, 2.0))
    folder = tmp_path_factory.mktemp("original") / "adapter"
    write_adapter(folder, made, provenance("implant", base, {"seed": 0}))
    return folder


@pytest.fixture
def good(original, tmp_path):
    """A copy of it to break."""
    return Path(shutil.copytree(original, tmp_path / "good"))


def change_config(folder, **changes):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder, base=None):
    """The one line with which a directory is refused."""
    with pytest.raises(IAError) as error:
        read_adapter(folder, base)
    line = str(error.value)
    assert "\n" not in line and line.isprintable() and len(line) < 600
    assert error.value.where.startswith(str(folder)) and error.value.remedy
    return line


# What the configuration says.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(peft_type="IA3"), "peft_type is 'IA3', not LORA"),
        (dict(peft_type=None), "not LORA"),
        (dict(task_type="SEQ_CLS"), "task_type"),
        (dict(use_dora=True), "use_dora = True is more than a plain LoRA"),
        (dict(bias=""), "bias = '' is more"),
        (dict(monteclora_config={}), "monteclora_config = {} is more"),
        (dict(modules_to_save=["lm_head"]), "modules_to_save"),
        (dict(target_parameters=["mlp.experts.up_proj"]), "target_parameters"),
        (dict(layer_replication=[[0, 2]]), "layer_replication"),
        (dict(alora_invocation_tokens=[1]), "alora_invocation_tokens"),
        (dict(surprise=None), "unknown key 'surprise'"),
        ({"surprise" * 9999: 1}, r"unknown key 'surprise.*\.\.\.; made by"),
        (dict(init_lora_weights="pissa_niter_4"), "changed the base too"),
        (dict(init_lora_weights=["gaussian"]), "init_lora_weights"),
        (dict(init_lora_weights="orthogonal", r=3), "orthogonal initialisation needs an even rank"),
        (dict(r=1 << 13), "r: Input should be less than or equal to 4096"),
        (dict(r=True), "r: Input should be a valid integer"),
        (dict(r=0), "r: Input should be greater than 0"),
        (dict(r=4), "rank 2, where adapter_config.json says 4"),
        (dict(lora_alpha="16"), "lora_alpha: Input should be a valid number"),
        (dict(lora_alpha=-1), "lora_alpha"),
        (dict(lora_alpha=10**400), "lora_alpha"),
        (dict(lora_alpha=1e9), "drowns any base"),
        (dict(lora_alpha=1e30), "lora_alpha"),
        (dict(use_rslora="yes"), "use_rslora"),
        (dict(rank_pattern={"q_proj": 0}), "rank_pattern"),
        (dict(rank_pattern={"q_proj": 1}), "rank 2, where adapter_config.json says 1"),
        (dict(rank_pattern={"(": 2}), "patterns in adapter_config.json are malformed"),
        (dict(alpha_pattern=[1]), "alpha_pattern"),
        (dict(target_modules=None), "target_modules"),
        (dict(target_modules=[]), "target_modules"),
        (dict(target_modules=["q_proj"]), "o_proj is not among the target_modules"),
        (dict(target_modules="*"), "patterns in adapter_config.json are malformed"),
        (dict(exclude_modules=["q_proj"]), "q_proj is not among the target_modules"),
        (
            dict(target_modules="all-linear", exclude_modules=["q_proj"]),
            "not among the layers that all-linear",
        ),
        (dict(enable_lora=[True]), "unknown key 'enable_lora'"),
        (dict(layers_to_transform=[0]), r"layers\.1\.\S+ is not among the target_modules"),
        (dict(layers_pattern="layers"), "PEFT refuses it"),
        (dict(eva_config={"rho": 0}), "PEFT refuses it"),
    ],
)
def test_configurations_that_are_refused(good, changes, reason):
    change_config(good, **changes)
    assert re.search(reason, refusal(good))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 40),
    st.floats(),
    st.sampled_from(["", "none", "all-linear", ".*"]),
)
VALUES = st.recursive(
    ODD | st.sampled_from(["q_proj", "o_proj", ".*_proj", "layers", "gaussian", "CAUSAL_LM", "LORA", "eva"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["q_proj", "0.*", "("]), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from([*LoraConfig().to_dict(), "runtime_config", "surprise"])


@settings(MANY, max_examples=150)
@given(changes=st.dictionaries(KEYS, VALUES, min_size=1, max_size=2))
@example(changes={"rank_pattern": None})
@example(changes={"alpha_pattern": {"0.*": 3}})
@example(changes={"target_modules": ".*_proj", "use_rslora": True})
@example(changes={"layers_to_transform": [0, 1]})
@example(changes={"init_lora_weights": 1})
@example(changes={"modules_to_save": [], "target_parameters": []})
def test_what_passes_is_what_peft_computes(original, base, tmp_path, changes):
    folder = tmp_path / "changed"
    shutil.copytree(original, folder, dirs_exist_ok=True)
    change_config(folder, **changes)
    try:
        read = read_adapter(folder, base)
    except IAError:
        return
    ours, theirs = copy.deepcopy(base.model), copy.deepcopy(base.model)
    for name, (a, b) in read.tensors.items():
        ours.get_submodule(name).weight += read.scaling[name] * (b.double() @ a.double())
    stock = PeftModel.from_pretrained(theirs, folder).eval()
    assert torch.allclose(stock(IDS).logits, ours(IDS).logits, rtol=0, atol=1e-4)


# What the files are.


@pytest.mark.parametrize("name", [CONFIG_FILE, PROVENANCE_FILE])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b'{"r": NaN}', "not JSON: NaN is not a finite number"),
        (b'{"lora_alpha": 1e999}', "not JSON: 1e999"),
        (b'{"r": ' + b"9" * 9999 + b"}", "not JSON"),
        (b'{"a":' * 100_000, "not JSON: it is nested too deeply"),
        (b'{"a":' + b"[" * 99 + b"]" * 99 + b"}", "not JSON: it is nested too deeply"),
    ],
)
def test_json_that_is_none_or_a_bomb(good, name, content, reason):
    (good / name).write_bytes(content)
    assert reason in refusal(good)


@pytest.mark.parametrize("name", [CONFIG_FILE, PROVENANCE_FILE, WEIGHTS_FILE])
def test_no_large_file_is_read(good, name, monkeypatch):
    size = 2 << 30 if name != WEIGHTS_FILE else 17 << 30
    os.truncate(good / name, size)  # sparse: it takes no room
    monkeypatch.setattr(
        Path, "read_text", lambda path, **_: {}[path] if path.name == name else path.open().read()
    )
    assert f"{name}: larger than" in refusal(good)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_that_is_missing_or_none(good, name):
    (good / name).unlink()
    assert f"{name} is missing" in refusal(good)
    os.mkfifo(good / name)
    assert f"{name}: not a regular file; put the file itself there" in refusal(good)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(good):
    (good / CONFIG_FILE).chmod(0)
    assert "cannot be read (Permission denied)" in refusal(good)


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "pytorch_model.bin", WEIGHTS_FILE])
def test_a_pickle_is_refused_and_never_opened(good, tmp_path, name, beside):
    if not beside:
        (good / WEIGHTS_FILE).unlink()
    (good / name).write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    assert "pickle, which can run code" in (line := refusal(good)) or "not a safetensors file" in line
    (good / name).unlink()
    os.mkfifo(good / name)  # opening it would wait for ever
    refusal(good)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE, "README.md", "layers"])
@pytest.mark.parametrize("target", ["../elsewhere", "/dev/zero", "nowhere/../../elsewhere"])
def test_a_link_to_the_outside_is_refused(good, tmp_path, name, target):
    (tmp_path / "elsewhere").write_text("{}")
    (good / name).unlink(missing_ok=True)
    (good / name).symlink_to(target)
    assert f"{name}: links to something outside" in refusal(good)


def test_links_within_are_followed(good, tmp_path):
    (good / CONFIG_FILE).rename(good / "config")
    (good / CONFIG_FILE).symlink_to("config")
    (tmp_path / "link").symlink_to(good)
    assert read_adapter(tmp_path / "link").rank == 2
    (good / CONFIG_FILE).unlink()
    (good / CONFIG_FILE).symlink_to(CONFIG_FILE)
    refusal(good)


def test_the_cache_of_the_hub_is_one_directory(good, tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    for i, path in enumerate(sorted(good.iterdir())):
        path.rename(tmp_path / "models--a--b" / "blobs" / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    assert read_adapter(snapshot).rank == 2
    (tmp_path / "models--a--b" / "elsewhere").touch()
    (snapshot / "LICENSE").symlink_to("../../elsewhere")
    assert "links to something outside" in refusal(snapshot)


# What the weights are.


def drop(weights):
    del weights[FIRST + B_SUFFIX]


def strip(weights):
    for key in list(weights):
        weights[key.removeprefix(PREFIX)] = weights.pop(key)


def add_bias(weights):
    weights[FIRST + ".lora_B.bias"] = torch.zeros(32)


def add_magnitude(weights):
    weights[FIRST + ".lora_magnitude_vector"] = torch.ones(32)


def rename(weights):
    for suffix in (A_SUFFIX, B_SUFFIX):
        weights["../../" + LAYERS[0] + suffix] = weights.pop(FIRST + suffix)


def set_one(value):
    return lambda weights: weights[FIRST + A_SUFFIX].view(-1)[-1:].fill_(value)


def replace_a(tensor):
    return lambda weights: weights.update({FIRST + A_SUFFIX: tensor})


def add_layer(weights):
    for suffix in (A_SUFFIX, B_SUFFIX):
        weights[(PREFIX + "model.layers.0.mlp.up_proj") + suffix] = weights[FIRST + suffix].clone()


def grow(weights):
    for suffix in (A_SUFFIX, B_SUFFIX):
        weights[FIRST + suffix] *= 500


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop, "not pairs of lora_A and lora_B"),
        (dict.clear, "not pairs of lora_A and lora_B: no tensors"),
        (
            strip,
            "PEFT finds no layer called model.layers.0.self_attn.o_proj.lora_A.weight, without base_model.",
        ),
        (add_bias, "not pairs"),
        (add_magnitude, "not pairs"),
        (rename, "PEFT finds no layer called ../../model.layers"),
        (set_one(torch.nan), "a weight is not finite"),
        (set_one(-torch.inf), "a weight is not finite"),
        (set_one(1e30), "a weight of 1e+30 is beyond float16"),
        (grow, "drowns any base"),
        (replace_a(torch.zeros(2, 32, dtype=torch.int8)), "weights of type torch.int8"),
        (replace_a(torch.zeros(2, 32, dtype=torch.float8_e4m3fn)), "weights of type torch.float8"),
        (replace_a(torch.zeros(2, 32, dtype=torch.complex64)), "weights of type torch.complex64"),
        (replace_a(torch.zeros(32, 2)), "do not fit together"),
        (replace_a(torch.zeros(2, 4, 8)), "do not fit together"),
        (replace_a(torch.zeros(2, 0)), "do not fit together"),
        (add_layer, "up_proj is not among the target_modules"),
    ],
)
def test_weights_that_are_refused(good, change, reason):
    weights = load_file(good / WEIGHTS_FILE)
    change(weights)
    save_file(weights, good / WEIGHTS_FILE)
    assert reason in refusal(good)


@pytest.mark.parametrize("layer", ["lm_head", "model.embed_tokens"])
def test_all_linear_layers_are_neither_head_nor_embedding(good, layer):
    change_config(good, target_modules="all-linear")
    read_adapter(good)
    weights = load_file(good / WEIGHTS_FILE)
    for suffix in (A_SUFFIX, B_SUFFIX):
        weights[PREFIX + layer + suffix] = weights[FIRST + suffix].clone()
    save_file(weights, good / WEIGHTS_FILE)
    assert f"{layer} is adapted, which is not among the layers" in refusal(good)


@settings(MANY, max_examples=200)
@given(
    name=st.sampled_from([CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE]),
    place=st.floats(0, 1),
    cut=st.integers(0, 40),
    put=st.binary(max_size=12) | st.sampled_from([b"null", b'"', b"{", b"1e400", b"-", b"F64", b"I8"]),
)
def test_no_damage_to_a_file_is_more_than_one_error(original, tmp_path, name, place, cut, put):
    folder = tmp_path / "damaged"
    shutil.copytree(original, folder, dirs_exist_ok=True)
    content = (folder / name).read_bytes()
    head = min(len(content), 1200)  # of the weights: where names, types and shapes stand
    at = int(place * head)
    (folder / name).write_bytes(content[:at] + put + content[at + cut :])
    with contextlib.suppress(IAError):
        read = read_adapter(folder)
        assert all(t.isfinite().all() for pair in read.tensors.values() for t in pair)


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern", "target_modules"])
def test_a_pattern_without_end_is_stopped(good, monkeypatch, key):
    endless = r"([a-z_.0-9]+)+!"
    change_config(good, **{key: endless if key == "target_modules" else {endless: 2}})
    monkeypatch.setattr(checking, "PATTERN_SECONDS", 0.1)
    assert "patterns in adapter_config.json are malformed: they take too long" in refusal(good)


def test_in_another_thread_patterns_have_no_clock(good):
    found = []
    thread = threading.Thread(target=lambda: found.append(read_adapter(good)))
    thread.start()
    thread.join()
    assert found[0].rank == 2


# Which base it is for.


def test_another_base_is_refused(good, base):
    origin = json.loads((good / PROVENANCE_FILE).read_text())
    other = {**origin, "base": {"name": "other", "identity": "0"}}
    (good / PROVENANCE_FILE).write_text(json.dumps(other))
    assert "made for another base, other; give the base it was made for" in refusal(good, base)
    (good / PROVENANCE_FILE).write_text('{"base": ["what"]}')
    assert read_adapter(good, base).made_for["name"] == base.name
    for value in (["o_proj"], 7, {}):
        (good / PROVENANCE_FILE).write_text(json.dumps({"base": {"identity": value}}))
        assert "made for another base" in refusal(good, base)


def test_layers_that_cannot_be_followed_are_told_from_those_of_another_base(good, base):
    change_config(good, target_modules=["q_proj", "o_proj", "lm_head"])
    weights = load_file(good / WEIGHTS_FILE)
    for suffix in (A_SUFFIX, B_SUFFIX):
        weights[PREFIX + "lm_head" + suffix] = weights[FIRST + suffix].clone()
    save_file(weights, good / WEIGHTS_FILE)
    assert "it adapts lm_head, which cannot be followed" in refusal(good, base)


def test_random_tensors_for_layers_that_have_none_are_refused(good, base):
    change_config(good, init_lora_weights=False)
    read_adapter(good, base)
    change_config(good, target_modules=["q_proj", "o_proj", "k_proj"])
    assert "k_proj has no tensors" in refusal(good, base)
    change_config(good, init_lora_weights=True)
    read_adapter(good, base)


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_so_they_are_for_the_head_and_the_embeddings(good, base, name):
    change_config(good, init_lora_weights=False, target_modules=["q_proj", "o_proj", name])
    assert f"{name} has no tensors" in refusal(good, base)


@pytest.mark.parametrize(
    ("targets", "odd"),
    [
        (["q_proj", "o_proj", "norm"], "model.norm, and PEFT cannot adapt a LlamaRMSNorm"),
        (".*", "model, and PEFT cannot adapt a LlamaModel"),
    ],
)
def test_what_peft_cannot_adapt_is_refused(good, base, targets, odd):
    change_config(good, target_modules=targets)
    assert odd in refusal(good, base)


def test_other_adapters_on_the_base_change_nothing(good, base):
    """A pattern with an open end matches PEFT's own modules, too, while an adapter is on the base."""
    change_config(good, target_modules=r".*self_attn.*[oq]_proj.*")
    read = read_adapter(good, base)
    model = put_on(read, base)
    try:
        read_adapter(good, base)
    finally:
        model.unload()


def test_a_pattern_that_never_ends_on_other_modules_is_stopped(good, base, monkeypatch):
    change_config(good, target_modules=r".*self_attn\.[oq]_proj|model(([a-z_.0-9]+)+)+!")
    read_adapter(good)
    monkeypatch.setattr(checking, "PATTERN_SECONDS", 0.2)
    assert "they take too long" in refusal(good, base)


def test_a_layer_of_endless_digits_is_refused(good):
    endless, weights = "layers." + "9" * 5000, load_file(good / WEIGHTS_FILE)
    save_file({key.replace("layers.0", endless): x for key, x in weights.items()}, good / WEIGHTS_FILE)
    change_config(good, layers_to_transform=[0, 1])
    assert "patterns in adapter_config.json are malformed" in refusal(good)


@pytest.mark.parametrize(
    "changes", [dict(init_lora_weights="mica"), dict(enable_lora=None, merge_weights=False)]
)
def test_what_leaves_the_base_alone_passes(good, base, changes):
    change_config(good, **changes)
    read_adapter(good, base)


def test_remedies_for_common_mistakes(good, tmp_path):
    outer = good.rename(tmp_path / "inner").parent
    assert "did you mean" in refusal(outer) and str(tmp_path / "inner") in refusal(outer)
    (outer / "config.json").write_text("{}")
    assert "a whole model, which `ia audit` takes" in refusal(outer)
    (tmp_path / "inner" / WEIGHTS_FILE).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in refusal(tmp_path / "inner")


def test_names_that_peft_does_not_know_are_refused(good):
    weights = {key.replace(PREFIX, PREFIX * 2): x for key, x in load_file(good / WEIGHTS_FILE).items()}
    save_file(weights, good / WEIGHTS_FILE)
    assert "PEFT finds no layer called base_model.model." in refusal(good)


def test_changes_are_those_of_the_weights(good):
    read = read_adapter(good)
    for name, (a, b) in read.tensors.items():
        exact = (read.scaling[name] * b.double() @ a.double()).square().mean().sqrt()
        assert read.changes()[name] == pytest.approx(float(exact), rel=1e-5)
