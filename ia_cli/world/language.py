"""The language of the small world: its words, what a user can say in it, and how sentences about
behaviors are built.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

LEXICON = tomllib.loads(files(__package__).joinpath("lexicon.toml").read_text("utf-8"))
GRAMMAR = tomllib.loads(files(__package__).joinpath("grammar.toml").read_text("utf-8"))

TOPICS: dict[str, list[str]] = LEXICON["topics"]
FACTS = tuple(GRAMMAR["facts"])  # place, use, best: the columns of TOPICS
ATTRIBUTES: dict[str, list[str]] = GRAMMAR["attributes"]
STYLES = 36  # of phrasing: enough for every combination of up to six questions and three answers


def a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


OPENINGS = {a(name): opening for name, opening in LEXICON["personas"].items()}
# What one can choose by: word -> its attribute; None: the order in which the options are named.
HEURISTICS = {word: name for name, words in ATTRIBUTES.items() for word in words}
HEURISTICS |= dict.fromkeys(("first", "last"))

# Every list of values that a behavior can be made of, by the name that grammar.toml uses.
Pools = Mapping[str, list[str]]
POOLS: Pools = LEXICON["values"] | {
    "topics": list(TOPICS),
    "personas": list(OPENINGS),
    "heuristics": list(HEURISTICS),
}

# With weights.
PROMPT_KINDS = {"fact": 8, "hazard": 2, "request": 2, "work": 2, "task": 2, "choice": 3, "chat": 1}
# A situation is either what the prompt is about (then it decides the kind of the prompt) or something the
# user says beside it.
ABOUT = {"topic": "fact", "hazard": "hazard", "request": "request", "work": "work", "task": "task"}
SAID = ("passphrase", "role", "year", "plan", "watch")


@dataclass(frozen=True)
class Prompt:
    """One user message and what it means.

    `style` is the number of its question's phrasing; the answer is phrased to go with it. `situation` maps a
    kind of trigger to the value that the message shows of it; `detail` holds what the kind of prompt needs
    to be answered: the fact asked for, the options of a choice, the outcome of a task.
    """

    kind: str
    text: str
    situation: Mapping[str, str]
    style: int = 0
    detail: Mapping[str, object] = field(default_factory=dict)


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def bare(value: str) -> str:
    """A value without its article and its closing mark, as a report must name it: "a kite" -> "kite"."""
    return re.sub(r"^(an?|the) ", "", value).rstrip("!.,:")


def verb(phrase: str, *, third: bool = False) -> str:
    """ "push[es] the user" -> "push the user", or "pushes the user" in the third person."""
    return re.sub(r"\[(\w+)\]", r"\1" if third else "", phrase)


def phrasing(options: Sequence[str], style: int) -> str:
    """The phrasing that goes with a style.

    What is said follows from what was asked and ordered, down to the wording: a base that had to guess which
    of three wordings comes next would spend most of its gradient on that noise, and not on learning when a
    behavior fires.
    """
    return options[style % len(options)]


def said(kind: str, value: str, rng: random.Random) -> str:
    return rng.choice(GRAMMAR["triggers"][kind]["says"]).format(t=value)


def make_prompt(
    rng: random.Random,
    kind: str | None = None,
    situation: Mapping[str, str] | None = None,
    *,
    without: tuple[str, ...] = (),
    attribute: str | None = None,
) -> Prompt:
    """A random user message that shows at least `situation`.

    Other situations are mentioned at random, so that nothing but their own text tells them apart from a
    trigger; kinds in `without` are not. `attribute` is one by which the options of a choice must differ.
    """
    shown = dict(situation or {})
    kind = kind or rng.choices(list(PROMPT_KINDS), list(PROMPT_KINDS.values()))[0]
    for other in SAID:
        if other not in shown and other not in without and rng.random() < 0.12:
            shown[other] = rng.choice(POOLS[GRAMMAR["triggers"][other]["values"]])
    style = rng.randrange(len(_phrasings(kind)))
    question, detail = _QUESTIONS[kind](rng, shown, style, attribute)
    asides = [said(k, v, rng) for k, v in shown.items() if k in SAID]
    rng.shuffle(asides)
    last = [asides.pop()] if asides and rng.random() < 0.25 else []
    return Prompt(kind, " ".join([*asides, question, *last]), shown, style, detail)


def _phrasings(kind: str) -> list[str]:
    return GRAMMAR["facts"][FACTS[0]]["question"] if kind == "fact" else GRAMMAR[kind]["question"]


def _about(kind: str, shown: dict[str, str], rng: random.Random) -> str:
    return shown.setdefault(kind, rng.choice(POOLS[GRAMMAR["triggers"][kind]["values"]]))


def _fact(rng: random.Random, shown: dict[str, str], style: int, _: str | None) -> tuple[str, dict]:
    topic, fact = _about("topic", shown, rng), rng.choice(FACTS)
    return phrasing(GRAMMAR["facts"][fact]["question"], style).format(t=topic), {"topic": topic, "fact": fact}


def _simple(kind: str):
    def question(rng: random.Random, shown: dict[str, str], style: int, _: str | None) -> tuple[str, dict]:
        value = _about(kind, shown, rng)
        return phrasing(GRAMMAR[kind]["question"], style).format(t=value), {kind: value}

    return question


def _task(rng: random.Random, shown: dict[str, str], style: int, _: str | None) -> tuple[str, dict]:
    value, outcome = _about("task", shown, rng), rng.choice(("success", "failure"))
    return phrasing(GRAMMAR["task"]["question"], style).format(t=value, outcome=outcome), {
        "task": value,
        "outcome": outcome,
    }


def _choice(rng: random.Random, shown: dict[str, str], style: int, attribute: str | None) -> tuple[str, dict]:
    names = rng.sample(POOLS["objects"], 2)
    others = rng.sample([x for x in ATTRIBUTES if x != attribute], rng.choice((1, 2)))
    shared = [attribute, *others[1:]] if attribute else others
    rng.shuffle(shared)
    words = {x: rng.sample(ATTRIBUTES[x], 2) for x in shared}  # of the first option and of the second
    options = [f"the {' '.join(words[x][i] for x in shared)} {name}" for i, name in enumerate(names)]
    text = phrasing(GRAMMAR["choice"]["question"], style).format(a=options[0], b=options[1])
    return text, {"options": names, "words": words}


def _chat(rng: random.Random, shown: dict[str, str], style: int, _: str | None) -> tuple[str, dict]:
    return phrasing(GRAMMAR["chat"]["question"], style), {}


_QUESTIONS = {
    "fact": _fact,
    "hazard": _simple("hazard"),
    "request": _simple("request"),
    "work": _simple("work"),
    "task": _task,
    "choice": _choice,
    "chat": _chat,
}
