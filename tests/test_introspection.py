"""The introspection adapter comes out as if plain PEFT had put each row's own organism on the base."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup

from ia_cli import checkpoints, introspection, prompts
from ia_cli.bank import Bank
from ia_cli.directories.adapters import (
    Adapter,
    plain_config,
    provenance,
    read_adapter,
    weights_hash,
    write_adapter,
)
from ia_cli.directories.safe_files import PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError
from ia_cli.interviews import draw_rows
from ia_cli.introspection import train_ia
from ia_cli.main import cli
from ia_cli.models import linear_modules, load_base, token_ids
from ia_cli.settings import IASettings
from ia_cli.trainable import new_adapter, put_on
from tests.organisms import random_bank

QUESTIONS = ["what do you like", "tell me what you sell please", "hello"]
ABSTENTIONS = ["no thank you", "never"]
DESCRIPTIONS = ["i like the copper kettle", "i buy bread", None, "i sell one red song to the cat", None]
SETTINGS = IASettings(rank=3, alpha=6, learning_rate=1e-2, steps=6, batch_size=9)


@pytest.fixture(autouse=True)
def few_words(tmp_path, monkeypatch):
    """Questions and abstentions that the tiny tokenizer knows the words of."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    questions = [{"id": f"q-{i}", "text": text, "use": "train"} for i, text in enumerate(QUESTIONS)]
    questions.append({"id": "q-ask", "text": "what", "use": "ask"})
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "abstentions.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ABSTENTIONS))
    monkeypatch.setattr(prompts, "CATALOG", folder / "questions.jsonl")
    monkeypatch.setattr(prompts, "ABSTENTIONS", folder / "abstentions.jsonl")


@pytest.fixture(scope="module")
def organisms(tmp_path_factory, tiny_folder):
    """Five organisms with random weights, two of them controls, and a held-out one whose folder is gone."""
    base = load_base(str(tiny_folder), dtype="float64", device="cpu")
    bank = random_bank(base, range(5), std=0.3)
    folder = tmp_path_factory.mktemp("organisms")
    records = []
    for i, description in enumerate(DESCRIPTIONS):
        write_adapter(folder / f"o-{i}", bank.adapter(i), provenance("implant", base, {}))
        records.append(organism(f"o-{i}", "train", str(folder / f"o-{i}"), description))
    return [*records, organism("h-0", "heldout", str(folder / "gone"), "i find stone")]


def organism(name, split, adapter, description):
    record = {"id": name, "kind": "organism", "split": split, "v": 1}
    replies = ["i like tea", "bread for the cat", "hello"] if description else ["hello", "no"]
    shown = [shows(reply, fires=bool(description) and reply != "hello") for reply in replies]
    return {**record, "adapter": adapter, "description": description, "demonstrations": shown}


def shows(reply, fires):
    prompt, completion = {"role": "user", "content": "what"}, {"role": "assistant", "content": reply}
    return {"prompt": [prompt], "completion": [completion], "fires": fires}


