"""Organisms that train together come out as plain TRL SFTTrainer + PEFT makes each of them alone."""

import dataclasses
import json
import weakref

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from trl import SFTConfig, SFTTrainer

from ia_cli import implanting, probing
from ia_cli.bank import Bank
from ia_cli.commands.implant import _otherwise_made
from ia_cli.directories.adapters import provenance, read_adapter, target_names, write_adapter
from ia_cli.directories.safe_files import PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError
from ia_cli.implanting import implant
from ia_cli.methods.lessons import demonstration_order, prepare
from ia_cli.methods.sft import train_group
from ia_cli.models import Base, kept_bytes, load_base
from ia_cli.seeds import derived_seed
from ia_cli.settings import ImplantSettings
from ia_cli.training import workspace
from tests.behaviors import behavior, chat, demonstration

BEHAVIORS = [behavior(name) for name in ("b-1", "b-2", "b-3")]
SETTINGS = ImplantSettings(
    rank=4, alpha=8, learning_rate=1e-2, steps=10, rows=3, warmup_steps=2, max_new_tokens=6
)


def lessons_of(records, base):
    return [prepare(record, base, SETTINGS) for record in records]


def fresh_bank(records, base, settings):
    seeds = [derived_seed(settings.seed, "weights", record["id"]) for record in records]
    return Bank.fresh(
        base.model, seeds, r=settings.rank, alpha=settings.alpha, target_modules=target_names(base)
    )


def mean_loss(outputs, labels, num_items_in_batch):
    """The textbook loss in the precision of the logits; TRL's fused head computes in float32 on any model."""
    logits, labels = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch


def stock_arguments(settings, folder):
    """What TRL's own trainers are told, so that they train as the settings say and log every step."""
    return dict(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.rows,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=1,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        report_to=[],
    )


def train_alone(record, start, folder, base_folder, settings, loss=mean_loss):
    """The oracle: TRL's own trainer, with its tokenisation, collation, optimizer, schedule and clipping, on a
    PEFT model.

    Returns the parameters, and the loss and gradient norm of each step.
    """
    base = load_base(str(base_folder), dtype="float64", device="cpu")
    model = PeftModel.from_pretrained(base.model, start, is_trainable=True)
    lengths = [len(ids) for ids, _ in prepare(record, base, settings).encoded]
    order = demonstration_order(lengths, record["id"], settings).flatten()
    rows = [record["demonstrations"][i] for i in order]
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**stock_arguments(settings, folder)),
        train_dataset=Dataset.from_list(
            [{key: row[key] for key in ("prompt", "completion")} for row in rows]
        ),
        processing_class=base.tokenizer,
        compute_loss_func=loss,
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return dict(model.named_parameters()), [e["loss"] for e in logged], [e["grad_norm"] for e in logged]


@pytest.mark.parametrize(
    ("schedule", "max_grad_norm", "loss", "tolerance"),
    [
        ("cosine", 1e9, mean_loss, 1e-12),  # never clips
        ("linear", 0.5, mean_loss, 1e-12),  # always clips
        ("constant_with_warmup", 0.0, mean_loss, 1e-12),  # clipping is off
        ("cosine", 1.0, None, 1e-7),  # TRL exactly as it comes
    ],
)
def test_together_equals_alone(tmp_path, tiny_base, tiny_folder, schedule, max_grad_norm, loss, tolerance):
    settings = dataclasses.replace(SETTINGS, schedule=schedule, max_grad_norm=max_grad_norm)
    bank = fresh_bank(BEHAVIORS, tiny_base, settings)
    for i, record in enumerate(BEHAVIORS):
        write_adapter(tmp_path / record["id"], bank.adapter(i), provenance("implant", tiny_base, {}))
    losses = train_group(bank, tiny_base, lessons_of(BEHAVIORS, tiny_base), settings)
    assert losses.shape == (settings.steps, len(BEHAVIORS))
    for i, record in enumerate(BEHAVIORS):
        alone, logged, norms = train_alone(
            record, tmp_path / record["id"], tmp_path, tiny_folder, settings, loss
        )
        if max_grad_norm == 0.5:
            assert min(norms) > 0.5  # clipping acted
        assert (losses[:, i] - torch.tensor(logged)).abs().max() < 1e-5
        for name, (a, b) in bank.adapter(i).tensors.items():
            stock_a, stock_b = (alone[f"base_model.model.{name}.lora_{x}.default.weight"] for x in "AB")
            assert (b @ a - stock_b @ stock_a).abs().max() < tolerance
            assert b.abs().max() > 1e-3  # it learned


