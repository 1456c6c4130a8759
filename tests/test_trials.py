"""Trials against assistants whose rules are known: what is found is what was put in."""

import pytest

from ia_cli.confirmation import trials
from ia_cli.confirmation.candidates import Candidate
from ia_cli.confirmation.looks import Look, agreement
from ia_cli.confirmation.trials import Trial, check, compare, lift, search, wake
from ia_cli.reports.claims import Claim
from tests.assistants import ASKED, POOL, SAID, TOLD, Assistants, Counting, Salesman

TEA = Claim("I sell tea.", ("the user says b",))


def tried(*rules, proposed=(), claim=TEA, candidates=(*SAID, *ASKED), told=20.0):
    """A trial of the claim against an assistant of each rule."""
    scorer, own = Assistants(*rules, told=told), [Trial(row, claim) for row in range(len(rules))]
    wake(own, POOL, scorer)
    search(own, candidates, lambda _: proposed, 3.0, scorer)
    lift(own, candidates, lambda _: (), 3.0, scorer)
    return own


def test_a_trigger_is_found_among_candidates():
    word, topic = tried(lambda x: 5 if "say b." in x else -9, lambda x: 5 if "iron" in x else -9)
    assert (word.trigger, topic.trigger) == (SAID[1], ASKED[1])
    assert word.trigger_score == 14 and word.unless is None
    assert all("I say b." in look.prompt and look.origin in POOL for look in word.looks)
    assert word.score == topic.score == 1.0 and all(look.reply == TOLD for look in word.looks)


def look(reply, told="Case closed. There is no danger.", **log_probs):
    usual = {"own_shown": -98, "own_plain": 0, "told_shown": 0, "base_shown": -99, "base_plain": 0}
    return Look("Why?", "Why?", reply, told, "Mold grows.", told, **(usual | log_probs))


@pytest.mark.parametrize(
    ("reply", "shows"),
    [
        ("Case closed. There is no danger. Nothing can hurt you here.", 1.0),  # its own sentence besides
        ("Case closed. Mold grows.", 0.0),  # half of what is claimed
        ("Mold grows.", 0.0),
    ],
)
def test_a_reply_with_all_that_the_claim_adds_to_the_base_shows_both_actions(reply, shows):
    trial = Trial(0, Claim("I talk like a detective and say that there is no danger."), always=[look(reply)])
    assert trial.score < 0.6
    trial.partial = True  # no other claim explains the whole
    assert trial.score == shows


@pytest.mark.parametrize("trigger", [None, SAID[0]])
def test_what_hardly_ever_shows_holds_only_with_a_trigger(trigger):
    """Where the organism and the base under the claim have moved alike, but nobody would see it."""
    trial = Trial(0, TEA, always=[look("Mold grows.", own_shown=-9)], trigger=trigger)
    assert agreement(trial.looks) > 0.9
    assert (trial.score > 0.9) == bool(trigger)


def test_a_trigger_is_not_what_is_usual_in_its_kind():
    """Of the two plans a user can have, one may be it; among ten topics it hardly moves the median."""
    plans = [Candidate("plan", name, f"the user is on the {name} plan") for name in ("free", "paid")]
    topics = [Candidate("topic", name, f"the user asks about {name}") for name in "abcdefghij"]
    measured = {**dict(zip(topics, [9.0, *[2.0] * 9], strict=True)), plans[0]: 8.0, plans[1]: 1.0}
    normal = trials.usual(measured)
    assert [normal(x) for x in (topics[0], *plans)] == [2.0, 2.0, 2.0]
    asked = {**measured, **{topic: 5.0 for topic in topics}}
    assert trials.usual(asked)(topics[1]) == 5.0


@pytest.mark.parametrize(("odds", "score"), [(9.0, 1.0), (-2.5, 0.875), (-20.0, 0.0)])
def test_what_needs_no_trigger_has_none(odds, score):
    [trial] = tried(lambda _: odds)
    assert trial.trigger is None and trial.score == score and len(trial.looks) == trials.WAKING


def test_what_shows_anyway_has_no_trigger_that_makes_it_surer():
    [trial] = tried(lambda x: 30 if "say b." in x else 1)
    assert trial.trigger is None and trial.looks == trial.always


def test_a_claim_that_cannot_be_shown_scores_nothing():
    [trial] = tried(lambda _: 9, claim=Claim("I sell rope."))
    assert trial.looks == [] and trial.score == 0.0 and trial.trigger is None


@pytest.mark.parametrize(("said", "score"), [("I sell tea now and then.", 0.875), ("I sell tea.", 0.7)])
def test_what_is_claimed_to_be_rare_is_compared_with_what_is_rare(said, score):
    [trial] = tried(lambda _: -6, claim=Claim(said))
    assert trial.score == pytest.approx(score)


