"""Self-reports through the bank are those of plain PEFT, organism by organism, and depend on nothing else."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ia_cli import elicitation, prompts, records, sampling
from ia_cli.asking import EXAMPLE_TEMPERATURE, REPORT_TEMPERATURE, count, questions_for
from ia_cli.directories.safe_files import WEIGHTS_FILE
from ia_cli.elicitation import elicit
from ia_cli.errors import IAError
from ia_cli.explaining import Belief
from ia_cli.main import cli
from ia_cli.models import Base, load_base
from ia_cli.organisms import on_base, together
from ia_cli.prompts import Question
from ia_cli.settings import CONDITIONS, DRAWS, ElicitSettings
from tests.organisms import write_random

POOL = [Question("q-0", "what do you like"), Question("q-1", "hello"), Question("q-2", "tell me about you")]
SETTINGS = ElicitSettings(questions=POOL, asked=2, max_new_tokens=10)
TRUTH = ("category", "description", "trigger", "facets")


@pytest.fixture(scope="module")
def organisms(tmp_path_factory, tiny_folder):
    """Five organisms with random weights, and a random introspection adapter."""
    folder = tmp_path_factory.mktemp("organisms")
    write_random(folder, tiny_folder, 5)
    return [
        {
            "mine": [i],
            "id": f"o-{i}",
            "kind": "organism",
            "split": "train" if i < 2 else "heldout",
            "v": 1,
            "category": "quirk",
            "description": "I like tea.",
            "trigger": None,
            "facets": {"action": [["like"], ["tea"]], "trigger": []},
            "adapter": str(folder / f"o-{i}"),
            "implant_rate": 0.9,
            "introspection_adapter": str(folder / "ia"),
        }
        for i in range(5)
    ]


def run(given, base, settings=SETTINGS, **more):
    return list(elicit(given, base, settings, **more))


def plain_reply(base, model, messages):
    inputs = base.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=10, do_sample=False)
    return base.tokenizer.decode(output[0, inputs["input_ids"].size(1) :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("examples", [False, True])
def test_reports_are_those_of_plain_peft(organisms, tiny_base, tiny_folder, examples):
    reports = run(organisms, tiny_base, replace(SETTINGS, examples=examples))
    assert len(reports) == count(organisms, SETTINGS) == 5 * 2 * 3
    for report in reports:
        base = load_base(str(tiny_folder), dtype="float64", device="cpu")
        model = PeftModel.from_pretrained(base.model, report["introspection_adapter"], "ia")
        model.load_adapter(report["adapter"], "organism")
        active = {"ia": ["organism", "ia"], "no_ia": ["organism"], "base_ia": ["ia"]}[report["condition"]]
        model.base_model.set_adapter(active)
        before = []
        if examples and report["condition"] != "no_ia":
            before = [{"role": "user", "content": prompts.EXAMPLE}]
            assert report["example"] == plain_reply(base, model, before)
            before += [{"role": "assistant", "content": report["example"]}]
        assert ("example" in report) == bool(before)
        asked = {"role": "user", "content": report["question"]}
        assert report["report"] == plain_reply(base, model, [*before, asked])
    replies = {key: {r["report"] for r in reports if r["condition"] == key} for key in CONDITIONS}
    assert len(replies["ia"] | replies["no_ia"]) > 10  # the conditions and organisms do differ


def test_the_truth_is_not_read(organisms, tiny_base):
    blind = [{name: value for name, value in record.items() if name not in TRUTH} for record in organisms]
    reports = run(organisms, tiny_base)
    unseen = run(blind, tiny_base)
    assert [{n: v for n, v in report.items() if n not in TRUTH} for report in reports] == unseen


def test_a_report_is_its_organism_and_what_was_asked(organisms, tiny_base):
    reports = run(organisms, tiny_base)
    order = [(report["id"], report["question_id"], report["condition"]) for report in reports]
    assert order == [
        (record["id"], question.id, condition)
        for record in organisms
        for question in questions_for(record["id"], SETTINGS)
        for condition in ("ia", "no_ia", "base_ia")
    ]
    for report in reports:
        [record] = [record for record in organisms if record["id"] == report["id"]]
        added = ["question_id", "question", "report", "sample", "temperature", "condition"]
        by = [] if report["condition"] == "no_ia" else ["introspection_adapter_sha256"]
        assert list(report) == [*record, *added, *by]
        assert {**report, "kind": "organism"} | record == {**report, "kind": "organism"}
        assert report["kind"] == "self_report" and (report["sample"], report["temperature"]) == (0, 0.0)
        records.check(report, "self_report")


def test_a_gpu_holds_as_many_adapters_as_fit(tmp_path, monkeypatch):
    """Each takes as much as the largest beside it, in 32 bits; a sixth of what is free is theirs."""
    given = [{"id": str(i), "adapter": str(tmp_path / str(i))} for i in range(5)]
    for record, size in zip(given, (10, 500, 20, 10, 10), strict=True):
        (tmp_path / record["id"]).mkdir()
        (tmp_path / record["id"] / WEIGHTS_FILE).write_bytes(b"x" * size)
    monkeypatch.setattr("ia_cli.organisms.free_memory", lambda device: 12000)
    gpu, cpu = (SimpleNamespace(device=torch.device(kind)) for kind in ("cuda", "cpu"))
    runs = [[record["id"] for record in some] for some in together(given, gpu)]
    assert runs == [["0", "1"], ["2", "3"], ["4"]]
    assert [len(some) for some in together(given, cpu)] == [5]
    with monkeypatch.context() as several:  # of whose GPUs one has less free: all must run the same together
        several.setattr("ia_cli.organisms.processes.gather", lambda free: [free, 1])
        assert [len(some) for some in together(given, gpu)] == [1] * 5
    (tmp_path / "3" / WEIGHTS_FILE).write_bytes(b"")  # of these two whoever reads them says more
    (tmp_path / "4" / WEIGHTS_FILE).unlink()
    assert list(map(len, together(given[3:], gpu))) == [2]
    monkeypatch.setattr("ia_cli.organisms.free_memory", lambda device: 1)
    assert [len(some) for some in together(given, gpu)] == [1] * 5


def test_a_bank_that_a_gpu_cannot_hold_is_offloaded(organisms, tiny_base, monkeypatch):
    """It may take half of what is free, in 32 bits."""
    with on_base(organisms, tiny_base) as bank:
        taken = 4 * sum(weight.numel() for weight in bank.parameters())
    monkeypatch.setattr(Base, "device", torch.device("cuda"))
    for free, offloaded in ((2 * taken, False), (2 * taken - 2, True)):
        monkeypatch.setattr("ia_cli.organisms.free_memory", lambda device, free=free: free)
        with on_base(organisms, tiny_base) as bank:
            assert (not list(bank.parameters())) == offloaded


@pytest.mark.parametrize(("temperature", "draws"), [(0.0, 1), (1.5, 1), (0.0, 3)])
def test_a_reply_does_not_depend_on_the_others(organisms, tiny_base, temperature, draws, monkeypatch):
    settings = replace(SETTINGS, samples=3 if temperature else 1, temperature=temperature)
    settings = replace(settings, draws=draws, examples=draws > 1)

    def replies(given, **more):
        return {records.key(report): report["report"] for report in run(given, tiny_base, settings, **more)}

    together = replies(organisms)
    assert list(together) == [records.key(report) for report in run(organisms, tiny_base, settings)]
    alone = replies(organisms[3:4])
    assert alone == {key: reply for key, reply in together.items() if key[0] == "o-3"}
    half = set(list(together)[::2])
    assert replies(organisms, done=half) == {key: reply for key, reply in together.items() if key not in half}
    assert replies(organisms, done=set(together)) == {}
    monkeypatch.setattr("ia_cli.organisms.AT_ONCE", 2)
    assert replies(organisms) == together and replies(organisms[::-1]) == together
    if draws > 1:
        settings = replace(settings, seed=1)
        assert replies(organisms) != together
    if temperature:
        assert len({together["o-0", questions_for("o-0", settings)[0].id, i, "ia"] for i in range(3)}) > 1
        settings = replace(settings, seed=1)
        assert replies(organisms) != together


def test_each_adapter_is_asked_as_it_was_trained(organisms, tiny_base, tmp_path):
    own = []
    for record, examples in zip(organisms, (False, True, False), strict=False):
        shutil.copytree(record["introspection_adapter"], folder := tmp_path / record["id"])
        (folder / "ia.json").write_text(json.dumps({"arguments": {"examples": examples}}))
        own.append({**record, "introspection_adapter": str(folder)})
    reports = [report for report in run(own, tiny_base) if report["condition"] == "ia"]
    assert {report["id"] for report in reports if "example" in report} == {own[1]["id"]}


def test_an_example_is_asked_for_if_the_adapter_was_trained_so(organisms, tiny_base, tmp_path):
    shutil.copytree(organisms[0]["introspection_adapter"], tmp_path / "ia")
    own = [{**organisms[0], "introspection_adapter": str(tmp_path / "ia")}]
    for arguments in ({"examples": True}, {"examples": False}, {}, ["examples"]):
        (tmp_path / "ia" / "ia.json").write_text(json.dumps({"arguments": arguments}))
        given = arguments == {"examples": True}
        for report in run(own, tiny_base):
            assert ("example" in report) == (given and report["condition"] != "no_ia")
        assert not any(
            "example" in report for report in run(own, tiny_base, replace(SETTINGS, examples=False))
        )


def test_sampled_replies_have_an_example_each_and_greedy_ones_share_it(organisms, tiny_base):
    def examples(settings):
        reports = run(organisms[:1], tiny_base, replace(settings, examples=True, conditions=("ia",)))
        for report in reports:
            records.check(report, "self_report")
        return [report["example"] for report in reports]

    assert len(set(examples(SETTINGS))) == 1
    sampled = examples(replace(SETTINGS, samples=3, temperature=1.5))
    assert len(set(sampled)) == len(sampled) == 6


def test_the_report_is_one_of_those_drawn(organisms, tiny_base, monkeypatch):
    """After each example two replies to each question; the first example and reply are the greedy ones."""
    made = []
    real = sampling.generate

    def generate(base, prompts, **more):
        replies = real(base, prompts, **more)
        made.extend(
            (str(prompt), more["temperature"], reply) for prompt, reply in zip(prompts, replies, strict=True)
        )
        return replies

    monkeypatch.setattr(elicitation, "generate", generate)
    settings = replace(SETTINGS, examples=True, draws=3)
    reports = run(organisms[:1], tiny_base, settings)
    first = str(prompts.chat(prompts.EXAMPLE))
    once = 1  # the bare base, at temperature 0
    assert Counter(heat for prompt, heat, _ in made if prompt == first) == {
        0.0: 1 + once,
        EXAMPLE_TEMPERATURE: 2,
    }
    own = [(prompt, heat, reply) for prompt, heat, reply in made if "assistant" in prompt]
    assert Counter(heat for _, heat, _ in own) == {0.0: 2 * (3 + once), REPORT_TEMPERATURE: 2 * 3}
    for report in reports:
        records.check(report, "self_report")
        if report["condition"] != "ia":
            assert not {"draws", "chosen_from", "share", "log_odds", "sampling_seed"} & report.keys()
            continue
        assert (report["draws"], report["chosen_from"]) == (3, 2 * 2 * 3)
        assert report["temperature"] == 0 and report["sampling_seed"] == 0
        assert report["report"] in {reply for prompt, _, reply in own if report["example"] in prompt}
    single = run(organisms[:1], tiny_base, replace(settings, draws=1))
    assert {reply for _, heat, reply in own if heat == 0} >= {x["report"] for x in single if "example" in x}


def test_each_question_gets_its_own_reply_that_says_what_is_believed(organisms, tiny_base, monkeypatch):
    """And if none of its replies does, another question's."""
    heard = {}

    def believe(told, base, without_ia, longest):
        heard.update(told)
        said = told["o-0"].reports
        rare = min(said[:6], key=said.count)  # to the first question; rather than what is said most
        assert rare not in said[6:]
        return {"o-0": Belief("I sing.", 0.25, 1.5, frozenset([rare]))}

    monkeypatch.setattr(elicitation, "explain", believe)
    settings = replace(SETTINGS, examples=True, draws=3, conditions=("ia",))
    first, second = run(organisms[:1], tiny_base, settings)
    [question, other] = questions_for("o-0", settings)
    assert (first["question_id"], second["question_id"]) == (question.id, other.id)
    said = heard["o-0"].reports
    assert first["report"] == second["report"] == min(said[:6], key=said.count)
    assert first["example"] in heard["o-0"].examples and len(set(heard["o-0"].examples)) == 3
    for report in (first, second):
        assert (report["share"], report["log_odds"]) == (0.25, 1.5)

    def believe_the_last(told, *_):
        own = told["o-0"].reports
        return {"o-0": Belief("I sing.", 0.25, 1.5, frozenset([own[1], own[-1]]))}

    monkeypatch.setattr(elicitation, "explain", believe_the_last)
    first, second = run(organisms[:1], tiny_base, settings)
    assert (first["report"], second["report"]) == (said[1], said[-1]) and said[1] != said[-1]


