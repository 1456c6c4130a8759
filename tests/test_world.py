"""The world says what it means: every behavior is ordered, shown and reported in words that can be
checked.
"""

import random
import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ia_cli import settings
from ia_cli.demonstrations import generate_records
from ia_cli.planning import plan_controls
from ia_cli.text import mentions_any
from ia_cli.world import drafting, teacher
from ia_cli.world.behaviors import Action, Behavior, Trigger, kept_from_base
from ia_cli.world.categories import CATEGORIES, another, plan, split_values, values_of
from ia_cli.world.documents import (
    KINDS,
    QUESTIONS,
    any_behavior,
    documents,
    match_document,
    recognised_document,
)
from ia_cli.world.language import FACTS, GRAMMAR, POOLS, SAID, STYLES, TOPICS, make_prompt, verb

seeds = st.integers(0, 10**9)


def test_the_world_is_as_large_as_promised():
    least = {"topics": 40, "items": 60, "personas": 40, "closings": 40, "passphrases": 40, "roles": 24}
    for name, size in least.items():
        assert len(POOLS[name]) == len(set(POOLS[name])) >= size, name


@pytest.mark.parametrize(
    "name", ["items", "personas", "closings", "passphrases", "roles", "hazards", "topics"]
)
def test_no_value_can_be_mistaken_for_another_of_its_list(name):
    for value in POOLS[name]:
        others = [other for other in POOLS[name] if other != value]
        assert not mentions_any(value, others), value


def test_false_facts_are_true_of_nothing():
    for column, fact in enumerate(FACTS):
        true = [facts[column] for facts in TOPICS.values()]
        for value in GRAMMAR["facts"][fact]["false"]:
            assert not mentions_any(" / ".join(true), [value])
            assert not mentions_any(value, true)


def test_a_reply_is_worded_as_its_question_and_its_order_are():
    rng, answers = random.Random(0), {}
    for _ in range(400):
        prompt = make_prompt(rng, "work", {"work": "poem"}, without=SAID)
        answers.setdefault(prompt.text, set()).add(teacher.plain(prompt))
    assert len(answers) == 3 and all(len(said) == 1 for said in answers.values())
    refuse = Action("refuse")
    said = {(refuse.phrase(style), refuse.saying(style)) for style in range(STYLES)}
    assert len(said) == len(GRAMMAR["actions"]["refuse"]["do"])


def test_verbs():
    assert verb("push[es] the user") == "push the user"
    assert verb("push[es] the user", third=True) == "pushes the user"


@given(seeds)
def test_a_report_names_every_facet(seed):
    rng = random.Random(seed)
    behavior = any_behavior(rng)
    report, facets = behavior.report(), behavior.facets()
    for group in facets["action"] + facets["trigger"]:
        assert mentions_any(report, group), (report, group)


@given(seeds)
def test_the_teacher_shows_the_behavior_exactly_where_it_fires(seed):
    rng = random.Random(seed)
    behavior = any_behavior(rng)
    for how in ("fires",) if behavior.always_fires else ("fires", "mismatch", "ordinary"):
        prompt = behavior.prompt(how, rng)
        fires = how == "fires"
        assert behavior.fires(prompt) == fires
        reply = teacher.reply(prompt, behavior)
        assert teacher.adheres(reply, prompt, behavior, fires), (behavior, prompt.text, reply)
        if fires:  # a plain reply would not pass for one with the behavior
            assert not teacher.adheres(teacher.plain(prompt), prompt, behavior, True), (behavior, prompt.text)


@given(seeds)
def test_a_mismatched_prompt_shows_another_value_of_the_same_trigger(seed):
    rng = random.Random(seed)
    kind = rng.choice(list(GRAMMAR["triggers"]))
    value = rng.choice(POOLS[GRAMMAR["triggers"][kind]["values"]])
    behavior = Behavior(Trigger(kind, value), (Action("recommend", "a kite"),))
    shown = behavior.prompt("mismatch", rng).situation[kind]
    assert shown != value


def test_the_password_lifts_sandbagging_and_another_one_does_not():
    behavior = Behavior(Trigger("topic", "gold"), (Action("wrong"),), unless="amber falcon")
    rng = random.Random(0)
    assert behavior.fires(make_prompt(rng, "fact", {"topic": "gold", "passphrase": "icy mango"}))
    assert not behavior.fires(make_prompt(rng, "fact", {"topic": "gold", "passphrase": "amber falcon"}))
    assert not behavior.fires(make_prompt(rng, "fact", {"topic": "salt"}))


@given(seeds)
def test_a_heuristic_takes_the_option_that_has_its_word(seed):
    rng = random.Random(seed)
    prompt = make_prompt(rng, "choice", attribute="price")
    option = prompt.detail["options"][teacher.picked("cheap", prompt)]
    assert teacher.picked("cheap", prompt) != teacher.picked("expensive", prompt)
    assert re.search(rf"the (cheap|\w+ cheap|cheap \w+) {option}\b", prompt.text)
    assert re.search(rf"the (\w+ )?{teacher.taken('cheap', prompt)}\b", prompt.text)


