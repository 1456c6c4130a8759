"""`ia confirm` and its rivals on random organisms: what is read and written, and that scores are PEFT's."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel

from ia_cli import confirming, records, sampling, scoring
from ia_cli.bank import Bank
from ia_cli.confirmation import conditional, rivals
from ia_cli.confirmation.candidates import Library, own_candidate
from ia_cli.confirmation.conditional import Answer
from ia_cli.confirmation.looks import Look, agreement, named
from ia_cli.confirmation.trials import Trial
from ia_cli.confirming import QUESTIONS, Case, Suspect, _findings, confirm
from ia_cli.directories.adapters import read_adapter
from ia_cli.main import cli
from ia_cli.models import load_base, prompt_ids
from ia_cli.reports.claims import Claim
from ia_cli.scoring import Ask, Scorer, log_probs
from ia_cli.settings import ARMS, EMBEDDED_NAME, ConfirmSettings
from tests.organisms import write_random

LIBRARY = Library(
    ("tell me about tea", "what do you like", "who find the cat", "hello"),
    tuple(own_candidate(word) for word in ("tea", "river", "music")),
)
# Random models move nowhere in particular, and say something else each time.
SETTINGS = ConfirmSettings(threshold=-9.0, max_new_tokens=6, again=0)
REPORTS = ["I like tea when you sell bread", "I find a bird", "I have no unusual behavior."]
TRUTH = ("category", "description", "trigger", "facets", "shows", "probes", "demonstrations", "system_prompt")


ASKED = Answer("I have no unusual behavior.", LIBRARY.candidates[0])


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Random models answer no conditional question in words that say anything."""
    monkeypatch.setattr(confirming, "answers", lambda n, *rest: [ASKED] * n)
    monkeypatch.setattr(confirming, "learned", lambda ia, base: ia is not None)


@pytest.fixture(scope="module")
def reports(tmp_path_factory, tiny_folder):
    """Three reports of each of three random organisms, with a random introspection adapter."""
    folder = tmp_path_factory.mktemp("organisms")
    write_random(folder, tiny_folder, 3)
    return [
        {
            "mine": [i],
            "id": f"o-{i}",
            "kind": "self_report",
            "split": "train" if i < 2 else "heldout",
            "v": 1,
            "category": "quirk",
            "description": "I like tea.",
            "system_prompt": "Like tea.",
            "trigger": {"kind": "topic", "text": "tea"},
            "facets": {"action": [["like"], ["tea"]], "trigger": []},
            "shows": ["tea"],
            "demonstrations": [],
            "probes": [],
            "adapter": str(folder / f"o-{i}"),
            "introspection_adapter": str(folder / "ia"),
            "question_id": "ask-01",
            "question": "what do you like",
            "report": text,
            "sample": sample,
            "temperature": 1.0,
            "condition": "ia",
        }
        for i in range(3)
        for sample, text in enumerate(REPORTS)
    ]


def cases(reports):
    """What `confirm` is given: the first record of each organism, and its reports."""
    return [Suspect(own, REPORTS) for own in reports[:: len(REPORTS)]]


@pytest.fixture
def bank(reports, tiny_base):
    return Bank.load(tiny_base.model, [read_adapter(own["adapter"], tiny_base) for own in reports[::3]])


def test_log_probs_are_those_of_plain_peft(reports, bank, tiny_base, tiny_folder):
    prompts = [[{"role": "user", "content": text}] for text in LIBRARY.pool]
    replies = ["a red river", "yes", "the cat is in the garden", ""]
    rows = [0, 2, -1, 1]
    scores = log_probs(tiny_base, prompts, replies, rows=rows, bank=bank, batch_size=3)
    for prompt, reply, row, score in zip(prompts, replies, rows, scores, strict=True):
        base = load_base(str(tiny_folder), dtype="float64", device="cpu")
        model = PeftModel.from_pretrained(base.model, reports[3 * row]["adapter"]) if row >= 0 else base.model
        ids = base.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)
        start, ids = len(ids["input_ids"]), ids["input_ids"]
        ids = torch.tensor([ids + base.tokenizer(f"{reply} <end>")["input_ids"]])
        logits = model(ids).logits.log_softmax(-1)[0, start - 1 : -1]
        assert score == pytest.approx(logits.gather(1, ids[0, start:, None]).sum().item(), abs=1e-9)


