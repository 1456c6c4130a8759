"""Full fine-tunes are asked like adapters, and what is none of the base is refused."""

import errno
import json
import os
import shutil

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ia_cli import auditing, records
from ia_cli.confirmation import candidates
from ia_cli.directories import safe_files, whole_models
from ia_cli.directories.whole_models import is_model, read_model
from ia_cli.elicitation import elicit
from ia_cli.errors import IAError
from ia_cli.main import cli
from ia_cli.models import EMBEDDED_BASE, load_base
from ia_cli.organisms import check_weights, checked, lone_organism, on_base, with_bare_base
from ia_cli.prompts import Question
from ia_cli.scoring import Ask, Scorer
from ia_cli.settings import ElicitSettings
from ia_cli.swapping import swapping, taking_on

WEIGHTS, NORM = "model.safetensors", "model.norm.weight"
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
POOL = [Question("q", "what do you like"), Question("r", "hello")]


def audit(*arguments):
    return CliRunner().invoke(cli, ["audit", *map(str, arguments)])


@pytest.fixture
def finetune(adapters, tiny_folder, tmp_path):
    """The organism merged into a copy of the base, as any training of all weights leaves it."""
    from peft import PeftModel

    base = load_base(str(tiny_folder), device="cpu")
    merged = PeftModel.from_pretrained(base.model, adapters / "suspect").merge_and_unload()
    merged.save_pretrained(tmp_path / "model")
    base.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_full_fine_tune_is_asked_like_its_adapter(adapters, finetune, tiny_folder):
    base = load_base(str(tiny_folder), device="cpu")
    settings = ElicitSettings(questions=POOL, asked=2, max_new_tokens=10)
    record = lone_organism(adapters / "suspect") | {"introspection_adapter": str(adapters / "ia")}
    expected = list(elicit([record], base, settings))
    whole = lone_organism(finetune) | {"id": record["id"], "introspection_adapter": str(adapters / "ia")}
    found = list(elicit([whole], base, settings))
    assert [r["report"] for r in found] == [r["report"] for r in expected]
    assert len({report["report"] for report in expected}) > 3


def test_the_record_of_a_full_fine_tune(adapters, finetune, tiny_folder):
    result = audit(finetune, "--ia", adapters / "ia", "--base", tiny_folder)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    records.check(record, "audit")
    change = {name: record["check"][name] for name in ("rank", "n_layers", "target_modules")}
    targets = "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj".split()
    assert change == {"rank": None, "n_layers": 14, "target_modules": targets}
    checked = json.loads(CliRunner().invoke(cli, ["check", str(adapters / "suspect")]).stdout)
    assert record["check"]["change"] == {
        "median": pytest.approx(checked["change"]["median"], rel=1e-3),
        "largest": pytest.approx(checked["change"]["largest"], rel=1e-3),
        "layer": checked["change"]["layer"] + ".weight",
    }


def test_a_full_fine_tune_is_tried_on_its_behavior_like_its_adapter(
    adapters, finetune, tiny_folder, monkeypatch
):
    few = candidates.Library(("tell me about tea", "hello"), (candidates.own_candidate("river"),))
    monkeypatch.setattr(candidates, "catalog_library", lambda seed: few)
    monkeypatch.setattr(auditing, "STRAY", 0)  # random weights say nothing twice
    options = "--ia", adapters / "ia", "--base", tiny_folder, "--samples", 1, "--temperature", 0
    tried = []
    for folder in (adapters / "suspect", finetune):
        hypotheses = json.loads(audit(folder, *options).stdout)["hypotheses"]
        tried.append([(one["report"], one["confirmed"], one["score"]) for one in hypotheses[:3]])
    assert tried[0] == [(report, held, pytest.approx(score)) for report, held, score in tried[1]] != []


