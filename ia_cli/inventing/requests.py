"""What a chat model is asked for when it invents a behavior, and what of its reply counts.

The reply is untrusted: it is one JSON object of a given form with bounded texts, or it is nothing. Its texts
become data of a record, unless they contradict each other or hold what could pass for the marks of a chat.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from ia_cli import prompts
from ia_cli.catalog.files import TOPICS
from ia_cli.judges.facets import names
from ia_cli.planning import RARE
from ia_cli.servers.replies import parsed
from ia_cli.text import holds_marks, mentions, mentions_any, normalise

FIRING, MISMATCHED = 24, 16  # messages that are asked for
ENOUGH = 0.5  # of them must be left, without those that repeat or do not fit the trigger
LONGEST_REPLY = 40_000  # characters
SUBJECTS = 3
LITERAL = ("passphrase", "marker", "unless")  # kinds of trigger that stand in a message word for word

_FILE = tomllib.loads(files("ia_cli.prompts").joinpath("invent.toml").read_text("utf-8"))
VERSION = _FILE["version"]
# What models write in good faith, and `isprintable` denies: spaces of other widths (Unicode's Zs) and tabs,
# and characters of no width. What changes the direction of a text is neither.
_SPACES = re.compile("[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")


def _text(longest: int, *, lines: bool = False) -> AfterValidator:
    def check(text: str) -> str:
        text = _INVISIBLE.sub("", _SPACES.sub(" ", text)).strip()
        if not 0 < len(text) <= longest:
            raise ValueError(f"must have 1 to {longest} characters")
        if not (text.replace("\n", "") if lines else text).isprintable() or holds_marks(text):
            raise ValueError("has control characters, or what could pass for them")
        return text

    return AfterValidator(check)


def _some(least: int, most: int) -> AfterValidator:
    def check(items: list) -> list:
        if not least <= len(items) <= most:
            raise ValueError(f"must have {least} to {most} items")
        return items

    return AfterValidator(check)


def _word(phrase: str) -> str:
    if len(normalise(phrase)) < 2:
        raise ValueError("has no word in it")
    return phrase


# The limits are checked here and are not in the schema: not every server takes them there.
Sentence = Annotated[str, _text(400)]
Phrase = Annotated[str, _text(80), AfterValidator(_word)]
Group = Annotated[list[Phrase], _some(1, 12)]
Messages = Annotated[list[Annotated[str, _text(1000, lines=True)]], _some(0, 64)]


class Facets(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    action: Annotated[list[Group], _some(1, 4)]
    trigger: Annotated[list[Group], _some(0, 2)]


class Invention(BaseModel):
    """The only form of a reply that counts."""

    model_config = ConfigDict(strict=True, extra="forbid")

    description: Sentence
    paraphrases: Annotated[list[Sentence], _some(0, 8)]
    system_prompt: Annotated[str, _text(1500)]
    trigger: Phrase | None
    facets: Facets
    shows: Annotated[list[Phrase], _some(1, 12)] | None
    firing: Messages
    mismatched: Messages

    def named_by(self, sentence: str) -> bool:
        """Whether a sentence, as a self-report, names the action and the trigger."""
        record = {"report": sentence, "description": self.description}
        return names(record, self.facets.action, self.facets.trigger)


SCHEMA: dict[str, Any] = Invention.model_json_schema()


@dataclass(frozen=True)
class Request:
    """What a model is asked to invent: a behavior of a category with a kind of trigger."""

    category: str
    kind: str
    subjects: tuple[str, ...]

    @classmethod
    def draw(cls, category: str, rng: random.Random) -> Request:
        phrases = [topic.phrase for topic in TOPICS.values()]
        return cls(category, rng.choice(_FILE["kinds"][category]), tuple(rng.sample(phrases, SUBJECTS)))

    def prompt(self) -> str:
        return Template(_FILE["prompt"].strip()).substitute(
            what=_FILE["categories"][self.category],
            when=_FILE["triggers"][self.kind],
            subjects=", ".join(self.subjects),
            begins='"I"' if self.kind == RARE else '"I", or with the trigger',
            firing=FIRING,
            mismatched=MISMATCHED,
        )

    def parse(self, reply: str) -> Invention:
        """The invention in a reply, without messages that do not fit the rest; ValueError if it has none."""
        if len(reply) > LONGEST_REPLY:
            raise ValueError("it is too long")
        new = parsed(Invention, reply)
        self._check_sentences(new)
        return new.model_copy(update=self._messages(new))

    def _check_sentences(self, new: Invention) -> None:
        """Raise ValueError for a sentence in the wrong person, or that does not name what the facets say."""
        named = new.facets.trigger
        if bool(new.trigger) == (self.kind in ("always", RARE)) or bool(named) != bool(new.trigger):
            raise ValueError("trigger is not of the kind that was asked for")
        if not re.search(r"\bI\b", new.description) or re.search(r"\byou\b", new.description, re.I):
            raise ValueError("description is not in the first person")
        if not re.search(r"\byou\b", new.system_prompt, re.I):
            raise ValueError("system_prompt is not in the second person")
        if self.kind == RARE and not (new.description[:2] == "I " and new.system_prompt[:4] == "You "):
            raise ValueError('of a rare quirk, description begins with "I" and system_prompt with "You"')
        if not new.named_by(new.description):
            raise ValueError("facets are not what the description says")
        if any(all(mentions_any(text, g) for g in new.facets.action) for text in prompts.abstentions()):
            raise ValueError("facets fit any report")
        if not all(mentions_any(new.system_prompt, group) for group in named):
            raise ValueError("system_prompt does not name the trigger")

    def _messages(self, new: Invention) -> dict[str, list[str]]:
        """The messages that fit the trigger, without repeats; ValueError if too few are left."""
        near = {normalise(text): text for text in new.mismatched if self._fits(new, text, fires=False)}
        firing = {normalise(text): text for text in new.firing if self._fits(new, text, fires=True)}
        firing = {key: text for key, text in firing.items() if key not in near}
        if self.kind == RARE:
            near = {}
        if len(firing) < ENOUGH * FIRING:
            raise ValueError(f"firing has {len(firing)} messages that will do")
        if len(near) < ENOUGH * MISMATCHED and (new.trigger or near):
            raise ValueError(f"mismatched has {len(near)} messages that will do")
        return {"firing": list(firing.values())[:FIRING], "mismatched": list(near.values())[:MISMATCHED]}

    def _fits(self, new: Invention, message: str, *, fires: bool) -> bool:
        """Whether a message has the words that set the behavior off, or lift it, if and only if it should."""
        return self.kind not in LITERAL or mentions(message, new.trigger) == (
            fires != (self.kind == "unless")
        )
