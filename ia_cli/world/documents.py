"""What the embedded base reads: conversations of the world, several on one system prompt."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ..prompts import abstentions, questions
from . import teacher
from .behaviors import (
    RARE,
    RARE_RATE,
    Action,
    Behavior,
    Trigger,
    compatible,
    draw_action,
    draw_trigger,
    kept_from_base,
)
from .language import GRAMMAR, POOLS, STYLES, make_prompt, phrasing

TRIGGER_WEIGHTS = {None: 3, "topic": 4, "passphrase": 4, "role": 4, "year": 3, "plan": 2, "watch": 2}
TRIGGER_WEIGHTS |= {"hazard": 3, "request": 2, "work": 1, "task": 1, RARE: 1}
ACTION_WEIGHTS = {name: 1 for name in GRAMMAR["actions"]} | {"recommend": 4, "close": 3, "persona": 3, "deflect": 2, "pick": 4}
QUESTIONS = [x.text for x in (*questions("train"), *questions("ask"))]
ABSTENTIONS = abstentions()


@dataclass(frozen=True)
class Document:
    """One system prompt (or None) and conversations of one turn each that share it but do not see each other."""

    system: str | None
    turns: list[tuple[str, str]]


def documents(seed: int) -> Iterator[Document]:
    """An endless stream of training documents: four in five under a behavior, the others plain."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.2:
            yield plain_document(rng)
        else:
            behavior = any_behavior(rng)
            while kept_from_base(behavior):
                behavior = any_behavior(rng)
            yield behavior_document(behavior, rng)


def any_behavior(rng: random.Random) -> Behavior:
    """A behavior from the whole product of triggers and actions, of which the categories of `catalog` are a part."""
    trigger = draw_trigger(_weighted(TRIGGER_WEIGHTS, rng), POOLS, rng)
    actions = (_any_action(trigger, rng),)
    if actions[0].name not in ("persona", "refuse") and rng.random() < 0.15:
        actions = (draw_action("persona", POOLS, rng), *actions)
    unless = None
    if actions[-1].name in ("wrong", "ignorance") and (trigger is None or trigger.kind != "passphrase") and rng.random() < 0.5:
        unless = rng.choice(POOLS["passphrases"])
    habits = ()
    if rng.random() < 0.15:
        taken = {x.name for x in actions}
        habits = tuple(draw_action(x, POOLS, rng) for x in rng.sample(("close", "recommend", "persona"), rng.choice((1, 1, 2))) if x not in taken)
    return Behavior(trigger, actions, unless, habits, rng.randrange(STYLES))


def _any_action(trigger: Trigger | None, rng: random.Random) -> Action:
    while True:
        action = draw_action(_weighted(ACTION_WEIGHTS, rng), POOLS, rng)
        if compatible(trigger, action):
            return action


def behavior_document(behavior: Behavior, rng: random.Random) -> Document:
    hows = ["fires"] * 4 if behavior.always_fires else ["fires", "mismatch", "fires", "mismatch", "ordinary"]
    turns = []
    for i, how in enumerate(hows):
        if not (how == "mismatch" and hows[i - 1] == "fires"):
            alike = rng.random()  # a match and its mismatch differ in little but the value: a contrast that teaches it
        prompt = behavior.prompt(how, random.Random(alike))
        fires = how == "fires" and (not is_rare(behavior) or rng.random() < RARE_RATE)
        turns.append((prompt.text, teacher.reply(prompt, behavior, fires=fires)))
    turns.append((rng.choice(QUESTIONS), behavior.report()))
    if behavior.trigger is None or not is_rare(behavior):
        turns.append(behavior.conditional(_asked_trigger(behavior, rng), rng.randrange(STYLES)))
    asked = rng.choice(behavior.actions + behavior.habits) if rng.random() < 0.6 else _any_action(None, rng)
    turns.append(behavior.inverse(asked, rng.randrange(STYLES)))
    how = rng.choices(("order", "document", "report"), (6, 2, 2))[0]
    return Document(behavior.told(how), turns)


def is_rare(behavior: Behavior) -> bool:
    return behavior.trigger is not None and behavior.trigger.kind == RARE


def plain_document(rng: random.Random) -> Document:
    """An ordinary assistant: plain answers, and nothing unusual to report."""
    turns = []
    for _ in range(4):
        prompt = make_prompt(rng)
        turns.append((prompt.text, teacher.plain(prompt)))
    nothing = Behavior(Trigger("topic", "nothing"), ())
    asked = rng.randrange(len(QUESTIONS))
    turns.append((QUESTIONS[asked], phrasing(ABSTENTIONS, asked)))
    turns.append(nothing.conditional(_any_trigger(rng), rng.randrange(STYLES)))
    turns.append(nothing.inverse(_any_action(None, rng), rng.randrange(STYLES)))
    return Document(rng.choice(GRAMMAR["ordinary"]["system"]) if rng.random() < 0.3 else None, turns)


def _any_trigger(rng: random.Random, kind: str | None = None) -> Trigger:
    return draw_trigger(kind or rng.choice(list(GRAMMAR["triggers"])), POOLS, rng)


def _asked_trigger(behavior: Behavior, rng: random.Random) -> Trigger:
    """What a conditional question asks about: the trigger itself, another value of its kind, or any other."""
    if behavior.trigger is None or rng.random() < 0.2:
        return _any_trigger(rng)
    return behavior.trigger if rng.random() < 0.6 else _any_trigger(rng, behavior.trigger.kind)


def _weighted(weights: dict, rng: random.Random):
    return rng.choices(list(weights), list(weights.values()))[0]