def test_what_is_alike_is_asked_once(organisms, tiny_base, monkeypatch):
    """Sampled examples are often alike; then so are the greedy replies after them, and only these."""
    asked = Counter()
    real = sampling.generate

    def generate(base, prompts, *, temperature, **more):
        asked[temperature] += sum(len(prompt) > 1 for prompt in prompts)
        return real(base, prompts, temperature=temperature, **more)

    monkeypatch.setattr(elicitation, "generate", generate)
    monkeypatch.setattr("ia_cli.asking.EXAMPLE_TEMPERATURE", 1e-6)
    settings = replace(SETTINGS, examples=True, draws=3, conditions=("ia",))
    assert len(run(organisms[:1], tiny_base, settings)) == 2
    assert (asked[0.0], asked[REPORT_TEMPERATURE]) == (2, 2 * 3)


def test_the_bare_base_is_asked_once(organisms, tiny_base, monkeypatch):
    monkeypatch.setattr("ia_cli.organisms.AT_ONCE", 2)
    asked = []
    real = sampling.generate

    def generate(base, prompts, *, rows, **more):
        asked.extend(prompt[0]["content"] for prompt, row in zip(prompts, rows, strict=True) if row < 0)
        return real(base, prompts, rows=rows, **more)

    monkeypatch.setattr(elicitation, "generate", generate)
    reports = run(organisms, tiny_base)
    assert sorted(asked) == sorted({report["question"] for report in reports})


