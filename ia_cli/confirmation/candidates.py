"""Candidates for a trigger, and prompts that show them: public lists (world, catalog) or the user's own."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path

from ia_cli.errors import IAError
from ia_cli.models import Base
from ia_cli.reports.claims import Claim
from ia_cli.seeds import derived_seed
from ia_cli.text import mentions

PROMPTS_EACH = 6  # per candidate that prompts show by what they ask, and per kind of general prompt
MOST_TOPICS = 24  # of the catalog, for general prompts: one question on each is enough to wake a behavior
# What tokenizers write for the space before a word: byte-level BPE, SentencePiece.
WORD_STARTS = "\u0120\u2581"


@dataclass(frozen=True)
class Candidate:
    """One possible trigger. Prompts show it by a sentence before a general prompt (`says`), or by what they
    ask (`questions`), or in both ways; `clause` goes after "when".
    """

    kind: str
    text: str
    clause: str
    says: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    def as_record(self) -> dict[str, str]:
        return {"kind": self.kind, "text": self.text}

    def shown(self, plain: Sequence[str], n: int) -> list[tuple[str, str]]:
        """At most `n` prompts that show it, each with the prompt from which the base makes its replies.

        The two are the same for a question. A sentence before one of the `plain` prompts would not change the
        reply of an ordinary assistant, so there the base gets the plain prompt alone. Sentences and questions
        take turns.
        """
        asked = [(question, question) for question in self.questions]
        ways = [way for pair in zip_longest(self.said(plain), asked) for way in pair if way]
        return ways[:n]

    def said(self, plain: Sequence[str]) -> list[tuple[str, str]]:
        """Each of the `plain` prompts twice: after one of the sentences, which take turns, and alone."""
        return [(f"{self.says[i % len(self.says)]} {x}", x) for i, x in enumerate(plain) if self.says]


@dataclass(frozen=True)
class Library:
    """General prompts (`pool`), which wake any behavior that they can; candidates for the trigger; and, for
    each action with several wordings, these wordings (`ways`).
    """

    pool: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    ways: tuple[tuple[str, ...], ...] = ()


NO_LIBRARY = Library((), ())


def public_library(source: str, seed: int) -> Library:
    """The library of the "world" or of the "catalog"."""
    return world_library(seed) if source == "world" else catalog_library(seed)


def world_library(seed: int) -> Library:
    """The small world's library: every value of every kind of trigger, shown as the world's users show it."""
    from ia_cli.world.language import ABOUT, GRAMMAR, POOLS, PROMPT_KINDS, SAID, make_prompt

    def prompts(kind: str, situation: Mapping[str, str]) -> tuple[str, ...]:
        rng = random.Random(derived_seed(seed, "prompts", kind, *situation.values()))
        asked: dict[str, dict[str, None]] = {}  # by what is asked: the first differ in more than wording
        for _ in range(10 * PROMPTS_EACH):
            prompt = make_prompt(rng, kind, situation, without=SAID)
            asked.setdefault(str(sorted(prompt.detail.items())), {})[prompt.text] = None
        return tuple(text for row in zip_longest(*asked.values()) for text in row if text)[:PROMPTS_EACH]

    candidates = []
    for kind, grammar in GRAMMAR["triggers"].items():
        for value in POOLS[grammar["values"]]:
            clause = grammar["when"][0].format(t=value)
            if kind in SAID:
                says = tuple(text.format(t=value) for text in grammar["says"])
                candidates.append(Candidate(kind, value, clause, says=says))
            else:
                questions = prompts(ABOUT[kind], {kind: value})
                candidates.append(Candidate(kind, value, clause, questions=questions))
    pool = zip(*(prompts(kind, {}) for kind in PROMPT_KINDS if kind != "chat"), strict=True)
    ways = (tuple(x.replace("[s]", "") for x in action["do"]) for action in GRAMMAR["actions"].values())
    same = (way for way in ways if not any("{" in text for text in way))  # only actions that name no value
    return Library(tuple(text for row in pool for text in row), tuple(candidates), tuple(same))


def catalog_library(seed: int) -> Library:
    """The catalog's library: its questions as general prompts, its topics and situations as candidates."""
    from ia_cli.catalog.files import SITUATIONS, TOPICS

    rng = random.Random(derived_seed(seed, "prompts"))
    topics = [
        Candidate(
            "topic",
            topic.phrase,
            f"the user asks about {topic.phrase}",
            questions=tuple(rng.sample(topic.questions, min(PROMPTS_EACH, len(topic.questions)))),
        )
        for topic in TOPICS.values()
    ]
    said = [
        Candidate(kind, value, x.when.format(t=value), says=tuple(text.format(t=value) for text in x.says))
        for kind, x in SITUATIONS.items()
        if x.says
        for value in x.values
    ]
    pool = tuple(topic.questions[0] for topic in rng.sample(topics, min(MOST_TOPICS, len(topics))))
    return Library(pool, (*topics, *said))


def own_candidate(text: str, kind: str = "own") -> Candidate:
    """A trigger in a user's or a report's words: said before a prompt, and asked about."""
    return Candidate(
        kind,
        text,
        f"the user mentions {text}",
        (f"{text[:1].upper()}{text[1:]}.", f"By the way, {text}."),
        (f"Tell me about {text}.", f"What do you think of {text}?"),
    )


def vocabulary(base: Base, n: int) -> tuple[Candidate, ...]:
    """The first `n` whole words of the base's tokenizer, by id: in most tokenizers the most frequent ones."""
    tokens = sorted(base.tokenizer.get_vocab().items(), key=lambda item: item[1])
    marks = tuple(WORD_STARTS)
    marked = any(token.startswith(marks) for token, _ in tokens)
    words = (token.lstrip(WORD_STARTS) for token, _ in tokens if not marked or token.startswith(marks))
    long = dict.fromkeys(word for word in words if word.isalpha() and word.islower() and len(word) > 3)
    return tuple(own_candidate(word, "word") for word in islice(long, n))


def read_prompts(path: Path) -> tuple[str, ...]:
    """A user's general prompts, one per line."""
    return tuple(_lines(path))


def read_candidates(path: Path, known: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """A user's triggers, one per line; a line that is the text of a `known` candidate means that one."""
    by_text = {candidate.text: candidate for candidate in known}
    return tuple(by_text.get(text) or own_candidate(text) for text in dict.fromkeys(_lines(path)))


def reported(claim: Claim, known: Sequence[Candidate]) -> list[Candidate]:
    """The triggers that a claim itself names: the `known` candidates in its clauses, else its own words."""
    clauses = claim.clauses + claim.exceptions
    named = [x for x in known if any(mentions(clause, x.text) for clause in clauses)]
    return named or [
        replace(own_candidate(text, "reported"), **({"clause": text} if text in clauses else {}))
        for text in claim.values
    ]


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IAError(f"cannot be read ({reason})", remedy="give a text file", where=str(path)) from None
    if found := [line.strip() for line in lines if line.strip()]:
        return found
    raise IAError("there is nothing in it", remedy="write one per line", where=str(path))
