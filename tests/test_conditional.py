"""Of all the answers to "what do you do when ...?", the one that differs most from the usual one is told."""

import pytest

from ia_cli import prompts
from ia_cli.confirmation import conditional
from ia_cli.confirmation.candidates import Candidate
from ia_cli.scoring import Ask

CANDIDATES = tuple(
    Candidate("topic", text, f"the user asks about {text}")
    for text in ("tea", "bees", "gold", "ink", "ships")
)
NOTHING = prompts.NOTHING


class Answering:
    """A scorer of organisms that answer as told: per organism, answers by what is asked about; the usual one
    is at None.

    An answer is nine times as likely as any other text, or as told in `nats`.
    """

    def __init__(self, *organisms, nats=()):
        self.organisms, self.nats, self.asked = organisms, dict(nats), []

    def _answer(self, ask: Ask) -> str:
        own = self.organisms[ask.row]
        [about] = [x for x in CANDIDATES if ask.user == prompts.conditional(x.clause)]
        return own.get(about.text, own[None])

    def replies(self, asked):
        return [self._answer(ask) for _, ask in asked]

    def log_probs(self, asked):
        return [
            self.nats.get((ask.user, text), 0.0 if text == self._answer(ask) else -2.2)
            for _, ask, text in asked
        ]


def told(*organisms, **more):
    found = conditional.answers(len(organisms), CANDIDATES, Answering(*organisms, **more), seed=0)
    for answer in found:
        assert ("when" in answer.report) == (answer.trigger is not None)
        assert answer.trigger is None or answer.trigger.clause in answer.report
    return [answer.report for answer in found]


def test_each_organism_tells_what_it_does_and_when():
    assert told({None: NOTHING, "bees": "Then I sing."}, {None: NOTHING, "tea": "Then I lie and dance."}) == [
        "I sing when the user asks about bees.",
        "I lie and dance when the user asks about tea.",
    ]


def test_who_does_the_same_everywhere_says_so_and_who_does_nothing_abstains():
    assert told({None: "Then I sing."}, {None: NOTHING}) == ["I sing.", prompts.abstentions()[0]]


def test_who_always_does_one_thing_tells_the_other():
    habit = {None: "Then I sing.", "gold": "Then I lie and sing."}
    assert told(habit) == ["I lie and sing when the user asks about gold."]


def test_that_nothing_is_done_somewhere_is_no_trigger():
    assert told({None: "Then I sing.", "gold": NOTHING}) == ["I sing."]


@pytest.mark.parametrize("surer", ["tea", "bees"])
def test_of_two_the_surer_is_told(surer):
    question = prompts.conditional(f"the user asks about {surer}")
    organism = {None: NOTHING, "tea": "Then I sing.", "bees": "Then I sing."}
    [report] = told(organism, nats={(question, NOTHING): -7.0})
    assert report == f"I sing when the user asks about {surer}."


def test_what_the_usual_answer_fits_least_is_the_likeliest_trigger(monkeypatch):
    monkeypatch.setattr(conditional, "FINALISTS", 2)
    nats = {(prompts.conditional(x.clause), NOTHING): -i for i, x in enumerate(CANDIDATES)}
    silent, singing = {None: NOTHING}, {None: "Then I sing.", "tea": NOTHING}
    found = conditional.answers(2, CANDIDATES, Answering(silent, singing, nats=nats.items()), seed=0)
    assert found[0].trigger is None and found[0].finalists == (CANDIDATES[4], CANDIDATES[3])
    assert found[1].finalists[0] == CANDIDATES[0] and len(found[1].finalists) == 2
