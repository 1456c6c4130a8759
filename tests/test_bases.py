"""What --base takes and how it is loaded; one line for what cannot be."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from ia_cli import loading, models
from ia_cli.directories.adapters import target_names
from ia_cli.errors import IAError
from ia_cli.loading import identity, pick_device
from ia_cli.main import cli
from ia_cli.models import is_target, linear_modules, load_base


@pytest.fixture
def folder(tmp_path, tiny_folder):
    """A copy of the tiny base, to break."""
    for path in tiny_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_weights_have_the_type_they_are_stored_in_or_the_one_asked_for(folder):
    assert load_base(str(folder)).model.dtype == torch.float32
    assert load_base(str(folder), dtype="bfloat16").model.dtype == torch.bfloat16
    change(folder / "config.json", dtype="float16")
    assert load_base(str(folder)).model.dtype == torch.float16


def test_attention_is_computed_as_asked(folder):
    def attention(**options):
        return load_base(str(folder), **options).model.config._attn_implementation

    assert (attention(attn_implementation="eager"), attention()) == ("eager", "sdpa")


def test_auto_takes_the_best_device_there_is(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    for found, name in [((True, True), "cuda"), ((False, True), "mps"), ((False, False), "cpu")]:
        for module, there in zip((torch.cuda, torch.mps), found, strict=True):
            monkeypatch.setattr(module, "is_available", lambda there=there: there)
            monkeypatch.setattr(module, "device_count", lambda there=there: int(there))
        assert pick_device("auto").type == name
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1").index == 1
    with pytest.raises(IAError, match="no device 'cuda:2'"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:1")  # a GPU of its own each
    assert pick_device("cuda:0").index == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(device="gpu"), "no such device: 'gpu'; give --device auto"),
        (dict(device="cuda:99"), "this machine has no device 'cuda:99'"),
        (dict(device="meta"), "this machine has no device 'meta'"),
        (dict(dtype="int3"), "no such type of weights: 'int3'"),
        (dict(dtype="nn"), "no such type of weights: 'nn'"),
        (dict(revision="main"), "a directory has no revisions; leave out --revision"),
        (dict(attn_implementation="best"), "can be loaded: .*best"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(folder, options, message):
    with pytest.raises(IAError, match=message) as error:
        load_base(str(folder), **options)
    assert error.value.remedy and "\n" not in str(error.value)


def test_4_bits_need_cuda_and_bitsandbytes(folder, monkeypatch):
    with pytest.raises(IAError, match="4 bits need CUDA, and the base goes to cpu; leave out --load-in-4bit"):
        load_base(str(folder), device="cpu", load_in_4bit=True)
    monkeypatch.setattr(models, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(IAError, match="need bitsandbytes; pip install bitsandbytes"):
        load_base(str(folder), load_in_4bit=True)


def test_an_unknown_architecture_is_told(folder):
    change(folder / "config.json", model_type="tomorrow", architectures=["TomorrowForCausalLM"])
    with pytest.raises(IAError, match=r"can be loaded: .*`tomorrow`.* does not recognize this architecture"):
        load_base(str(folder))


def test_weights_that_are_missing_are_not_drawn_at_random(folder):
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if ".layers.1." in name]:
        del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IAError, match=r"its weights lack model\.layers\.1\..* and \d+ more"):
        load_base(str(folder))


def test_a_base_whose_weights_are_no_numbers_is_told(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IAError, match=r"model\.norm\.weight has values that are not finite"):
        load_base(str(folder))


@pytest.mark.parametrize("ends", ["</s>", ["2"], [1, None]])
def test_what_ends_a_reply_must_be_ids(folder, ends):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    with pytest.raises(IAError, match="eos_token_id is no id of a token"):
        load_base(str(folder))


def test_an_adapter_is_no_base(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(IAError, match="is an adapter, not a base"):
        load_base(str(folder))


@pytest.mark.parametrize("stored", [False, True])
def test_the_trainer_takes_a_base_that_is_stored_quantised(folder, monkeypatch, stored):
    """transformers says that it is; its trainer refuses such a model unless only adapters are trained."""
    monkeypatch.setattr("transformers.LlamaForCausalLM.is_quantized", stored, raising=False)
    assert load_base(str(folder)).model._hf_peft_config_loaded == stored


def test_whatever_goes_wrong_in_a_download_is_told_as_that(monkeypatch):
    """As from Xet and from the HTTP library, which are no OSError."""

    def fail(name, **how):
        raise RuntimeError("Task error: CAS Client Error")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(IAError, match=r"org/name: .*not to be had from the Hub: Task error: CAS"):
        loading.local_folder("org/name", None)


def test_a_copy_of_the_weights_is_neither_fetched_nor_counted(folder, monkeypatch):
    before = load_base(str(folder)).identity
    (folder / "consolidated.safetensors").write_bytes(b"the same in another format")
    assert load_base(str(folder)).identity == before
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **how: asked.append(how) or folder)
    loading.local_folder("org/name", None)
    [how] = asked
    patterns = {name: how[name] for name in ("allow_patterns", "ignore_patterns")}
    names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "consolidated.safetensors",
        "original/w.safetensors",
    ]
    assert list(filter_repo_objects(names, **patterns)) == names[:2]


def test_a_tokenizer_must_say_what_ends_a_text(folder):
    change(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(IAError, match="no token that ends a text"):
        load_base(str(folder))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        # GPT-2's layers are transposed ones of a class of their own.
        (GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=90)), "has no linear layers"),
        (MambaForCausalLM(MambaConfig(num_hidden_layers=1, hidden_size=8)), "keeps no keys and values"),
    ],
)
def test_a_base_that_cannot_be_used_is_told(folder, model, message):
    for path in (folder / "config.json", folder / "model.safetensors", folder / "generation_config.json"):
        path.unlink(missing_ok=True)
    model.save_pretrained(folder)
    with pytest.raises(IAError, match=f"a {type(model).__name__} {message}"):
        load_base(str(folder))


def test_targets_are_ends_of_names():
    assert is_target("model.layers.0.self_attn.q_proj", ["v_proj", "self_attn.q_proj"])
    assert not is_target("model.layers.0.self_attn.q_proj", ["proj", "elf_attn.q_proj"])


def test_target_names_are_whole_where_the_last_part_fits_others_too(tiny_base):
    mine = [name for name in linear_modules(tiny_base.model) if name.endswith("q_proj")]
    assert target_names(tiny_base, ["self_attn.q_proj"]) == ["q_proj"]
    assert target_names(tiny_base, ["layers.0.self_attn.q_proj"]) == ["model.layers.0.self_attn.q_proj"]
    tiny_base.model.add_module("vision", torch.nn.ModuleDict({"q_proj": torch.nn.Linear(2, 2)}))
    assert list(linear_modules(tiny_base.model)).count("vision.q_proj") == 0
    assert target_names(tiny_base, ["q_proj"]) == mine
    assert target_names(tiny_base, ["v_proj"]) == ["v_proj"]


def test_the_command_line_hands_all_of_it_on(monkeypatch, tmp_path):
    given = {}

    def load(name, **options):
        given.update(options, name=name)
        raise IAError("enough")

    monkeypatch.setattr("ia_cli.models.load_base", load)
    options = "--base here --revision 1a --dtype float16 --device cuda:1 --attn-implementation eager".split()
    run = CliRunner().invoke(cli, ["gen-behaviors", "-n", "1", *options, "--load-in-4bit"])
    assert run.exit_code == 1 and "enough" in run.stderr
    expected = dict(name="here", revision="1a", dtype="float16", device="cuda:1")
    assert given == {**expected, "attn_implementation": "eager", "load_in_4bit": True, "weights": True}
    assert CliRunner().invoke(cli, ["check", "--base", "here", str(tmp_path)]).exit_code == 1
    assert (given["name"], given["weights"]) == ("here", False)
    run = CliRunner().invoke(cli, ["gen-behaviors", "--revision", "1a"])
    assert run.exit_code == 2 and "--revision needs --base" in run.stderr


def test_libraries_tell_nobody_anything():
    code = """
import os, sys
sys.argv = ["ia", "--version"]
from ia_cli.main import main
try:
    main()
finally:
    print(os.environ["HF_HUB_DISABLE_TELEMETRY"])
"""
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=root
    )
    assert run.stdout.split()[-1] == "1", run.stderr


def test_in_the_cache_of_the_hub_weights_are_known_by_their_name(tmp_path, tiny_folder):
    """It is the SHA-256 of what they were when they came, which spares reading all of a large base."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for path in tiny_folder.iterdir():
        name = hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".safetensors" else path.name
        shutil.copy(path, blobs / name)
        (snapshot / path.name).symlink_to(f"../../blobs/{name}")
    assert identity(snapshot) == identity(tiny_folder)
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    next(other.glob("*.safetensors")).write_bytes(b"")  # outside the cache it is read
    assert identity(other) != identity(tiny_folder)
    for weights in snapshot.glob("*.safetensors"):
        weights.resolve().write_bytes(b"")
    assert identity(snapshot) == identity(tiny_folder)