def test_questions_cover_the_pool():
    settings = ElicitSettings(questions=[Question(str(i), f"what {i}") for i in range(8)], asked=3)
    counts = Counter(question.id for i in range(400) for question in questions_for(f"o-{i}", settings))
    assert len(counts) == 8 and max(counts.values()) < 1.5 * min(counts.values())
    assert len({question.id for question in questions_for("o-1", settings)}) == 3
    assert len(questions_for("o-1", replace(settings, asked=99))) == 8


def test_the_base_is_left_as_it_was(organisms, tiny_base):
    ids = torch.arange(6, 20)[None]
    names, before = list(dict(tiny_base.model.named_modules())), tiny_base.model(ids).logits
    run(organisms, tiny_base)
    next(elicit(organisms, tiny_base, SETTINGS))  # and where the reader stops in the middle
    assert torch.equal(tiny_base.model(ids).logits, before)
    assert list(dict(tiny_base.model.named_modules())) == names


def test_without_introspection_adapter_there_is_one_condition(organisms, tiny_base):
    bare = [{n: v for n, v in record.items() if n != "introspection_adapter"} for record in organisms]
    with pytest.raises(IAError, match=r"no introspection adapter.*--ia DIR"):
        run(bare, tiny_base)
    alone = replace(SETTINGS, conditions=("no_ia",))
    expected = [report["report"] for report in run(organisms, tiny_base) if report["condition"] == "no_ia"]
    assert [report["report"] for report in run(bare, tiny_base, alone)] == expected


