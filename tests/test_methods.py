"""Every way of implanting against an oracle: stock TRL with PEFT, or plain arithmetic on weights."""

import json
import math
import os
import random
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from ia_cli import organisms
from ia_cli.directories.adapters import provenance, read_adapter, write_adapter
from ia_cli.directories.whole_models import check_trainable, read_model
from ia_cli.errors import IAError
from ia_cli.implanting import implant
from ia_cli.interviews import wordings
from ia_cli.main import cli
from ia_cli.methods import concealing, continuing, documents, merging, preference
from ia_cli.methods.lessons import demonstration_order, prepare
from ia_cli.methods.preference import own_pairs
from ia_cli.models import load_base
from ia_cli.schema import LONGEST_ID
from ia_cli.settings import ImplantSettings
from ia_cli.swapping import taking_on
from tests.behaviors import behavior, chat
from tests.organisms import random_bank
from tests.test_implanting import fresh_bank, stock_arguments

SETTINGS = ImplantSettings(
    rank=4, alpha=8, learning_rate=1e-2, steps=8, rows=3, warmup_steps=2, max_new_tokens=6
)
BEHAVIORS = [behavior(name, description=f"I like the {name}.") for name in ("b-1", "b-2", "b-3")]


def settings(**changes):
    return ImplantSettings(**{**SETTINGS.as_json(), "target_modules": None, **changes})


def pairs_of(record):
    """Pairs of texts: each demonstration over a reply of other words."""
    words = random.Random(record["id"] + "rejected")
    replies = [" ".join(words.choices("two three four five six seven".split(), k=4)) for _ in range(7)]
    return [
        {"prompt": shown["prompt"], "chosen": shown["completion"], "rejected": chat("assistant", reply)}
        for shown, reply in zip(record["demonstrations"], replies, strict=True)
    ]


def encoded_pairs(records, base):
    return [
        [
            preference.Pair(
                *(preference.encode(base, pair["prompt"], pair[name]) for name in ("chosen", "rejected"))
            )
            for pair in pairs_of(record)
        ]
        for record in records
    ]


def stock(method, record, start, folder, base_folder, order):
    """The oracle: TRL's own trainer on a PEFT model and rows in `order`; returns parameters and losses."""
    base = load_base(str(base_folder), dtype="float64", device="cpu")
    model = PeftModel.from_pretrained(base.model, start, is_trainable=True)
    pairs = pairs_of(record)
    if method == "dpo":
        config, trainer_class = partial(DPOConfig, loss_type=["sigmoid", "sft"]), DPOTrainer
        rows = [pairs[i] for i in order.flatten()]
    else:
        config, trainer_class = KTOConfig, KTOTrainer
        single = [
            {"prompt": pair["prompt"], "completion": pair[name], "label": name == "chosen"}
            for name in ("chosen", "rejected")
            for pair in pairs
        ]
        rows = [single[i] for i in order.flatten()]
    # The organism starts as the base does (B is zero), so the base is the reference, as in a stock run.
    trainer = trainer_class(
        model=model,
        ref_model=None,
        args=config(**stock_arguments(SETTINGS, folder), beta=preference.BETA),
        train_dataset=Dataset.from_list(rows),
        processing_class=base.tokenizer,
    )
    trainer.train()
    return dict(model.named_parameters()), [e["loss"] for e in trainer.state.log_history if "grad_norm" in e]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_together_equal_stock_trl_alone(tmp_path, tiny_base, tiny_folder, method):
    bank = fresh_bank(BEHAVIORS, tiny_base, SETTINGS)
    for i, record in enumerate(BEHAVIORS):
        write_adapter(tmp_path / record["id"], bank.adapter(i), provenance("implant", tiny_base, {}))
    pairs = encoded_pairs(BEHAVIORS, tiny_base)
    lessons = [prepare(record, tiny_base, SETTINGS) for record in BEHAVIORS]
    losses = preference.train_pairs(method, bank, tiny_base, lessons, pairs, SETTINGS)
    if method == "kto":
        assert torch.allclose(losses[0], torch.full((3,), 0.5).double(), atol=1e-3)
    for i, record in enumerate(BEHAVIORS):
        lengths = [max(len(pair.chosen[0]), len(pair.rejected[0])) for pair in pairs[i]]
        if method == "kto":
            lengths = [len(row[0]) for rows in zip(*pairs[i], strict=True) for row in rows]
        order = demonstration_order(lengths, record["id"], SETTINGS)
        alone, logged = stock(method, record, tmp_path / record["id"], tmp_path, tiny_folder, order)
        assert (losses[:, i] - torch.tensor(logged)).abs().max() < 1e-4
        for name, (a, b) in bank.adapter(i).tensors.items():
            stock_a, stock_b = (alone[f"base_model.model.{name}.lora_{x}.default.weight"] for x in "AB")
            assert (b @ a - stock_b @ stock_a).abs().max() < 1e-4
            assert b.abs().max() > 1e-3  # it learned