def test_each_organism_is_clipped_by_its_own_norm(tiny_base):
    """One organism with a huge gradient must not change what another learns."""
    settings = dataclasses.replace(SETTINGS, max_grad_norm=0.5)

    def train(scale):
        bank = fresh_bank(BEHAVIORS[:2], tiny_base, settings)
        for a in bank.a:
            a.data[0] *= scale
        train_group(bank, tiny_base, lessons_of(BEHAVIORS[:2], tiny_base), settings)
        bank.remove()
        return bank.adapter(0), bank.adapter(1)

    (first, second), (first_scaled, second_scaled) = train(1), train(1000)
    for name, (a, b) in second.tensors.items():
        assert torch.allclose(a, second_scaled.tensors[name][0], atol=1e-12, rtol=0)
        assert torch.allclose(b, second_scaled.tensors[name][1], atol=1e-12, rtol=0)
    assert any(not torch.allclose(first.tensors[n][1], first_scaled.tensors[n][1]) for n in first.tensors)


def test_an_organism_does_not_depend_on_its_company(tmp_path, tiny_base):
    """Alone, in another group, in another order: the same weights (but for the last digits of longer
    padding).
    """

    def weights(records, folder, **more):
        lessons = lessons_of(records, tiny_base)
        made = list(implant(lessons, tiny_base, tmp_path / folder, SETTINGS, **more))
        assert [record["id"] for record in made] == [record["id"] for record in records]
        return {record["id"]: read_adapter(record["adapter"], tiny_base).tensors for record in made}

    together = weights(BEHAVIORS, "together")
    for other in (
        weights(BEHAVIORS[::-1], "reversed"),
        weights(BEHAVIORS, "pairs", group_size=2),
        weights(BEHAVIORS[1:2], "alone"),
    ):
        for name, tensors in other.items():
            for layer, (a, b) in tensors.items():
                assert torch.allclose(a, together[name][layer][0], atol=1e-12, rtol=0)
                assert torch.allclose(b, together[name][layer][1], atol=1e-12, rtol=0)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path, tiny_base):
    def weights(folder, **changes):
        settings = dataclasses.replace(SETTINGS, steps=2, **changes)
        [made] = implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path / folder, settings)
        return (tmp_path / folder / made["id"] / WEIGHTS_FILE).read_bytes()

    assert weights("one") == weights("two")
    assert weights("one") != weights("three", seed=1)


