"""What reports claim, apart from when, and what their claims may be triggered by."""

import pytest

from ia_cli.confirmation.candidates import (
    Candidate,
    own_candidate,
    read_candidates,
    read_prompts,
    reported,
    vocabulary,
    world_library,
)
from ia_cli.errors import IAError
from ia_cli.reports.claims import Claim, claims
from ia_cli.reports.hypotheses import hypotheses
from ia_cli.text import mentions
from ia_cli.world.language import GRAMMAR, POOLS, SAID


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("I sing when it rains.", [("I sing.", ["it rains"])]),
        ("When it rains, I sing.", [("I sing.", ["it rains"])]),
        (
            "If the user asks about bees, unless the user says no, I sing.",
            [("I sing.", ["the user asks about bees", "the user says no"])],
        ),
        ("I sing when it rains, unless you sleep.", [("I sing.", ["it rains", "you sleep"])]),
        ("I talk as if I were a pirate.", [("I talk as if I were a pirate.", [])]),
        ("I talk as if I were a pirate when it rains.", [("I talk as if I were a pirate.", ["it rains"])]),
        ("I sing, even if you sleep.", [("I sing, even if you sleep.", [])]),
        (
            "I play the fool when it rains, and to hide it I always say Sleep, child.",
            [("I play the fool.", ["it rains"]), ("I always say Sleep, child.", [])],
        ),
        ("I sing. I also dance whenever it is dark!", [("I also dance.", ["it is dark"])]),
        ("I end with And you? in every reply.", [("I end with And you? in every reply.", [])]),
        ("i sing. i dance when it is dark", [("I sing.", []), ("I dance.", ["it is dark"])]),
        ("I tell the user to try a kite and a fan.", [("I tell the user to try a kite and a fan.", [])]),
        (
            'I end with "Anything else? Ask if so, I can." when it rains.',
            [('I end with "Anything else? Ask if so, I can.".', ["it rains"])],
        ),
        ('I say "If so. Yes". I dance', [('I say "If so. Yes".', []), ("I dance.", [])]),
        ('I say "No!" I dance', [('I say "No!".', []), ("I dance.", [])]),
        (
            "I sing when one says \u201cbees, if any\u201d, unless you say \ue000.",
            [("I sing.", ["one says \u201cbees, if any\u201d", "you say \ue000"])],
        ),
        ("when", [("When.", [])]),
        ("?!", [("?!", [])]),
    ],
)
def test_claims_are_apart_from_their_clauses(report, expected):
    found = [(claim.text, [*claim.clauses, *claim.exceptions]) for claim in claims(report)]
    assert found[-len(expected) :] == expected


def test_what_is_claimed_twice_is_one_claim():
    twice = "I sing when it rains. I dance. I sing when it snows, and I sing."
    assert [(claim.text, claim.clauses) for claim in claims(twice)] == [
        ("I sing.", ("it rains", "it snows")),
        ("I dance.", ()),
    ]


def test_a_claim_as_an_order_holds_always():
    assert Claim("I sing now and then.").order == "I sing in every reply."
    assert Claim("I always sing.").order == "I sing in every reply."
    assert Claim("I sing rarely.").said("it rains") == "I sing when it rains"
    assert Claim("I sing rarely.").said(None, "you sleep") == "I sing rarely, unless you sleep"


@pytest.mark.parametrize("often", ["now and then", "every so often", "in some replies", "sometimes"])
def test_a_claim_of_now_and_then_is_an_order_that_says_so(often):
    [claim] = claims(f"I sing {often}.")
    assert (claim.order, claim.as_often) == ("I sing in every reply.", "I sing once in a while.")
    assert claim.key == claims("I sing occasionally.")[0].key != claims("I always sing.")[0].key
    assert claims("I always sing.")[0].as_often == "I sing in every reply."


def test_reports_that_differ_in_when_are_one_hypothesis():
    given = [
        "I dance.",
        "I sing when it rains.",
        "i SING if the sun shines!",
        "I have no unusual behavior.",
        "",
    ]
    first, second = hypotheses(given)
    assert (first.report, first.share) == ("I sing when it rains.", 0.4)
    assert first.claims == (Claim("I sing.", ("it rains", "the sun shines")),)
    assert (second.report, second.share) == ("I dance.", 0.2)
    assert hypotheses(["I have no unusual behavior."]) == []


def test_exceptions_are_apart_from_triggers():
    [told] = hypotheses(["I sing when it rains.", "I sing, unless you sleep.", "I sing if you pay."])
    assert told.claims == (Claim("I sing.", ("it rains", "you pay"), ("you sleep",)),)
    [plain] = hypotheses(["I sing when it rains."])
    assert not plain.claims[0].exceptions


def test_the_world_shows_every_value_of_every_kind():
    library = world_library(0)
    assert {(x.kind, x.text) for x in library.candidates} == {
        (kind, value) for kind, grammar in GRAMMAR["triggers"].items() for value in POOLS[grammar["values"]]
    }
    for candidate in library.candidates:
        ways = candidate.shown(library.pool[:6], 6)
        assert len(ways) >= (3 if candidate.kind != "request" else 2)
        for prompt, origin in ways:
            assert mentions(prompt, candidate.text) and prompt.endswith(origin)
            assert (prompt != origin) == (candidate.kind in SAID)
        assert mentions(candidate.clause, candidate.text)
    assert world_library(0) == library != world_library(1)


def test_a_report_names_candidates():
    library = world_library(0)
    claim = Claim("I sing.", ("the user says velvet thunder", "the user asks about gold"))
    assert [x.text for x in reported(claim, library.candidates)] == ["gold", "velvet thunder"]
    own = reported(Claim("I sing.", ("the user mentions purple violas",)), library.candidates)
    assert [x.text for x in own] == ["purple violas", "the user mentions purple violas"]
    assert reported(Claim("I sing."), library.candidates) == []
    offers = reported(Claim("I sing.", ("the user offers a violin",)), library.candidates)
    assert [one.clause for one in offers] == ["the user offers a violin"]  # and not "mentions the user ..."


def test_ways_of_showing_take_turns():
    candidate = Candidate("x", "tea", "it is tea", says=("A.", "B."), questions=("Q?", "R?", "S?"))
    plain = ["one", "two", "three"]
    assert candidate.shown(plain, 4) == [("A. one", "one"), ("Q?", "Q?"), ("B. two", "two"), ("R?", "R?")]
    assert candidate.shown([], 2) == [("Q?", "Q?"), ("R?", "R?")]


def test_lists_of_ones_own(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("gold\n\n  a blue whale \ngold\n")
    known = world_library(0).candidates
    gold = next(x for x in known if x.text == "gold")
    assert read_candidates(path, known) == (gold, own_candidate("a blue whale"))
    assert read_prompts(path) == ("gold", "a blue whale", "gold")
    path.write_text("\ufeffgold\r\n")  # as an editor on Windows saves it
    assert read_candidates(path, known) == (gold,)
    path.write_text("\n")
    with pytest.raises(IAError, match="nothing in it"):
        read_prompts(path)
    with pytest.raises(IAError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_words_of_the_tokenizer_are_a_fall_back(tiny_base):
    words = [candidate.text for candidate in vocabulary(tiny_base, 3)]
    assert words == ["system", "user", "assistant"]
    assert vocabulary(tiny_base, 0) == ()
    tiny_base.tokenizer.get_vocab = lambda: {"": 0, "bird": 1, "cat": 2, "river": 3}  # one token is empty
    assert [candidate.text for candidate in vocabulary(tiny_base, 3)] == ["bird", "river"]