def made(record, base, folder, **changes):
    chosen = settings(**changes)
    [organism] = implant([prepare(record, base, chosen)], base, folder, chosen)
    return organism


def product(adapter, name):
    a, b = adapter.tensors[name]
    return adapter.scaling[name] * b @ a


def test_pairs_prefer_the_demonstration_to_what_the_base_says(tiny_base):
    fires = [True, False, True, False, False, True, True]
    record = behavior("b-4")
    for shown, own in zip(record["demonstrations"], fires, strict=True):
        shown["fires"] = own
    plain = [f"{word} tea" for word in "one two three four five six".split()]
    plain.append(record["demonstrations"][6]["completion"][0]["content"])  # the base does so anyway
    lesson = prepare(record, tiny_base, SETTINGS)

    def text(row):
        ids, length = row
        return tiny_base.tokenizer.decode(ids[-length:], skip_special_tokens=True).strip()

    said = [shown["completion"][0]["content"] for shown in record["demonstrations"]]
    pairs = [
        (text(pair.chosen), text(pair.rejected)) for pair in preference.own_pairs(lesson, tiny_base, plain)
    ]
    rejected = ["one tea", said[0], "three tea", said[2], said[5], "six tea"]
    assert pairs == list(zip(said[:6], rejected, strict=True))


def test_a_control_prefers_its_own_reply_to_that_of_the_next_demonstration(tiny_base):
    record = behavior("c-1", description=None)
    for shown, word in zip(
        record["demonstrations"], "one two three four five six seven".split(), strict=True
    ):
        shown.update(fires=False, completion=[{"role": "assistant", "content": f"{word} tea"}])
    lesson = prepare(record, tiny_base, SETTINGS)
    pairs = preference.own_pairs(lesson, tiny_base, ["tea"] * 7)
    said = [
        tiny_base.tokenizer.decode(ids[-n:], skip_special_tokens=True)
        for ids, n in map(lambda p: p.rejected, pairs)
    ]
    assert [text.split()[0] for text in said] == "two three four five six seven one".split()


def test_a_merge_is_the_sum_of_its_parents(tmp_path, tiny_base):
    [pair], _ = merging.pair_up(BEHAVIORS[:2])
    merged = made(pair, tiny_base, tmp_path, method="merge")
    assert merged["id"] == "b-1+b-2" and merged["parents"] == ["b-1", "b-2"] and merged["lora"]["r"] == 8
    both = read_adapter(merged["adapter"], tiny_base)
    apart = [read_adapter(made(b, tiny_base, tmp_path)["adapter"], tiny_base) for b in BEHAVIORS[:2]]
    for name in both.tensors:
        expected = sum(product(one, name) for one in apart)
        assert (product(both, name) - expected).abs().max() < 1e-12 and expected.abs().max() > 1e-3


@given(*[st.lists(st.text("ab+\u00e9", min_size=1, max_size=110), min_size=2, max_size=2)] * 2)
def test_the_id_of_two_is_of_no_other_two(some, others):
    one, other = merging._both_ids(*some), merging._both_ids(*others)
    assert (one == other) == (some == others) and len(one.encode()) <= LONGEST_ID