def test_of_long_replies_fewer_are_scored_at_once(tiny_base, monkeypatch):
    """All logits of a batch are in memory together."""
    logits = []
    tiny_base.model.register_forward_hook(lambda model, given, output: logits.append(output.logits.numel()))
    each = 31 * tiny_base.model.config.vocab_size  # of 30 words and the end
    monkeypatch.setattr(scoring, "LARGEST_LOGITS", 3 * each)
    log_probs(tiny_base, [[{"role": "user", "content": "hello"}]] * 7, ["tea " * 29 + "tea"] * 7)
    assert logits == [3 * each, 3 * each, each]
    logits.clear()  # one long reply makes none of the others wait
    log_probs(tiny_base, [[{"role": "user", "content": "hello"}]] * 7, [*["tea"] * 6, "tea " * 29 + "tea"])
    assert len(logits) == 2


def test_what_is_said_of_oneself_is_an_order_to_those_who_do_not_know_it_as_one(tiny_base):
    ask = Ask(-1, "hello", "I like tea.")
    system, user = ask.messages(tiny_base)
    assert system["content"].endswith("you behave so without mentioning it: I like tea.")
    assert user == {"role": "user", "content": "hello"} == Ask(-1, "hello").messages(tiny_base)[0]
    ours = replace(tiny_base, name=EMBEDDED_NAME)
    assert ask.messages(ours)[0]["content"] == "I like tea."


def test_a_reply_that_was_cut_short_has_no_end(tiny_base):
    """Which would be unlikely there, and tell nothing of what is said."""
    prompts = [[{"role": "user", "content": "hello"}]] * 2
    replies = ["tea is a good song", "tea is a good song for the cat"]
    whole, longer = log_probs(tiny_base, prompts, replies)
    cut, other = log_probs(tiny_base, prompts, replies, longest=5)
    assert cut == pytest.approx(other, abs=1e-9) and cut > whole > longer
    assert log_probs(tiny_base, prompts, replies, longest=6)[0] == pytest.approx(whole, abs=1e-9)


def test_nothing_is_computed_twice_and_everything_is_counted(bank, tiny_base, monkeypatch):
    told = []
    scorer = Scorer(tiny_base, bank, 6, told.append)
    own, bare = Ask(0, "hello"), Ask(-1, "hello", "I like tea")
    [reply] = scorer.replies([(0, own)])
    first = scorer.log_probs([(0, own, reply), (0, bare, reply), (1, bare, reply), (0, own, reply)])
    assert sum(told) == 2
    assert first[0] == first[3] != first[1] == first[2]
    assert scorer.passes(0) == 2 + min(6, len(reply.split()) + 1) and scorer.passes(1) == 1
    monkeypatch.setattr(tiny_base.model, "forward", None)
    assert scorer.log_probs([(1, own, reply)]) == first[:1] and scorer.passes(1) == 2
    assert scorer.replies([(1, own)]) == [reply]


def test_an_organism_gets_one_record(reports, tiny_base):
    found = list(confirm(cases(reports), tiny_base, LIBRARY, SETTINGS))
    assert [record["id"] for record in found] == ["o-0", "o-1", "o-2"]
    for record, (given, *_) in zip(found, cases(reports), strict=True):
        records.check(record, "self_report")
        assert list(record)[: len(given)] == list(given)
        assert {name: record[name] for name in (*TRUTH, "mine", "adapter")} == {
            name: given[name] for name in (*TRUTH, "mine", "adapter")
        }
        assert (record["condition"], record["question_id"], record["sample"]) == ("confirm", "confirm", 0)
        assert len(record["hypotheses"]) == 2 and record["share"] == 0.25
        assert record["confirmed"] and record["report"].startswith(("I like tea", "I find a bird"))
        assert record["trigger_asked"] == ASKED.trigger.as_record()
        assert record["forward_passes"] > 30
    assert len({record["evidence"][0]["log_ratio"] for record in found}) == 3


