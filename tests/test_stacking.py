"""A stack does what stock PEFT does with both adapters active, or is refused."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from ia_cli.directories import stacking
from ia_cli.directories.adapters import (
    Adapter,
    plain_config,
    provenance,
    read_adapter,
    weights_hash,
    write_adapter,
)
from ia_cli.directories.safe_files import CONFIG_FILE, PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.directories.stacking import SERVED_RANKS, common_base, served_rank, stack, stack_folders
from ia_cli.errors import IAError
from ia_cli.main import cli
from ia_cli.models import load_base

IDS = torch.tensor([[5, 9, 11, 30, 7]])


def saved(folder, base, seed, **options):
    """An adapter that stock PEFT made of a copy of the base and saved, with nothing zero."""
    model = load_base(base.name, dtype=str(base.model.dtype).removeprefix("torch."), device="cpu").model
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
    peft.save_pretrained(folder / f"adapter-{seed}")
    return folder / f"adapter-{seed}"


def together(base, *folders):
    """The logits of stock PEFT with these adapters active at once, and which layers have one."""
    model = load_base(base.name, dtype=str(base.model.dtype).removeprefix("torch."), device="cpu").model
    peft = PeftModel.from_pretrained(model, folders[0], adapter_name="0")
    for i, folder in enumerate(folders[1:], 1):
        peft.load_adapter(folder, str(i))
    peft.base_model.set_adapter([str(i) for i in range(len(folders))])
    layers = {name for name, module in peft.base_model.model.named_modules() if isinstance(module, LoraLayer)}
    with torch.no_grad():
        return peft.eval()(IDS).logits, layers


PAIRS = {
    "equal ranks": (
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
        dict(r=4, lora_alpha=3, target_modules=["q_proj", "v_proj"]),
    ),
    "unequal ranks and targets": (
        dict(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"]),
        dict(r=5, lora_alpha=7, target_modules="all-linear"),
    ),
    "rsLoRA": (
        dict(r=3, lora_alpha=4, target_modules=["k_proj", "o_proj"], use_rslora=True),
        dict(r=2, lora_alpha=4, target_modules=["k_proj"]),
    ),
    "rank and alpha patterns": (
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj"], rank_pattern={"q_proj": 2}),
        dict(r=4, lora_alpha=8, target_modules="all-linear", alpha_pattern={"layers.1.*.k_proj": 3}),
    ),
    "rsLoRA and patterns": (
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj"],
            use_rslora=True,
            rank_pattern={"0.self_attn.q_proj": 1},
        ),
        dict(r=4, lora_alpha=8, target_modules=["q_proj"], use_rslora=True, alpha_pattern={"1.*.q_proj": 5}),
    ),
    "single layers": (
        dict(r=2, lora_alpha=8, target_modules=["k_proj"], layers_to_transform=0, layers_pattern="layers"),
        dict(r=3, lora_alpha=8, target_modules=["model.layers.1.mlp.up_proj"]),
    ),
    "patterns for targets": (
        dict(
            r=2, lora_alpha=8, target_modules=r".*\.(q|v)_proj", exclude_modules=["layers.0.self_attn.v_proj"]
        ),
        dict(r=3, lora_alpha=8, target_modules=["v_proj"]),
    ),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_stack_equals_both_adapters_in_stock_peft(tmp_path, tiny_base, pair):
    folders = [saved(tmp_path, tiny_base, seed, **options) for seed, options in enumerate(pair)]
    made = stack_folders(folders, tmp_path / "stack", base=tiny_base)
    expected, layers = together(tiny_base, *folders)
    got, got_layers = together(tiny_base, tmp_path / "stack")
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(expected, tiny_base.model(IDS).logits, rtol=0, atol=1e-3)
    assert got_layers == layers == set(made.tensors)


def test_three_adapters_in_float32_stack_too(tmp_path, tiny_folder):
    base = load_base(str(tiny_folder), device="cpu")
    folders = [saved(tmp_path, base, r, r=r, target_modules=["q_proj", "up_proj"]) for r in (1, 2, 3)]
    made = stack_folders(folders, tmp_path / "stack", rank=8)
    assert made.rank == 8
    assert torch.allclose(
        together(base, tmp_path / "stack")[0], together(base, *folders)[0], rtol=0, atol=1e-5
    )


def adapter(shapes, ranks, scaling, seed, dtype=torch.float32):
    """A random LoRA: `ranks` by layer, with these scalings."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: tuple(
            torch.randn(*size, generator=generator).to(dtype)
            for size in ((r, shapes[name][1]), (shapes[name][0], r))
        )
        for name, r in ranks.items()
    }
    return Adapter(plain_config(1, 1, list(ranks)), tensors, scaling)