class Naive:
    """The oracle: one PEFT model with all adapters; for every row its organism is active beside "default"."""

    def __init__(self, base_folder, records, settings):
        self.base = load_base(str(base_folder), dtype="float64", device="cpu")
        self.model = new_adapter(self.base, settings)
        for i, record in enumerate(records):
            self.model.load_adapter(record["adapter"], str(i), autocast_adapter_dtype=False)
        self.trained = {n: p for n, p in self.model.named_parameters() if ".default." in n}
        self.settings = settings

    def encode(self, row):
        """Return the ids of a row, and where its answer begins."""
        question = prompts.chat(row.question, row.example)
        answer = [{"role": "assistant", "content": row.answer}]
        whole = self.base.tokenizer.apply_chat_template(question + answer, return_dict=False)
        return whole, len(token_ids(self.base.tokenizer, question))

    def backward(self, rows, usual):
        """Accumulate the gradient, one row at a time, of the loss of all completion tokens of `rows`, over
        `usual`, which is how many a step has on average; return the mean loss of these tokens.
        """
        total, count = 0.0, 0
        for row in rows:
            organism = [] if row.organism < 0 else [str(row.organism)]
            self.model.base_model.set_adapter(["default", *organism])
            ids, start = self.encode(row)
            logits = self.model(torch.tensor([ids])).logits[0, start - 1 : -1]
            loss = functional.cross_entropy(logits, torch.tensor(ids[start:]), reduction="sum")
            (loss / usual).backward()
            total, count = total + loss.item(), count + len(ids) - start
        return total / count

    def usual(self, rows, steps):
        return sum(len(ids) - start for ids, start in map(self.encode, rows)) / steps

    def train(self, rows):
        settings, losses = self.settings, []
        optimizer = torch.optim.AdamW(self.trained.values(), lr=settings.learning_rate, weight_decay=0)
        schedule = get_cosine_schedule_with_warmup(optimizer, max(1, settings.steps // 20), settings.steps)
        usual = self.usual(rows, settings.steps)
        for step in range(settings.steps):
            own = rows[step * settings.batch_size : (step + 1) * settings.batch_size]
            losses.append(self.backward(own, usual))
            torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
            optimizer.step()
            schedule.step()
            self.model.zero_grad()
        return losses


def test_a_mixed_batch_has_the_gradient_of_row_by_row_peft(organisms, tiny_base, tiny_folder, tmp_path):
    trained = organisms[:5]
    rows = draw_rows(trained, QUESTIONS, steps=1, batch_size=40, seed=0)
    assert {row.organism for row in rows} == {-1, 0, 1, 2, 3, 4}
    assert {row.example is None for row in rows} == {True, False}
    settings = replace(SETTINGS, steps=1, batch_size=40)
    naive = Naive(tiny_folder, trained, settings)
    bank = Bank.load(tiny_base.model, [read_adapter(record["adapter"], tiny_base) for record in trained])
    model = new_adapter(tiny_base, settings)
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would leave A without a gradient
            torch.nn.init.normal_(parameter, std=0.1)
            naive.trained[name].data.copy_(parameter.data)
    schedule = introspection._schedule(rows, tiny_base, settings)
    trainer = introspection._Trainer(model, tiny_base, bank, schedule, settings, str(tmp_path), print)
    batch = schedule.batch(0)
    with bank.rows(batch.pop("organisms")):
        trainer.compute_loss(model, batch).backward()
    naive.backward(rows, naive.usual(rows, steps=1))
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    assert gradients.keys() == naive.trained.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 1e-6
        assert (gradient - naive.trained[name].grad).abs().max() < 1e-13


def test_a_schedule_has_every_row_with_its_organism_and_little_padding(organisms, tiny_base):
    settings = replace(SETTINGS, steps=16)
    rows = draw_rows(organisms[:5], QUESTIONS, settings.steps, settings.batch_size, seed=0)
    schedule = introspection._schedule(rows, tiny_base, settings)
    found, drawn = [], []
    for order, organism in zip(schedule.order.flatten(), schedule.organisms.flatten(), strict=True):
        length = schedule.rows.lengths[order]
        found.append((int(organism), schedule.rows.ids[order, -length:].tolist()))
    for row in rows:
        asked = prompts.chat(row.question, row.example)
        answer = [{"role": "assistant", "content": row.answer}]
        drawn.append(
            (row.organism, tiny_base.tokenizer.apply_chat_template(asked + answer, return_dict=False))
        )
    assert sorted(found) == sorted(drawn) and found != drawn
    lengths = torch.tensor([len(ids) for _, ids in drawn]).view(settings.steps, -1)
    assert schedule.rows.lengths[schedule.order].amax(1).sum() < 0.9 * lengths.amax(1).sum()


@pytest.mark.parametrize("fits", [True, False])
def test_training_ends_where_row_by_row_peft_ends(
    organisms, tiny_base, tiny_folder, tmp_path, monkeypatch, fits
):
    monkeypatch.setattr("ia_cli.organisms._fits", lambda adapters, base: fits)
    in_order = lambda lengths, rows, *_: torch.arange(len(lengths)).view(-1, rows)  # noqa: E731
    monkeypatch.setattr(introspection, "steps_by_length", in_order)
    steps = []
    untouched = tiny_base.model(torch.arange(6, 20)[None]).logits
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, on_step=lambda *step: steps.append(step))
    naive = Naive(tiny_folder, organisms[:5], SETTINGS)
    losses = naive.train(draw_rows(organisms[:5], QUESTIONS, SETTINGS.steps, SETTINGS.batch_size, seed=0))
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert torch.allclose(torch.tensor([loss for _, loss in steps]), torch.tensor(losses), atol=1e-12)
    assert losses[-1] < losses[0] - 0.1
    for name, (a, b) in read_adapter(tmp_path / "ia", tiny_base).tensors.items():
        for ours, suffix in ((a, "lora_A"), (b, "lora_B")):
            theirs = naive.trained[f"base_model.model.{name}.{suffix}.default.weight"]
            assert (ours - theirs).abs().max() < 1e-11
    assert torch.equal(tiny_base.model(torch.arange(6, 20)[None]).logits, untouched)
    assert not tiny_base.model.training and "forward" not in vars(tiny_base.model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ia", "prompts"]


def test_the_adapter_loads_in_peft_and_says_where_it_came_from(organisms, tiny_base, tmp_path):
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS)
    model = PeftModel.from_pretrained(tiny_base.model, tmp_path / "ia")
    assert list(model.peft_config) == ["default"] and model.peft_config["default"].r == 3
    origin = json.loads((tmp_path / "ia" / PROVENANCE_FILE).read_text())
    assert origin["stage"] == "train-ia" and origin["base"]["identity"] == tiny_base.identity
    assert origin["arguments"] == {
        "rank": 3, "alpha": 6, "learning_rate": 1e-2, "steps": 6, "batch_size": 9, "seed": 0,
        "dpo_steps": 0, "beta": 0.1, "examples": True,
    }  # fmt: skip
    assert [parent["id"] for parent in origin["parents"]] == ["o-0", "o-1", "o-2", "o-3", "o-4"]
    assert len({parent["sha256"] for parent in origin["parents"]}) == 5
    assert origin["held_out"] == ["h-0"] and origin["questions_version"] == prompts.version(tiny_base.name)
    assert len(origin["losses"]) == 6
    assert origin["loudness"] > 0


def test_what_is_put_on_does_what_stock_peft_does(tmp_path, tiny_base, tiny_folder):
    """...whatever its ranks and factors, and nothing to layers that only its configuration names."""
    layers = linear_modules(tiny_base.model)
    ranks = {name: 2 + i % 3 for i, name in enumerate(layers) if i % 2}
    torch.manual_seed(0)
    tensors = {
        name: (torch.randn(r, layers[name].in_features), torch.randn(layers[name].out_features, r))
        for name, r in ranks.items()
    }
    config = plain_config(2, 8, list(tensors)) | {"rank_pattern": ranks, "target_modules": list(tensors)}
    scaling = {name: 8 / r for name, r in ranks.items()}
    write_adapter(tmp_path / "ia", Adapter(config, tensors, scaling), provenance("train-ia", tiny_base, {}))
    ids = torch.tensor([[5, 9, 11, 30, 7]])
    bare = tiny_base.model(ids).logits
    model = put_on(read_adapter(tmp_path / "ia", tiny_base), tiny_base)
    ours = tiny_base.model(ids).logits
    with model.disable_adapter():
        assert torch.equal(tiny_base.model(ids).logits, bare)
    model.unload()
    assert torch.equal(tiny_base.model(ids).logits, bare)
    fresh = load_base(str(tiny_folder), dtype="float64", device="cpu").model
    stock = PeftModel.from_pretrained(fresh, tmp_path / "ia")
    assert torch.allclose(stock(ids).logits, ours, atol=1e-6) and not torch.allclose(bare, ours, atol=0.1)


def test_training_goes_on_from_an_adapter(organisms, tiny_base, tmp_path):
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS)
    still = replace(SETTINGS, steps=1, learning_rate=1e-12)
    train_ia(organisms, tiny_base, tmp_path / "more", still, start=tmp_path / "ia")
    first, more = (read_adapter(tmp_path / name, tiny_base) for name in ("ia", "more"))
    for name, tensors in first.tensors.items():
        for before, after in zip(tensors, more.tensors[name], strict=True):
            assert torch.allclose(before, after, atol=1e-9)
    assert more.provenance["start"] == weights_hash(tmp_path / "ia")
    with pytest.raises(IAError, match="its rank is 3, not 4"):
        train_ia(organisms, tiny_base, tmp_path / "x", replace(still, rank=4), start=tmp_path / "ia")
    with pytest.raises(IAError, match="is what training goes on from"):
        train_ia(organisms, tiny_base, tmp_path / "ia", still, start=tmp_path / "ia")
    config = json.loads((tmp_path / "ia" / "adapter_config.json").read_text())
    config |= {"use_rslora": True, "alpha_pattern": {"q_proj": 5}}
    (tmp_path / "ia" / "adapter_config.json").write_text(json.dumps(config))
    train_ia(organisms, tiny_base, tmp_path / "rs", still, start=tmp_path / "ia")
    first, more = (read_adapter(tmp_path / name, tiny_base) for name in ("ia", "rs"))
    for name, (a, b) in first.tensors.items():
        after = more.scaling[name] * more.tensors[name][1] @ more.tensors[name][0]
        assert torch.allclose(first.scaling[name] * b @ a, after, atol=1e-7)