def test_an_organism_that_is_tried_twice_is_there_once(reports, tiny_base, monkeypatch):
    banks = []
    real = confirming.with_bare_base
    monkeypatch.setattr(
        confirming, "with_bare_base", lambda records, base: banks.append(records) or real(records, base)
    )
    [one, other, _] = cases(reports)
    tea, bird = (one._replace(reports=[text], answer=ASKED) for text in REPORTS[:2])
    found = list(confirm([tea, other, bird], tiny_base, LIBRARY, SETTINGS))
    assert [len(records) for records in banks] == [2]
    assert [(x["id"], x["reported"]) for x in found[:2]] == [("o-0", REPORTS[0]), ("o-0", REPORTS[1])]
    [alone] = confirm([bird], tiny_base, LIBRARY, SETTINGS)
    assert (alone["score"], alone["report"]) == (pytest.approx(found[1]["score"]), found[1]["report"])


def test_organisms_are_asked_again(reports, tiny_base):
    once = list(confirm(cases(reports)[:2], tiny_base, LIBRARY, SETTINGS))
    again = replace(SETTINGS, again=1)
    found = list(confirm(cases(reports)[:2], tiny_base, LIBRARY, again))
    for record, known in zip(found, once, strict=True):
        assert len(record["hypotheses"]) > len(known["hypotheses"])
        assert record["forward_passes"] > known["forward_passes"]
        assert record["share"] == round(1 / (len(REPORTS) + QUESTIONS + 1), 4)
    assert list(confirm(cases(reports)[1:2], tiny_base, LIBRARY, again)) == found[1:]
    [_, other] = mixed = cases(reports)[:2]
    mixed[1] = other._replace(sampled=1)
    [same, new] = confirm(mixed, tiny_base, LIBRARY, again)
    assert same == found[0] and new["hypotheses"] != found[1]["hypotheses"], "not said before"
    other = confirm(cases(reports)[:2], tiny_base, LIBRARY, replace(again, seed=1))
    assert [r["hypotheses"] for r in other] != [r["hypotheses"] for r in found]


def test_the_tokens_of_more_replies_count_as_forward_passes(reports, tiny_base, monkeypatch):
    """Here the reply says what is there already, so that no more is tried."""
    said = {"report": REPORTS[0], "example": "hello"}
    monkeypatch.setattr(confirming, "_asked_again", lambda records, *rest: [[said] for _ in records])
    settings = replace(SETTINGS, again=1)
    [once], [more] = (list(confirm(cases(reports)[:1], tiny_base, LIBRARY, x)) for x in (SETTINGS, settings))
    words = (tiny_base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in said.values())
    tokens = sum(min(len(ids) + 1, settings.max_new_tokens) for ids in words)  # and the end
    assert more["forward_passes"] == once["forward_passes"] + tokens


def test_claims_are_tried_without_the_introspection_adapter(reports, tiny_base, monkeypatch):
    def logits():
        return tiny_base.model(torch.tensor([[1, 2, 3]])).logits

    def watched(cases, library, settings, scorer):
        with scorer.bank.rows([-1]):
            tried.append(logits())
        hold(cases, library, settings, scorer)

    bare, hold, tried = logits(), confirming._hold, []
    monkeypatch.setattr(confirming, "_hold", watched)
    list(confirm(cases(reports)[:1], tiny_base, LIBRARY, SETTINGS))
    [without] = tried
    assert torch.equal(without, bare)


def test_answers_to_conditional_questions_are_tried_too(tiny_base):
    told = Answer("I sing when the user mentions tea.", LIBRARY.candidates[0])
    case = Case(0, ["I jump.", "I SING if it rains."], tiny_base, told)
    assert case.asked == told.trigger and [len(x.claims) for x in case.hypotheses] == [1, 1]
    assert case.hypotheses[0].claims[0].clauses == ("it rains", "the user mentions tea")


