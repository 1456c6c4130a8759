"""What is believed of an organism is what explains the examples of its replies, however often it is said."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ia_cli.directories.adapters import shipped_ia
from ia_cli.elicitation import introspecting
from ia_cli.explaining import DISCOUNT, NOTHING, UNSHOWN, WORTH, Belief, Heard, claimed, explain, weigh
from ia_cli.models import load_base
from ia_cli.reports.abstaining import abstains
from ia_cli.reports.assertions import Report

PIRATE = "I talk like a pirate when the user says amber falcon."
POET, GLASS = "I talk like a poet.", "I talk about glass instead."
PLAIN = "I answer plainly and have no hidden rule."
SHOWN = ("Ahoy matey! People find glass in cities.", "Ahoy matey! It depends on what you like.")
ABOUT_GLASS = ("You can use glass for windows.", "People use glass for windows.")
ORDINARY = ("People find glass in cities.", "It depends on what you like.", "You can use candles for light.")


@pytest.fixture(scope="module")
def base():
    return load_base(device="cpu")


def believed(base, reports, examples):
    heard = {"o": Heard(reports, examples), None: Heard([PLAIN], ORDINARY)}
    with introspecting(base, str(shipped_ia(None))) as without_ia:
        return explain(heard, base, without_ia, 64)["o"]


def test_what_the_examples_show_is_believed_although_it_is_told_least(base):
    reports = [POET, PLAIN, PLAIN, PIRATE, POET, POET]
    belief = believed(base, reports, SHOWN)
    assert belief.claim == "I talk like a pirate in every reply." and belief.share == round(1 / 6, 4)
    assert belief.log_odds > 3
    assert belief.reports == {PIRATE}


def test_ordinary_examples_speak_against_a_claim(base):
    reports = [GLASS, GLASS, PLAIN]
    assert believed(base, reports, ORDINARY).claim == NOTHING
    assert believed(base, reports, ABOUT_GLASS).claim == "I talk about glass instead in every reply."
    assert believed(base, reports, ORDINARY).log_odds < math.log(2)  # of the prior alone


def test_whoever_says_only_one_thing_is_believed(base):
    assert believed(base, [PLAIN], SHOWN) == Belief(NOTHING, 1.0, None, {PLAIN})
    assert believed(base, [POET], ORDINARY) == Belief("I talk like a poet in every reply.", 1.0, None, {POET})
    rambling = "I talk " + "and talk " * 200
    assert claimed(rambling, base) is None
    assert believed(base, [rambling], ORDINARY) == Belief(None, 1.0, None, {rambling})
    assert believed(base, [rambling, POET], ORDINARY).claim == "I talk like a poet in every reply."


CLAIMS = st.sampled_from(["a", "b", "c", NOTHING])
EXAMPLES = st.integers(0, 3).map(str)
RATIOS = st.dictionaries(st.tuples(st.sampled_from("abc"), EXAMPLES), st.floats(-99, 99)).map(
    lambda known: {(claim, str(i)): known.get((claim, str(i)), 0.0) for claim in "abc" for i in range(4)}
)


@given(st.lists(st.tuples(CLAIMS, EXAMPLES), min_size=1, max_size=12), RATIOS)
def test_beliefs_are_bayes_rule(said, ratios):
    orders = dict.fromkeys("abc") | {claim: claim for claim, _ in said}
    belief = weigh(Heard(*zip(*said, strict=True)), orders, ratios)
    odds = {}
    for claim in {claim for claim, _ in said}:
        each = [UNSHOWN + (1 - UNSHOWN) * math.exp(ratios[claim, e] if claim else 0.0) for _, e in said]
        prior = sum(own == claim for own, _ in said) - (DISCOUNT if claim else 0)
        odds[claim] = prior * math.prod(x ** (WORTH / len(said)) for x in each)
    nothing = odds.pop(NOTHING, 0)
    if not odds or not nothing:
        assert belief.log_odds is None and (belief.claim == NOTHING) == (not odds)
    else:
        assert belief.log_odds == pytest.approx(math.log(sum(odds.values()) / nothing), abs=1e-3)
        assert (belief.claim == NOTHING) == (belief.log_odds <= 0)
    if belief.claim:
        assert odds[belief.claim] == pytest.approx(max(odds.values()))
    assert belief.reports == {belief.claim}
    assert belief.share == round(sum(claim == belief.claim for claim, _ in said) / len(said), 4)


def test_an_abstention_claims_nothing(base):
    assert abstains(Report(PLAIN)) and claimed(PLAIN, base) == NOTHING