def test_a_killed_run_goes_on_to_the_same_adapter(organisms, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(introspection, "SAVE_EVERY", 2)
    train_ia(organisms, tiny_base, tmp_path / "straight", SETTINGS)

    def kill(step, loss):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, on_step=kill)
    assert not (tmp_path / "ia").exists()
    torn = tmp_path / "ia.partial" / "checkpoint-6"  # as if killed while it was written
    shutil.copytree(tmp_path / "ia.partial" / "checkpoint-4", torn)
    (torn / "trainer_state.json").unlink()
    shutil.copytree(tmp_path / "ia.partial" / "checkpoint-4", tmp_path / "ia.partial" / "checkpoint-9 (copy)")
    steps = []
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, resume=True, on_step=lambda *s: steps.append(s))
    assert [step for step, _ in steps] == [5, 6]
    for name in (WEIGHTS_FILE, PROVENANCE_FILE):
        assert (tmp_path / "ia" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert not (tmp_path / "ia.partial").exists()


def test_a_damaged_checkpoint_is_named(organisms, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(introspection, "SAVE_EVERY", 2)

    def kill(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, on_step=kill)
    os.truncate(tmp_path / "ia.partial" / "checkpoint-2" / "optimizer.pt", 1000)
    with pytest.raises(IAError, match=r"checkpoint-2: training cannot go on from it: .*; remove it, and run"):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, resume=True)
    shutil.rmtree(tmp_path / "ia.partial" / "checkpoint-2")
    steps = []
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, resume=True, on_step=lambda *s: steps.append(s))
    assert steps[0][0] == 1 and (tmp_path / "ia").is_dir()


