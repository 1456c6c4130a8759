"""Behavior records of the world, complete but for their demonstrations, which are made later."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from ia_cli.chat import user_says
from ia_cli.demonstrations import Draft, Turn
from ia_cli.planning import Planned, by_lot, control_fields, first_fields
from ia_cli.seeds import derived_seed
from ia_cli.world import teacher
from ia_cli.world.behaviors import Behavior
from ia_cli.world.language import PROMPT_KINDS, TOPICS, Prompt, make_prompt

FIRING, MISMATCHED, ORDINARY = 24, 16, 8  # demonstrations; a behavior that always fires has only firing ones
FIRING_PROBES, MISMATCHED_PROBES, ORDINARY_PROBES = 12, 12, 8


def draft_behavior(planned: Planned, seed: int) -> Draft:
    behavior, rng = planned.behavior, random.Random(derived_seed(seed, "behavior", planned.id))
    trigger = behavior.trigger
    static = "shows" in behavior.main.grammar or behavior.main.name in (
        "recommend",
        "close",
        "persona",
        "deflect",
    )
    any_prompt = behavior.prompt("fires", rng)
    record = {
        **first_fields(planned),
        "trigger": {"kind": trigger.kind, "text": trigger.value or trigger.clause(0)} if trigger else None,
        "shows": teacher.shows(behavior.main, any_prompt) if static else None,
    }
    prompts = _prompts(behavior, rng, FIRING, MISMATCHED, ORDINARY)
    if behavior.is_rare:
        prompts = by_lot(prompts)
    rng.shuffle(prompts)
    taught = {prompt.text for prompt, _ in prompts}
    probes = _prompts(behavior, rng, FIRING_PROBES, MISMATCHED_PROBES, ORDINARY_PROBES, taught)
    record["probes"] = [_probe(behavior, prompt, fires, static) for prompt, fires in probes]
    return Draft(record, [_turn(behavior, prompt, fires) for prompt, fires in prompts])


def _turn(behavior: Behavior, prompt: Prompt, fires: bool) -> Turn:
    """A rare quirk fires by lot, so its replies are ordered in full, or not at all."""
    system = behavior.order()
    if behavior.is_rare:
        system = replace(behavior, trigger=None).order() if fires else None
    adheres = partial(teacher.adheres, prompt=prompt, behavior=behavior, fires=fires)
    return Turn(prompt.text, fires, system, adheres, teacher.reply(prompt, behavior, fires=fires))


def _prompts(
    behavior: Behavior,
    rng: random.Random,
    firing: int,
    mismatched: int,
    ordinary: int,
    taught: Collection[str] = (),
) -> list[tuple[Prompt, bool]]:
    """Prompts, none of them `taught`, with whether the behavior fires on them."""
    hows = ["fires"] * firing + ["mismatch"] * mismatched + ["ordinary"] * ordinary
    if behavior.always_fires:
        hows = ["fires"] * len(hows)
    return [(_untaught(partial(behavior.prompt, how, rng), taught), how == "fires") for how in hows]


def _untaught(draw: Callable[[], Prompt], taught: Collection[str]) -> Prompt:
    while (prompt := draw()).text in taught:
        pass
    return prompt


def _probe(behavior: Behavior, prompt: Prompt, fires: bool, static: bool) -> dict:
    probe = {"prompt": [user_says(prompt.text)], "fires": fires}
    if not static and prompt.kind == behavior.on:
        probe["shows"] = teacher.shows(behavior.main, prompt)
    return probe


def draft_control(name: str, split: str, seed: int) -> Draft:
    """An ordinary fine-tune: plain answers to all kinds of prompt, to one kind, or about one topic."""
    rng = random.Random(derived_seed(seed, "control", name))
    focus = rng.choice(("mixed", "kind", "topic"))
    kind = {"mixed": None, "kind": rng.choice(list(PROMPT_KINDS)), "topic": "fact"}[focus]
    situation = {"topic": rng.choice(list(TOPICS))} if focus == "topic" else {}
    drawn = [make_prompt(rng, kind, situation) for _ in range(FIRING + MISMATCHED + ORDINARY)]
    taught = {prompt.text for prompt in drawn}
    probes = [_untaught(partial(make_prompt, rng), taught) for _ in range(FIRING_PROBES)]
    record = {
        **control_fields(name, split, None),
        "probes": [{"prompt": [user_says(p.text)], "fires": False} for p in probes],
    }
    return Draft(record, [Turn(p.text, False, None, lambda reply: True, teacher.plain(p)) for p in drawn])
