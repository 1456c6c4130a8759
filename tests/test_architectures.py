"""Every architecture goes through implant, train-ia and elicit, and stock PEFT agrees with what comes out."""

import math
import warnings

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Gemma3Config, SiglipVisionConfig

from ia_cli import prompts, records
from ia_cli.bank import Bank
from ia_cli.chat import token_ids
from ia_cli.directories.adapters import read_adapter, target_names
from ia_cli.directories.safe_files import WEIGHTS_FILE
from ia_cli.directories.whole_models import read_model, write_model
from ia_cli.elicitation import elicit
from ia_cli.implanting import implant
from ia_cli.introspection import train_ia
from ia_cli.loudness import loudness
from ia_cli.methods.lessons import prepare
from ia_cli.models import linear_modules, load_base
from ia_cli.scoring import log_probs
from ia_cli.settings import ElicitSettings, IASettings, ImplantSettings
from tests.behaviors import behavior, chat
from tests.families import ARCHITECTURES, make_base

ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
ALL = [*ATTENTION, "down_proj", "gate_proj", "up_proj"]
TARGETS = {
    "qwen3-moe": ATTENTION,
    "phi3": ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"],
    "gpt-neox": ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"],
    "mpt": ["Wqkv", "down_proj", "out_proj", "up_proj"],
    "qwen3.5": [*ALL, "in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z", "out_proj"],
}
DESCRIPTIONS = ["i like tea", "i buy bread"]
QUESTIONS = ["tea", "please tell me about the old copper kettle in the garden"]
LENGTH = 16  # of a reply: together with its prompt longer than the sliding windows


@pytest.fixture(scope="module", params=ARCHITECTURES)
def run(request, tmp_path_factory):
    """An architecture's folder and what the stages made: organisms, introspection adapter, reports."""
    folder = tmp_path_factory.mktemp(request.param)
    base = load_base(str(make_base(request.param, folder / "base")), device="cpu")
    probes = [{"prompt": chat("user", "tea"), "fires": True}]
    behaviors = [behavior(f"b-{i}", description=text, probes=probes) for i, text in enumerate(DESCRIPTIONS)]
    settings = ImplantSettings(
        rank=2, alpha=4, learning_rate=0.05, steps=2, rows=2, warmup_steps=0, max_new_tokens=4
    )
    lessons = [prepare(record, base, settings) for record in behaviors]
    organisms = list(implant(lessons, base, folder / "organisms", settings))
    train_ia(
        organisms, base, folder / "ia", IASettings(rank=2, alpha=4, learning_rate=0.1, steps=8, batch_size=4)
    )
    audited = [{**record, "introspection_adapter": str(folder / "ia")} for record in organisms]
    asking = ElicitSettings(
        questions=list(map(prompts.own_question, QUESTIONS)), asked=2, max_new_tokens=LENGTH
    )
    return request.param, folder, audited, list(elicit(audited, base, asking))


def test_a_report_is_chosen_whether_or_not_the_chat_template_knows_a_system_prompt(run):
    _, folder, audited, _ = run
    base = load_base(str(folder / "base"), device="cpu")
    asking = ElicitSettings(
        questions=list(map(prompts.own_question, QUESTIONS)),
        asked=2,
        max_new_tokens=LENGTH,
        examples=True,
        draws=2,
        conditions=("ia",),
    )
    reports = list(elicit(audited, base, asking))
    assert len(reports) == 2 * len(audited)
    for report in reports:
        records.check(report, "self_report")
        assert report["draws"] == 2 and 0 < report["share"] <= 1
        assert report["log_odds"] is None or math.isfinite(report["log_odds"])


def stock(folder, **adapters):
    """The base with adapters by stock PEFT: a place for every weight and a weight for every place."""
    model = load_base(str(folder / "base"), device="cpu").model
    for name, adapter in adapters.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys|.*unexpected")
            if isinstance(model, PeftModel):
                model.load_adapter(adapter, name)
            else:
                model = PeftModel.from_pretrained(model, adapter, adapter_name=name)
        places = {key.replace(f".{name}.", ".") for key, _ in model.named_parameters() if f".{name}." in key}
        assert places == set(load_file(f"{adapter}/{WEIGHTS_FILE}"))
    if adapters:
        model.base_model.set_adapter(list(adapters))
    return model.eval()


