"""Full fine-tunes are asked like adapters, and what is none of the base is refused."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ia_cli import records
from ia_cli.elicitation import elicit
from ia_cli.errors import IAError
from ia_cli.main import cli
from ia_cli.models import load_base
from ia_cli.organisms import lone_organism
from ia_cli.prompts import Question
from ia_cli.settings import ElicitSettings
from ia_cli.whole_models import as_record, read_model

WEIGHTS, NORM = "model.safetensors", "model.norm.weight"
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
    settings = ElicitSettings(POOL, asked=2, max_new_tokens=10)
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


def edit_vocabulary(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"kettle"', '"cattle"'))


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
        (edit_weights(lambda w: w.update(more=torch.zeros(1))), "it has no more"),
        (edit_weights(lambda w: w.update({NORM: torch.zeros(3)})), r"is \[3\], not \[32\]"),
        (edit_weights(lambda w: w[NORM].fill_(torch.nan)), f"{NORM} is not finite"),
        (
            lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
            "a pickle, which can run code",
        ),
        (lambda folder: (folder / WEIGHTS).unlink(), "has no safetensors weights"),
        (
            edit_weights(lambda w: w.update({NORM: w[NORM].to(torch.float8_e4m3fn)})),
            "is of type",
        ),
        (lambda folder: (folder / "config.json").write_text("[" * 10**6), "not JSON"),
        (lambda folder: (folder / "notes").symlink_to("/etc/hostname"), "links to something outside"),
    ],
)
def test_what_is_no_fine_tune_of_the_base(finetune, tiny_folder, edit, message):
    base = load_base(str(tiny_folder), device="cpu")
    edit(finetune)
    with pytest.raises(IAError, match=message) as caught:
        as_record(read_model(finetune, base), base, str(finetune))
    assert caught.value.remedy and str(finetune) in str(caught.value)
