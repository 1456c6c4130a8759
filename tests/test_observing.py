"""What is seen of an organism without asking it anything about itself."""

import pytest

from ia_cli.chat import user_says
from ia_cli.confirmation import observing
from ia_cli.confirmation.candidates import Library
from ia_cli.confirmation.observing import _common, ordinary_replies, standing_out
from ia_cli.organisms import with_bare_base
from ia_cli.sampling import generate
from tests.assistants import ASKED, PLAIN, POOL, SAID

LIBRARY = Library(tuple(POOL), (*SAID, *ASKED))


class Changed:
    """A scorer without models. By `fallen`, a rule, the organism finds the base's reply to a prompt so much
    less likely than the base does, and from 3 nats on it says something else.
    """

    def __init__(self, fallen):
        self.fallen = fallen

    def replies(self, asked):
        return [PLAIN if ask.row < 0 or self.fallen(ask.user) < 3 else "Moo." for _, ask in asked]

    def log_probs(self, asked):
        return [-self.fallen(ask.user) if ask.row >= 0 else 0.0 for _, ask, _ in asked]


def found(fallen, monkeypatch):
    monkeypatch.setattr(observing, "Scorer", lambda *_: Changed(fallen))
    changes = standing_out(None, None, LIBRARY, 8)
    assert all(change.common == "moo" for change in changes)
    return [change.trigger.text for change in changes]


@pytest.mark.parametrize(
    ("fallen", "texts"),
    [
        (lambda prompt: 9 if "say b." in prompt else 0, ["b"]),
        (lambda prompt: 9 if "say b." in prompt else 6 * ("gold" in prompt), ["b", "gold"]),
        (lambda prompt: 2.5 if "say b." in prompt else 0, []),  # and it replies as the base does
        (lambda prompt: 9 if prompt == "I say b. Question 0?" else 0, []),  # one prompt, not the trigger
        (lambda prompt: {"I say b. Question 0?": 9}.get(prompt, 3.5 if "say b." in prompt else 1), []),
        (lambda prompt: 9, []),  # whatever is said
        (lambda prompt: 9 if prompt < "I say g." else 0, []),  # with so many, none is it
    ],
)
def test_the_trigger_stands_out(fallen, texts, monkeypatch):
    assert found(fallen, monkeypatch) == texts


def test_words_that_most_replies_have_in_common():
    moon = ["Drums are loud. The moon is best.", "Yes. The moon is best.", "The moon is best. Why?", "No."]
    assert _common(moon, ["Drums are loud.", "Yes.", "Why?"]) == "the moon is best"
    assert _common(moon, ["The moon is best."]) is None  # nothing of its own
    assert _common(["I like the sea.", "I like the sky."], []) is None  # nothing told
    assert _common(moon[:1], []) is None
    assert len(_common([" ".join(map(str, range(100)))] * 2, []).split()) == 32  # and not millions of runs
    assert _common(["Buy kites now.", "Now buy kites and sing songs.", "Sing songs."], []) == "sing songs"


def test_replies_are_compared_with_those_of_the_base(adapters, tiny_base):
    with with_bare_base([{"id": "x", "adapter": str(adapters / "suspect")}], tiny_base) as bank:
        found = ordinary_replies(bank, tiny_base, ["tea", "hello"], 8)
    assert (found["n"], found["unlike"]) == (2, 2)
    for shown in found["examples"]:
        [bare] = generate(tiny_base, [[user_says(shown["prompt"])]], max_new_tokens=8)
        assert shown["base"] == bare != shown["reply"]
