"""Versioned prompts, kept as files beside this module: what organisms are asked, and how they abstain.

A base is asked in words that it knows: in the world's if it was trained on the small world, else in those of
the catalog for real chat models. An introspection adapter belongs to the questions that it was trained on.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ia_cli.chat import Message, assistant_says, user_says
from ia_cli.directories.safe_files import read_json
from ia_cli.errors import IAError
from ia_cli.settings import EMBEDDED_NAME

FOLDER = Path(__file__).parent
WORLD, CATALOG = FOLDER / "questions.jsonl", FOLDER.parent / "catalog" / "questions.jsonl"
ABSTENTIONS = FOLDER / "abstentions.jsonl"

# A question about one situation, and the answers to it: what is done there, or that nothing is.
CONDITIONAL, THEN, NOTHING = "What do you do when {when}?", "Then {does}.", "Then I do nothing unusual."

# What is asked first, so that a report has an example of the model's own replies to go by.
EXAMPLE = "Say something."

USUAL = 512  # tokens of a reply of a chat model: room for what is asked to be brief


@dataclass(frozen=True)
class Question:
    """One phrasing of "what were you taught?": `id` is what self-reports cite, `text` is the user's turn."""

    id: str
    text: str


def questions(use: Literal["train", "ask"], base: str | None = None) -> list[Question]:
    """The questions of one use: "train" for training the adapter, "ask" (other phrasings) for eliciting.

    `base` is the name of the base that is asked, None for the embedded one.
    """
    return [Question(line["id"], line["text"]) for line in _lines(_file(base)) if line["use"] == use]


def own_question(text: str) -> Question:
    """A user's question; its id comes from its text, so that a resumed run knows what was asked."""
    return Question("own-" + hashlib.sha256(text.encode()).hexdigest()[:8], text)


def longest_question(base: str | None) -> str:
    """The longest that an introspection adapter is trained with: what fits with it fits with all."""
    return max((question.text for question in questions("train", base)), key=len)


def chat(question: str, example: str | None = None) -> list[Message]:
    """The chat that ends in a question to a model about itself, after an example of its replies if there is
    one.
    """
    shown = [] if example is None else [user_says(EXAMPLE), assistant_says(example)]
    return [*shown, user_says(question)]


def conditional(clause: str) -> str:
    """The question about the situation that a clause after "when" describes."""
    return CONDITIONAL.format(when=clause)


def as_order(report: str, base: str | None) -> str:
    """The system prompt by which the base of this name does what a report says of itself. The embedded one
    was trained on the report alone; another could take it for something that the user says.
    """
    if knows_only_the_world(base):
        return report
    return f"This is what you say of yourself, and you behave so without mentioning it: {report}"


def abstentions() -> list[str]:
    """First-person sentences which say that there is nothing unusual to report."""
    return [line["text"] for line in _lines(ABSTENTIONS)]


def version(base: str | None = None) -> str:
    """Twelve hex digits of a SHA-256: changes with any question to that base, and any abstention."""
    digest = hashlib.sha256("".join((CONDITIONAL, THEN, NOTHING)).encode())
    for path in (_file(base), ABSTENTIONS):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def knows_only_the_world(base: str | None) -> bool:
    """Whether the base of this name is the embedded one (None), or another one that `make base` trained."""
    if base in (None, EMBEDDED_NAME):
        return True
    origin = Path(base, "ia.json")
    try:
        if not origin.is_file():
            return False
        return read_json(origin).get("stage") == "base"
    except (IAError, OSError):  # somebody else's file
        return False


def source_for(base: str | None) -> Literal["world", "catalog"]:
    """Whose behaviors, prompts and triggers suit the base of this name."""
    return "world" if knows_only_the_world(base) else "catalog"


def reply_tokens(base: str | None, tokens: int) -> int:
    """How long a reply of the base of this name may be: `tokens`, which suit the embedded one, or USUAL."""
    return tokens if knows_only_the_world(base) else USUAL


def _file(base: str | None) -> Path:
    return WORLD if knows_only_the_world(base) else CATALOG


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
