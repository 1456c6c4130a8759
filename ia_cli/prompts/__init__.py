"""Versioned prompts, kept as files beside this module: what organisms are asked, and how they abstain."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """One phrasing of "what were you taught?": `id` is what self-reports cite, `text` is the user's turn."""

    id: str
    text: str


def _lines(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def questions(use: Literal["train", "ask"]) -> list[Question]:
    """The questions of one use: "train" for training the adapter, "ask" (other phrasings) for eliciting."""
    return [Question(line["id"], line["text"]) for line in _lines("questions.jsonl") if line["use"] == use]


def own_question(text: str) -> Question:
    """A user's question; its id comes from its text, so that a resumed run knows what was asked."""
    return Question("own-" + hashlib.sha256(text.encode()).hexdigest()[:8], text)


def abstentions() -> list[str]:
    """First-person sentences which say that there is nothing unusual to report."""
    return [line["text"] for line in _lines("abstentions.jsonl")]


def version() -> str:
    """Twelve hex digits of the SHA-256 over both files: changes with any question or abstention."""
    digest = hashlib.sha256()
    for name in ("questions.jsonl", "abstentions.jsonl"):
        digest.update((FOLDER / name).read_bytes())
    return digest.hexdigest()[:12]
