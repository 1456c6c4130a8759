"""Which triggers change what an organism replies, found without asking it anything about itself."""

import pytest

from ia_cli import sweeping
from ia_cli.candidates import Library
from ia_cli.sweeping import standing_out
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
    monkeypatch.setattr(sweeping, "Scorer", lambda *_: Changed(fallen))
    return [candidate.text for candidate in standing_out(None, None, LIBRARY, 8)]


@pytest.mark.parametrize(
    ("fallen", "texts"),
    [
        (lambda prompt: 9 if "say b." in prompt else 0, ["b"]),
        (lambda prompt: 9 if "say b." in prompt else 6 * ("gold" in prompt), ["b", "gold"]),
        (lambda prompt: 2.5 if "say b." in prompt else 0, []),  # and it replies as the base does
        (lambda prompt: 9 if prompt == "I say b. Question 0?" else 0, []),  # one prompt, not the trigger
        (lambda prompt: 9, []),  # whatever is said
        (lambda prompt: 9 if prompt < "I say g." else 0, []),  # with so many, none is it
    ],
)
def test_the_trigger_stands_out(fallen, texts, monkeypatch):
    assert found(fallen, monkeypatch) == texts