SHAPES = {"x.q": (3, 4), "x.k": (2, 4), "y.q": (3, 4)}
ADAPTERS = st.dictionaries(
    st.sampled_from(sorted(SHAPES)), st.tuples(st.integers(1, 5), st.floats(1e-3, 1e3)), min_size=1
)


@given(
    st.lists(ADAPTERS, min_size=2, max_size=4), st.integers(0, 9), st.sampled_from(["float32", "bfloat16"])
)
def test_every_layer_of_a_stack_is_the_sum_of_its_parts(parts, spare, dtype):
    adapters = [
        adapter(
            SHAPES,
            {name: r for name, (r, _) in part.items()},
            {name: scaling for name, (_, scaling) in part.items()},
            seed,
            getattr(torch, dtype),
        )
        for seed, part in enumerate(parts)
    ]
    smallest = stack(adapters)
    made = stack(adapters, smallest.rank + spare)
    for name in {name for part in parts for name in part}:
        a, b = (tensor.double() for tensor in made.tensors[name])
        one, other = (
            [two[i].double() for two in (part.tensors[name] for part in adapters if name in part.tensors)]
            for i in (0, 1)
        )
        factors = [part.scaling[name] for part in adapters if name in part.tensors]
        sums = sum(s * right @ left for s, left, right in zip(factors, one, other, strict=True))
        size = sum(s * right.abs() @ left.abs() for s, left, right in zip(factors, one, other, strict=True))
        assert ((made.scaling[name] * b @ a - sums).abs() <= 2**-24 * size).all()
        assert a.size(0) == b.size(1) == made.config["r"] == made.config["lora_alpha"]
    assert any(a.size(0) == sum(part[name][0] for part in parts if name in part)
               for name, (a, _) in smallest.tensors.items())  # fmt: skip


def test_the_files_are_what_other_engines_take(tmp_path, tiny_base):
    options = dict(r=3, lora_alpha=7, use_rslora=True, rank_pattern={"q_proj": 2}, lora_dropout=0.1)
    one = saved(tmp_path, tiny_base, 1, target_modules=["q_proj", "k_proj"], **options)
    two = saved(tmp_path, tiny_base, 2, r=2, target_modules=["k_proj", "gate_proj"])
    stack_folders([one, two], tmp_path / "stack", base=tiny_base)
    config = json.loads((tmp_path / "stack" / CONFIG_FILE).read_text())
    assert config["target_modules"] == ["gate_proj", "k_proj", "q_proj"]
    assert (config["r"], config["lora_alpha"], config["bias"]) == (5, 5, "none")
    # vLLM and llama.cpp refuse, or do not know, what these say; llama.cpp looks the base up by its name.
    unknown = {"use_rslora", "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"}
    assert not unknown & set(config) and config["base_model_name_or_path"] == tiny_base.name
    for name, tensor in load_file(tmp_path / "stack" / WEIGHTS_FILE).items():
        assert name.startswith("base_model.model.model.layers.")
        assert tensor.size({"A": 0, "B": 1}[name.split(".")[-2][-1]]) == 5


def test_a_stack_says_where_it_came_from(tmp_path, tiny_base):
    folders = [saved(tmp_path, tiny_base, seed, r=2, target_modules=["q_proj"]) for seed in (1, 2)]
    stack_folders(folders, tmp_path / "stack", rank=8, base=tiny_base)
    read = read_adapter(tmp_path / "stack", tiny_base)
    assert read.provenance["parents"] == [
        {"id": folder.name, "sha256": weights_hash(folder)} for folder in folders
    ]
    assert read.provenance["stage"] == "stack" and read.provenance["arguments"] == {"rank": 8}
    assert read.made_for == tiny_base.as_record()


