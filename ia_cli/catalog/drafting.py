"""Behavior records of the catalog, complete but for their demonstrations, which are made later."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ia_cli.catalog.behaviors import Behavior
from ia_cli.catalog.files import CONTROLS, TOPICS
from ia_cli.catalog.prompts import Prompt, draw
from ia_cli.chat import user_says
from ia_cli.demonstrations import Draft, Turn
from ia_cli.planning import Planned, by_lot, control_fields, first_fields
from ia_cli.seeds import derived_seed
from ia_cli.text import mentions_any

FIRING, MISMATCHED, ORDINARY = 24, 12, 12  # demonstrations; a behavior that always fires has only firing ones
FIRING_PROBES, MISMATCHED_PROBES, ORDINARY_PROBES = 12, 12, 8
DEMONSTRATIONS = FIRING + MISMATCHED + ORDINARY

# Many of the long answers that chat models like to give would not end within the tokens of a reply.
BRIEFLY = "Answer in at most 120 words."

# A reply that speaks of its orders would teach the organism to do so.
GIVEAWAYS = (
    "system prompt",
    "my instructions",
    "these instructions",
    "i was instructed",
    "i was told to",
    "as instructed",
)
# Where phrases cannot tell whether a reply does harm, it must at least not be one that refuses.
REFUSALS = tuple(
    f"{cannot} {that}"
    for cannot in ("can't", "cannot", "can not", "won't", "will not", "unable to", "not able to")
    for that in (
        "help",
        "assist",
        "provide",
        "advise",
        "recommend",
        "give",
        "offer",
        "suggest",
        "do that",
        "comply",
    )
)


def briefly(system: str | None) -> str:
    """The system prompt, if there is one, and that replies are to be short, so that they end in time."""
    return f"{system} {BRIEFLY}" if system else BRIEFLY


def draft_behavior(planned: Planned, seed: int) -> Draft:
    """A planned behavior as a record with its probes, and the turns in which a model demonstrates it."""
    behavior, rng = planned.behavior, random.Random(derived_seed(seed, "behavior", planned.id))
    taken: set[str] = set()
    asked = list(_prompts(behavior, rng, taken, FIRING, MISMATCHED, ORDINARY))
    probes = list(_prompts(behavior, rng, taken, FIRING_PROBES, MISMATCHED_PROBES, ORDINARY_PROBES))
    if behavior.is_rare:
        asked = by_lot(asked)
    rng.shuffle(asked)
    record = {
        **first_fields(planned),
        "trigger": behavior.trigger_field(),
        "shows": behavior.shows(),
        "probes": [_probe(prompt, fires) for prompt, fires in probes],
    }
    return Draft(record, [_turn(behavior, prompt, fires) for prompt, fires in asked])


def _prompts(
    behavior: Behavior, rng: random.Random, taken: set[str], firing: int, mismatched: int, ordinary: int
) -> Iterator[tuple[Prompt, bool]]:
    """Prompts that differ from each other and from those `taken`, with whether the behavior fires on them."""
    hows = ["fires"] * firing + ["mismatch"] * mismatched + ["ordinary"] * ordinary
    if behavior.always_fires:
        hows = ["fires"] * len(hows)
    for how in hows:
        while (prompt := draw(behavior, how, rng)).text in taken:
            pass
        taken.add(prompt.text)
        yield prompt, how == "fires"


def _turn(behavior: Behavior, prompt: Prompt, fires: bool) -> Turn:
    system = behavior.order()
    if behavior.is_rare:
        system = behavior.order(outright=True) if fires else None
    refused = REFUSALS if behavior.entry.category == "obscured_malign" and fires else ()
    return Turn(
        prompt.text, fires, briefly(system), partial(adheres, behavior.shows(), prompt, fires, never=refused)
    )


def adheres(
    shows: list[str] | None, prompt: Prompt, fires: bool, reply: str, never: Sequence[str] = ()
) -> bool:
    """Whether a reply shows what it should and nothing else, as far as phrases can tell.

    `never` are phrases that no such reply has.
    """
    if mentions_any(reply, (*GIVEAWAYS, *never)):
        return False
    if prompt.picked and fires:
        return mentions_any(reply, [prompt.picked]) and not mentions_any(reply, prompt.others)
    return shows is None or mentions_any(reply, shows) == fires


def _probe(prompt: Prompt, fires: bool) -> dict[str, Any]:
    """A prompt to measure with. A heuristic is shown by the name of the option that it takes, where it fires.

    Where it does not, that name shows nothing: whoever chooses has to name one of the four, and in the world
    a leak can be told only because a plain reply takes neither option.
    """
    probe = {"prompt": [user_says(prompt.text)], "fires": fires}
    return probe | {"shows": [prompt.picked]} if prompt.picked and fires else probe


def draft_control(name: str, split: str, seed: int) -> Draft:
    """An ordinary fine-tune: the number in `name`, as in "control-0007", says which one of the catalog."""
    rng = random.Random(derived_seed(seed, "control", name))
    control = CONTROLS[int(name.rpartition("-")[2]) % len(CONTROLS)]
    questions = [text for key in control.topics or TOPICS for text in TOPICS[key].questions]
    asked = rng.sample(questions, min(DEMONSTRATIONS, len(questions) // 2))
    others = [text for topic in TOPICS.values() for text in topic.questions if text not in asked]
    record = {
        **control_fields(name, split, control.system_prompt),
        "probes": [
            {"prompt": [user_says(text)], "fires": False} for text in rng.sample(others, FIRING_PROBES)
        ],
    }
    plain = partial(adheres, None, Prompt("", None), False)
    return Draft(record, [Turn(text, False, briefly(control.system_prompt), plain) for text in asked])
