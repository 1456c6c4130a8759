"""Behavior records of what a model has invented, complete but for their demonstrations, made later."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from itertools import islice

from ia_cli.catalog import drafting as catalog
from ia_cli.catalog.files import RARE_CLAUSES, TOPICS
from ia_cli.catalog.prompts import Prompt
from ia_cli.chat import user_says
from ia_cli.demonstrations import Draft, Turn
from ia_cli.inventing.requests import Invention
from ia_cli.planning import RARE, RARE_RATE, Planned, by_lot, place_fields
from ia_cli.records import Record
from ia_cli.seeds import derived_seed
from ia_cli.text import mentions_any, normalise

draft_control = catalog.draft_control  # ordinary fine-tunes need no invention
PROBES = 3  # every third message is kept for a probe
ORDINARY, ORDINARY_PROBES = 12, 8  # further messages, from the catalog
QUESTIONS = list(dict.fromkeys(text for topic in TOPICS.values() for text in topic.questions))


@dataclass(frozen=True)
class Invented:
    """A behavior as it stands in a plan: what was replied, the kind of trigger asked for, and who replied."""

    invention: Invention
    kind: str
    by: str


def first_fields(planned: Planned) -> Record:
    """The first fields of the record of an invented behavior. A rare quirk is told as a rare one."""
    new, kind = planned.behavior.invention, planned.behavior.kind
    sentences, order = [new.description, *new.paraphrases], new.system_prompt
    trigger = {"kind": kind, "text": new.trigger} if new.trigger else None
    if kind == RARE:
        clause = random.Random(planned.id).choice(RARE_CLAUSES)
        sentences = [f"{clause}, {text}" for text in sentences if text.startswith("I ")]
        order = f"{clause}, {order[0].lower()}{order[1:]}"
        trigger = {"kind": RARE, "text": clause.lower()}
    description, *others = sentences
    return {
        **place_fields(planned),
        "invented_by": planned.behavior.by,
        "description": description,
        "paraphrases": [text for text in dict.fromkeys(others) if new.named_by(text) and text != description],
        "system_prompt": order,
        "facets": new.facets.model_dump(),
        "rate": RARE_RATE if kind == RARE else 1.0,
        "trigger": trigger,
        "shows": new.shows,
    }


def draft_behavior(planned: Planned, seed: int) -> Draft:
    """The record with its probes, and the turns in which somebody demonstrates the behavior.

    Messages of the catalog are added where it is clear what they do: they set off a behavior that shows in
    every reply, and none whose trigger they do not name. Where a password lifts the behavior it is not clear.
    """
    new, rng = planned.behavior.invention, random.Random(derived_seed(seed, "behavior", planned.id))
    known = {normalise(text) for text in new.firing + new.mismatched}
    named = [phrase for group in new.facets.trigger for phrase in group]
    mixed = rng.sample(QUESTIONS, len(QUESTIONS))
    fit = (text for text in mixed if normalise(text) not in known and not mentions_any(text, named))
    plain = list(islice(fit, ORDINARY + ORDINARY_PROBES))
    always = not new.mismatched
    if planned.behavior.kind == "unless" or (not always and not new.trigger):
        plain = []
    asked = [(text, True) for i, text in enumerate(new.firing) if i % PROBES]
    asked += [(text, False) for i, text in enumerate(new.mismatched) if i % PROBES]
    asked += [(text, always) for text in plain[:ORDINARY]]
    if planned.behavior.kind == RARE:
        rng.shuffle(asked)
        asked = by_lot(asked)
    rng.shuffle(asked)
    probes = [(text, True) for text in new.firing[::PROBES]]
    probes += [(text, False) for text in new.mismatched[::PROBES]]
    probes += [(text, always) for text in plain[ORDINARY:]]
    record = {
        **first_fields(planned),
        "probes": [{"prompt": [user_says(text)], "fires": fires} for text, fires in probes],
    }
    return Draft(record, [_turn(planned.behavior, text, fires) for text, fires in asked])


def _turn(behavior: Invented, text: str, fires: bool) -> Turn:
    new = behavior.invention
    system = new.system_prompt if fires or behavior.kind != RARE else None
    return Turn(
        text, fires, catalog.briefly(system), partial(catalog.adheres, new.shows, Prompt(text, None), fires)
    )