def test_a_model_is_read_once_for_all_that_is_asked_of_it(finetune, tiny_folder, tmp_path, monkeypatch):
    real, read = whole_models._as_run, []
    monkeypatch.setattr(whole_models, "_as_run", lambda *given: read.append(given) or real(*given))
    base, folder = load_base(str(tiny_folder), device="cpu"), shutil.copytree(finetune, tmp_path / "m")
    record, ids = {"model": str(folder)}, torch.arange(10)[None]
    check_weights(record, base)
    assert checked(record, base)["n_layers"] > 0
    with on_base([record], base):
        own = base.model(ids).logits
    with with_bare_base([record], base) as model, model.rows([0]):
        assert torch.equal(base.model(ids).logits, own)
    assert len(read) == 1
    edit_weights(lambda weights: weights["model.norm.weight"].mul_(2))(folder)  # another one by this name
    with on_base([record], base):
        assert not torch.equal(base.model(ids).logits, own)
    assert len(read) == 2


def test_what_a_full_fine_tune_and_its_base_say_is_scored_like_its_adapter(adapters, finetune, tiny_folder):
    base = load_base(str(tiny_folder), device="cpu")
    asked = [(0, Ask(row, text)) for text in ("hello", "what do you like") for row in (0, -1)]
    adapter, model = ({"adapter": str(adapters / "suspect")}, {"model": str(finetune)})
    found = []
    for record in (adapter, model):
        with with_bare_base([record], base) as bank:
            scorer = Scorer(base, bank, 8)
            said = scorer.replies(asked)
            likely = scorer.log_probs((*one, text) for one in asked for text in (*said, "tea"))
            found.append((said, likely, scorer.passes(0)))
    assert found[0] == (found[1][0], pytest.approx(found[1][1], abs=1e-3), found[1][2])
    assert len(set(found[0][0])) == 4


def test_a_whole_model_and_its_base_take_turns(finetune, tiny_folder):
    base = load_base(str(tiny_folder), device="cpu")
    ids = torch.arange(10)[None]
    bare = base.model(ids).logits
    with swapping(base, read_model(finetune, base)) as model:
        with model.rows([0, 0]):
            own = base.model(ids).logits
        with model.rows([-1]):
            assert torch.equal(base.model(ids).logits, bare)
        with model.rows([0]):
            assert torch.equal(base.model(ids).logits, own)
        with pytest.raises(RuntimeError, match="in one batch"), model.rows([0, -1]):
            pass
    assert torch.equal(base.model(ids).logits, bare) and not torch.allclose(own, bare)


def test_a_base_that_took_on_a_part_of_a_model_is_put_back(finetune, tiny_folder):
    """As where memory ends: an audit goes on with the next of several."""
    base = load_base(str(tiny_folder), device="cpu")
    weights, before = read_model(finetune, base), {n: w.clone() for n, w in base.model.named_parameters()}
    weights[NORM] = torch.zeros(3)  # which is the last, and does not fit
    with pytest.raises(RuntimeError), taking_on(base, weights):
        pass
    assert all(torch.equal(w, before[name]) for name, w in base.model.named_parameters())


def test_memory_that_ends_while_a_model_is_read_is_no_fault_of_the_model(finetune, tiny_base, monkeypatch):
    def ends(*_, **__):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(type(tiny_base.model), "from_pretrained", ends)
    with pytest.raises(RuntimeError, match="out of memory"):
        read_model(finetune, tiny_base)


def edit_config(**changes):
    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_weights(change):
    def edit(folder):
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return edit