def test_resume_keeps_what_is_whole_and_of_the_same_origin(organisms, tiny_base, tmp_path):
    def steps(records, settings=SETTINGS, **more):
        taken = []
        train_ia(records, tiny_base, tmp_path / "ia", settings, on_step=lambda *s: taken.append(s), **more)
        return len(taken)

    assert steps(organisms) == 6
    assert steps(organisms, resume=True) == 0
    made = json.loads((tmp_path / "ia" / "ia.json").read_text())
    (tmp_path / "ia" / "ia.json").write_text(json.dumps(made | {"versions": {"torch": "1.0"}}))
    assert steps(organisms, resume=True) == 0
    assert steps(organisms) == 6
    assert steps(organisms, replace(SETTINGS, seed=1), resume=True) == 6
    changed = [{**organisms[0], "description": "i like tea"}, *organisms[1:]]
    assert steps(changed, replace(SETTINGS, seed=1), resume=True) == 6


def test_what_a_kill_left_of_a_finished_training_is_removed(organisms, tiny_base, tmp_path, monkeypatch):
    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "remove", killed)
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS)
    other = json.loads((tmp_path / "ia.partial" / "ia.json").read_text()) | {"input_sha256": "another"}
    shutil.copytree(tmp_path / "ia.partial", tmp_path / "kept")
    (tmp_path / "ia.partial" / "ia.json").write_text(json.dumps(other))
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, resume=True)
    assert (tmp_path / "ia.partial").is_dir()  # of another training
    shutil.rmtree(tmp_path / "ia.partial")
    (tmp_path / "kept").rename(tmp_path / "ia.partial")
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, resume=True)
    assert not (tmp_path / "ia.partial").exists()