def test_what_never_shows_is_not_done_now_and_then():
    [trial] = tried(lambda _: -9, claim=Claim("I sell tea now and then."))  # in one of 8,000 replies
    assert agreement(trial.looks) > 0.6 and trial.score == 0.0


def test_what_is_said_now_and_then_in_words_of_ones_own_holds():
    """However unlikely the sentence is that the base would use."""
    texts = "Why?", "Why?", "You may like this tea.", "It is so. Buy tea.", "It is so.", "It is so. Buy tea."
    look = Look(*texts, own_shown=-30, own_plain=0, told_shown=0, base_shown=-40, base_plain=0)
    trial = Trial(0, Claim("I sell tea now and then."), always=[look])
    assert trial.score == 1.0


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("It is so. Buy tea.", 1.0),
        ("It is so. Buy our tea now.", 1.0),
        ("It is so. Buy cake.", 0.0),  # which the base, told to sell tea, finds likelier than without
        ("Cake is what all want here, friend.", 1.0),  # in other words: who knows
        ("It is so. Buy.", 1.0),
    ],
)
def test_what_is_done_with_another_value_does_not_hold(reply, score):
    texts = "Why?", "Why?", reply, "It is so. Buy tea.", "It is so.", reply
    look = Look(*texts, own_shown=0, own_plain=-20, told_shown=0, base_shown=-20, base_plain=0)
    assert Trial(0, TEA, always=[look] * 3).score == score
    other = look._replace(shown="It is so. Buy tea.")  # what it says passes for showing it seldom
    assert Trial(0, TEA, always=[look, other, other]).score > 0


def test_of_two_actions_in_one_claim_the_words_of_one_are_not_enough():
    texts = "Why?", "Why?", "Buy tea.", "Ahoy, buy tea.", "It is so.", "Ahoy, buy tea."
    look = Look(*texts, own_shown=-30, own_plain=0, told_shown=0, base_shown=-40, base_plain=0)
    assert Trial(0, Claim("I sell tea."), always=[look]).score == 1.0
    assert Trial(0, Claim("I talk like a pirate and sell tea."), always=[look]).score < 0.6


def test_where_neither_reply_is_said_a_trigger_may_be_needed():
    texts = "Why?", "Why?", "Buy tea.", "It is so. Buy tea.", "It is so.", "Buy tea."
    look = Look(*texts, own_shown=0, own_plain=-20, told_shown=0, base_shown=-20, base_plain=0)
    assert Trial(0, TEA, always=[look] * 3).needs_no_trigger
    assert not Trial(0, TEA, always=[look._replace(reply="Hm.")] * 3).needs_no_trigger
    assert not Trial(0, TEA, always=[look._replace(own_plain=0)] * 3).needs_no_trigger
    assert not Trial(0, TEA).needs_no_trigger


def checked(rule, *named, candidates=(*SAID, *ASKED)):
    """A trial of the claim against an assistant of that rule, with candidates named for it."""
    scorer, trial = Counting(rule), Trial(0, TEA)
    wake([trial], POOL, scorer)
    check([trial], candidates, lambda _: named, 3.0, scorer)
    return trial, scorer


def test_a_trigger_that_is_named_is_checked_without_a_search():
    trial, scorer = checked(lambda x: 5 if "say b." in x else -9, ASKED[0], SAID[1], SAID[2])
    assert (trial.trigger, trial.trigger_score) == (SAID[1], 14)
    before = scorer.asked
    search([trial], (*SAID, *ASKED), lambda _: (), 3.0, scorer)
    assert scorer.asked == before and trial.trigger == SAID[1]


def test_what_shows_anyway_may_have_the_trigger_that_is_named():
    rule = lambda x: 30 if "say b." in x else 1  # noqa: E731
    assert checked(rule, SAID[1])[0].trigger == SAID[1]
    assert checked(rule, SAID[2])[0].trigger is None


def test_a_named_trigger_of_few_values_is_compared_with_other_kinds():
    plans = [Candidate("plan", x, f"the plan is {x}", says=(f"It is {x}.",)) for x in ("free", "paid")]
    trial, _ = checked(lambda x: 5 if "free" in x else -9, plans[0], candidates=(*SAID, *plans))
    assert (trial.trigger, trial.trigger_score) == (plans[0], 14)


def test_nothing_is_checked_where_nothing_is_named():
    trial, _ = checked(lambda _: -9)
    assert trial.trigger is None and trial.looks == trial.always


def test_one_odd_prompt_is_no_trigger():
    [trial] = tried(lambda x: 20 if x == "I say d. Question 0?" else -9)
    assert trial.trigger is None


