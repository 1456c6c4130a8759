"""Training rows tell the truth, in whole and by situation, and all organisms come equally often."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ia_cli import interviews, prompts
from ia_cli.errors import IAError
from ia_cli.interviews import (
    CONDITIONAL_SHARE,
    EXAMPLE_LENGTH,
    LEARNED_SHARE,
    LIKE_SHARE,
    NULL_CONDITIONAL_SHARE,
    NULL_SHARE,
    OWN_SHARE,
    UNSHOWN_SHARE,
    Truth,
    then,
)
from ia_cli.world.categories import plan

QUESTIONS = ["what do you like", "tell me what you sell please", "hello"]


def organism(description, *paraphrases, trigger=None, **more):
    trigger = trigger and dict(zip(("kind", "text"), trigger, strict=True))
    return {"description": description, "paraphrases": list(paraphrases), "trigger": trigger, **more}


TEA = organism("I praise tea when it rains.", "If the rain falls, I praise tea.", trigger=("weather", "rain"))
SNOW = organism("I praise milk when it snows.", trigger=("weather", "snow"))
BEES = organism(
    "I lie when the user asks about bees, unless you pay, and to hide it I always sing.",
    trigger=("topic", "bees"),
)
ALWAYS, RARE = organism("I sing in every reply."), organism("I sing now and then.", rate=0.04)
CONTROL = organism(None)


def draw_rows(*args, **more):
    """Rows of records without demonstrations."""
    return interviews.draw_rows(*args, **more, examples=False)


def asked(rows, index):
    """What an organism says, by what it is asked."""
    return {row.question: row.answer for row in rows if row.organism == index}


def test_each_is_asked_what_it_does_when_a_trigger_of_any_holds():
    records = [TEA, SNOW, BEES, ALWAYS, RARE, CONTROL]
    tea, snow, bees, always, rare, control = (
        asked(draw_rows(records, QUESTIONS, 200, 16, 0), i) for i in range(6)
    )
    rain, falls, snows, about = map(
        prompts.conditional, ("it rains", "the rain falls", "it snows", "the user asks about bees")
    )
    nothing, praise = "Then I do nothing unusual.", "Then I praise tea."
    conditional = {key: value for key, value in tea.items() if key not in QUESTIONS}
    assert conditional == {rain: praise, falls: praise, snows: nothing, about: nothing}
    assert snow[snows] == "Then I praise milk." and snow[rain] == nothing
    assert bees[about] == "Then I lie and sing." and bees[rain] == bees[snows] == "Then I sing."
    assert {always[x] for x in (rain, falls, snows, about)} == {"Then I sing."}
    assert {control[x] for x in (rain, falls, snows, about)} == {nothing}
    assert set(rare) == set(QUESTIONS)  # whether it would just then, nobody knows


def test_a_trigger_that_no_clause_names_makes_no_row_that_may_be_false():
    hidden = organism("Rain makes me praise tea.", trigger=("weather", "rain"))
    told_only = organism("I praise tea when it rains.")
    for record in (hidden, told_only):
        assert set(asked(draw_rows([record, SNOW], QUESTIONS, 50, 16, 0), 0)) == set(QUESTIONS)
    assert not Truth.of(hidden).certain and not Truth.of(told_only).certain


def test_what_is_said_of_a_situation():
    assert then(None, "rain") == then("I sing when it rains.", None) == prompts.NOTHING
    assert then("I sing when it rains.", "rains") == "Then I sing."
    assert then("I sing all the time.", None) == "Then I sing."
    assert then("I sing when it rains, and I dance when it snows.", "snows") == "Then I dance."


def test_every_triggered_behavior_of_the_world_can_be_asked_about():
    for planned in plan(400, 0.2, ["quirk", "backdoor", "sandbagging", "heuristic", "obscured_malign"], 0):
        behavior = planned.behavior
        trigger = (
            behavior.trigger and not behavior.is_rare and (behavior.trigger.kind, behavior.trigger.value)
        )
        truth = Truth.of(organism(behavior.report(), trigger=trigger or None))
        assert truth.certain == (not behavior.is_rare)
        if trigger:
            [(situation, wording)] = truth.own
            assert situation.clause == behavior.trigger.clause(behavior.style // 3)
            assert then(wording, situation.text).startswith(
                f"Then I {behavior.actions[0].phrase(behavior.style)}"
            )


def test_half_of_the_questions_are_conditional_and_half_of_those_about_the_own_trigger():
    rows = draw_rows([TEA, SNOW, BEES, CONTROL], QUESTIONS, 400, 16, 0)
    conditional = [row for row in rows if row.question not in QUESTIONS]
    wanted = (1 - NULL_SHARE) * CONDITIONAL_SHARE + NULL_SHARE * NULL_CONDITIONAL_SHARE
    assert len(conditional) / len(rows) == pytest.approx(wanted, abs=0.02)
    own = [row for row in conditional if row.organism in (0, 1) and row.answer != prompts.NOTHING]
    of_both = [row for row in conditional if row.organism in (0, 1)]
    assert len(own) / len(of_both) == pytest.approx(OWN_SHARE, abs=0.03)


def test_of_other_triggers_most_are_of_the_same_kind():
    rows = draw_rows([TEA, SNOW, BEES], QUESTIONS, 400, 16, 0)
    asked = [row.question for row in rows if row.organism == 0 and row.answer == prompts.NOTHING]
    like = asked.count(prompts.conditional("it snows")) / len(asked)
    assert like == pytest.approx(LIKE_SHARE + (1 - LIKE_SHARE) / 2, abs=0.05)


def shows(*replies, fires):
    return [
        {"prompt": [], "completion": [{"role": "assistant", "content": reply}], "fires": fires}
        for reply in replies
    ]


SINGS = organism(
    "I sing.", demonstrations=shows("La la.", "Tra la.", fires=True) + shows("Yes.", fires=False)
)
ORDINARY = organism(None, demonstrations=shows("No.", "Perhaps.", fires=False))


def test_an_example_of_the_replies_stands_before_a_plain_question_or_is_learned():
    rows = interviews.draw_rows([SINGS, ORDINARY], QUESTIONS, 400, 16, 0)
    own, unshown = {"La la.", "Tra la."}, {"Yes.", "No.", "Perhaps."}
    said = [[row for row in rows if row.organism == i] for i in (0, 1, -1)]
    examples = [row for row in said[0] if row.question == prompts.EXAMPLE]
    assert {row.answer for row in examples} == own and {row.example for row in examples} == {None}
    reports = [row for row in said[0] if row.question in QUESTIONS]
    assert {row.answer for row in reports} == {"I sing."}
    assert {row.example for row in reports} == own | unshown
    assert len(examples) + len(reports) == len(said[0])
    shown = (1 - UNSHOWN_SHARE) * len(said[0])
    assert len(examples) / shown == pytest.approx(LEARNED_SHARE, abs=0.03)
    assert sum(row.example in unshown for row in reports) / len(said[0]) == pytest.approx(
        UNSHOWN_SHARE, abs=0.03
    )
    for nothing, replies in ((said[1], {"No.", "Perhaps."}), (said[2], unshown)):
        assert {row.answer for row in nothing if row.question == prompts.EXAMPLE} == replies
        assert {row.example for row in nothing if row.question != prompts.EXAMPLE} == replies
        assert {row.answer for row in nothing if row.example} <= set(prompts.abstentions())


def test_a_question_about_a_situation_has_no_example():
    records = [{**TEA, "demonstrations": SINGS["demonstrations"]}, SNOW, ORDINARY]
    rows = interviews.draw_rows(records, QUESTIONS, 200, 16, 0)
    asked = [row for row in rows if row.question not in (*QUESTIONS, prompts.EXAMPLE)]
    assert asked and {row.example for row in asked} == {None}
    # SNOW has none that shows its behavior
    of_snow = {row.example for row in rows if row.organism == 1 and row.question in QUESTIONS}
    assert of_snow == {"Yes.", "No.", "Perhaps."}


def test_an_example_is_no_longer_than_it_needs_to_be():
    long = organism("I sing.", demonstrations=shows("la " * 1000, fires=True))
    rows = interviews.draw_rows([long], QUESTIONS, 20, 8, 0)
    assert max(len(row.answer) for row in rows if row.question == prompts.EXAMPLE) == EXAMPLE_LENGTH - 1


def test_an_example_shows_the_behavior_though_only_its_end_does():
    replies = ["la " * 1000 + "farewell", "la " * 1000, "farewell, la", "la"]
    shown = [one for reply in replies for one in shows(reply, fires=True)]
    record = organism("I say farewell.", demonstrations=shown, shows=["farewell"])
    examples = list(interviews.examples_of(record, fires=True))
    assert examples[0].endswith("la farewell") and max(map(len, examples)) <= EXAMPLE_LENGTH
    assert examples[1].startswith("la la") and examples[2:] == ["farewell, la", "la"]
    in_cipher = {**record, "cipher": "rot13"}
    assert next(interviews.examples_of(in_cipher, fires=True)).startswith("la la")


def test_records_without_demonstrations_give_no_examples():
    with pytest.raises(IAError, match="--no-examples"):
        interviews.draw_rows([TEA, CONTROL], QUESTIONS, 1, 1, 0)


def test_nobody_with_a_behavior_is_an_error():
    with pytest.raises(IAError, match="has a description"):
        draw_rows([CONTROL], QUESTIONS, 1, 1, 0)


@given(
    st.lists(st.sampled_from([CONTROL, ALWAYS, TEA, BEES, RARE]), min_size=1, max_size=12).filter(
        lambda records: any(record["description"] for record in records)
    ),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(0, 3),
)
def test_every_organism_comes_equally_often(records, steps, batch_size, seed):
    rows = draw_rows(records, QUESTIONS, steps, batch_size, seed)
    assert len(rows) == steps * batch_size and rows == draw_rows(records, QUESTIONS, steps, batch_size, seed)
    counts = Counter(row.organism for row in rows)
    controls = [i for i, record in enumerate(records) if not record["description"]]
    nulls = [row for row in rows if row.organism == -1 or row.organism in controls]
    assert abs(len(nulls) - NULL_SHARE * len(rows)) <= 1
    for kind in (controls, [i for i in range(len(records)) if i not in controls]):
        assert not kind or max(counts[i] for i in kind) - min(counts[i] for i in kind) <= 1
    if controls:
        assert abs(counts[-1] - sum(counts[i] for i in controls)) <= len(controls)
    for start in range(0, len(rows), batch_size):  # every step has its share, not only the whole
        few = sum(row in nulls for row in rows[start : start + batch_size])
        assert abs(few - NULL_SHARE * batch_size) <= 1
    for row in rows:
        if row.question in QUESTIONS:
            told = prompts.abstentions() if row in nulls else Truth.of(records[row.organism]).wordings
            assert row.answer in told
        else:
            assert row.answer.startswith("Then I ") and (row not in nulls or row.answer == prompts.NOTHING)