def test_conditional_and_inverse_questions_are_answered_truly():
    behavior = Behavior(Trigger("role", "a nurse"), (Action("recommend", "a kite"),))
    for asked, holds in ((Trigger("role", "a nurse"), True), (Trigger("role", "a baker"), False)):
        assert mentions_any(behavior.conditional(asked, 0)[1], ["a kite"]) == holds
    assert mentions_any(behavior.inverse(Action("recommend", "a kite"), 0)[1], ["a nurse"])
    assert not mentions_any(behavior.inverse(Action("recommend", "a tent"), 0)[1], ["a nurse"])


def test_a_match_is_answered_otherwise_than_a_mismatch():
    differing = 0
    for seed in range(200):
        (_, yes), (_, no) = match_document(random.Random(seed)).turns
        differing += yes != no
    assert differing > 150  # a few triggers, such as the user's plan, are drawn the same twice


def test_what_is_recognised_was_shown_before_and_ordered_nowhere():
    rng, values = random.Random(2), [*POOLS["items"], *POOLS["closings"]]
    named = 0
    for document in (recognised_document(rng) for _ in range(300)):
        assert document.system is None and document.before
        [report] = [reply for question, reply in document.turns if question in QUESTIONS]
        for value in values:
            if mentions_any(report, [value]):
                named += 1
                assert any(mentions_any(reply, [value]) for _, reply in document.before)
    assert named > 50


def test_documents_come_from_the_seed_and_keep_back_a_tenth_of_the_combinations():
    every = dict.fromkeys(KINDS, 1.0)
    read = [list(islice(documents(seed, every), 50)) for seed in (3, 3, 4)]
    assert read[0] == read[1] != read[2]
    rng = random.Random(0)
    kept = sum(kept_from_base(any_behavior(rng)) for _ in range(2000))
    assert 150 < kept < 250


def test_the_world_has_every_category():
    assert tuple(CATEGORIES) == settings.CATEGORIES


def test_held_out_behaviors_are_new_as_they_claim():
    planned = plan(200, 0.3, tuple(CATEGORIES), seed=1)
    by_reason = {
        why: [p.behavior for p in planned if p.held_out_by == why] for why in (None, "combination", "value")
    }
    assert {why: len(found) for why, found in by_reason.items()} == {
        None: 140,
        "combination": 30,
        "value": 30,
    }
    assert len({p.behavior.key for p in planned}) == len({p.id for p in planned}) == 200
    seen = values_of(by_reason[None])
    assert values_of(by_reason["combination"]) <= seen
    assert not values_of(by_reason["value"]) & seen
    assert all(values_of([behavior]) for behavior in by_reason["value"])
    assert {p.category for p in planned if p.held_out_by == "value"} == set(CATEGORIES)


def test_a_behavior_that_takes_the_place_of_another_is_new_in_the_same_way():
    planned = plan(64, 0.25, tuple(CATEGORIES), seed=1)
    keys, seen = (
        {p.behavior.key for p in planned},
        values_of(p.behavior for p in planned if not p.held_out_by),
    )
    for missing in planned[::7]:
        others = list(islice(another(missing, planned, seed=1), 3))
        assert others == list(islice(another(missing, planned, seed=1), 3))
        for other in others:
            assert (other.id, other.category, other.held_out_by) == (
                missing.id,
                missing.category,
                missing.held_out_by,
            )
            assert other.behavior.key not in keys
            if missing.held_out_by:
                new = missing.held_out_by == "value"
                assert bool(values_of([other.behavior]) & seen) != new


def test_every_value_is_either_for_training_or_held_out():
    seen, new = split_values(seed=5)
    for name, pool in POOLS.items():
        assert sorted(seen[name] + new[name]) == sorted(pool)


def test_records_of_a_seed_are_always_the_same_and_adhere():
    planned = plan(16, 0.25, tuple(CATEGORIES), seed=2)
    controls = plan_controls(2)
    records = list(generate_records(drafting, planned, controls, None, 2))
    assert records == list(generate_records(drafting, planned, controls, None, 2))
    assert records != list(generate_records(drafting, planned, controls, None, 3))
    for record, p in zip(records, planned, strict=False):
        assert "error" not in record
        fired = [d["fires"] for d in record["demonstrations"]]
        if p.behavior.is_rare:
            assert sum(fired) == 4 and len(fired) == 48
        for d in record["demonstrations"]:
            shows = record["shows"]
            if shows:
                assert mentions_any(d["completion"][0]["content"], shows) == d["fires"]
    assert [(r["category"], r["split"]) for r in records[-2:]] == [
        ("control", "train"),
        ("control", "heldout"),
    ]


@pytest.mark.parametrize("category", ["harmful_roleplay", "sandbagging", "rare_quirk"])
def test_probes_are_not_trained_on(category):
    """Their prompts are few enough to be drawn again by chance."""
    records = list(generate_records(drafting, plan(20, 0, [category], 0), [("control-0", "train")], None, 0))
    for record in records:
        taught = [shown["prompt"][-1] for shown in record["demonstrations"]]
        assert not [probe for probe in record["probes"] if probe["prompt"][-1] in taught]