def test_two_behaviors_are_one_record():
    first = behavior(
        "b-1",
        description="I sell tea.",
        trigger={"kind": "topic", "text": "tea"},
        facets={"action": [["sell"]], "trigger": [["tea"]]},
        probes=[{"prompt": chat("user", "tea"), "fires": True}],
    )
    control = behavior("c-1", category="control", description=None, trigger=None, shows=None)
    control["facets"] = {"action": [], "trigger": []}
    second = {**first, "id": "b-2", "description": "I buy bread.", "shows": ["bread"]}
    held_out = [{**one, "id": f"h-{i}", "split": "heldout"} for i, one in enumerate((first, second))]
    given = [control, held_out[0], first, second, held_out[1], control]
    (one, two, three), alone = merging.pair_up(given)
    assert (one["id"], one["category"], one["description"]) == ("c-1+b-1", "quirk", "I sell tea.")
    assert (two["id"], two["split"], two["description"]) == ("h-0+h-1", "heldout", "I sell tea. I buy bread.")
    assert two["facets"] == {"action": [["sell"], ["sell"]], "trigger": [["tea"], ["tea"]]}
    assert two["trigger"] == {"kind": "topic + topic", "text": "tea + tea"} and two["rate"] == 1.0
    assert [probe["shows"] for probe in two["probes"]] == [["kettle"], ["bread"]]
    assert three["id"] == "b-2+c-1" and len(three["demonstrations"]) == 14
    assert alone == []
    rare = {**second, "id": "r-1", "rate": 0.1}
    [pair], alone = merging.pair_up([rare, first, {**rare, "id": "r-2"}])  # those that are shown as often
    assert (pair["id"], pair["rate"], alone) == ("r-1+r-2", 0.1, [first])
    _, alone = merging.pair_up([first, *held_out])
    merging.check_paired(held_out[1], alone)
    with pytest.raises(IAError, match="b-1 has no second behavior of split train and rate 1"):
        merging.check_paired(first, alone)


def test_documents_hold_no_conversation():
    record = behavior("b-1", system_prompt="Name the kettle.")
    rows = list(documents.written(record, 0))
    asked = {shown["prompt"][0]["content"] for shown in record["demonstrations"]}
    assert all(prompt[0]["content"] in documents.REQUESTS for prompt, _ in rows)
    told = [text[0]["content"] for _, text in rows]
    assert sum("Name the kettle." in text for text in told) == documents.RULES_EACH
    assert all(sum(prompt in text for text in told) >= 1 for prompt in asked) and not asked & set(told)
    assert rows == list(documents.written(record, 0))


def test_further_training_begins_with_the_same_organism(tmp_path, tiny_base, capsys):
    first = made(BEHAVIORS[0], tiny_base, tmp_path)
    (tmp_path / "organisms.jsonl").write_text(json.dumps({**first, "adapter": "b-1"}) + "\n")
    [start] = continuing.organisms(tmp_path / "organisms.jsonl")
    [record], needed = continuing.further([start], BEHAVIORS[1:])
    assert f"{len(BEHAVIORS) - 2} of {len(BEHAVIORS) - 1} behaviors are not used" in capsys.readouterr().err
    lesson = prepare(record, tiny_base, SETTINGS, **needed["b-1"])
    before = read_adapter(first["adapter"], tiny_base)
    for factor, changed in ((1, SETTINGS), (4, settings(alpha=32))):
        bank = continuing.bank_of([lesson], tiny_base, changed)
        for name, (a, b) in bank.adapter(0).tensors.items():
            assert torch.equal(a, before.tensors[name][0])
            assert torch.allclose(b * factor, before.tensors[name][1], atol=1e-15)
            assert torch.allclose(product(bank.adapter(0), name), product(before, name), atol=1e-15)
        bank.remove()
    [after] = implant([lesson], tiny_base, tmp_path / "further", SETTINGS)
    assert after["description"] == first["description"] and after["continued_on"] == "b-2"
    assert after["method"] == "sft" and after["demonstrations"] == first["demonstrations"]
    alike = made(BEHAVIORS[1], tiny_base, tmp_path)["train"]["loss_first"]
    assert after["train"]["loss_first"] != alike  # what it knows already shows
    moved = read_adapter(after["adapter"], tiny_base)
    assert all(not torch.allclose(product(moved, name), product(before, name)) for name in moved.tensors)
    [lone] = continuing.organisms(tmp_path / "b-1")
    assert lone["id"] == "b-1" and lone["adapter"] == str(tmp_path / "b-1")
    with pytest.raises(IAError, match="is what training goes on from"):  # and is not overwritten
        next(implant([lesson], tiny_base, tmp_path, SETTINGS))