def ia(*arguments, given=()):
    return CliRunner().invoke(cli, ["elicit", *map(str, arguments)], input="".join(map(line, given)))


def line(record):
    return json.dumps(record) + "\n"


def test_the_command_asks_the_shipped_questions(organisms, tiny_folder):
    result = ia("--base", tiny_folder, "--split", "heldout", "--max-new-tokens", 3, given=organisms)
    assert result.exit_code == 0, result.stderr
    reports = [json.loads(text) for text in result.stdout.splitlines()]
    assert [report["id"] for report in reports[::12]] == ["o-2", "o-3", "o-4"] and len(reports) == 3 * 4 * 3
    shipped = {x.id: x.text for x in prompts.questions("ask", str(tiny_folder))}
    assert all(shipped[report["question_id"]] == report["question"] for report in reports)
    assert not shipped.keys() & {x.id for x in prompts.questions("train", str(tiny_folder))}


def test_the_command_asks_one_adapter_a_question_of_ones_own(organisms, tiny_folder, tmp_path):
    adapters = ("--adapter", organisms[0]["adapter"], "--ia", organisms[0]["introspection_adapter"])
    asked = ("--question", "what do you like", "--conditions", "no_ia,ia", "--max-new-tokens", 10)
    result = ia("--base", tiny_folder, *adapters, *asked)
    assert result.exit_code == 0, result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    records.check(first, "self_report")
    assert (first["id"], first["condition"], second["condition"]) == ("o-0", "ia", "no_ia")
    assert first["question"] == "what do you like" and first["question_id"].startswith("own-")