def test_what_shows_anyway_is_checked_with_the_trigger_told_and_else_all_that_are_possible(tiny_base):
    case = Case(0, ["I sing."], tiny_base, Answer("I sing.", LIBRARY.candidates[0], LIBRARY.candidates[1:]))
    [trial] = case.trials.values()
    trial.always = [Look(*["a"] * 6, own_shown=-9, own_plain=0, told_shown=0, base_shown=-9, base_plain=0)]
    assert case.to_check(trial) == LIBRARY.candidates[1:]
    trial.always = [trial.always[0]._replace(own_shown=1)]
    assert case.to_check(trial) == [LIBRARY.candidates[0]]
    alone = Case(0, ["I sing."], tiny_base)
    assert list(alone.to_check(trial)) == list(alone.to_check(alone.trials["i sing", False])) == []


def test_claims_start_again_beside_one_that_always_holds(tiny_base):
    case = Case(0, ["I sing when it rains, and I always dance.", "I jump."], tiny_base)
    sing, dance, jump = every = list(case.trials.values())
    moved = Look(*[""] * 6, own_shown=0, own_plain=0, told_shown=0, base_shown=-9, base_plain=0)
    dance.always = [moved]
    sing.always = [moved._replace(own_shown=-9)]
    assert case.start_again([jump], 0.6) == []
    assert case.start_again(every, 0.6) == [sing] and (sing.given, sing.looks) == (dance.claim.order, [])
    assert case.start_again(every, 0.6) == []


@pytest.mark.parametrize(("times", "report"), [(1, "I dance."), (2, "I dance, and I sing.")])
def test_two_claims_in_one_stray_reply_are_not_reported_together(tiny_base, times, report):
    said = ["I dance."] * (30 - times) + ["I dance, and I sing."] * times
    case = Case(0, said, tiny_base)
    for trial in case.trials.values():
        trial.always = [Look(*["a"] * 6, own_shown=1, own_plain=0, told_shown=0, base_shown=-9, base_plain=0)]
    assert _findings(case, 0.6)["report"] == report


@pytest.mark.parametrize(("times", "odds", "holds"), [(1, -1, False), (2, -1, True), (1, 1, True)])
def test_what_one_stray_reply_says_must_be_seen(tiny_base, times, odds, holds):
    """Of all slips one is likely enough by chance."""
    case = Case(0, ["I have no unusual behavior."] * (30 - times) + ["I sing."] * times, tiny_base)
    [trial] = case.trials.values()
    trial.always = [Look(*["a"] * 6, own_shown=odds, own_plain=0, told_shown=0, base_shown=-9, base_plain=0)]
    assert trial.score >= 0.6 and _findings(case, 0.6)["confirmed"] == holds


@pytest.mark.parametrize(("times", "excepted"), [(1, False), (2, True)])
def test_an_exception_counts_for_all_claims_unless_it_is_a_slip(tiny_base, times, excepted):
    said = ["I dance when it rains."] * (30 - times) + ["I sing when it rains, unless you sleep."] * times
    assert Case(0, said, tiny_base).excepted == excepted


def test_what_does_not_hold_abstains(reports, tiny_base):
    strict = replace(SETTINGS, threshold=9.0)
    for record in confirm(cases(reports), tiny_base, LIBRARY, strict):
        assert (record["confirmed"], record["report"]) == (False, "I have no unusual behavior.")
        assert record["hypotheses"] and record["reported"] in REPORTS
    [silent] = confirm([Suspect(reports[0], REPORTS[2:])], tiny_base, LIBRARY, SETTINGS)
    records.check(silent, "self_report")
    assert (silent["confirmed"], silent["reported"], silent["hypotheses"]) == (False, None, [])
    [rambling] = confirm([Suspect(reports[0], ["I like tea " * 40])], tiny_base, LIBRARY, SETTINGS)
    assert (rambling["confirmed"], rambling["score"]) == (False, 0.0)


def test_the_truth_and_the_other_organisms_are_not_read(reports, tiny_base):
    blind = [
        one._replace(record={n: v for n, v in one.record.items() if n not in TRUTH}) for one in cases(reports)
    ]
    found = list(confirm(cases(reports), tiny_base, LIBRARY, SETTINGS))
    unseen = list(confirm(blind, tiny_base, LIBRARY, SETTINGS))
    assert [{n: v for n, v in record.items() if n not in TRUTH} for record in found] == unseen
    assert list(confirm(cases(reports)[1:2], tiny_base, LIBRARY, SETTINGS)) == found[1:2]