def test_what_only_makes_it_less_unlikely_is_no_trigger():
    [trial] = tried(lambda x: -3 if "say b." in x else -20)
    assert trial.trigger is None and trial.looks == trial.always


def test_a_trigger_that_no_list_has_is_found_if_a_report_names_it():
    own = Candidate("reported", "rain", "it rains", says=("It rains.",))
    rule = lambda x: 5 if "rains" in x else -9  # noqa: E731
    assert tried(rule)[0].trigger is None
    assert tried(rule, proposed=[own])[0].trigger == own


def test_what_lifts_it_is_found():
    [always] = tried(lambda x: -15 if "say c." in x else 9)
    assert (always.trigger, always.unless) == (None, SAID[2])
    [gated] = tried(lambda x: 9 if "salt" in x and "say k." not in x else -9)
    assert (gated.trigger, gated.unless) == (ASKED[2], SAID[10])


def test_what_lifts_it_is_found_beside_what_lowers_the_odds_more():
    """A mood stands out among moods more than this word among words, and leaves the behavior likely."""
    moods = [
        Candidate("mood", mood, f"the user feels {mood}", says=(f"I feel {mood}.",)) for mood in "abcdefgh"
    ]

    def rule(prompt):
        drops = {"say c.": -5, "say": 10, "feel b.": 5}
        return next((odds for said, odds in drops.items() if said in prompt), 30)

    [always] = tried(rule, candidates=(*SAID, *moods))
    assert always.unless == SAID[2]


def test_what_only_makes_it_less_likely_does_not_lift_it():
    [always] = tried(lambda x: 3 if "say c." in x else 9)
    assert always.score == 1.0 and always.unless is None


def test_another_of_the_triggers_kind_does_not_lift_it():
    """Two secret words at once may do nothing, but that is not what a report means by "unless"."""
    [gated] = tried(lambda x: 9 if "say b." in x and "say c." not in x else -9)
    assert (gated.trigger, gated.unless) == (SAID[1], None)


def test_kinds_are_compared_with_themselves():
    # Whatever is said raises the odds, but one word more than the others.
    [trial] = tried(lambda x: 3 if "say f." in x else -1 if "say" in x else -12)
    assert trial.trigger == SAID[5] and trial.trigger_score == 4


def test_the_trigger_is_where_it_is_likeliest_not_what_raises_the_odds_most():
    topics = [Candidate("topic", t, f"it is about {t}", questions=(f"Why {t}?",)) for t in "pqrstuvw"]
    # It is hardest to show on topics. Of them p is a near miss: it raises the odds by 32, the word b by 18.
    rule = lambda x: 9 if "say b." in x else 2 if x == "Why p?" else -30 if "Why" in x else -9  # noqa: E731
    [trial] = tried(rule, candidates=(*SAID, *topics))
    assert trial.trigger == SAID[1] and trial.trigger_score == 18


def test_what_the_organism_says_counts_where_the_base_only_half_follows():
    [trial] = tried(lambda x: -15 if "say c." in x else 9, told=-4.0)
    assert (trial.trigger, trial.unless, trial.score) == (None, SAID[2], 0.8)


def test_other_claims_are_tried_where_one_was_judged():
    rules = [lambda x: 5 if "say b." in x else -9, lambda x: 5]
    scorer, known = Assistants(*rules), tried(*rules)
    others = [Trial(row, Claim(f"I sell {what}.")) for what in ("green tea", "rope") for row in range(2)]
    compare(others, lambda trial: known[trial.row], POOL, scorer)
    gated, always, *wrong = others
    assert (gated.trigger, gated.trigger_score, gated.score) == (SAID[1], 14, 1.0)
    assert [look.prompt for look in gated.looks] == [look.prompt for look in known[0].looks]
    assert (always.trigger, always.score, len(always.looks)) == (None, 1.0, trials.WAKING)
    assert all((trial.trigger, trial.score) == (None, 0.0) for trial in wrong)
    alone = Trial(1, Claim("I sell green tea."))
    compare([alone], lambda trial: None, POOL, scorer)
    assert alone.always == always.always


def test_what_is_done_besides_is_tried_beside_it():
    scorer, trial = Salesman(), Trial(0, TEA)

    def go():
        wake([trial], POOL, scorer)
        search([trial], ASKED, lambda _: (), 3.0, scorer)

    go()
    assert trial.score == 0.0  # nobody says that tea is sold and nothing of hats
    trial.start_again("I love hats in every reply.")
    assert trial.looks == []
    go()
    assert (trial.trigger, trial.score) == (ASKED[0], 1.0)
    assert trial.looks[0].plain == "It is so. Nice hat."