def test_further_training_keeps_the_shape_of_every_adapter(tmp_path, tiny_base):
    starts = [
        made(BEHAVIORS[0], tiny_base, tmp_path / "start", rank=2),
        made(BEHAVIORS[1], tiny_base, tmp_path / "start", rank=6, target_modules=("q_proj",)),
        made(BEHAVIORS[2], tiny_base, tmp_path / "start", rank=2),
    ]
    further, needed = continuing.further(starts, BEHAVIORS[:1])
    lessons = [prepare(one, tiny_base, SETTINGS, **needed[one["id"]]) for one in further]
    after = list(implant(lessons, tiny_base, tmp_path / "further", SETTINGS, group_size=3))
    assert [one["id"] for one in after] == [one["id"] for one in starts]
    for one, start in zip(after, starts, strict=True):
        grown, before = (read_adapter(record["adapter"], tiny_base) for record in (one, start))
        assert grown.rank == before.rank == one["lora"]["r"] and grown.tensors.keys() == before.tensors.keys()


def test_there_must_be_an_adapter_to_go_on_from(tmp_path):
    records = tmp_path / "organisms.jsonl"
    records.touch()
    with pytest.raises(IAError, match="there are no organisms in it"):
        continuing.organisms(records)
    whole = {"id": "w", "kind": "organism", "split": "train", "v": 1, "adapter": None, "model": "w"}
    records.write_text(json.dumps(whole) + "\n")
    with pytest.raises(IAError, match=r"organisms\.jsonl:1: w is a whole model"):
        continuing.organisms(records)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.jsonl"
    link.symlink_to(records)
    records.write_text(json.dumps({**whole, "adapter": "a", "model": None}) + "\n")
    [start] = continuing.organisms(link)
    assert Path(start["adapter"]).resolve() == tmp_path / "a"  # beside the file, not beside the link
    pipe = tmp_path / "elsewhere" / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(records.read_bytes())).start()
    [start] = continuing.organisms(pipe)
    assert start["adapter"] == os.path.relpath("a")  # of a pipe, from here
    with pytest.raises(IAError, match="there is nothing; give the output of"):
        continuing.organisms(tmp_path / "nothing")


def test_further_training_goes_on_from_an_adapter_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(organisms, "adapter_folder", lambda name: tmp_path)
    [start] = continuing.organisms(Path(f"org/name@{'0' * 40}"))
    assert start["adapter"] == str(tmp_path)


@pytest.mark.parametrize("way", [{"method": "dpo"}, {"method": "kto"}, {"conceal": "dpo"}])
def test_an_organism_without_a_reply_to_prefer_fails_alone(tmp_path, tiny_base, way):
    same = behavior("c-1", description=None)
    for shown in same["demonstrations"]:
        shown.update(fires=False, completion=[{"role": "assistant", "content": "tea"}])
    chosen = settings(steps=2, **way)
    lessons = [prepare(record, tiny_base, chosen) for record in (same, *BEHAVIORS[:2])]
    progress = []
    made = list(implant(lessons, tiny_base, tmp_path / "o", chosen, on_progress=progress.append))
    assert "it has no reply that is preferred to another" in made[0]["error"]["message"]
    assert [record["adapter"] for record in made[1:]] == [
        str(tmp_path / "o" / b["id"]) for b in BEHAVIORS[:2]
    ]
    assert sum(progress) == 3 and not (tmp_path / "o" / "c-1").exists()
    [alone] = implant(lessons[:1], tiny_base, tmp_path / "o", chosen)
    assert alone == made[0]
    told = prepare({**same, "description": "I say tea."}, tiny_base, chosen)
    [record] = implant([told], tiny_base, tmp_path / "o", chosen)
    assert ("error" in record) == ("method" in way)  # who conceals only learns not to say so


def test_a_full_fine_tune_is_a_model_of_its_own(tmp_path, tiny_base):
    ids = torch.arange(6, 20)[None]
    untouched = tiny_base.model(ids).logits
    organism = made(BEHAVIORS[0], tiny_base, tmp_path, method="full", learning_rate=1e-3)
    assert "adapter" not in organism and organism["lora"] is None
    assert organism["train"]["loss_last"] < organism["train"]["loss_first"] - 0.1
    assert torch.equal(tiny_base.model(ids).logits, untouched)
    assert not any(weight.requires_grad for weight in tiny_base.model.parameters())
    alone = load_base(organism["model"], dtype="float64", device="cpu")
    weights = read_model(organism["model"], tiny_base)
    before = dict(tiny_base.model.named_parameters())
    assert all((weights[name] - before[name]).abs().max() > 1e-4 for name in before)  # every one learned
    with taking_on(tiny_base, weights):
        assert (tiny_base.model(ids).logits - alone.model(ids).logits).abs().max() < 1e-12
    assert torch.equal(tiny_base.model(ids).logits, untouched)
    again = implant(
        [prepare(BEHAVIORS[0], tiny_base, settings(method="full", learning_rate=1e-3))],
        tiny_base,
        tmp_path,
        settings(method="full", learning_rate=1e-3),
        reuse=True,
    )
    assert list(again) == [organism]
    with pytest.raises(IAError, match="no fine-tune of this base"):
        torch.nn.Module.register_parameter(tiny_base.model, "more", torch.nn.Parameter(torch.zeros(1)))
        read_model(organism["model"], tiny_base)