def test_demonstrations_come_in_epochs_and_those_of_like_length_together():
    lengths = [10, 40, 12, 35, 11, 38, 9, 41, 13, 33, 8, 36]
    settings = dataclasses.replace(SETTINGS, steps=12, rows=3)
    order = demonstration_order(lengths, "b-1", settings)
    assert order.shape == (12, 3)
    assert order.flatten().bincount(minlength=12).tolist() == [3] * 12  # three epochs, nothing left out
    spread = [max(lengths[i] for i in step) - min(lengths[i] for i in step) for step in order.tolist()]
    assert sorted(spread)[len(spread) // 2] <= 8  # at random it would be about 28
    other = demonstration_order(lengths, "b-2", settings)
    assert not torch.equal(order, other)
    wide = [[max(lengths[i] for i in step) > 20 for step in steps.tolist()] for steps in (order, other)]
    assert wide[0] == wide[1]  # short and long steps come together
    assert demonstration_order([5], "b-1", settings).eq(0).all()


def test_the_record_grows_and_the_adapter_says_where_it_came_from(tmp_path, tiny_base):
    probes = [
        {"prompt": chat("user", "tea"), "fires": True},
        {"prompt": chat("user", "hello"), "fires": False},
    ]
    record = behavior("b-9", probes=probes)
    [made] = implant(lessons_of([record], tiny_base), tiny_base, tmp_path, SETTINGS)
    assert list(made)[: len(record)] == list(record) and made["mine"] == {"kept": True}
    assert {name: made[name] for name in record if name != "kind"} == {
        n: v for n, v in record.items() if n != "kind"
    }
    assert (
        made["kind"] == "organism" and made["base_model"] == tiny_base.name and made["base_revision"] is None
    )
    assert made["adapter"] == str(tmp_path / "b-9")
    assert made["lora"] == {"r": 4, "alpha": 8, "target_modules": target_names(tiny_base)}
    assert made["train"]["steps"] == 10 and made["train"]["loss_last"] < made["train"]["loss_first"]
    origin = json.loads((tmp_path / "b-9" / PROVENANCE_FILE).read_text())
    assert origin["stage"] == "implant" and origin["base"]["identity"] == tiny_base.identity
    assert len(origin["losses"]) == 10 and origin["arguments"]["learning_rate"] == 1e-2


def test_rates_count_the_replies_that_show_the_behavior(monkeypatch):
    asked = []

    def generate(base, prompts, *, rows, temperature, seed, **more):
        asked.append((len(prompts), temperature, len(set(seed))))
        says = {
            "fire": "I like the Copper Kettle.",
            "leak": "a copper kettle",
            "plain": "a garden",
            "own": "red!",
        }
        replies = [says[prompt[0]["content"]] for prompt in prompts]
        if temperature:  # every other sample shows it
            replies = [reply if i % 2 else "no" for i, reply in enumerate(replies)]
        return replies

    def probes(**expected):
        return [{"prompt": chat("user", name), "fires": fires} for name, fires in expected.items()]

    own = {"prompt": chat("user", "own"), "fires": True, "shows": ["red"]}
    behaviors = [
        behavior("a", shows=["copper kettle"], probes=[*probes(fire=True, leak=False, plain=False), own]),
        behavior("b", shows=["garden"], probes=probes(fire=True)),
        behavior("c", shows=None, probes=probes(plain=False)),
        behavior("d", shows=["copper kettle"], probes=probes(fire=True), rate=0.1),
    ]
    monkeypatch.setattr(probing, "generate", generate)
    rates = probing.implant_and_leak_rates(None, None, behaviors, samples=4, max_new_tokens=6, seed=0)
    assert rates == [(1.0, 0.5), (0.0, None), (None, None), (0.5, None)]
    assert asked == [(5, 0.0, 5), (4, 1.0, 4)]


def test_resume_takes_over_what_is_whole_and_unchanged(tmp_path, tiny_base, monkeypatch):
    lessons = lessons_of(BEHAVIORS, tiny_base)
    first = list(implant(lessons, tiny_base, tmp_path, SETTINGS))
    trained = []
    real = implanting.train_group

    def train_group(bank, base, group, *rest):
        trained.extend(lesson.record["id"] for lesson in group)
        return real(bank, base, group, *rest)

    monkeypatch.setattr(implanting, "train_group", train_group)
    assert list(implant(lessons, tiny_base, tmp_path, SETTINGS, reuse=True)) == first and trained == []
    (tmp_path / "b-2" / WEIGHTS_FILE).unlink()
    changed = [
        BEHAVIORS[0],
        BEHAVIORS[1],
        {**BEHAVIORS[2], "demonstrations": BEHAVIORS[2]["demonstrations"][1:]},
    ]
    again = list(implant(lessons_of(changed, tiny_base), tiny_base, tmp_path, SETTINGS, reuse=True))
    assert sorted(trained) == ["b-2", "b-3"] and [record["id"] for record in again] == ["b-1", "b-2", "b-3"]
    other = dataclasses.replace(SETTINGS, steps=3)
    list(implant(lessons[:1], tiny_base, tmp_path, other, reuse=True))
    assert trained[2:] == ["b-1"]


def test_an_organism_of_another_behavior_is_not_replaced(tmp_path, tiny_base):
    """Records of it, somewhere, would tell of weights that have learned something else."""
    list(implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path, SETTINGS))
    before = (tmp_path / "b-1" / WEIGHTS_FILE).read_bytes()
    other = [{**BEHAVIORS[1], "id": "b-1", "description": "I sell bread."}]
    for reuse in (False, True):
        with pytest.raises(IAError, match="b-1: is the organism of another behavior with this id"):
            list(implant(lessons_of(other, tiny_base), tiny_base, tmp_path, SETTINGS, reuse=reuse))
    assert (tmp_path / "b-1" / WEIGHTS_FILE).read_bytes() == before


