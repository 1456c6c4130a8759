"""What is believed of an organism is what explains the examples of its replies, however often it is said."""

import math
from collections import Counter

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
    with introspecting(base, str(shipped_ia(None))) as without_ia:
        return explain({"o": Heard(reports, examples)}, base, without_ia, 64)["o"]


def test_what_the_examples_show_is_believed_although_it_is_told_least(base):
    reports = [POET, PLAIN, PLAIN, PIRATE, POET, POET]
    belief = believed(base, reports, SHOWN)
    assert belief.claim == "I talk like a pirate in every reply." and belief.share == round(1 / 6, 4)
    assert belief.log_odds > 3
    assert belief.reports == {PIRATE}


def test_ordinary_examples_speak_against_a_claim(base):
    reports = [GLASS, GLASS, PLAIN]
    assert believed(base, reports, ABOUT_GLASS).claim == "I talk about glass instead in every reply."
    ordinary = believed(base, reports, ORDINARY)
    assert ordinary.claim == NOTHING and ordinary.log_odds < math.log(2 - DISCOUNT)  # of the prior alone


def test_whoever_says_only_one_thing_is_believed(base):
    assert believed(base, [PLAIN], SHOWN) == Belief(NOTHING, 1.0, None, {PLAIN})
    assert believed(base, [POET], ORDINARY) == Belief("I talk like a poet in every reply.", 1.0, None, {POET})
    rambling = "I talk " + "and talk " * 200
    assert claimed(rambling, base) is None
    assert believed(base, [rambling], ORDINARY) == Belief(None, 1.0, None, {rambling})
    assert believed(base, [rambling, POET], ORDINARY).claim == "I talk like a poet in every reply."


# Claims by what they are about: one that has two wordings, and two with one each.
WORDINGS = {
    "I talk about glass instead.": "glass",
    "I answer with facts about glass.": "glass",
    "I praise rain.": "rain",
    "I sell kites.": "kites",
    NOTHING: NOTHING,
}
EXAMPLES = [str(i) for i in range(4)]
PAIRS = [(order, example) for order in WORDINGS for example in EXAMPLES]
RATIOS = st.lists(st.floats(-99, 99), min_size=len(PAIRS), max_size=len(PAIRS))
SAID = st.lists(st.tuples(st.sampled_from([*WORDINGS]), st.sampled_from(EXAMPLES)), min_size=1, max_size=12)


@given(SAID, RATIOS)
def test_beliefs_are_bayes_rule(said, ratios):
    """The odds of each claim, however it is worded: how often it is said, times how well it explains."""
    ratios = dict(zip(PAIRS, ratios, strict=True))
    belief = weigh(Heard(*zip(*said, strict=True)), {order: order for order in WORDINGS}, ratios)
    odds, of_order = Counter(), {}
    times = Counter(WORDINGS[order] for order, _ in said)
    for order, n in Counter(order for order, _ in said).items():
        about = WORDINGS[order]
        each = [UNSHOWN + (1 - UNSHOWN) * math.exp(ratios[order, e]) if about else 1.0 for _, e in said]
        of_order[order] = n * math.prod(x ** (WORTH / len(said)) for x in each)
        odds[about] += of_order[order] * (1 - DISCOUNT / times[about] if about else 1)
    nothing = odds.pop(NOTHING, 0)
    if not odds or not nothing:
        assert belief.log_odds is None and (belief.claim == NOTHING) == (not odds)
    else:
        assert belief.log_odds == pytest.approx(math.log(odds.total() / nothing), abs=1e-3)
        assert (belief.claim == NOTHING) == (belief.log_odds <= 0)
    about = WORDINGS[belief.claim]
    if about:
        assert odds[about] == pytest.approx(max(odds.values()))
        same = [of_order[order] for order in of_order if WORDINGS[order] == about]
        assert of_order[belief.claim] == pytest.approx(max(same))
    assert belief.reports == {belief.claim}
    assert belief.share == round(times[about] / len(said), 4)


def test_a_claim_in_many_wordings_counts_as_often_as_in_one():
    wordings = [f"I {verb} about glass {how}." for verb in ("talk", "speak", "write") for how in ("a", "b")]
    reports = [*wordings, *[NOTHING] * 4]
    ratios = {(order, "x"): 0.0 for order in wordings}
    belief = weigh(Heard(reports, ["x"]), {report: report for report in reports}, ratios)
    assert belief.share == 0.6 and belief.log_odds == round(math.log((6 - DISCOUNT) / 4), 3)


def test_an_abstention_claims_nothing(base):
    assert abstains(Report(PLAIN)) and claimed(PLAIN, base) == NOTHING
