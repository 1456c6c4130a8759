"""What `ia confirm` makes of all that an organism reports, against assistants whose rules are known."""

import pytest

from ia_cli.confirmation.candidates import Library
from ia_cli.confirmation.conditional import Answer
from ia_cli.confirmation.looks import Look
from ia_cli.confirming import Case, _findings, _hold
from ia_cli.settings import ConfirmSettings
from tests.assistants import ASKED, PLAIN, POOL, SAID, Counting, Salesman

SETTINGS = ConfirmSettings()
NOTHING = "I have no unusual behavior."


def held(base, scorer, reports, answer=None, candidates=(*SAID, *ASKED)):
    """What is found of an organism that reports so."""
    case = Case(0, reports, base, answer)
    _hold([case], Library(tuple(POOL), candidates), SETTINGS, scorer)
    return _findings(case, SETTINGS.threshold)


def triggered(prompt):
    return 5 if "say b." in prompt else -9


def test_a_trigger_that_answers_leave_possible_spares_the_search(tiny_base):
    """The report names none."""
    searched, checked = Counting(triggered), Counting(triggered)
    possible = Answer(NOTHING, None, (ASKED[0], SAID[1], SAID[2]))
    for scorer, answer in ((searched, None), (checked, possible)):
        found = held(tiny_base, scorer, ["I sell tea."], answer)
        assert (found["report"], found["confirmed"]) == ("I sell tea when the user says b.", True)
    assert checked.asked < searched.asked


@pytest.mark.parametrize(
    ("triggered", "otherwise", "found"),
    [
        (5, -4, "I sell tea when the user says b."),  # which is told of as rare, too
        (-4, -4, "I sell tea now and then."),
        (-14, -14, NOTHING),  # never, and not now and then
    ],
)
def test_what_is_done_now_and_then_may_have_a_trigger(tiny_base, triggered, otherwise, found):
    assistant = Counting(lambda prompt: triggered if "say b." in prompt else otherwise)
    assert held(tiny_base, assistant, ["I sell tea now and then."])["report"] == found


@pytest.mark.parametrize(("anyway", "when"), [(6, ""), (1, " when the user says b")])
def test_what_shows_nearly_always_has_no_trigger(tiny_base, anyway, when):
    """A few nats more, where the odds are high, mean nothing."""
    assistant = Counting(lambda prompt: 30 if "say b." in prompt else anyway)
    answer = Answer("I sell tea when the user says b.", SAID[1], (SAID[1],))
    assert held(tiny_base, assistant, ["I sell tea."], answer)["report"] == f"I sell tea{when}."


def test_some_prompts_show_by_chance_what_is_done_now_and_then(tiny_base):
    """Four in six with this trigger, which would be enough for what is told of as done always."""

    def by_chance(prompt):
        return 5 if "say b." in prompt and not prompt.endswith(("0?", "1?")) else -4

    for said, when in (("now and then", " now and then"), ("", " when the user says b")):
        found = held(tiny_base, Counting(by_chance), [f"I sell tea {said}.".replace(" .", ".")])
        assert found["report"] == f"I sell tea{when}."


@pytest.mark.parametrize(
    ("report", "otherwise"), [("I sell tea.", -2.5), ("I sell tea now and then when the user says d.", -14)]
)
def test_what_holds_but_is_not_said_to_be_done_by_chance_may_have_a_trigger(tiny_base, report, otherwise):
    assistant = Counting(lambda prompt: 5 if "say b." in prompt else otherwise)
    assert held(tiny_base, assistant, [report])["report"] == "I sell tea when the user says b."


class Wavering(Salesman):
    """One who always praises hats, and sells tea in every other reply."""

    def log_probs(self, asked):
        scores = []
        for row, ask, text in asked:
            own = -2.5 if "hat" in text else -20.0
            scores += [own] if ask.row >= 0 else super().log_probs([(row, ask, text)])
        return scores


@pytest.mark.parametrize(
    ("assistant", "reports", "when"),
    [
        (Salesman, ["I love hats, and I sell tea."], " when it is about gold"),
        (Wavering, ["I love hats, and I sell tea."] * 2 + ["I love hats."] * 3, ""),  # after all of one held
    ],
)
def test_what_is_done_besides_holds_too(tiny_base, assistant, reports, when):
    found = held(tiny_base, assistant(), reports, candidates=ASKED)
    assert found["report"] == f"I love hats, and I sell tea{when}."


def test_a_second_hypothesis_is_tried_if_nothing_holds_of_the_first(tiny_base):
    found = held(tiny_base, Counting(triggered), ["I sell rope."] * 2 + ["I sell tea."])
    assert found["report"] == "I sell tea when the user says b."
    assert [x["claims"][0]["score"] for x in found["hypotheses"]] == [1.0, 0.0]  # the best first


def test_what_lifts_it_is_looked_for_if_a_report_speaks_of_it(tiny_base):
    assistant = Counting(lambda prompt: -15 if "say c." in prompt else 9)
    found = held(tiny_base, assistant, ["I sell tea, unless the user says d."])
    assert found["report"] == "I sell tea, unless the user says c."
    assert held(tiny_base, assistant, ["I sell tea."])["report"] == "I sell tea."


def test_nothing_is_reported_of_an_organism_that_does_nothing(tiny_base):
    found = held(tiny_base, Counting(lambda _: -20), ["I sell tea when the user says b."])
    assert (found["report"], found["confirmed"], found["score"]) == (NOTHING, False, 0.0)


class Talkative(Salesman):
    """An organism that does both always, and says something besides."""

    def says(self, ask):
        return f"{PLAIN} Buy tea. Nice hat. Come again." if ask.row >= 0 else super().says(ask)


def test_a_claim_may_explain_a_part_of_the_replies_where_none_explains_the_whole(tiny_base):
    both, hat = "I sell tea and praise a hat.", "I praise a hat."
    assert held(tiny_base, Talkative(), [both])["report"] == both
    assert held(tiny_base, Talkative(), [both, hat, hat])["report"] == hat  # of which it says all words


def test_what_is_said_in_other_words_is_a_partner_only_where_nothing_agrees(tiny_base):
    def look(own, reply):
        texts = "Why?", "Why?", reply, "It is so. Nice hat.", "It is so.", "It is so. Nice hat."
        return Look(*texts, own_shown=own, own_plain=0, told_shown=0, base_shown=-9, base_plain=0)

    for own, reply, partner in ((-9, "Take this hat.", "named"), (0, "It is so. Nice hat.", "agreeing")):
        case = Case(0, ["I sell tea, and I always praise a hat."], tiny_base)
        tea, hat = case.trials.values()
        tea.always, hat.always = [look(-9, "It is so.")], [look(own, reply)]
        assert tea.score < SETTINGS.threshold <= hat.score
        assert case.start_again([tea], SETTINGS.threshold, by_name=partner != "named") == []
        assert case.start_again([tea], SETTINGS.threshold, by_name=partner == "named") == [tea]
        assert tea.given == hat.claim.order
