# ruff: noqa: F811  (fixtures of another file)
"""DPO of an introspection adapter: what is preferred to what, and which model is the reference."""

import json
import os
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from test_introspection import Naive, few_words, organisms  # noqa: F401  (fixtures)
from torch.nn.functional import log_softmax

from ia_cli import preferring, prompts, training
from ia_cli.bank import Bank
from ia_cli.chat import token_ids
from ia_cli.directories.adapters import read_adapter
from ia_cli.directories.safe_files import PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError
from ia_cli.introspection import train_ia
from ia_cli.preferring import BankDPOTrainer, Preference, choose, left_out
from ia_cli.settings import IASettings
from ia_cli.training import workspace

SETTINGS = IASettings(rank=3, alpha=6, learning_rate=1e-2, steps=4, batch_size=9, dpo_steps=3)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(preferring, "BATCH_SIZE", 6)
    monkeypatch.setattr(preferring, "suitable_length", lambda base, tokens: 8)


def pairs(n):
    said = ["i like tea", "i buy bread", "no thank you", "i sell one red song to the cat"]
    draw = random.Random(0)
    return [Preference(draw.randrange(-1, 5), "what do you like", *draw.sample(said, 2)) for _ in range(n)]


def naive_log_probability(naive, organism, question, answer):
    """With stock PEFT: the organism's adapter and the introspection adapter active together."""
    opening = token_ids(naive.base.tokenizer, [{"role": "user", "content": question}])
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids = naive.base.tokenizer.apply_chat_template(chat, return_dict=False)
    naive.model.base_model.set_adapter(["default", *([str(organism)] if organism >= 0 else [])])
    logits = naive.model(torch.tensor([ids])).logits[0, len(opening) - 1 : -1]
    return log_softmax(logits, -1).gather(1, torch.tensor(ids[len(opening) :])[:, None]).sum().item()