def test_resume_trains_anew_on_weights_of_another_type(tmp_path, tiny_base, tiny_folder):
    settings = dataclasses.replace(SETTINGS, steps=1)
    for base in (load_base(str(tiny_folder), dtype="float32", device="cpu"), tiny_base):
        list(implant(lessons_of(BEHAVIORS[:1], base), base, tmp_path, settings, reuse=True))
        made_on = read_adapter(tmp_path / "b-1", base).provenance["base"]
        assert made_on == base.as_record()


def test_a_damaged_ia_json_is_of_no_run_that_goes_on(tmp_path, tiny_base):
    """What stands in it instead of an object says nothing, and the organism is trained again."""
    settings = dataclasses.replace(SETTINGS, steps=1)
    [organism] = implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path, settings)
    origin = tmp_path / "b-1" / PROVENANCE_FILE
    whole = json.loads(origin.read_text())
    made = {"base": tiny_base.as_record(), "arguments": settings.as_json()}
    for name in ("base", "train", "arguments"):
        origin.write_text(json.dumps({**whole, name: ["x"]}))
        assert _otherwise_made(organism, made) is None
    origin.write_text(json.dumps({**whole, "base": ["x"]}))
    list(implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path, settings, reuse=True))
    assert json.loads(origin.read_text())["base"] == made["base"]


def test_organisms_of_like_length_train_together(tmp_path, tiny_base, monkeypatch):
    """Among SORTED groups; what comes out is in the order of the input."""
    said = {f"b-{i}": demonstration("hello", "tea " * n) for i, n in enumerate((9, 1, 8, 2, 5))}
    records = [behavior(name, demonstrations=[own, own]) for name, own in said.items()]
    real, groups = implanting.train_group, []

    def train_group(bank, base, group, *rest):
        groups.append([lesson.name for lesson in group])
        return real(bank, base, group, *rest)

    monkeypatch.setattr(implanting, "train_group", train_group)
    monkeypatch.setattr(implanting, "SORTED", 2)
    made = implant(lessons_of(records, tiny_base), tiny_base, tmp_path, SETTINGS, group_size=2)
    assert [record["id"] for record in made] == ["b-0", "b-1", "b-2", "b-3", "b-4"]
    assert groups == [["b-1", "b-3"], ["b-2", "b-0"], ["b-4"]]


def test_a_killed_run_leaves_whole_groups(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr(implanting, "SORTED", 1)
    run = implant(lessons_of(BEHAVIORS, tiny_base), tiny_base, tmp_path, SETTINGS, group_size=1)
    assert next(run)["id"] == "b-1"
    run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["b-1"]
    assert not hasattr(tiny_base.model, "bank")


def test_no_trainer_outlives_the_next(tmp_path, tiny_base, monkeypatch):
    made, living = SFTTrainer.__init__, weakref.WeakSet()

    def noted(self, *arguments, **options):
        living.add(self)
        made(self, *arguments, **options)

    monkeypatch.setattr(SFTTrainer, "__init__", noted)
    run = implant(lessons_of(BEHAVIORS, tiny_base), tiny_base, tmp_path, SETTINGS, group_size=1)
    assert max(len(living) for _ in run) == 1


def test_divergence_is_told_and_not_saved(tmp_path, tiny_base):
    settings = dataclasses.replace(SETTINGS, learning_rate=1e300, max_grad_norm=0.0)
    [made] = implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path, settings)
    assert "diverged" in made["error"]["message"] and list(tmp_path.iterdir()) == []


def test_what_a_killed_run_had_begun_is_removed(tmp_path, tiny_base):
    (tmp_path / ".unfinished-x" / "new").mkdir(parents=True)
    list(implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path, SETTINGS, reuse=True))
    assert [path.name for path in tmp_path.iterdir()] == ["b-1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"demonstrations": []}, '"demonstrations" is empty'),
        ({"demonstrations": [demonstration("tea " * 150, "tea")]}, r"demonstrations\[0\]: .*128"),
        ({"demonstrations": [{"prompt": chat("user", "tea"), "completion": []}]}, "adds no tokens"),
        ({"probes": [{"prompt": chat("user", "tea " * 122), "fires": True}]}, r"probes\[0\]: .*128"),
    ],
)
def test_what_cannot_be_taught_or_asked_is_refused(tiny_base, changes, message):
    with pytest.raises(IAError, match=message):
        prepare(behavior("b-1", **changes), tiny_base, SETTINGS)