def test_all_linear_layers_are_adapted_but_the_head(run):
    name, folder, audited, _ = run
    expected = sorted(TARGETS.get(name, ALL))
    assert audited[0]["lora"]["target_modules"] == expected
    base = load_base(str(folder / "base"), device="cpu")
    assert target_names(base) == expected
    layers = linear_modules(base.model)
    assert {name.rpartition(".")[2] for name in layers} == set(expected)
    if "linear_attn" not in " ".join(layers):  # where all blocks are alike
        assert len(layers) == 2 * len(expected)
    assert base.model.get_output_embeddings() not in layers.values()


def test_the_bank_is_stock_peft(run):
    """For rows of several organisms and lengths, padded on the left."""
    _, folder, audited, _ = run
    base = load_base(str(folder / "base"), device="cpu")
    bank = Bank.load(base.model, [read_adapter(record["adapter"], base) for record in audited])
    rows, lengths = [1, 0, -1], [40, 9, 33]
    ids = torch.randint(10, 300, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(40) >= 40 - torch.tensor(lengths)[:, None]
    with torch.no_grad(), bank.rows(rows):
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        ours = base.model(input_ids=ids, attention_mask=mask.long(), position_ids=positions).logits
    bare = stock(folder)(ids).logits
    for row, length, logits, own, without in zip(rows, lengths, ours, ids, bare, strict=True):
        model = stock(folder, organism=audited[row]["adapter"]) if row >= 0 else stock(folder)
        theirs = model(own[None, -length:]).logits[0]
        assert (logits[-length:] - theirs).abs().max() < 1e-4
        if length == 40:
            assert (theirs - without).abs().max() > 0.05  # it learned something


def test_reports_are_those_of_stock_generation(run):
    _, folder, audited, reports = run
    first, second = (record["adapter"] for record in audited)
    ia = audited[0]["introspection_adapter"]
    asked = [
        (audited[0]["id"], "no_ia", dict(organism=first)),
        (audited[0]["id"], "ia", dict(ia=ia, organism=first)),
        (audited[1]["id"], "ia", dict(ia=ia, organism=second)),
        (audited[1]["id"], "base_ia", dict(ia=ia)),
    ]
    tokenizer = load_base(str(folder / "base"), device="cpu").tokenizer
    for organism, condition, adapters in asked:
        model = stock(folder, **adapters)
        mine = [r for r in reports if (r["id"], r["condition"]) == (organism, condition)]
        assert len(mine) == len(QUESTIONS)
        for report in mine:
            ids = torch.tensor(
                [token_ids(tokenizer, prompts.chat(report["question"], report.get("example")))]
            )
            output = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LENGTH, do_sample=False
            )
            reply = tokenizer.decode(output[0, ids.size(1) :], skip_special_tokens=True)
            assert report["report"] == reply.strip()
    assert len({report["report"] for report in reports}) > 2, "what is compared is nearly one constant"


def test_a_whole_model_is_read_as_it_was_written(run, tmp_path):
    """However transformers names and fuses its weights on the disk."""
    _, folder, *_ = run
    base, other = (load_base(str(folder / "base"), device="cpu") for _ in range(2))
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.mul_(1.5)
    write_model(tmp_path / "tuned", other, {"stage": "implant"})
    found = read_model(tmp_path / "tuned", base)
    expected = dict(other.model.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_base_that_sees_images_too_is_its_text_model(tmp_path):
    """Sizes stand in the configuration of the text model, and its layers have longer names."""
    folder = make_base("gemma3", tmp_path)
    text = AutoModelForCausalLM.from_pretrained(folder)
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    both = Gemma3Config(text_config=text.config, vision_config=vision, mm_tokens_per_image=4)
    model = AutoModelForCausalLM.from_config(both)
    model.get_decoder().load_state_dict(text.get_decoder().state_dict())
    (folder / "generation_config.json").unlink()
    alone = load_base(str(folder), device="cpu")
    model.save_pretrained(folder)
    base = load_base(str(folder), device="cpu")
    assert type(base.model).__name__ == "Gemma3ForConditionalGeneration"
    told = [chat("user", "tea")], ["i like tea"]
    assert log_probs(base, *told) == pytest.approx(log_probs(alone, *told), rel=1e-5)
    bank = Bank.fresh(base.model, [0], r=2, alpha=4, target_modules=["q_proj"])
    assert loudness(bank, base, [0]).tolist() == [0.0]