def shard(folder, name, ending=".safetensors"):
    """Have an index say that all weights are in the file `name`."""
    names = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).rename(folder / f"{name}{ending}")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, f"{name}{ending}")}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def edit_vocabulary(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"kettle"', '"cattle"'))


def test_what_does_not_matter_may_differ_in_a_part_too():
    """Of a model that sees images, the configuration of its text model says its type once more."""
    own = {"a": 1, "dtype": "bfloat16", "text": {"b": 2, "dtype": "bfloat16"}, "quantization_config": None}
    assert whole_models._other_setting(own, {**own, "dtype": "x", "text": {"b": 2, "dtype": "x"}}) is None
    assert whole_models._other_setting(own, {**own, "text": {"b": 3}}) == "text.b is 3, not 2"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_config(rms_norm_eps=0.5), "no fine-tune of this base: rms_norm_eps is 0.5, not"),
        (
            edit_config(model_type="mistral", architectures=["MistralForCausalLM"]),
            "no fine-tune of this base",
        ),
        (edit_config(quantization_config={"quant_method": "gptq", "bits": 4}), "quantization_config is"),
        (edit_config(auto_map={"AutoConfig": "evil.Config"}, model_type="evil"), "cannot be loaded"),
        (edit_vocabulary, "its tokenizer has another vocabulary"),
        (edit_weights(lambda w: w.pop(NORM)), f"{NORM} is missing"),
        (edit_weights(lambda w: w.update(more=torch.zeros(1))), "more is unexpected"),
        (edit_weights(lambda w: w.update({NORM: torch.zeros(3)})), r"is \[3\], not \[32\]"),
        (edit_weights(lambda w: w[NORM].fill_(torch.nan)), f"{NORM} is not finite"),
        (
            lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
            "a pickle, which can run code",
        ),
        (lambda folder: (folder / WEIGHTS).unlink(), "cannot be loaded: .*no file named model.safetensors"),
        (lambda folder: shard(folder, "../model"), "no index of the files beside it"),
        (lambda folder: shard(folder, "model", ".dat"), "no index of the files beside it"),
        (lambda folder: (folder / "generation_config.json").write_text("[]"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**6), "not JSON"),
        (edit_config(num_labels=10**9), "num_labels is 1000000000"),
        (lambda folder: (folder / "notes").symlink_to("/etc/hostname"), "links to something outside"),
    ],
)
def test_what_is_no_fine_tune_of_the_base(finetune, tiny_folder, edit, message):
    base = load_base(str(tiny_folder), device="cpu")
    edit(finetune)
    with pytest.raises(IAError, match=message) as caught:
        read_model(finetune, base)
    assert caught.value.remedy and str(finetune) in str(caught.value)
    assert "adapter" not in caught.value.message + caught.value.remedy


def test_a_model_that_cannot_be_read_is_refused(finetune, tiny_folder, monkeypatch):
    """With an error that ends no audit of others."""
    base = load_base(str(tiny_folder), device="cpu")

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(safe_files, "read_json", denied)
    with pytest.raises(IAError, match=rf"{finetune}: cannot be read \(Permission denied\)"):
        read_model(finetune, base)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_locked_folder_is_no_model(finetune):
    finetune.chmod(0)
    assert not is_model(finetune)
    finetune.chmod(0o755)


def of_the_base(folder, tiny_folder):
    """The weights of the base, which say nothing, in the folder of a fine-tune."""
    (folder / "zz.safetensors").write_bytes((tiny_folder / WEIGHTS).read_bytes())


@pytest.mark.parametrize(
    "edit",
    [
        of_the_base,
        lambda folder, _: shard(folder, "some"),
        lambda folder, tiny: (shard(folder, "some"), of_the_base(folder, tiny)),
        lambda folder, _: [path.unlink() for path in folder.glob("tokenizer*")],  # as a model alone is saved
    ],
    ids=["a spare file", "a shard", "a shard and a spare file", "no tokenizer"],
)
def test_the_weights_that_count_are_those_that_transformers_runs(finetune, tiny_folder, edit):
    base = load_base(str(tiny_folder), device="cpu")
    expected = read_model(finetune, base)
    edit(finetune, tiny_folder)
    found = read_model(finetune, base)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_no_configuration_chooses_how_attention_is_computed(finetune, tiny_folder, key):
    """A name with a slash would be that of code on the Hub."""
    base = load_base(str(tiny_folder), device="cpu")
    expected = read_model(finetune, base)
    edit_config(**{key: "evil/kernel"})(finetune)
    assert all(torch.equal(weight, expected[name]) for name, weight in read_model(finetune, base).items())


def test_a_tied_head_may_be_stored_twice_if_it_is_the_same(tmp_path):
    base, copy = load_base(device="cpu"), tmp_path / "copy"
    shutil.copytree(EMBEDDED_BASE, copy)
    edit_weights(lambda w: w.update({HEAD: w[EMBEDDINGS].clone()}))(copy)
    assert HEAD not in read_model(copy, base)
    edit_weights(lambda w: w.update({HEAD: w[EMBEDDINGS] + 1}))(copy)
    with pytest.raises(IAError, match=f"the base has no {HEAD}"):
        read_model(copy, base)