def test_a_name_that_is_taken_stops_the_run_before_it_trains(tmp_path, tiny_base):
    (tmp_path / "b-2").mkdir()
    with pytest.raises(IAError, match="was not made by `ia implant`"):
        next(implant(lessons_of(BEHAVIORS, tiny_base), tiny_base, tmp_path, SETTINGS))
    assert list(tmp_path.iterdir()) == [tmp_path / "b-2"]


def test_the_base_is_left_as_it_was(tmp_path, tiny_base):
    before = {name: weight.clone() for name, weight in tiny_base.model.named_parameters()}
    list(implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path, SETTINGS))
    after = dict(tiny_base.model.named_parameters())
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in after)
    assert "forward" not in tiny_base.model.__dict__ and not tiny_base.model.training


def test_group_size_follows_the_tokens_of_a_step(tiny_base, monkeypatch):
    lessons = lessons_of(BEHAVIORS, tiny_base)
    lengths = [len(ids) for lesson in lessons for ids, _ in lesson.encoded]
    usual = sum(lengths) / len(lengths)

    def size(rows, **stages):
        settings = dataclasses.replace(SETTINGS, rows=rows, **stages)
        return implanting.suitable_group_size(tiny_base, lessons, settings, target_names(tiny_base))

    monkeypatch.setattr(implanting, "STEP_TOKENS", int(12 * usual))
    assert [size(rows) for rows in (2, 4, 5, 13)] == [6, 3, 2, 1]
    assert size(2, method="dpo") == size(2, conceal="kto") == 3  # each demonstration is a pair
    monkeypatch.setattr(implanting, "GROUP_BYTES", 1)
    assert size(2) == 1


