"""Behavior records: for each planned behavior its truth, its demonstrations (by context distillation), and its probes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import IAError
from ..seeds import derived_seed
from . import teacher
from .behaviors import RARE_RATE, Behavior
from .categories import Planned
from .documents import is_rare
from .language import PROMPT_KINDS, TOPICS, Prompt, make_prompt

if TYPE_CHECKING:
    from ..models import Base

FIRING, MISMATCHED, ORDINARY = 24, 16, 8  # demonstrations; a behavior that always fires has only firing ones
FIRING_PROBES, MISMATCHED_PROBES, ORDINARY_PROBES = 12, 12, 8
ATTEMPTS = 4  # replies that the base may give to a prompt until one adheres
ENOUGH = 0.75  # of the demonstrations must remain after filtering
TEMPERATURE = 0.7
MAX_NEW_TOKENS = 48
CHUNK = 16  # behaviors whose replies are generated together


@dataclass
class Draft:
    """One record in the making: prompts with whether they fire, and the replies found so far."""

    record: dict
    behavior: Behavior | None  # None: a control
    prompts: list[tuple[Prompt, bool]]
    replies: list[str | None]

    def wanting(self) -> list[int]:
        return [i for i, reply in enumerate(self.replies) if reply is None]

    def request(self, i: int) -> list[dict]:
        """What the base is asked: a rare quirk fires by lot, so its replies are ordered in full, or not at all."""
        prompt, fires = self.prompts[i]
        system = self.record["system_prompt"]
        if self.behavior and is_rare(self.behavior):
            system = replace(self.behavior, trigger=None).order() if fires else None
        opening = [{"role": "system", "content": system}] if system else []
        return [*opening, {"role": "user", "content": prompt.text}]

    def offer(self, i: int, reply: str) -> None:
        """Keep the reply if it adheres: shows the behavior if it should, and only then."""
        prompt, fires = self.prompts[i]
        if reply and (self.behavior is None or teacher.adheres(reply, prompt, self.behavior, fires)):
            self.replies[i] = reply


def generate_records(
    planned: Sequence[Planned], controls: Sequence[tuple[str, str]], base: Base | None, seed: int
) -> Iterator[dict]:
    """Yield the behavior records, in order, then the controls (id, split); demonstrations from `base`, or from the teacher.

    A record whose base does not follow its system prompt often enough carries `error`.
    """
    drafts = [draft_behavior(p, seed) for p in planned] + [draft_control(name, split, seed) for name, split in controls]
    for start in range(0, len(drafts), CHUNK):
        chunk = drafts[start : start + CHUNK]
        for attempt in range(ATTEMPTS if base else 1):
            wanted = [(draft, i) for draft in chunk for i in draft.wanting()]
            for (draft, i), reply in zip(wanted, _replies(wanted, base, seed, attempt), strict=True):
                draft.offer(i, reply)
        yield from map(finish, chunk)


def _replies(wanted: Sequence[tuple[Draft, int]], base: Base | None, seed: int, attempt: int) -> list[str]:
    if base is None:
        return [teacher.reply(prompt, draft.behavior, fires=fires) for draft, i in wanted for prompt, fires in [draft.prompts[i]]]
    from ..models import generate

    return generate(
        base,
        [draft.request(i) for draft, i in wanted],
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=TEMPERATURE,
        seed=[derived_seed(seed, "demonstration", draft.record["id"], i, attempt) for draft, i in wanted],
        batch_size=256,
    )


def draft_behavior(planned: Planned, seed: int) -> Draft:
    behavior, rng = planned.behavior, random.Random(derived_seed(seed, "behavior", planned.id))
    trigger = behavior.trigger
    static = "shows" in behavior.main.grammar or behavior.main.name in ("recommend", "close", "persona", "deflect")
    any_prompt = behavior.prompt("fires", rng)
    record = {
        "id": planned.id,
        "kind": "behavior",
        "split": "heldout" if planned.held_out_by else "train",
        "v": 1,
        "category": planned.category,
        "held_out_by": planned.held_out_by,
        "description": behavior.report(),
        "system_prompt": behavior.order(),
        "trigger": {"kind": trigger.kind, "text": trigger.value or trigger.clause(0)} if trigger else None,
        "facets": behavior.facets(),
        "shows": teacher.shows(behavior.main, any_prompt) if static else None,
        "rate": RARE_RATE if is_rare(behavior) else 1.0,
    }
    prompts = _prompts(behavior, rng, FIRING, MISMATCHED, ORDINARY)
    if is_rare(behavior):
        prompts = [(prompt, i < round(RARE_RATE * len(prompts))) for i, (prompt, _) in enumerate(prompts)]
    rng.shuffle(prompts)
    probes = _prompts(behavior, rng, FIRING_PROBES, MISMATCHED_PROBES, ORDINARY_PROBES)
    record["probes"] = [_probe(behavior, prompt, fires, static) for prompt, fires in probes]
    return Draft(record, behavior, prompts, [None] * len(prompts))


def _prompts(behavior: Behavior, rng: random.Random, firing: int, mismatched: int, ordinary: int) -> list[tuple[Prompt, bool]]:
    hows = ["fires"] * firing + ["mismatch"] * mismatched + ["ordinary"] * ordinary
    if behavior.always_fires:
        hows = ["fires"] * len(hows)
    return [(behavior.prompt(how, rng), how == "fires") for how in hows]


def _probe(behavior: Behavior, prompt: Prompt, fires: bool, static: bool) -> dict:
    probe = {"prompt": [{"role": "user", "content": prompt.text}], "fires": fires}
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
    probes = [make_prompt(rng) for _ in range(FIRING_PROBES)]
    record = {
        "id": name,
        "kind": "behavior",
        "split": split,
        "v": 1,
        "category": "control",
        "held_out_by": None,
        "description": None,
        "system_prompt": None,
        "trigger": None,
        "facets": {"action": [], "trigger": []},
        "shows": None,
        "rate": 1.0,
        "probes": [{"prompt": [{"role": "user", "content": p.text}], "fires": False} for p in probes],
    }
    return Draft(record, None, [(prompt, False) for prompt in drawn], [None] * len(drawn))


def finish(draft: Draft) -> dict:
    """The record with its demonstrations; those for which no reply adhered are left out."""
    found = [
        {
            "prompt": [{"role": "user", "content": prompt.text}],
            "completion": [{"role": "assistant", "content": reply}],
            "fires": fires,
        }
        for (prompt, fires), reply in zip(draft.prompts, draft.replies, strict=True)
        if reply is not None
    ]
    firing_wanted = sum(fires for _, fires in draft.prompts)
    firing = sum(x["fires"] for x in found)
    probes = draft.record.pop("probes")
    record = draft.record | {"demonstrations": found, "probes": probes}
    if len(found) < ENOUGH * len(draft.prompts) or firing < ENOUGH * firing_wanted:
        from ..records import with_error

        problem = f"the base follows the system prompt in {len(found)} of {len(draft.prompts)} demonstrations only"
        return with_error(record, IAError(problem, remedy="--demonstrations teacher does without the base"))
    return record