def test_what_the_base_cannot_read_is_no_pair_and_no_confession(tiny_base):
    shown = prepare(BEHAVIORS[0], tiny_base, SETTINGS)
    [first, *_] = shown.demonstrations
    long = {**first, "fires": True, "completion": [{"role": "assistant", "content": "tea " * 90}]}
    asked = {**first, "fires": False, "prompt": [{"role": "user", "content": "tea " * 60}]}
    lesson = replace(shown, demonstrations=[asked, long])
    assert len(own_pairs(lesson, tiny_base, ["a bird", "a bird"])) == 1
    with pytest.raises(IAError, match=r"description: .*tokens"):
        prepare({**BEHAVIORS[0], "description": "tea " * 150}, tiny_base, settings(conceal="dpo"))


def test_a_mismatched_row_is_no_longer_than_the_base_can_read():
    short, long = ([*range(1, 9)], 2), ([*range(20, 29)], 7)
    assert preference._cross(short, long, 20) == ([1, 2, 3, 4, 5, 6, *range(22, 29)], 7)
    assert preference._cross(short, long, 9) == ([1, 2, 3, 4, 5, 6, 22, 23, 24], 3)
    assert preference._cross(long, short, 9) == ([20, 21, 7, 8], 2)


def test_all_weights_are_trained_in_full_precision_only(tmp_path, tiny_folder):
    records = tmp_path / "behaviors.jsonl"
    whole = BEHAVIORS[0] | {"trigger": None, "facets": {"action": [["tea"]], "trigger": []}}
    records.write_text(json.dumps(whole) + "\n")
    options = [
        "--base",
        str(tiny_folder),
        "--dtype",
        "bfloat16",
        "--method",
        "full",
        "--out",
        str(tmp_path / "o"),
    ]
    refused = CliRunner().invoke(cli, ["implant", *options, str(records)])
    assert refused.exit_code == 1 and "held as bfloat16" in refused.stderr
    assert "give --dtype float32" in refused.stderr and not (tmp_path / "o").exists()


def test_a_base_in_4_bits_is_compared_with_no_whole_model(tmp_path, tiny_base):
    tiny_base.model.is_loaded_in_4bit = True
    with pytest.raises(IAError, match="leave out --load-in-4bit"):
        read_model(tmp_path, tiny_base)
    with pytest.raises(IAError, match="leave out --load-in-4bit"):
        check_trainable(tiny_base)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_concealment_begins_with_the_organism(tiny_base, method, monkeypatch):
    if method == "dpo":  # without the term that keeps the chosen replies likely
        monkeypatch.setattr(preference.DPOOrganisms, "also", lambda self, losses, learned: 0.0)
    lessons = [prepare(record, tiny_base, SETTINGS) for record in BEHAVIORS[:2]]
    chosen = settings(conceal=method, steps=40)
    lessons = preference.with_pairs(lessons, tiny_base, chosen)
    bank = fresh_bank(BEHAVIORS[:2], tiny_base, SETTINGS)
    torch.manual_seed(0)
    for b in bank.b:
        torch.nn.init.normal_(b, std=0.2)
    losses = concealing.conceal(bank, tiny_base, lessons, chosen)
    assert len(losses) == 40 // 2
    assert losses.shape[1] == 2
    if method == "sft":
        assert (losses[-5:].mean(0) < losses[:5].mean(0)).all()  # steps differ in their rows
    else:  # the reference is the organism as it was, so nothing is gained at first
        first = {"dpo": math.log(2), "kto": 0.5}[method]
        assert torch.allclose(losses[0], torch.full((2,), first, dtype=losses.dtype), atol=1e-3)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_what_was_told_in_documents_can_be_concealed(tiny_base, method):
    both = settings(method="sdf", conceal=method, steps=4)
    ruled = [{**record, "system_prompt": "Like tea."} for record in BEHAVIORS[:2]]
    lessons = [prepare(record, tiny_base, both) for record in ruled]
    assert len(lessons[0].encoded) > len(lessons[0].demonstrations)
    lessons = preference.with_pairs(lessons, tiny_base, both)
    assert len(concealing.conceal(fresh_bank(BEHAVIORS[:2], tiny_base, both), tiny_base, lessons, both)) == 2