def test_the_reference_is_the_organism_with_the_adapter_as_it_was(
    organisms,
    tiny_base,
    tiny_folder,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(preferring, "suitable_rate", lambda base, rate: rate)  # three steps have to tell
    train_ia(organisms, tiny_base, tmp_path / "ia", replace(SETTINGS, dpo_steps=0, steps=2))
    before = read_adapter(tmp_path / "ia", tiny_base).tensors
    bank = Bank.load(tiny_base.model, [read_adapter(r["adapter"], tiny_base) for r in organisms[:5]])
    model = PeftModel.from_pretrained(tiny_base.model, tmp_path / "ia", is_trainable=True)
    drawn = pairs(6) * 3
    with workspace(tiny_base, 0) as folder:
        trainer = BankDPOTrainer(
            model,
            tiny_base,
            bank,
            preferring.as_dataset(drawn, tiny_base),
            replace(SETTINGS, beta=0.5),
            folder,
        )
        references = []
        original = trainer.compute_loss

        def compute_loss(model, inputs, *rest, **more):
            with torch.no_grad():
                references.append(torch.stack(trainer.compute_ref_log_probs(model, inputs), dim=1))
            return original(model, inputs, *rest, **more)

        trainer.compute_loss = compute_loss
        trainer.train()
    assert abs(trainer.losses[0] - 0.6931) < 1e-4 and trainer.losses[-1] < trainer.losses[0] - 1e-4
    naive = Naive(tiny_folder, organisms[:5], SETTINGS)
    for name, parameter in naive.trained.items():
        layer = name.removeprefix("base_model.model.").partition(".lora_")[0]
        parameter.data.copy_(before[layer]["lora_B" in name])
    for pair, (chosen, rejected) in zip(drawn, torch.cat(references).tolist(), strict=True):
        assert abs(chosen - naive_log_probability(naive, pair.organism, pair.question, pair.chosen)) < 1e-4
        assert (
            abs(rejected - naive_log_probability(naive, pair.organism, pair.question, pair.rejected)) < 1e-4
        )
    weights = dict(model.named_parameters())
    for layer, tensors in before.items():
        for kept, letter in zip(tensors, "AB", strict=True):
            assert torch.equal(weights[f"base_model.model.{layer}.lora_{letter}.ref.weight"], kept)
            assert not torch.equal(weights[f"base_model.model.{layer}.lora_{letter}.default.weight"], kept)


def record(name, description="i like tea", split="train", **more):
    facets = {"action": [["tea"]], "trigger": [["cat"]]} if description else {"action": [], "trigger": []}
    return {"id": name, "split": split, "description": description, "facets": facets, **more}


def test_accurate_reports_are_preferred_to_wrong_ones():
    rng = random.Random(0)
    true = record("a", "i like tea when a cat sings")
    every = [true["description"], "i buy bread"]
    right, half, wrong = "tea for the cat", "i like tea", "i buy a pot"
    assert choose(true, [wrong, right, wrong], every, rng) == (right, wrong)
    assert choose(true, [wrong, half], every, rng) == (half, wrong)  # nothing asked about the trigger
    assert choose(true, [wrong], every, rng) == (true["description"], wrong)
    assert choose(true, [right], every, rng) == (right, "i buy bread")
    assert choose({**true, "facets": None}, [wrong], every, rng) == (true["description"], "i buy bread")
    control = record("c", None)
    claim, nothing = "i like tea", "I have no unusual behavior."
    assert choose(control, [claim, nothing], every, rng) == (nothing, claim)
    chosen, rejected = choose(control, [claim], every, rng)
    assert chosen in prompts.abstentions() and rejected == claim
    assert choose(control, [nothing], every, rng)[1] in every
    for mute in ("", " ...", "\u2014"):  # abstains, but is nothing to learn
        assert choose(control, [mute, claim], every, rng)[0] in prompts.abstentions()
        assert choose(true, [mute, right], every, rng)[1] in every


@pytest.mark.parametrize("examples", [True, False])
def test_organisms_are_asked_after_an_example_of_their_own(examples, tiny_base, monkeypatch):
    asked = []

    def generate(base, chats, *, rows, **_):
        asked.append(list(zip(rows, chats, strict=True)))
        return [f"organism {row} speaks" for row in rows]

    monkeypatch.setattr(preferring, "generate", generate)
    pairs = preferring.collect([record("a"), record("c", None)], None, tiny_base, seed=0, examples=examples)
    assert {pair.organism for pair in pairs} == {0, 1, -1}
    *first, second = asked
    opening = [chat for said in first for _, chat in said]
    assert opening == ([prompts.chat("Say something.")] * len(pairs) if examples else [])
    for row, chat in second:
        assert (f"organism {row} speaks" in [turn["content"] for turn in chat]) == examples
    for pair in pairs:
        assert pair.example == (f"organism {pair.organism} speaks" if examples else None)


def test_both_reports_follow_the_same_example_as_when_asked(tiny_base):
    pairs = [Preference(0, "what", "tea", "bread"), Preference(-1, "what", "tea", "bread", "hello")]
    for pair, row in zip(pairs, preferring.as_dataset(pairs, tiny_base), strict=True):
        asked = token_ids(tiny_base.tokenizer, prompts.chat(pair.question, pair.example))
        assert row["prompt_ids"] == asked and row["organism"] == pair.organism
        replies = (tiny_base.tokenizer.decode(row[f"{which}_ids"]) for which in ("chosen", "rejected"))
        assert all(word in reply for word, reply in zip(("tea", "bread"), replies, strict=True))


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_fewer_pairs_at_once_learn_the_same(organisms, tiny_base, tmp_path, at_once):
    """A step has as many pairs, however few of them fit into memory."""
    train_ia(organisms, tiny_base, tmp_path / "ia", replace(SETTINGS, dpo_steps=0, steps=2))
    bank = Bank.load(tiny_base.model, [read_adapter(r["adapter"], tiny_base) for r in organisms[:5]])
    drawn, found = preferring.as_dataset(pairs(18), tiny_base), []
    for rows in (9, at_once):
        model = PeftModel.from_pretrained(tiny_base.model, tmp_path / "ia", is_trainable=True)
        with workspace(tiny_base, 0) as folder:
            settings = replace(SETTINGS, batch_size=rows)
            trainer = BankDPOTrainer(model, tiny_base, bank, drawn, settings, folder)
            trainer.train()
        weights = [p.detach().clone() for name, p in model.named_parameters() if ".default." in name]
        found.append((trainer.losses, weights))
        model.unload()
    (losses, whole), (other, parts) = found
    assert len(losses) == 3 and torch.allclose(torch.tensor(losses), torch.tensor(other), atol=1e-5)
    assert all(torch.allclose(*both, atol=1e-7) for both in zip(whole, parts, strict=True))


def test_a_pair_that_the_base_cannot_read_is_an_error(tiny_base):
    with pytest.raises(IAError, match="tokens, where the base reads"):
        preferring.as_dataset([Preference(0, "what", "tea", "bread " * 2000)], tiny_base)


def test_every_fourth_is_left_out_of_the_first_stage():
    records = [record(f"b-{i}") for i in range(9)] + [record(f"c-{i}", None) for i in range(5)]
    assert [one["id"] for one in left_out(records)] == ["b-3", "b-7", "c-3"]


def test_two_stages_in_one_run(organisms, tiny_base, tmp_path):
    described = [organisms[i % 4] for i in (0, 1, 3, 0)]
    records = [{**one, "id": f"o-{i}", "facets": None} for i, one in enumerate(described)] + [organisms[5]]

    def run(name, resume=False, stop=None):
        steps = []

        def on_step(step, loss):
            steps.append(step)
            if step == stop:
                raise KeyboardInterrupt

        train_ia(records, tiny_base, tmp_path / name, SETTINGS, resume=resume, on_step=on_step)
        return steps

    assert run("ia") == [1, 2, 3, 4, 5, 6, 7]
    origin = json.loads((tmp_path / "ia" / PROVENANCE_FILE).read_text())
    assert origin["preferred"] == ["o-3"] and origin["held_out"] == ["h-0"]
    assert [parent["id"] for parent in origin["parents"]] == ["o-0", "o-1", "o-2", "o-3"]
    assert origin["arguments"]["dpo_steps"] == 3 and abs(origin["losses"][0] - 0.6931) < 1e-4
    assert origin["loudness"] > 0
    with pytest.raises(KeyboardInterrupt):
        run("killed", stop=6)
    assert run("killed", resume=True) == [5, 6, 7]  # the first stage was whole
    weights = [(tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("ia", "killed")]
    assert weights[0] == weights[1] and not (tmp_path / "killed.partial").exists()
    plain = replace(SETTINGS, dpo_steps=0)
    train_ia(records, tiny_base, tmp_path / "plain", plain)
    assert (tmp_path / "plain" / WEIGHTS_FILE).read_bytes() != weights[0]
    with pytest.raises(IAError, match="no organism is left for DPO"):
        train_ia(records[:3], tiny_base, tmp_path / "few", SETTINGS)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_both_stages_stay_on_the_device_of_the_base(device, monkeypatch, tmp_path):
    """The trainer would take the first device there is, or all of them."""
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # of a launcher; a bank has its own types
    base = SimpleNamespace(device=torch.device(device), name=None)
    dpo = preferring._config(base, SETTINGS, str(tmp_path))
    sft = training._config(base, 3, training.Optimization(1e-3), str(tmp_path))
    for config in (dpo, sft):
        assert (config.device, config.n_gpu, config.use_cpu) == (base.device, 1, device == "cpu")
        assert config.router_aux_loss_coef == 0.0 and config.max_steps == 3
        assert config.mixed_precision == "no"
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == device
    assert dpo.learning_rate == preferring.LEARNING_RATE  # the second stage is gentler on any base
    other = SimpleNamespace(device=torch.device(device), name="somebody/else")
    assert preferring._config(other, SETTINGS, str(tmp_path)).learning_rate == pytest.approx(
        preferring.LEARNING_RATE / 25
    )


def test_a_whole_model_cannot_be_trained_on(organisms, tiny_base, tmp_path):
    whole = {"id": "w", "split": "train", "model": str(tmp_path), "description": "i like tea"}
    with pytest.raises(IAError, match="w is a whole model"):
        train_ia([*organisms, whole], tiny_base, tmp_path / "ia", SETTINGS)