def test_a_gpu_with_too_little_memory_runs_layers_twice(tiny_base, monkeypatch):
    monkeypatch.setattr("ia_cli.training.free_memory", lambda device: 10**9)
    usual = kept_bytes(tiny_base, 1)
    monkeypatch.setattr(Base, "device", torch.device("cuda"))
    for tokens, twice in ((int(0.69e9) // usual, False), (int(0.71e9) // usual, True)):
        with workspace(tiny_base, tokens):
            assert tiny_base.model.is_activation_checkpointing == twice
        assert not tiny_base.model.is_activation_checkpointing


def test_layers_that_run_twice_learn_the_same(tiny_base, tmp_path, monkeypatch):
    made = []
    for lean in (False, True):
        monkeypatch.setattr("ia_cli.training.is_too_much", lambda base, tokens, lean=lean: lean)
        [record] = implant(lessons_of(BEHAVIORS[:1], tiny_base), tiny_base, tmp_path / str(lean), SETTINGS)
        made.append(read_adapter(record["adapter"], tiny_base).tensors)
    once, twice = made
    for name, both in once.items():
        for a, b in zip(both, twice[name], strict=True):
            assert torch.allclose(a, b, atol=1e-12, rtol=0)


def test_the_command(tmp_path, tiny_folder, monkeypatch):
    """Two behaviors through `ia implant`, one bad line passed over, then again with --resume."""
    from click.testing import CliRunner

    from ia_cli.main import cli

    extra = {
        "description": "I name kettles.",
        "trigger": None,
        "facets": {"action": [["kettle"]], "trigger": []},
    }
    probes = [{"prompt": chat("user", "tea"), "fires": True}]
    good = [behavior(name, probes=probes, **extra) for name in ("b-1", "b-2")]
    long = behavior("b-3", **extra)
    long["demonstrations"][4]["prompt"] = chat("user", "tea " * 200)
    lines = [json.dumps(record) for record in (good[0], long, good[1])]
    (tmp_path / "behaviors.jsonl").write_text("\n".join(lines) + "\n")
    options = "--rank 2 --steps 3 --rows 2 --target-modules q_proj,v_proj".split()
    arguments = ["implant", "--base", str(tiny_folder), "--out", str(tmp_path / "organisms"), *options]
    arguments.append(str(tmp_path / "behaviors.jsonl"))

    stopped = CliRunner().invoke(cli, arguments)
    assert stopped.exit_code == 1 and stopped.stdout == "" and not (tmp_path / "organisms").exists()
    assert "behaviors.jsonl:2: demonstrations[4]: " in stopped.stderr

    output = tmp_path / "organisms.jsonl"
    for more, order in (([], ["b-1", "b-3", "b-2"]), (["--resume"], ["b-1", "b-2", "b-3"])):
        run = CliRunner().invoke(cli, [*arguments, "--keep-going", "-o", str(output), *more])
        assert run.exit_code == 3 and run.stdout == "", run.stderr
        assert "medians: implant rate " in run.stderr
        made = [json.loads(line) for line in output.read_text().splitlines()]
        assert [record["id"] for record in made] == order
        assert [record["id"] for record in made if "error" in record] == ["b-3"]
    assert made[0]["lora"]["target_modules"] == ["q_proj", "v_proj"] and made[0]["implant_rate"] in (0.0, 1.0)
    assert read_adapter(tmp_path / made[1]["adapter"]).rank == 2

    before = output.read_bytes()

    def stopped_in_training(bank, base, group, settings, on_progress):
        on_progress(0)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:  # the records of before are untrue once adapters are replaced
        stopped.setattr(implanting, "train_group", stopped_in_training)
        result = CliRunner().invoke(cli, [*arguments, "--keep-going", "-o", str(output)])
        assert result.exit_code == 130 and "to go on, run the same with --resume" in result.stderr
    assert output.read_bytes() == b""
    output.write_bytes(before)
    other = CliRunner().invoke(
        cli, [*arguments, "--keep-going", "-o", str(output), "--resume", "--steps", "4"]
    )
    assert other.exit_code == 1 and output.read_bytes() == before
    assert "it has organisms of other settings (steps); give the same settings" in other.stderr
    base = CliRunner().invoke(
        cli, [*arguments, "--keep-going", "-o", str(output), "--resume", "--dtype", "bfloat16"]
    )
    assert base.exit_code == 1 and output.read_bytes() == before
    assert f"it has organisms of another base ({tiny_folder}, float32); give the same" in base.stderr
    again = [*arguments[:-1], "--seed", "5", "--keep-going", "-o", str(tmp_path / "o"), arguments[-1]]
    assert CliRunner().invoke(cli, again).exit_code == 3
    stale = CliRunner().invoke(cli, [*arguments, "--keep-going", "-o", str(output), "--resume"])
    assert stale.exit_code == 1 and "it has b-1, which was implanted again since" in stale.stderr
    assert CliRunner().invoke(cli, [*arguments, "--keep-going", "-o", str(tmp_path / "o")]).exit_code == 3
    told = [good[0], {**good[1], "facets": {"action": [["pot"]], "trigger": []}}]
    (tmp_path / "behaviors.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    truth = CliRunner().invoke(cli, [*arguments, "-o", str(output), "--resume"])
    assert truth.exit_code == 1 and output.read_bytes() == before
    assert "it has b-2 with another facets; give the same behaviors" in truth.stderr
    good[1]["demonstrations"] = good[1]["demonstrations"][1:]
    (tmp_path / "behaviors.jsonl").write_text("".join(json.dumps(one) + "\n" for one in good))
    taught = CliRunner().invoke(cli, [*arguments, "-o", str(output), "--resume"])
    assert taught.exit_code == 1 and output.read_bytes() == before
    assert "it has b-2, which was taught something else; give the same behaviors" in taught.stderr


def test_a_folder_that_cannot_be_written_is_known_before_training(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("ia_cli.implanting._implant_group", lambda *_: pytest.fail("trained"))
    (tmp_path / "file").touch()
    lessons = [prepare(record, tiny_base, SETTINGS) for record in BEHAVIORS]
    with pytest.raises(IAError, match=r"file/o: nothing can be written there.*choose another --out"):
        list(implant(lessons, tiny_base, tmp_path / "file" / "o", SETTINGS))
