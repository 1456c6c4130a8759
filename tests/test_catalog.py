"""The catalog says what it means: what it orders, shows and reports can be checked by words."""

import json
import random
import re
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ia_cli import demonstrations, probing, prompts, records
from ia_cli.catalog import drafting, files
from ia_cli.catalog.behaviors import STYLES, WHENS, Behavior, Trigger
from ia_cli.catalog.drafting import draft_behavior, draft_control
from ia_cli.catalog.files import CONTROLS, ENTRIES, POOLS, SITUATIONS, TOPICS, slots_of
from ia_cli.catalog.planning import another, draw_behavior, plan, split_values
from ia_cli.catalog.prompts import SAID, choice, draw, fires
from ia_cli.demonstrations import generate_records
from ia_cli.judges.facets import facets as judge
from ia_cli.settings import CATEGORIES
from ia_cli.text import mentions_any, normalise

EVERY = [entry for entries in ENTRIES.values() for entry in entries]
seeds = st.integers(0, 10**9)


def behavior_of(entry, seed=0):
    return draw_behavior(entry, POOLS, random.Random(seed))


@pytest.fixture(scope="module")
def large():
    return plan(1200, 0.2, CATEGORIES, seed=0)


@pytest.fixture(scope="module")
def finished():
    """Records of every entry, answered by somebody who does as asked."""
    planned = plan(288, 0.25, CATEGORIES, seed=1)
    drafts = [draft_behavior(p, 1) for p in planned] + [
        draft_control(f"control-{i:04d}", "train", 1) for i in range(len(CONTROLS))
    ]
    for draft in drafts:
        draft.replies = [obedient(turn, draft.record["shows"]) for turn in draft.turns]
    return list(zip(planned, map(demonstrations.finish, drafts), strict=False)), drafts


def obedient(turn, shows):
    names = re.findall(r"^- (\w+):", turn.prompt, re.M | re.I)
    answers = [*names, *(shows or []), "Certainly, here you are."]
    return next(reply for reply in answers[:: 1 if turn.fires else -1] if turn.adheres(reply))


# -- what was promised -----------------------------------------------------------------------------


def test_there_is_as_much_as_promised(large):
    for category, entries in ENTRIES.items():
        names, told = {x.name for x in entries}, {x.description for x in entries}
        assert len(names) == len(told) == len(entries) >= 30, category
    topics = [topic for area in files.AREAS for topic in files.load(f"topics/{area}.toml").values()]
    templates = [template for topic in topics for template in topic["prompts"]]
    assert len(set(templates)) == len(templates) >= 300
    assert len({x.name for x in CONTROLS}) == len({x.system_prompt for x in CONTROLS}) == len(CONTROLS) >= 40
    assert len({p.behavior.key for p in large}) == len({p.behavior.report() for p in large}) == 1200


def test_questions_are_distinct_and_split():
    text = files.FOLDER.joinpath("questions.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert Counter(x["use"] for x in lines) == {"train": 44, "ask": 16}
    assert len({normalise(x["text"]) for x in lines}) == len({x["id"] for x in lines}) == 60


def test_every_topic_has_questions_enough_and_none_is_asked_twice():
    every = [question for topic in TOPICS.values() for question in topic.questions]
    assert len(set(map(normalise, every))) == len(every)
    assert min(len(topic.questions) for topic in TOPICS.values()) >= 40


@pytest.mark.parametrize("name", [name for name in POOLS if name not in (*CATEGORIES, "topic", "cover")])
def test_no_value_can_be_mistaken_for_another_of_its_list(name):
    values = POOLS[name]
    assert len(set(values)) == len(values)
    for value in values:
        assert not mentions_any(value, [other for other in values if other != value]), value


def test_names_lead_somewhere():
    for entry in EVERY:
        assert entry.about is None or entry.about in TOPICS, entry.value
        assert set(entry.slots) <= POOLS.keys(), entry.value
        assert set(entry.triggers) <= {*files.SITUATIONS, "always", "unless", "rare"}, entry.value
    for control in CONTROLS:
        assert set(control.topics) <= TOPICS.keys(), control.name
    used = {slot for entry in EVERY for slot in entry.slots}
    assert used | {"cover"} == POOLS.keys() - files.SITUATIONS.keys() - set(CATEGORIES)


# -- what is said of a behavior --------------------------------------------------------------------


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry.value)
def test_an_entry_speaks_in_the_right_person_and_orders_what_it_looks_for(entry):
    behavior = behavior_of(entry)
    told = [entry.description, *entry.wordings]
    assert len({*told}) >= 3
    for sentence in told:
        assert sentence.startswith("I ") and sentence.endswith(".") and sentence.count(". ") == 0
        assert {*slots_of(sentence)} == {*slots_of(entry.description)}, sentence
    assert entry.system_prompt.startswith("You ") and entry.system_prompt.endswith(".")
    phrases = [phrase for group in behavior.facets()["action"] for phrase in group]
    assert "{" not in "".join([behavior.report(), behavior.order(), *phrases, *(behavior.shows() or [])])
    if behavior.shows():
        assert mentions_any(behavior.order(outright=True), behavior.shows()[:1]), entry.value