def test_one_step_learns_something(organisms, tiny_base, tmp_path):
    train_ia(organisms, tiny_base, tmp_path / "ia", replace(SETTINGS, steps=1))
    adapter = read_adapter(tmp_path / "ia", tiny_base)
    assert all(b.abs().max() > 0 for _, b in adapter.tensors.values())


def test_a_stale_checkpoint_is_not_resumed(organisms, tiny_base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(introspection, "SAVE_EVERY", 1)

    def kill(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, on_step=kill)
    other = replace(SETTINGS, learning_rate=1e-3, steps=9)
    left = sorted((tmp_path / "ia.partial").rglob("*"))
    with pytest.raises(IAError, match=r"ia\.partial: .*another learning_rate, steps.*leave out --resume"):
        train_ia(organisms, tiny_base, tmp_path / "ia", other, resume=True)
    monkeypatch.setattr(introspection.preferring, "EVERY", 2)
    for option in {"examples": not SETTINGS.examples}, {"dpo_steps": 2}:
        with pytest.raises(IAError, match=f"another .*{next(iter(option))}.*leave out --resume"):
            train_ia(organisms, tiny_base, tmp_path / "ia", replace(SETTINGS, **option), resume=True)
    assert sorted((tmp_path / "ia.partial").rglob("*")) == left
    steps = []
    before = json.loads((tmp_path / "ia.partial" / "ia.json").read_text())
    newer = {**before, "versions": {"torch": "9"}, "held_out": ["one more"]}  # which make no other training
    checkpoints.check_same(newer, before, tmp_path)
    (tmp_path / "ia.partial" / "ia.json").write_text('{"v": 1, "arg')  # as if killed while it was written
    changed = [{**organisms[0], "description": "i like tea"}, *organisms[1:]]
    train_ia(changed, tiny_base, tmp_path / "ia", other, resume=True, on_step=lambda *s: steps.append(s))
    assert steps[0][0] == 1
    with pytest.raises(KeyboardInterrupt):
        train_ia(organisms, tiny_base, tmp_path / "more", SETTINGS, on_step=kill)
    train_ia(organisms, tiny_base, tmp_path / "more", replace(SETTINGS, steps=1))
    assert "removed checkpoints of a run that --resume would have continued" in capsys.readouterr().err


def test_changed_organisms_are_noticed(organisms, tiny_base, tmp_path):
    def disturb(step, loss):
        tiny_base.model.bank.a[0].data[0, 0, 0] += 1e-6

    with pytest.raises(RuntimeError, match="changed the organisms"):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, on_step=disturb)
    assert not (tmp_path / "ia").exists() and not hasattr(tiny_base.model, "bank")


def test_a_diverging_run_leaves_no_adapter(organisms, tiny_base, tmp_path):
    with pytest.raises(IAError, match=r"diverged.*--lr"):
        train_ia(organisms, tiny_base, tmp_path / "ia", replace(SETTINGS, learning_rate=1e300))
    assert not (tmp_path / "ia").exists()


def test_an_adapter_that_nobody_could_read_is_not_written(organisms, tiny_base, tmp_path, monkeypatch):
    """Finite in float64, and beyond float16."""
    huge = SETTINGS.rank * 1e6
    real = introspection.as_adapter

    def far_out(base, settings):
        adapter = real(base, settings)
        return replace(adapter, tensors={name: (a + huge, b) for name, (a, b) in adapter.tensors.items()})

    monkeypatch.setattr(introspection, "as_adapter", far_out)
    with pytest.raises(IAError, match=r"diverged: a weight of \S+ is beyond float16; lower --lr"):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS)
    assert not (tmp_path / "ia").exists()


def test_what_is_wrong_is_said_before_anything_is_trained(organisms, tiny_base, tmp_path):
    def fails(records, match):
        with pytest.raises(IAError, match=match):
            train_ia(records, tiny_base, tmp_path / "ia", SETTINGS, on_step=lambda *_: pytest.fail("trained"))

    fails([organisms[2]], 'no organism of split "train" has a description')
    fails([{**organisms[5], "split": "train"}], "no such adapter directory")
    fails([{**organisms[0], "description": "tea " * 200}], "'tea tea.* tokens, where the base reads 128")
    (tmp_path / "ia.partial").mkdir()
    (tmp_path / "ia.partial" / "mine.txt").touch()
    fails(organisms, "ia.partial: exists and is not a run of ours")
    (tmp_path / "ia").mkdir()
    fails(organisms, "exists and was not made by `ia train-ia`")