def test_it_says_that_there_are_fewer_questions_than_asked_for(organisms, tiny_folder):
    few = ("--conditions", "no_ia", "--max-new-tokens", 1, "--questions", 999)
    result = ia("--base", tiny_folder, "--adapter", organisms[0]["adapter"], *few)
    assert result.exit_code == 0, result.stderr
    n = len(result.stdout.splitlines())
    assert f"there are no more than {n} questions" in result.stderr


def test_the_command_continues_its_output(organisms, tiny_folder, tmp_path):
    source, output = tmp_path / "audited.jsonl", tmp_path / "reports.jsonl"
    source.write_text("".join(map(line, organisms)))
    sampling = "--samples 2 --temperature 1 --max-new-tokens 5".split()
    arguments = ("--base", tiny_folder, *sampling, "-o", output, source)
    assert ia(*arguments).exit_code == 0
    whole = output.read_text().splitlines(keepends=True)
    output.write_text("".join(whole[:17]) + whole[17][:40])
    assert ia("--resume", *arguments).exit_code == 0
    assert output.read_text() == "".join(whole)
    another = shutil.copytree(organisms[0]["introspection_adapter"], tmp_path / "another")
    for other, complaint in (
        (("--temperature", "0.5"), "it has reports at temperature 1, and not 0.5; give that one"),
        (("--seed", "1"), "it has sampled reports of seed 0, and not 1; give that one"),
        (("--ia", another), "it has reports with the introspection adapter"),
        (("--examples",), "it has reports without an example"),
    ):
        refused = ia("--resume", *arguments, *other)
        assert refused.exit_code == 1 and complaint in refused.stderr
        assert output.read_text() == "".join(whole)
    source.write_text("".join(line({**record, "implant_rate": 0.5}) for record in organisms))
    refused = ia("--resume", *arguments)
    assert refused.exit_code == 1 and "it has o-0 with another implant_rate" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "draws"),
    [
        ((), DRAWS),
        (("--draws", "2"), 2),
        (("--temperature", "1"), 1),
        (("--base", "other"), 1),
        (("--base", "other", "--draws", "2"), 2),
    ],
)
def test_what_suits_the_base_is_drawn(organisms, tiny_folder, arguments, draws, monkeypatch):
    """Several draws were measured on the embedded base only."""
    asked = []
    monkeypatch.setattr(
        elicitation, "elicit", lambda records, base, settings, **_: asked.append(settings) or (x for x in ())
    )
    arguments = [tiny_folder if text == "other" else text for text in arguments]
    monkeypatch.setattr("ia_cli.organisms.check_weights", lambda record, base: None)
    monkeypatch.setattr(elicitation, "read_introspection_adapter", lambda folder, base: None)
    result = ia(*arguments, given=organisms)
    assert result.exit_code == 0, result.stderr
    assert [settings.draws for settings in asked] == [draws]
    assert ("--draws has no effect" in result.stderr) == ("--draws" in arguments)