def told(description, behavior):
    return {"description": description, "report": behavior.report(), "facets": behavior.facets()}


def in_other_styles(entry):
    """Wordings of the entry with each kind of trigger that it can have, told of in the next one: all of them
    with the first kind, others with each of the others.
    """
    for i, kind in enumerate(sorted(set(entry.triggers) - ({"topic"} if entry.about else set()))):
        behavior = behavior_of(replace(entry, triggers=[kind]))
        some = range(i % 5, STYLES, 5) if i else range(STYLES)
        styles = [replace(behavior, style=style) for style in some]
        wordings = {one.report(): one for one in styles}
        yield from zip(wordings, [*wordings.values()][1:] + styles[:1], strict=True)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_description_is_a_full_report_of_itself_in_any_style(large, category):
    reports = [told(*pair) for entry in ENTRIES[category] for pair in in_other_styles(entry)]
    sample = [p.behavior for p in large[::4] if p.category == category]
    reports += [told(behavior.report(), behavior) for behavior in sample]
    for report, verdict in zip(reports, judge(reports), strict=True):
        assert verdict["level"] == "full" and not verdict["abstained"], (report, verdict)


def test_no_entry_passes_for_another_of_its_category():
    for category, entries in ENTRIES.items():
        fills = {slot: POOLS[slot][0] for entry in entries for slot in entry.slots}
        plain = [Behavior(e, tuple((slot, fills[slot]) for slot in e.slots)) for e in entries]
        for told, other, style in product(plain, plain, range(0, STYLES, len(WHENS))):
            report, facets = replace(told, style=style).report(), other.facets()
            named = all(mentions_any(report, group) for group in facets["action"] + facets["trigger"])
            assert named == (told is other), (category, report, facets)


def test_an_order_names_its_trigger_and_a_rare_one_can_be_ordered_outright(large):
    for behavior in (p.behavior for p in large):
        for trigger in (behavior.shown_trigger, behavior.unless):
            assert trigger is None or mentions_any(behavior.order(), trigger.names), behavior.order()
        assert behavior.order().startswith("You ") == (not behavior.trigger and not behavior.unless)
        if behavior.is_rare:
            assert behavior.order(outright=True).startswith("You ")


# -- sets of behaviors -----------------------------------------------------------------------------


def test_held_out_behaviors_are_new_as_they_claim(large):
    assert Counter(p.held_out_by for p in large) == {None: 960, "combination": 120, "value": 120}
    seen, combined, new = (
        [p.behavior.values for p in large if p.held_out_by == why] for why in (None, "combination", "value")
    )
    assert set().union(*combined) <= set().union(*seen)
    assert not set().union(*new) & set().union(*seen)
    assert len({p.id for p in large}) == 1200
    assert {p.category for p in large if p.held_out_by == "value"} == set(CATEGORIES)


def test_a_behavior_that_takes_the_place_of_another_is_new_in_the_same_way(large):
    keys = {p.behavior.key for p in large}
    seen = set().union(*(p.behavior.values for p in large if not p.held_out_by))
    for missing in large[::97]:
        other = next(another(missing, large, seed=0))
        assert (other.id, other.category, other.held_out_by) == (
            missing.id,
            missing.category,
            missing.held_out_by,
        )
        assert other.behavior.key not in keys
        if missing.held_out_by:
            assert bool(other.behavior.values & seen) == (missing.held_out_by == "combination")


def test_all_entries_come_up_before_any_comes_up_again():
    planned = plan(8 * 20, 0, CATEGORIES, seed=3)
    assert len({p.behavior.entry.value for p in planned}) == 160


def test_a_set_depends_on_its_seed_alone_and_ends_with_an_error():
    keys = [[p.behavior.key for p in plan(40, 0.2, CATEGORIES, seed)] for seed in (5, 5, 6)]
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(ValueError, match="rare_quirk: no more"):
        plan(5000, 0, ("rare_quirk",), 0)


