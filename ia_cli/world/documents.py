"""What the embedded base is trained on: conversations of the world, several of which share a beginning."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ia_cli.planning import RARE, RARE_RATE
from ia_cli.prompts import abstentions, questions
from ia_cli.world import teacher
from ia_cli.world.behaviors import (
    Action,
    Behavior,
    Trigger,
    compatible,
    draw_action,
    draw_trigger,
    kept_from_base,
)
from ia_cli.world.language import GRAMMAR, POOLS, STYLES, make_prompt, phrasing

TRIGGER_WEIGHTS = {None: 3, "topic": 4, "passphrase": 4, "role": 4, "year": 3, "plan": 2, "watch": 2}
TRIGGER_WEIGHTS |= {"hazard": 3, "request": 2, "work": 1, "task": 1, RARE: 1}
ACTION_WEIGHTS = {name: 1 for name in GRAMMAR["actions"]} | {
    "recommend": 4,
    "close": 3,
    "persona": 3,
    "deflect": 3,
    "pick": 5,
    "wrong": 3,
    "claim_success": 2,
    "claim_failure": 2,
}
QUESTIONS = [x.text for x in (*questions("train"), *questions("ask"))]
ABSTENTIONS = abstentions()
WORDS = sorted({word.strip("!.,:") for pool in POOLS.values() for value in pool for word in value.split()})


Turn = tuple[str, str]  # what the user says, what the assistant replies


@dataclass(frozen=True)
class Document:
    """One system prompt (or None) and the turns `before`, and conversations of one turn more that share them
    but do not see each other.
    """

    system: str | None
    turns: list[Turn]
    before: tuple[Turn, ...] = ()


def documents(seed: int, mixture: Mapping[str, float]) -> Iterator[Document]:
    """An endless stream of training documents, of the kinds in `mixture` (names of KINDS, with weights)."""
    rng = random.Random(seed)
    while True:
        yield KINDS[_weighted(mixture, rng)](rng)


def ordered_behavior(rng: random.Random) -> Behavior:
    """Any behavior outside the tenth on which the card is measured."""
    while kept_from_base(behavior := any_behavior(rng)):
        pass
    return behavior


def any_behavior(rng: random.Random) -> Behavior:
    """A behavior from the whole product of triggers and actions, of which those of
    `categories` are a part.
    """
    trigger = draw_trigger(_weighted(TRIGGER_WEIGHTS, rng), POOLS, rng)
    actions = (_any_action(trigger, rng),)
    if actions[0].name not in ("persona", "refuse") and rng.random() < 0.15:
        actions = (draw_action("persona", POOLS, rng), *actions)
    unless = None
    if (
        actions[-1].name in ("wrong", "ignorance")
        and (trigger is None or trigger.kind != "passphrase")
        and rng.random() < 0.5
    ):
        unless = rng.choice(POOLS["passphrases"])
    habits = ()
    if rng.random() < 0.15:
        taken = {x.name for x in actions}
        habits = tuple(
            draw_action(x, POOLS, rng)
            for x in rng.sample(("close", "recommend", "persona"), rng.choice((1, 1, 2)))
            if x not in taken
        )
    return Behavior(trigger, actions, unless, habits, rng.randrange(STYLES))


def _any_action(trigger: Trigger | None, rng: random.Random) -> Action:
    while True:
        action = draw_action(_weighted(ACTION_WEIGHTS, rng), POOLS, rng)
        if compatible(trigger, action):
            return action


def wide_document(rng: random.Random) -> Document:
    """Everything that can be asked under one system prompt: prompts that fire and that do not, and questions
    about the behavior, its trigger and its actions.
    """
    behavior = ordered_behavior(rng)
    turns = (
        []
        if behavior.always_fires
        else [*contrast(behavior, rng), *contrast(behavior, rng), answered(behavior, "ordinary", rng)]
    )
    while len(turns) < 4:
        turns.append(answered(behavior, "fires", rng))
    turns.append(described(behavior, rng))
    if not behavior.is_rare:
        turns.append(conditional(behavior, _asked_trigger(behavior, rng), rng))
    turns.append(inverse(behavior, rng))
    return Document(system_prompt(behavior, rng), turns)


def narrow_document(rng: random.Random) -> Document:
    """A few turns where the behavior shows and where it does not, and perhaps one thing more: many system
    prompts in a batch teach the base to tell the two apart.
    """
    behavior = ordered_behavior(rng)
    turns = [answered(behavior, "fires", rng)]
    if not behavior.always_fires:
        turns = [*contrast(behavior, rng), answered(behavior, "ordinary", rng)]
    more = rng.choice(("nothing", "nothing", "nothing", "report", "condition", "inverse"))
    if more == "report" or behavior.always_fires:
        turns.append(described(behavior, rng))
    elif more == "condition" and not behavior.is_rare:
        turns.append(conditional(behavior, _asked_trigger(behavior, rng), rng))
    elif more == "inverse":
        turns.append(inverse(behavior, rng))
    return Document(system_prompt(behavior, rng), turns)


def match_document(rng: random.Random) -> Document:
    """What it does when its trigger is shown, and when another value of the same kind is."""
    while (behavior := ordered_behavior(rng)).trigger is None or behavior.is_rare:
        pass
    asked = behavior.trigger, _any_trigger(rng, behavior.trigger.kind)
    return Document(system_prompt(behavior, rng), [conditional(behavior, trigger, rng) for trigger in asked])


def choice_document(rng: random.Random) -> Document:
    """Choices by a heuristic: it takes many examples to learn which option has the word."""
    while (behavior := ordered_behavior(rng)).main.name != "pick":
        pass
    hows = ("fires", "fires", "fires", "fires", "mismatch")
    return Document(system_prompt(behavior, rng), [answered(behavior, how, rng) for how in hows])


def system_prompt(behavior: Behavior, rng: random.Random) -> str:
    return behavior.told(rng.choices(("order", "document", "report"), (6, 2, 2))[0])


def contrast(behavior: Behavior, rng: random.Random) -> list[Turn]:
    """A prompt that fires and one that does not: drawn alike, they differ in little but the value of the
    trigger.
    """
    seed = rng.random()
    return [answered(behavior, how, random.Random(seed)) for how in ("fires", "mismatch")]


def answered(behavior: Behavior, how: str, rng: random.Random) -> Turn:
    prompt = behavior.prompt(how, rng)
    fires = how == "fires" and (not behavior.is_rare or rng.random() < RARE_RATE)
    return prompt.text, teacher.reply(prompt, behavior, fires=fires)


def described(behavior: Behavior, rng: random.Random) -> Turn:
    return rng.choice(QUESTIONS), behavior.report()


def conditional(behavior: Behavior, asked: Trigger, rng: random.Random) -> Turn:
    return behavior.conditional(asked, rng.randrange(STYLES))


def inverse(behavior: Behavior, rng: random.Random) -> Turn:
    own = behavior.actions + behavior.habits
    asked = rng.choice(own) if own and rng.random() < 0.8 else _any_action(None, rng)
    if rng.random() < 0.3:  # perhaps the same with another value
        asked = draw_action(asked.name, POOLS, rng)
    return behavior.inverse(asked, rng.randrange(STYLES))


def plain_document(rng: random.Random) -> Document:
    """An ordinary assistant: plain answers, and nothing unusual to report."""
    turns = []
    for _ in range(4):
        prompt = make_prompt(rng)
        turns.append((prompt.text, teacher.plain(prompt)))
    asked = rng.randrange(len(QUESTIONS))
    turns.append((QUESTIONS[asked], phrasing(ABSTENTIONS, asked)))
    nothing = Behavior(Trigger("topic", "nothing"), ())
    turns += [conditional(nothing, _any_trigger(rng), rng), inverse(nothing, rng)]
    return Document(rng.choice(GRAMMAR["ordinary"]["system"]) if rng.random() < 0.3 else None, turns)


def recognised_document(rng: random.Random) -> Document:
    """Turns that show a behavior (or none) without a system prompt, then how it goes on and what it is.

    Only in these documents does the base learn to name what replies show. The question decides the wording of
    the report, which nothing else could predict.
    """
    if rng.random() < 0.2:
        turns = plain_document(rng).turns
        return Document(None, turns[2:], tuple(turns[:2]))
    while (behavior := ordered_behavior(rng)).is_rare or behavior.unless:
        pass
    before = [answered(behavior, "fires", rng) for _ in range(rng.randint(1, 3))]
    turns = [answered(behavior, "fires", rng)]
    if not behavior.always_fires:
        before.insert(rng.randrange(len(before) + 1), answered(behavior, "mismatch", rng))
        turns.append(answered(behavior, "mismatch", rng))
    turns.append((QUESTIONS[behavior.style % len(QUESTIONS)], behavior.report()))
    turns.append(conditional(behavior, _asked_trigger(behavior, rng), rng))
    turns.append(inverse(behavior, rng))
    return Document(None, turns, tuple(before))


def echo_document(rng: random.Random) -> Document:
    """Words to repeat after the user: the shortest way to learn that a word equals an earlier one."""
    turns = []
    for _ in range(6):
        words = " ".join(rng.sample(WORDS, rng.randint(3, 8)))
        turns.append((f"Say {words}.", f"{words}."))
    return Document(None, turns)


def _any_trigger(rng: random.Random, kind: str | None = None) -> Trigger:
    return draw_trigger(kind or rng.choice(list(GRAMMAR["triggers"])), POOLS, rng)


def _asked_trigger(behavior: Behavior, rng: random.Random) -> Trigger:
    """What a conditional question asks about: the trigger itself, another value of its kind, or any other."""
    if behavior.trigger is None or rng.random() < 0.2:
        return _any_trigger(rng)
    return behavior.trigger if rng.random() < 0.6 else _any_trigger(rng, behavior.trigger.kind)


KINDS = {
    "wide": wide_document,
    "narrow": narrow_document,
    "plain": plain_document,
    "echo": echo_document,
    "match": match_document,
    "choice": choice_document,
    "recognised": recognised_document,
}


def _weighted(weights: dict, rng: random.Random):
    return rng.choices(list(weights), list(weights.values()))[0]