def test_an_adapter_of_the_hub_is_named_as_there(tmp_path, tiny_base, monkeypatch):
    folder = saved(tmp_path, tiny_base, 1, r=2, target_modules=["q_proj"])
    name = f"someone/adapter@{'0' * 40}"
    monkeypatch.setattr(stacking, "adapter_folder", lambda given: folder if given == name else Path(given))
    made = stack_folders([name, folder], tmp_path / "stack", base=tiny_base)
    assert [parent["id"] for parent in made.provenance["parents"]] == [name, folder.name]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(use_dora=True), "use_dora = True is more than a plain LoRA"),
        (dict(lora_bias=True), "lora_bias = True is more"),
        (dict(bias="lora_only"), "bias = 'lora_only' is more"),
        (dict(modules_to_save=["lm_head"]), "modules_to_save = .* is more"),
        (dict(trainable_token_indices=[3]), "trainable_token_indices = .* is more"),
        (dict(target_modules=["q_proj", "embed_tokens"]), "not pairs of lora_A and lora_B: .*embed_tokens"),
    ],
)
def test_what_cannot_be_exact_is_refused_in_one_line(tmp_path, tiny_base, options, reason):
    plain = saved(tmp_path, tiny_base, 1, r=2, target_modules=["q_proj"])
    odd = saved(tmp_path, tiny_base, 2, **{"r": 2, "target_modules": ["q_proj"], **options})
    for folders in ([plain, odd], [odd, plain]):
        with pytest.raises(IAError, match=reason) as error:
            stack_folders(folders, tmp_path / "stack")
        assert "\n" not in str(error.value) and error.value.remedy and str(odd) in str(error.value)
    assert not (tmp_path / "stack").exists()


def test_too_small_a_rank_is_refused():
    parts = [adapter(SHAPES, {"x.q": r}, {"x.q": 1.0}, r) for r in (2, 3)]
    with pytest.raises(IAError, match="rank 5, more than 4; give --rank 5"):
        stack(parts, 4)


def test_a_scaling_that_b_cannot_hold_goes_into_a(tmp_path, tiny_base):
    one = saved(tmp_path, tiny_base, 1, r=1, target_modules=["q_proj"])
    config = json.loads((one / CONFIG_FILE).read_text())
    (one / CONFIG_FILE).write_text(json.dumps(config | {"lora_alpha": 1e12}))
    weights = load_file(one / WEIGHTS_FILE)
    save_file({name: tensor * 1e-6 for name, tensor in weights.items()}, one / WEIGHTS_FILE)
    made = stack_folders([one, one], tmp_path / "stack")
    assert read_adapter(tmp_path / "stack", tiny_base).rank == 2
    for name, (a, b) in made.tensors.items():
        own_a, own_b = read_adapter(one, tiny_base).tensors[name]
        assert b.abs().max() <= 65504
        assert torch.allclose(b @ a, 2 * 1e12 * own_b @ own_a, rtol=1e-5)