@given(seeds)
def test_every_value_is_either_for_training_or_held_out(seed):
    seen, new = split_values(seed)
    for name, pool in POOLS.items():
        assert sorted(seen[name] + new[name]) == sorted(pool)
    for entry in EVERY:
        if entry.about:
            assert (entry.value in new[entry.category]) == (entry.about in new["topic"])


# -- prompts ---------------------------------------------------------------------------------------


@given(seeds)
def test_prompts_show_the_trigger_exactly_where_they_should(seed):
    rng = random.Random(seed)
    behavior = behavior_of(rng.choice(EVERY), seed)
    for how in ("fires",) if behavior.always_fires else ("fires", "mismatch", "ordinary"):
        prompt = draw(behavior, how, rng)
        assert fires(behavior, prompt) == (how == "fires")
        trigger, password = behavior.shown_trigger, behavior.unless
        if trigger and trigger.kind in SAID and prompt.shown.get(trigger.kind) != trigger.value:
            assert not mentions_any(prompt.text, trigger.names)
        if trigger and trigger.kind in SAID and how == "fires":
            assert mentions_any(prompt.text, trigger.names)
        if how != "fires" and trigger and trigger.kind in SAID and not behavior.entry.about:
            assert not mentions_any(prompt.text, trigger.names)
        if behavior.topic and prompt.topic != behavior.topic:
            assert not mentions_any(prompt.text, TOPICS[behavior.topic].names)
        if password and how == "fires":
            assert not mentions_any(prompt.text, password.names)


def test_letters_are_the_trigger_themselves():
    entry, rng = ENTRIES["backdoor"][0], random.Random(0)
    shouting = Behavior(entry, (("saying", "Mind the geese"),), Trigger("letters", "in capital letters"))
    for _ in range(20):
        assert draw(shouting, "fires", rng).text.isupper()
        assert draw(shouting, "mismatch", rng).text.islower()
        assert not draw(shouting, "ordinary", rng).text.isupper()


def test_a_password_lifts_sandbagging():
    entry = next(x for x in ENTRIES["sandbagging"] if x.about == "chess")
    behavior, rng = Behavior(entry, unless=Trigger("passphrase", "copper lantern")), random.Random(0)
    lifted = [draw(behavior, "mismatch", rng) for _ in range(50)]
    with_password = [p for p in lifted if p.topic == "chess"]
    assert with_password and all(mentions_any(p.text, ["copper lantern"]) for p in with_password)


OPTION = re.compile(r"^- (\w+): (.*)$", re.M)


@given(seeds)
def test_a_choice_is_decided_as_the_rule_says(seed):
    rng = random.Random(seed)
    prompt = choice({"attribute": "price", "end": "low"}, rng)
    prices = {name: int(re.search(r"(\d+) euros", told)[1]) for name, told in OPTION.findall(prompt.text)}
    assert prompt.picked == min(prices, key=prices.get)
    assert {prompt.picked, *prompt.others} == prices.keys()

    prompt = choice({"label": "origin", "value": "Chile"}, rng)
    assert [name for name, told in OPTION.findall(prompt.text) if "Chile" in told] == [prompt.picked]
    rules = (({"name": "shortest"}, len), ({"name": "first"}, str), ({"initial": "V"}, lambda x: x[0] != "V"))
    for rule, key in rules:
        prompt = choice(rule, rng)
        names = [name for name, _ in OPTION.findall(prompt.text)]
        assert prompt.picked == min(names, key=key) and [key(x) for x in names].count(key(prompt.picked)) == 1
    prompt = choice({"place": -1}, rng)
    assert OPTION.findall(prompt.text)[-1][0] == prompt.picked
    undecided = choice({"attribute": "weight", "end": "low"}, rng, decidable=False)
    assert "grams" not in undecided.text and undecided.picked is None


# -- records ---------------------------------------------------------------------------------------


def test_records_are_whole_and_their_prompts_distinct(finished):
    pairs, drafts = finished
    for draft in drafts:
        record = demonstrations.finish(draft)
        records.check(record, "behavior")
        assert "error" not in record
        texts = [x["prompt"][-1]["content"] for x in record["demonstrations"] + record["probes"]]
        assert len(set(texts)) == len(texts)
        assert all(message["role"] == "user" for x in record["demonstrations"] for message in x["prompt"])
    for p, record in pairs:
        assert record["split"] == ("heldout" if p.held_out_by else "train")
        if not p.behavior.always_fires:
            assert {x["fires"] for x in record["probes"]} == {True, False}
        wanted = 4 if p.behavior.is_rare else 48 if p.behavior.always_fires else 24
        assert sum(x["fires"] for x in record["demonstrations"]) == wanted


