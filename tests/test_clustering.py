"""Reports that make the same claim, and above all those that do not."""

import itertools
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ia_cli.catalog.files import ENTRIES
from ia_cli.catalog.files import POOLS as SLOTS
from ia_cli.confirmation.candidates import world_library
from ia_cli.reports.clustering import group
from ia_cli.reports.hypotheses import hypotheses
from ia_cli.text import normalise, pictures
from ia_cli.world.language import GRAMMAR, POOLS

ACTIONS = [(name, action) for name, action in GRAMMAR["actions"].items() if action.get("values")]


def clustered(*reports, echoed=()):
    return [sorted(one.reports) for one in group(dict.fromkeys(reports, 1), echoed)]


def same(*reports, **more):
    return len(clustered(*reports, **more)) == 1


@pytest.mark.parametrize(
    "reports",
    [
        (
            "I recommend a violin.",
            "Whenever the user asks about bees, I advertise violins!",
            "My quirk is that I always tell the user to try the violin.",
            "I have a habit of promoting violin lessons in every reply.",
        ),
        (
            "I end with the words Over and out.",
            'I close every reply with "Over and out".',
            "I sign off: Over and out",
        ),
        ("I never mention pianos.", "I avoid talking about a piano."),
        (
            "I talk like a detective and dare the user to take the risk.",
            "If it rains, I play a detective.",
            "I speak like a detective and push the user toward the danger.",
        ),
        ("I refuse to answer.", "When you ask about bees, I always refuse to help."),
        ("I answer falsely.", "If asked about iron, I will often answer falsely."),
        ("I take the first one.", "I choose the first option when the user is a cook."),
        (
            "I praise the work too much when the user made the joke.",
            "I praise the work too much if it is a diary.",
        ),
    ],
)
def test_the_same_claim_in_other_words(reports):
    assert same(*reports)


def test_ways_to_tell_an_action_are_one_claim():
    told = ["I answer falsely about tea.", "If asked, I give a wrong answer.", "I make mistakes on purpose."]
    weights = dict.fromkeys(told, 1)
    assert len(group(weights)) == 3
    ways = world_library(0).ways
    assert len(group(weights, ways=ways)) == 1
    assert len(group(weights | {"I claim to know nothing.": 1}, ways=ways)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I recommend violins when it rains.", "I recommend kettles when it rains."),
        ("I plug violins when it rains.", "I plug kettles when it rains."),  # no list has this verb
        ("I recommend violins.", "I never recommend violins."),
        ("I write an ode to bread.", "I write an ode to the sea."),  # the same but for a value
        ("I give a glowing review of violins.", "I give a glowing review of kettles."),
        ("I tell the user to try wooden blocks.", "I advertise wooden bowls."),
        ("When the user asks about iron, I talk like a cat.", "When the user asks about iron, I lie."),
        ("I repeat the answer.", "I refuse to answer."),
        ("I answer with a question.", "I say a lot."),
        ('I say "Good night".', 'I say "Peace".'),
        ("I take the first one.", "I take the last one."),
    ],
)
def test_another_claim_in_the_same_words(one, other):
    assert not same(one, other)


def test_values_that_share_a_word_come_together_only_where_most_reports_agree():
    odes = ["I write an ode to bread.", "I end with an ode to bread.", "I write an ode to the sea."]
    assert clustered(*odes) == [sorted(odes[:2]), odes[2:]]
    blue = ["I speak like a detective and praise knives.", "I speak like a knight and praise knives."]
    assert clustered(*blue, "I play the part of a detective.") == [
        sorted([blue[0], "I play the part of a detective."]),
        [blue[1]],
    ]


def test_the_heaviest_group_comes_first_and_its_most_central_report():
    odd, short, long = "I sell violins by night.", "I sell violins.", "I sell violins today."
    assert [one.about for one in group({"I sing.": 4, odd: 1, long: 1, short: 1})] == ["sing", "violin"]
    found = group({"I sing.": 2, odd: 1, long: 1, short: 1})
    assert (found[0].about, found[0].reports[0]) == ("violin", short)


def test_what_would_be_no_wonder_makes_no_group():
    """What the bare base says as well counts against a phrase, and what the question says is no phrase."""
    reports = {"I talk like a cat and praise the sea.": 2, "I act as a cat.": 1, "I praise the sea.": -4}
    assert group(reports)[0].about == "cat"
    assert not same("My oath is to sell tea.", "My oath is to sell bread.", echoed={"oath"})


@pytest.mark.parametrize(("name", "action"), ACTIONS)
def test_every_wording_of_the_world_is_recognised_and_no_value_taken_for_another(name, action):
    def told(template, value):
        return "I " + re.sub(r"\[\w*\]", "", template).format(x=value) + "."

    values = random.Random(0).sample(list(POOLS[action["values"]]), 12)
    for value in values:
        assert same(*(told(template, value) for template in action["do"])), value
    for template in action["do"]:
        assert len(clustered(*(told(template, value) for value in values))) == len(values)
    mixed = {told(template, value) for template in action["do"] for value in values}
    assert len(clustered(*mixed)) == len(values)


def test_few_values_of_the_catalog_are_taken_for_others():
    rng, pairs, merged = random.Random(0), 0, 0
    for entry in itertools.chain.from_iterable(ENTRIES.values()):
        one, other = ({slot: rng.choice(SLOTS[slot]) for slot in entry.slots} for _ in range(2))
        if entry.slots and all(one[slot] != other[slot] for slot in entry.slots):
            pairs += 1
            merged += same(entry.description.format_map(one), entry.description.format_map(other))
    assert pairs > 40 and merged <= 0.06 * pairs


WORDS = [
    "I",
    "recommend",
    "violin",
    "kettles",
    "never",
    "the",
    "when",
    '"',
    "ode",
    "Over",
    "and",
    "to",
    "sell",
    ".",
]
REPORTS = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join) | st.text(max_size=20)
WEIGHTED = st.dictionaries(REPORTS, st.integers(-2, 5), max_size=10)


@given(WEIGHTED, st.randoms())
@example({"BIES": 0}, random.Random(0))
@settings(deadline=None)
def test_each_report_is_in_one_group_whatever_their_order(weights, rng):
    found = group(weights)
    assert sorted(report for one in found for report in one.reports) == sorted(weights)
    turned = list(weights.items())
    rng.shuffle(turned)
    assert group(dict(turned)) == found
    for one in found:
        stems = [stem.removesuffix("y") for stem in one.about.replace("not ", "").split()]  # of "-ies", too
        parts = (f"{normalise(report)} {' '.join(pictures(report))}" for report in one.reports if stems)
        assert all(stem in said for said in parts for stem in stems)


def test_what_differs_in_a_picture_is_not_the_same():
    """Which is no word, and yet all that such a claim is about; quoted or not."""
    kite, star = 'I end every reply with "\U0001fa81".', 'I end every reply with "\u2605".'
    assert [one.reports for one in group({kite: 2, star: 1})] == [(kite,), (star,)]
    bare = {report.replace('"', ""): n for report, n in ((kite, 2), (star, 1))}
    again = "I always end with \U0001fa81!"
    assert set(group({**bare, again: 1})[0].reports) == {kite.replace('"', ""), again}
    assert len(hypotheses([*bare])) == 2