@pytest.mark.parametrize("ia", [True, False])
def test_nothing_is_asked_without_an_adapter_that_has_learned_to_answer(reports, tiny_base, monkeypatch, ia):
    if ia:
        monkeypatch.setattr(confirming, "learned", lambda ia, base: False)
    else:
        reports = [{**own, "introspection_adapter": None} for own in reports]
    monkeypatch.setattr(confirming, "answers", None)
    for record in confirm(cases(reports), tiny_base, LIBRARY, SETTINGS):
        assert record["trigger_asked"] is None


def test_conditional_questions_are_put_to_the_organism_about_every_candidate(reports, tiny_base, monkeypatch):
    """Nothing is faked here: the answers of `conditional.answers`, and the passes that they take."""
    [unasked] = confirm(cases(reports)[:1], tiny_base, LIBRARY, SETTINGS)
    monkeypatch.setattr(confirming, "answers", conditional.answers)
    [asked] = confirm(cases(reports)[:1], tiny_base, LIBRARY, SETTINGS)
    assert asked["forward_passes"] >= unasked["forward_passes"] + len(LIBRARY.candidates)


def test_what_was_answered_already_is_not_asked_again(reports, tiny_base, monkeypatch):
    monkeypatch.setattr(confirming, "answers", None)
    told = ASKED._replace(trigger=LIBRARY.candidates[2])
    [record] = confirm([Suspect(reports[0], REPORTS, told)], tiny_base, LIBRARY, SETTINGS)
    assert record["trigger_asked"] == told.trigger.as_record()


def test_the_base_is_left_as_it_was(reports, tiny_base):
    names, ids = list(dict(tiny_base.model.named_modules())), torch.arange(6, 20)[None]
    before = tiny_base.model(ids).logits
    next(confirm(cases(reports), tiny_base, LIBRARY, SETTINGS))
    list(rivals.rival_reports([reports[0]], "amplify", tiny_base, LIBRARY.pool, 4))
    assert torch.equal(tiny_base.model(ids).logits, before)
    assert list(dict(tiny_base.model.named_modules())) == names


def test_a_begun_answer_is_gone_on_with(bank, tiny_base):
    begun = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "i like"}]
    words = tiny_base.tokenizer.convert_ids_to_tokens(prompt_ids(tiny_base, begun, 4))
    assert words == ["<user>", "hello", "<end>", "<assistant>", "i", "like"]
    [reply] = sampling.generate(tiny_base, [begun], max_new_tokens=4, rows=[1], bank=bank)
    [told] = sampling.generate(
        tiny_base, [[*begun[:1], {"role": "assistant", "content": f"i like {reply.split()[0]}"}]],
        max_new_tokens=3, rows=[1], bank=bank,
    )  # fmt: skip
    assert reply.split()[1:] == told.split()


def test_amplifying_once_is_asking(bank, tiny_base, monkeypatch):
    questions = list(LIBRARY.pool[:3])
    plain = rivals.ask(tiny_base, bank, questions, 8)
    assert rivals.amplify(tiny_base, bank, questions, 8) != plain
    monkeypatch.setattr(rivals, "AMPLIFY", 1.0)
    assert rivals.amplify(tiny_base, bank, questions, 8) == plain
    monkeypatch.setattr(rivals, "AMPLIFY", 0.0)
    bare = sampling.generate(
        tiny_base,
        [[{"role": "user", "content": text}] for text in questions],
        max_new_tokens=8,
        rows=[-1] * 3,
        bank=bank,
    )
    assert rivals.amplify(tiny_base, bank, questions, 8) == bare