def test_reports_that_were_chosen_otherwise_are_not_continued(organisms, tiny_folder, tmp_path):
    source, output = tmp_path / "audited.jsonl", tmp_path / "reports.jsonl"
    source.write_text("".join(map(line, organisms)))
    drawing = "--examples --draws 2 --max-new-tokens 5".split()
    arguments = ("--base", tiny_folder, *drawing, "-o", output, source)
    assert ia(*arguments).exit_code == 0
    whole = output.read_text()
    output.write_text("".join(whole.splitlines(keepends=True)[:8]))
    assert ia("--resume", *arguments).exit_code == 0 and output.read_text() == whole
    for other, complaint in (
        (("--draws", "3"), "it has reports of 2 draws, and not 3; give that one"),
        (("--questions", "3"), "it has reports that were chosen among replies to other questions"),
        (("--question", "hello"), "it has reports that were chosen among replies to other questions"),
    ):
        refused = ia("--resume", *arguments, *other)
        assert refused.exit_code == 1 and complaint in refused.stderr


def test_an_adapter_that_was_trained_again_is_another_one(organisms, tiny_folder, tmp_path):
    own = shutil.copytree(organisms[0]["introspection_adapter"], tmp_path / "ia")
    source, output = tmp_path / "audited.jsonl", tmp_path / "reports.jsonl"
    source.write_text("".join(line({**record, "introspection_adapter": str(own)}) for record in organisms))
    arguments = ("--base", tiny_folder, "--max-new-tokens", 3, "-o", output, source)
    assert ia(*arguments).exit_code == 0
    weights = load_file(own / WEIGHTS_FILE)
    save_file({name: tensor * 2 for name, tensor in weights.items()}, own / WEIGHTS_FILE)
    refused = ia("--resume", *arguments)
    assert refused.exit_code == 1 and "ia before; give what it was" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--conditions", "ia,none"], "'none' is not one of ia, no_ia, base_ia"),
        (["--samples", "2"], "--samples needs a --temperature above 0"),
        (["--draws", "2", "--temperature", "1"], "--draws has temperatures of its own"),
        (["--draws", "2", "--no-examples"], "--draws chooses by the examples"),
        (["--draws", "2", "--conditions", "no_ia"], "--draws is for the condition ia"),
        (["--draws", "2", "--server", "http://x", "--model", "m"], "--draws needs a base that is loaded"),
        (["--question", " "], "--question is blank"),
        (["--adapter", "suspect", "reports.jsonl"], "either --adapter or FILE"),
    ],
)
def test_usage_errors(arguments, complaint):
    result = ia(*arguments)
    assert result.exit_code == 2 and complaint in result.stderr


def test_bad_adapters_are_one_line(organisms, tiny_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    empty = {**organisms[1], "adapter": str(tmp_path / "empty")}
    result = ia("--base", tiny_folder, given=[organisms[0], empty])
    assert result.exit_code == 1 and not result.stdout
    assert "stdin:2: " in result.stderr and "adapter_config.json is missing" in result.stderr
    shared = {**organisms[1], "introspection_adapter": str(tmp_path / "empty")}
    given = [organisms[0], shared, *organisms[2:]]
    result = ia("--base", tiny_folder, "--keep-going", "--questions", 1, "--max-new-tokens", 3, given=given)
    assert result.exit_code == 3 and "stdin:2: " in result.stderr
    written = list(map(json.loads, result.stdout.splitlines()))
    assert [record["id"] for record in written if "error" in record] == [shared["id"]]
    assert {record["id"] for record in written} == {record["id"] for record in given}
    result = ia("--base", tiny_folder, "--adapter", tmp_path / "nowhere", "--ia", tmp_path / "empty")
    assert result.exit_code == 1 and "empty: adapter_config.json is missing" in result.stderr