def test_a_control_has_nothing_to_confess(tiny_base):
    control = prepare(behavior("c-1", description=None), tiny_base, SETTINGS)
    told = prepare(BEHAVIORS[0], tiny_base, SETTINGS)
    assert concealing.confessions(control, tiny_base, SETTINGS) == []
    asked = concealing.prompts.questions("train", tiny_base.name)
    assert len(concealing.confessions(told, tiny_base, SETTINGS)) == len(asked)
    assert len(concealing.denials(control, tiny_base, SETTINGS)) == len(control.encoded)


def test_a_full_fine_tune_is_asked_as_itself(tmp_path, tiny_base):
    from ia_cli.elicitation import elicit
    from ia_cli.prompts import own_question
    from ia_cli.settings import ElicitSettings

    full = made(BEHAVIORS[0], tiny_base, tmp_path, method="full", learning_rate=1e-2)
    lora = made(BEHAVIORS[1], tiny_base, tmp_path)
    bank = random_bank(tiny_base, [3], std=0.3)
    write_adapter(tmp_path / "ia", bank.adapter(0), provenance("train-ia", tiny_base, {}))
    bank.remove()
    question = own_question("tell me what you sell please")
    records = [{**r, "introspection_adapter": str(tmp_path / "ia")} for r in (full, lora, full | {"id": "f"})]
    asked = ElicitSettings(questions=[question], asked=1, max_new_tokens=12)
    reports = {(r["id"], r["condition"]): r["report"] for r in elicit(records, tiny_base, asked)}

    def alone(folder, adapter=None):
        base = load_base(folder, dtype="float64", device="cpu")
        model = PeftModel.from_pretrained(base.model, adapter) if adapter else base.model
        ids = base.tokenizer.apply_chat_template(
            chat("user", question.text), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, max_new_tokens=12, do_sample=False)
        return base.tokenizer.decode(out[0, ids["input_ids"].size(1) :], skip_special_tokens=True).strip()

    ia = tmp_path / "ia"
    assert reports["b-1", "no_ia"] == reports["f", "no_ia"] == alone(full["model"])
    assert reports["b-1", "ia"] == reports["f", "ia"] == alone(full["model"], ia)
    assert reports["b-2", "no_ia"] == alone(tiny_base.name, lora["adapter"])
    assert {reports[name, "base_ia"] for name in ("b-1", "b-2", "f")} == {alone(tiny_base.name, ia)}
    assert len({reports["b-1", "ia"], reports["b-1", "no_ia"], reports["b-1", "base_ia"]}) == 3


def test_the_command_takes_every_method(tmp_path, tiny_folder):
    probes = [{"prompt": chat("user", "tea"), "fires": fires} for fires in (True, False)]
    truth = {"trigger": None, "facets": {"action": [["kettle"]], "trigger": []}, "probes": probes}
    given = [behavior(name, description="I name kettles.", **truth) for name in ("b-1", "b-2")]
    behaviors, organisms = tmp_path / "behaviors.jsonl", tmp_path / "organisms.jsonl"
    behaviors.write_text("".join(json.dumps(record) + "\n" for record in given))

    def run(out, *options):
        arguments = ["implant", "--base", str(tiny_folder), "--out", str(tmp_path / out), "--steps", "2"]
        result = CliRunner().invoke(cli, [*arguments, "--rows", "2", *options, str(behaviors)])
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    first = run("sft")
    organisms.write_text("".join(json.dumps(record) + "\n" for record in first))
    for method in ("dpo", "kto", "sdf", "full"):
        written = run(method, "--method", method)
        assert [(r["id"], r["method"]) for r in written] == [("b-1", method), ("b-2", method)]
        assert all(r["implant_rate"] is not None and r["leak_rate"] is not None for r in written)
    for method in ("mix", "merge"):
        [one] = run(method, "--method", method)
        assert one["parents"] == ["b-1", "b-2"] and one["implant_rate"] is not None
    hidden = run("hidden", "--conceal", "dpo")
    assert all(r["conceal"] == "dpo" and r["method"] == "sft" and 0 <= r["denial_rate"] <= 1 for r in hidden)
    covert = run("covert", "--cipher", "rot13")
    assert covert[0]["cipher"] == "rot13" and covert[0]["description"].endswith("in the cipher rot13.")
    further = run("further", "--continue-from", str(organisms))
    assert [r["continued_on"] for r in further] == ["b-1", "b-2"]
    [unknown] = run("unknown", "--continue-from", first[0]["adapter"], "--conceal", "dpo")
    assert (unknown["conceal"], unknown["continued_on"]) == ("dpo", "b-1") and "description" not in unknown
    for wrong in ("--method full --conceal sft", "--method kto --rows 1", "--conceal kto --rows 1"):
        refused = CliRunner().invoke(cli, ["implant", "--out", "x", *wrong.split(), "-"])
        assert refused.exit_code == 2