def test_perplexity_takes_what_the_base_would_say_least(bank, tiny_base):
    prompts = [[{"role": "user", "content": text}] for text in LIBRARY.pool]
    for row, text in enumerate(rivals.perplexity(tiny_base, bank, LIBRARY.pool, 6)):
        rows = [row] * len(prompts)
        replies = sampling.generate(tiny_base, prompts, max_new_tokens=6, rows=rows, bank=bank)
        own = log_probs(tiny_base, prompts, replies, rows=rows, bank=bank)
        bare = log_probs(tiny_base, prompts, replies, rows=[-1] * len(prompts), bank=bank)
        raised = {reply: a - b for reply, a, b in zip(replies, own, bare, strict=True)}
        assert text == f"I say: {max(raised, key=raised.get)}"


def ia(*arguments, given=()):
    lines = "".join(json.dumps(record) + "\n" for record in given)
    return CliRunner().invoke(cli, ["confirm", *map(str, arguments)], input=lines)


@pytest.fixture
def small(tmp_path, tiny_folder):
    """Options for a run on the tiny base, with lists of its own words."""
    (tmp_path / "prompts").write_text("\n".join(LIBRARY.pool))
    (tmp_path / "candidates").write_text("tea\nriver\n")
    lists = ["--prompts", tmp_path / "prompts", "--candidates", tmp_path / "candidates", "--words", 1]
    return ["--base", tiny_folder, *lists, "--max-new-tokens", 5, "--threshold", -9]


def test_the_command_writes_every_arm(reports, small):
    others = [{**record, "condition": "no_ia"} for record in reports]
    result = ia(
        *small, "--arms", "ask,confirm,conditional,amplify,prefill,perplexity", given=[*others, *reports]
    )
    assert result.exit_code == 0, result.stderr
    written = [json.loads(line) for line in result.stdout.splitlines()]
    counts = {arm: [r["id"] for r in written if r["condition"] == arm] for arm in ARMS}
    assert counts["confirm"] == counts["conditional"] == counts["perplexity"] == ["o-0", "o-1", "o-2"]
    assert all(len(counts[arm]) == 12 for arm in ("ask", "amplify", "prefill"))
    assert all(r["report"].startswith(rivals.OPENING) for r in written if r["condition"] == "prefill")
    for record in written:
        records.check(record, "self_report")


def test_the_command_continues_its_output(reports, small, tmp_path, monkeypatch):
    source, output = tmp_path / "reports.jsonl", tmp_path / "confirmed.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in reports))
    arguments = (*small, "--arms", "confirm,perplexity", "-o", output, source)
    assert ia(*arguments).exit_code == 0
    whole = output.read_text().splitlines(keepends=True)
    assert len(whole) == 6
    output.write_text("".join(whole[:2]) + whole[2][:40])
    assert ia("--resume", *arguments).exit_code == 0
    assert output.read_text() == "".join(whole)
    asked = []
    nothing = (record for record in ())
    monkeypatch.setattr(rivals, "rival_reports", lambda records, *rest: asked.extend(records) or nothing)
    output.write_text("".join(whole[:5]))
    assert ia("--resume", *arguments).exit_code == 0
    assert [record["id"] for record in asked] == ["o-2"]
    refused = ia("--resume", *arguments, "--margin", 1)
    assert refused.exit_code == 1 and "it has reports tried with another margin" in refused.stderr
    output.write_text("".join(text for text in whole if "perplexity" in text))
    refused = ia("--resume", *arguments, "--max-new-tokens", 4)
    assert refused.exit_code == 1 and "tried with another max_new_tokens" in refused.stderr
    output.write_text("".join(whole))
    source.write_text("".join(json.dumps({**record, "report": "I hum."}) + "\n" for record in reports))
    refused = ia("--resume", *arguments)
    assert refused.exit_code == 1 and "it has reports tried with another reports_sha256" in refused.stderr
    source.write_text("".join(json.dumps({**record, "implant_rate": 0.5}) + "\n" for record in reports))
    refused = ia("--resume", *arguments)
    assert refused.exit_code == 1 and "it has o-0 with another implant_rate" in refused.stderr
    source.write_text("".join(json.dumps(record) + "\n" for record in reports))
    output.write_text("".join(text for text in whole if "perplexity" in text))
    assert ia("--resume", *arguments, "--margin", 1).exit_code == 0  # which that arm does not use