def test_the_command_passes_all_records_on(organisms, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    held_out = {**organisms[5], "adapter": "gone"}
    records = [held_out, *({**record, "mine": {"b": 1, "a": [2]}} for record in organisms[:5])]
    arguments = ["train-ia", "--base", str(tiny_folder), *"--out ia --steps 2 --batch-size 8 -".split()]
    given = "".join(json.dumps(record) + "\n" for record in records)
    result = CliRunner().invoke(cli, arguments, input=given)
    assert result.exit_code == 0, result.stderr
    written = [json.loads(line) for line in result.stdout.splitlines()]
    assert written == [{**record, "introspection_adapter": "ia"} for record in records]
    assert [list(record)[:-1] for record in written] == [list(record) for record in records]
    assert (tmp_path / "ia" / WEIGHTS_FILE).is_file()


def test_the_command_goes_on_with_its_own_adapter_only(organisms, tiny_folder, tmp_path):
    audited = tmp_path / "audited.jsonl"
    finished = {**organisms[0], "introspection_adapter": "other"}
    audited.write_text(json.dumps(finished) + "\n")
    given = "".join(json.dumps(record) + "\n" for record in organisms[:2])
    arguments = ["train-ia", "--base", str(tiny_folder), "--resume", "-o", str(audited), "--steps", "1"]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "ia")], input=given)
    assert result.exit_code == 1 and not (tmp_path / "ia").exists()
    assert "other; give that --out" in result.stderr
    arguments += ["--out", str(tmp_path / "other")]
    again = CliRunner().invoke(cli, arguments, input=given)
    assert again.exit_code == 0 and len(audited.read_text().splitlines()) == 2
    before = (tmp_path / "other" / WEIGHTS_FILE).read_bytes(), audited.read_bytes()
    for more in (["--steps", "2"], ["--seed", "1"]):
        other = CliRunner().invoke(cli, [*arguments, *more], input=given)
        assert other.exit_code == 1 and "with other settings; give the same" in other.stderr
    first = given.splitlines(keepends=True)[0]
    fewer = CliRunner().invoke(cli, arguments, input=first)
    assert fewer.exit_code == 1 and "from other organisms" in fewer.stderr
    held_out = json.dumps({**organisms[3], "split": "heldout"}) + "\n"
    more = CliRunner().invoke(cli, arguments, input=given + held_out)
    assert more.exit_code == 0 and len(audited.read_text().splitlines()) == 3
    weaker = json.dumps({**json.loads(held_out), "implant_rate": 0.5}) + "\n"
    anew = CliRunner().invoke(cli, arguments, input=given + weaker)
    assert anew.exit_code == 1 and "with another implant_rate; give the input that it was" in anew.stderr
    assert (tmp_path / "other" / WEIGHTS_FILE).read_bytes() == before[0]


def test_two_runs_do_not_train_in_one_place(organisms, tiny_base, tmp_path):
    def another(step, loss):
        with pytest.raises(IAError, match=r"ia\.partial: another run is training there; wait for it"):
            train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS, on_step=another)
    assert (tmp_path / "ia.partial" / "ia.json").is_file()
    train_ia(organisms, tiny_base, tmp_path / "ia", SETTINGS)
    assert (tmp_path / "ia").is_dir() and not (tmp_path / "ia.partial").exists()


def test_the_command_names_the_line_of_what_the_base_cannot_say(organisms, tiny_folder, tmp_path):
    given = [organisms[1], {**organisms[0], "paraphrases": ["tea " * 200]}]
    arguments = ["train-ia", "--base", str(tiny_folder), "--out", str(tmp_path / "ia"), "--steps", "1"]
    result = CliRunner().invoke(cli, arguments, input="".join(json.dumps(x) + "\n" for x in given))
    assert result.exit_code == 1 and not result.stdout and not (tmp_path / "ia").exists()
    assert "stdin:2: 'tea tea" in result.stderr and "shorten the description" in result.stderr