def test_a_stack_is_no_larger_than_what_is_read(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr("ia_cli.directories.stacking.LARGEST_RANK", 3)
    parts = [saved(tmp_path, tiny_base, r, r=2, target_modules=["q_proj"]) for r in (1, 2)]
    with pytest.raises(IAError, match="together they have rank 4, more than 3"):
        stack_folders(parts, tmp_path / "stack")
    assert not (tmp_path / "stack").exists()


def test_different_shapes_are_different_bases():
    one, two = (adapter({"x.q": (3, n)}, {"x.q": 1}, {"x.q": 1.0}, n) for n in (4, 5))
    with pytest.raises(IAError, match=r"different bases: x\.q is \(3, 4\) and \(3, 5\)"):
        stack([one, two])


def said(name, identity, revision=None):
    return {"name": name, "revision": revision, "identity": identity}


@pytest.mark.parametrize(
    ("bases", "result"),
    [
        ([said("m", "1"), said("/copy/of/m", "1")], said("m", "1")),
        ([said("m", "1"), said("m", "2")], None),
        ([said("m", None), said("m", "2")], said("m", "2")),
        ([said("m", None), said("n", "2")], None),
        ([said(None, None), said("m", None), said(None, None)], said("m", None)),
        ([said("m", None), said(None, None), said("n", None)], None),
        ([said("/site/ia_cli/base", None), said("ia_cli/base", "3")], said("ia_cli/base", "3")),
        ([said({"a": 1}, ["2"]), said({"a": 1}, ["2"])], said("{'a': 1}", "['2']")),
    ],
)
def test_bases_must_agree_where_adapters_name_them(bases, result):
    adapters = [Adapter({}, {}, {}, {"base": base}) for base in bases]
    if result:
        assert common_base(adapters) == result
    else:
        with pytest.raises(IAError, match="made for different bases"):
            common_base(adapters)


def test_layers_of_other_names_are_not_put_side_by_side(tmp_path, tiny_base):
    folders = [saved(tmp_path, tiny_base, seed, r=2, target_modules=["q_proj"]) for seed in (1, 2)]
    weights = load_file(folders[1] / WEIGHTS_FILE)
    save_file(
        {key.replace("model.layers", "model.language_model.layers"): weights[key] for key in weights},
        folders[1] / WEIGHTS_FILE,
    )
    with pytest.raises(IAError, match=r"calls its layers model\.language_model\.layers\.\.\., where"):
        stack_folders(folders, tmp_path / "stack")


def test_a_base_decides_where_names_differ(tmp_path, tiny_base):
    folders = [saved(tmp_path, tiny_base, seed, r=2, target_modules=["q_proj"]) for seed in (1, 2)]
    config = json.loads((folders[0] / CONFIG_FILE).read_text())
    (folders[0] / CONFIG_FILE).write_text(json.dumps({**config, "base_model_name_or_path": "a/mirror"}))
    with pytest.raises(IAError, match=r"different bases, a/mirror and .*--base"):
        stack_folders(folders, tmp_path / "stack")
    made = stack_folders(folders, tmp_path / "stack", base=tiny_base)
    assert made.made_for["name"] == tiny_base.name


@pytest.mark.parametrize(
    ("rank", "served"), [(1, 1), (2, 8), (8, 8), (24, 32), (257, 320), (512, 512), (513, None)]
)
def test_served_rank_is_the_next_that_vllm_knows(rank, served):
    assert served_rank(rank) == served and served in (*SERVED_RANKS, None)


@pytest.fixture
def two(tmp_path, tiny_base):
    parts = {}
    for i in (1, 2):
        part = adapter({"model.layers.0.mlp.up_proj": (48, 32)}, {"model.layers.0.mlp.up_proj": i},
                       {"model.layers.0.mlp.up_proj": 1.0}, i)  # fmt: skip
        part.config.update(r=i, lora_alpha=i)
        parts[i] = tmp_path / f"part-{i}"
        write_adapter(parts[i], part, provenance("implant", tiny_base, {}))
    return [str(path) for path in parts.values()]


def test_command_writes_one_record(two, tmp_path, tiny_folder):
    out = tmp_path / "both"
    result = CliRunner().invoke(cli, ["stack", *two, "--out", str(out), "--base", str(tiny_folder)])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["adapter"] == str(out) and record["rank"] == 3 and record["target_modules"] == ["up_proj"]
    assert record["base_model"] == str(tiny_folder)
    assert "one of rank 3 (vLLM needs --max-lora-rank 8)" in result.stderr
    again = CliRunner().invoke(cli, ["stack", *reversed(two), "--out", str(out), "--rank", "16", "-q"])
    assert (again.exit_code, again.stderr) == (0, "")
    assert json.loads((out / PROVENANCE_FILE).read_text())["arguments"] == {"rank": 16}


def test_command_never_overwrites_what_is_not_a_stack(two, tmp_path):
    before = weights_hash(two[0])
    for out in two:
        result = CliRunner().invoke(cli, ["stack", *two, "--out", out])
        assert result.exit_code == 1 and result.stdout == ""
        assert f"ia stack: {out}: exists and was not made by `ia stack`; choose another" in result.stderr
    (tmp_path / "mine").mkdir()
    assert CliRunner().invoke(cli, ["stack", *two, "--out", str(tmp_path / "mine")]).exit_code == 1
    assert weights_hash(two[0]) == before


def test_one_adapter_is_a_usage_error(two, tmp_path):
    result = CliRunner().invoke(cli, ["stack", two[0], "--out", str(tmp_path / "both")])
    assert result.exit_code == 2 and "give two adapters or more" in result.stderr