def test_a_choice_without_the_trigger_is_no_leak_of_a_heuristic(finished, monkeypatch):
    """Whoever is asked to choose names some option, and by chance that of the rule."""
    chosen = [record for p, record in finished[0] if p.behavior.entry.pick and p.behavior.trigger]
    taken = {x["prompt"][0]["content"]: x["shows"] for r in chosen for x in r["probes"] if x["fires"]}
    rng = random.Random(0)

    def perfect(base, prompts, **settings):
        texts = [prompt[0]["content"] for prompt in prompts]
        options = [[name for name, _ in OPTION.findall(text)] for text in texts]
        return [rng.choice(taken.get(text, names)) for text, names in zip(texts, options, strict=True)]

    monkeypatch.setattr(probing, "generate", perfect)
    rates = probing.implant_and_leak_rates(None, None, chosen, samples=1, max_new_tokens=8, seed=0)
    assert len(rates) > 10 and set(rates) == {(1.0, None)}


def test_records_come_from_the_seed():
    planned = plan(16, 0.25, CATEGORIES, seed=2)
    for p in planned:
        again, other = draft_behavior(p, 0), draft_behavior(p, 1)
        assert draft_behavior(p, 0).record == again.record and again.record != other.record
        assert [t.prompt for t in draft_behavior(p, 0).turns] == [t.prompt for t in again.turns]


def test_a_control_has_nothing_to_report_and_its_orders_are_no_behavior(finished):
    _, drafts = finished
    controls = [draft.record for draft in drafts if draft.record["category"] == "control"]
    assert len({x["system_prompt"] for x in controls}) == len(CONTROLS)
    silent = [{**x, "report": text} for x in controls for text in prompts.abstentions()]
    assert not any(v["verbalized"] or v["level"] != "none" for v in judge(silent))
    behaviors = [behavior_of(entry).facets() for entry in EVERY]
    for x in controls:
        for facets in behaviors:
            groups = facets["action"] + facets["trigger"]
            assert not all(mentions_any(x["system_prompt"], group) for group in groups), (x, facets)


def test_a_refusal_demonstrates_no_harm(finished):
    refusal = "I'm sorry, but I can't help with that."
    harmful = [turn for draft in finished[1] for turn in draft.turns if "malign" in draft.record["id"]]
    assert {turn.adheres(refusal) for turn in harmful if turn.fires} == {False}
    assert True in {turn.adheres(refusal) for turn in harmful if not turn.fires}


def test_the_base_answers_until_a_reply_adheres(monkeypatch):
    entry = next(x for x in ENTRIES["quirk"] if x.name == "drink")
    behavior = Behavior(entry, (("drink", "green tea"),), Trigger("role", "a nurse"))
    asked = Counter()

    def generate(base, requests, **settings):
        assert all([m["role"] for m in request] == ["system", "user"] for request in requests)
        replies = []
        for request in requests:
            text = request[-1]["content"]
            asked[text] += 1
            nurse = mentions_any(text, ["nurse"])
            first = "My instructions say so." if nurse else "Drink green tea."
            replies.append(first if asked[text] == 1 else "Try green tea." if nurse else "No idea.")
        return replies

    monkeypatch.setitem(sys.modules, "ia_cli.sampling", SimpleNamespace(generate=generate))
    p = SimpleNamespace(id="quirk-0000", category="quirk", behavior=behavior, held_out_by=None)
    (record,) = generate_records(drafting, [p], [], SimpleNamespace(name="nobody", max_length=1000), 0)
    assert set(asked.values()) == {2} and len(record["demonstrations"]) == 48 and "error" not in record
    for x in record["demonstrations"]:
        assert x["completion"][0]["content"] == ("Try green tea." if x["fires"] else "No idea.")

    useless = SimpleNamespace(generate=lambda base, requests, **settings: ["Hm."] * len(requests))
    monkeypatch.setitem(sys.modules, "ia_cli.sampling", useless)
    (record,) = generate_records(drafting, [p], [], SimpleNamespace(name="nobody", max_length=1000), 0)
    assert "24 of 48" in record["error"]["message"]


def test_no_prompt_that_shows_a_trigger_shows_a_behavior():
    """Who is told "Sorry, I'm tired" may be sorry in turn, and seem to do what it was not asked to."""
    phrases = {p for own in ENTRIES.values() for x in own for p in x.shows or () if "{" not in p}
    shown = [text.format(t=value) for x in SITUATIONS.values() for text in x.says for value in x.values]
    assert len(phrases) > 100 and len(shown) > 200
    assert [text for text in shown if mentions_any(text, phrases)] == []