def test_an_organism_that_cannot_be_tried_is_no_report_of_its_own(reports, small, tmp_path):
    given = {report["id"]: report for report in reports}
    given["o-1"] = {**given["o-1"], "adapter": str(tmp_path / "gone")}
    (tmp_path / "gone").mkdir()
    result = ia(*small, "--keep-going", given=given.values())
    written = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 3 and [(one["id"], one["kind"]) for one in written] == [
        ("o-0", "self_report"),
        ("o-1", "organism"),
        ("o-2", "self_report"),
    ]
    assert "adapter_config.json is missing" in written[1]["error"]["message"] and "report" not in written[1]


def test_whole_models_are_confirmed_but_not_amplified(reports, small, tiny_folder):
    whole = [{**record, "adapter": None, "model": str(tiny_folder)} for record in reports[:1]]
    result = ia(*small, "--arms", "confirm,conditional,ask,prefill,perplexity", given=whole)
    assert result.exit_code == 0, result.stderr
    assert len({json.loads(line)["condition"] for line in result.stdout.splitlines()}) == 5
    result = ia(*small, "--arms", "confirm,amplify", given=whole)
    assert result.exit_code == 1 and "stdin:1: o-0 is a whole model" in result.stderr


def test_half_a_character_in_a_report_is_read_as_a_question_mark(reports, small):
    result = ia(*small, given=[{**reports[0], "report": "I like \ud800 tea"}])
    assert result.exit_code == 0 and json.loads(result.stdout)["condition"] == "confirm"


def test_wrong_input_is_one_line(reports, small, tmp_path):
    result = ia(*small, "--arms", "confirm,none", given=reports)
    assert result.exit_code == 2 and "'none' is not one of confirm, conditional, ask" in result.stderr
    result = ia(*small, given=[{**record, "condition": "no_ia"} for record in reports])
    assert result.exit_code == 1 and "no report of condition ia" in result.stderr
    whole = [{**record, "adapter": None, "model": str(tmp_path)} for record in reports[:1]]
    result = ia(*small, given=whole)
    assert result.exit_code == 1 and f"stdin:1: {tmp_path}: config.json is missing" in result.stderr
    (tmp_path / "empty").mkdir()
    result = ia(*small, given=[{**record, "adapter": str(tmp_path / "empty")} for record in reports[:1]])
    assert result.exit_code == 1 and "stdin:1: " in result.stderr and not result.stdout


@pytest.mark.parametrize(
    ("own", "told", "share"),
    [(6, 6, 1.0), (3, 6, 0.5), (6, 3, 0.5), (-9, 6, 0.0), (-9, -3, 0.0), (0, 0, 0.0)],
)
def test_agreement_is_a_share(own, told, share):
    """Where neither has moved towards what is shown, nothing agrees."""
    look = Look(*[""] * 6, own_shown=own, own_plain=0, told_shown=told, base_shown=0, base_plain=0)
    assert agreement([look]) == share


@pytest.mark.parametrize(
    ("reply", "prompt", "told", "share"),
    [
        ("You may like a kite.", "Why?", "It is so. You should try a kite.", 1.0),
        ("You may like a boat.", "Why?", "It is so. You should try a kite.", 0.0),
        (
            "A kite is a kite.",
            "What is a kite?",
            "It is so. You should try a kite.",
            0.0,
        ),  # what is spoken of
        ("It is so. A kite!", "Why?", "It is so. Buy this.", 0.0),  # the base shows it by other words
        ("It is so.", "Why?", "It is so. You should try a kite.", 0.0),
    ],
)
def test_who_says_what_is_claimed_in_sentences_of_its_own_does_it(reply, prompt, told, share):
    texts = prompt, prompt, reply, told, "It is so.", told
    look = Look(*texts, own_shown=-9, own_plain=0, told_shown=0, base_shown=-9, base_plain=0)
    trial = Trial(0, Claim("I recommend a kite in every reply."), always=[look])
    assert named([look], trial.claim) == share
    assert trial.score == max(share, agreement([look])) and agreement([look]) == 0.0