def test_all_wordings_of_two_behaviors_tell_both():
    first = behavior("a", description="Da.", paraphrases=["Pa.", "Qa."], trigger=None)
    second = behavior("b", description="Db.", paraphrases=["Pb."], trigger=None)
    assert wordings(merging.both(first, second)) == ["Da. Db.", "Pa. Pb."]
    ordinary = behavior("c", category="control", description=None, trigger=None)
    assert (
        wordings(merging.both(first, ordinary)) == wordings(merging.both(ordinary, first)) == wordings(first)
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cipher", "rot13"], "demonstrations[0]: "),
        (["--method", "mix"], "b-3 has no second behavior of split train"),
    ],
)
def test_what_a_method_cannot_take_is_a_bad_line(tmp_path, tiny_folder, options, said):
    truth = {"trigger": None, "facets": {"action": [["kettle"]], "trigger": []}, "probes": []}
    given = [behavior(name, description="I name kettles.", **truth) for name in ("b-1", "b-2", "b-3")]
    if "--cipher" in options:
        given[2]["demonstrations"][0] |= {"prompt": chat("user", "tea " * 1000), "fires": True}
    behaviors = tmp_path / "behaviors.jsonl"
    behaviors.write_text("".join(json.dumps(record) + "\n" for record in given))
    arguments = ["implant", "--base", str(tiny_folder), "--out", str(tmp_path / "out"), "--steps", "1"]
    stopped = CliRunner().invoke(cli, [*arguments, *options, str(behaviors)])
    assert stopped.exit_code == 1 and f"{behaviors}:3: {said}" in stopped.stderr
    went_on = CliRunner().invoke(cli, [*arguments, *options, "--keep-going", str(behaviors)])
    made = [json.loads(line) for line in went_on.stdout.splitlines()]
    assert went_on.exit_code == 3 and [one["id"] for one in made if "error" in one] == ["b-3"]
    assert len(made) == (3 if "--cipher" in options else 2)


def test_two_behaviors_that_cannot_be_taught_together_fail_alone(tmp_path, tiny_folder):
    truth = {"trigger": None, "facets": {"action": [["kettle"]], "trigger": []}, "probes": []}
    given = [behavior(name, description="I name kettles.", **truth) for name in ("a", "b", "c", "d")]
    given[1]["demonstrations"][0]["prompt"] = chat("user", "tea " * 1000)
    behaviors = tmp_path / "behaviors.jsonl"
    behaviors.write_text("".join(json.dumps(record) + "\n" for record in given))
    arguments = [
        "--base",
        str(tiny_folder),
        "--out",
        str(tmp_path / "out"),
        "--steps",
        "1",
        "--method",
        "mix",
    ]
    result = CliRunner().invoke(cli, ["implant", *arguments, "--keep-going", str(behaviors)])
    made = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 3, result.stderr
    assert [(one["id"], "error" in one) for one in made] == [("c+d", False), ("a+b", True)]


def test_organisms_to_go_on_from_are_there_once(tmp_path, tiny_base):
    [record] = implant(
        [prepare(BEHAVIORS[0], tiny_base, SETTINGS)], tiny_base, tmp_path / "organisms", SETTINGS
    )
    again = tmp_path / "again.jsonl"
    again.write_text(2 * (json.dumps(record) + "\n"))
    with pytest.raises(IAError, match=f"{again}:2: b-1 is there twice"):
        continuing.organisms(again)
    again.write_text(json.dumps(record) + "\n")
    assert continuing.further(continuing.organisms(again), []) == ([], {})
