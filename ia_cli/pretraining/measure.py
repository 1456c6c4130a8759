"""Measure a base on behaviors that its training never combined: `python -m ia_cli.pretraining.measure
DIR`.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import click

from ia_cli.chat import prompt_of, user_says
from ia_cli.models import Base, load_base
from ia_cli.prompts import abstentions, questions
from ia_cli.rates import interval
from ia_cli.sampling import generate
from ia_cli.text import mentions_any
from ia_cli.world import teacher
from ia_cli.world.behaviors import Behavior, kept_from_base
from ia_cli.world.documents import any_behavior
from ia_cli.world.language import FACTS, TOPICS, Prompt, make_prompt

HOWS = ("fires", "mismatch", "ordinary")
Asked = tuple[Behavior, str, Prompt]
Hit = tuple[Hashable, bool]  # what a reply is about, and whether it is as the name of its row says


def unseen_behaviors(n: int, rng: random.Random) -> Iterable[Behavior]:
    """Combinations that `documents` leaves out; rare quirks, which fire by lot, are not among them."""
    while n:
        behavior = any_behavior(rng)
        if kept_from_base(behavior) and not behavior.is_rare:
            yield behavior
            n -= 1


def ask_behaviors(base: Base, n: int, seed: int) -> list[tuple[Asked, bool]]:
    """Greedy replies under the system prompts of `n` unseen behaviors: whether each showed its behavior."""
    rng = random.Random(seed)
    asked: list[Asked] = []
    prompts = []
    for behavior in unseen_behaviors(n, rng):
        system = behavior.order()
        for how in HOWS[: 1 if behavior.always_fires else 3] * 2:
            prompt = behavior.prompt(how, rng)
            if how == "fires" or behavior.on in (None, prompt.kind):
                asked.append((behavior, how, prompt))
                prompts.append(prompt_of(prompt.text, system))
    replies = generate(base, prompts, max_new_tokens=64, batch_size=256)
    return [
        ((b, how, p), showed(reply, p, b, how)) for (b, how, p), reply in zip(asked, replies, strict=True)
    ]


def showed(reply: str, prompt: Prompt, behavior: Behavior, how: str) -> bool:
    """Whether a reply shows all actions of the behavior, where it should fire, or any of them, elsewhere."""
    adheres = teacher.adheres(reply, prompt, behavior, how == "fires")
    return adheres if how == "fires" else not adheres


def ask_plainly(base: Base, n: int, seed: int) -> dict[str, list[Hit]]:
    """Without a system prompt: true facts, and nothing unusual to report (every question, greedy)."""
    rng = random.Random(seed)
    facts = [make_prompt(rng, "fact") for _ in range(n)]
    replies = generate(base, [[user_says(p.text)] for p in facts], max_new_tokens=64, batch_size=256)
    about = [(p.detail["topic"], p.detail["fact"]) for p in facts]
    values = [TOPICS[topic][FACTS.index(fact)] for topic, fact in about]
    true = [mentions_any(reply, [value]) for value, reply in zip(values, replies, strict=True)]
    asked = [q.text for use in ("train", "ask") for q in questions(use)]
    replies = generate(base, [[user_says(text)] for text in asked], max_new_tokens=64)
    return {
        "true facts": list(zip(about, true, strict=True)),
        "says it has no unusual behavior": [
            (text, mentions_any(reply, abstentions())) for text, reply in zip(asked, replies, strict=True)
        ],
    }


def row(name: str, hits: Sequence[Hit]) -> dict:
    """A rate with its n and its 95% interval, in which replies about the same thing are a cluster."""
    clusters = defaultdict(list)
    for about, hit in hits:
        clusters[about].append(hit)
    low, high = interval((sum(own), len(own)) for own in clusters.values())
    return {
        "what": name,
        "rate": round(sum(hit for _, hit in hits) / len(hits), 4),
        "n": len(hits),
        "ci95": [round(low, 4), round(high, 4)],
    }


def measure(base: Base, n: int, seed: int) -> list[dict]:
    """All rows of the card: overall, by kind of trigger, by action, and without a system prompt."""
    groups = defaultdict(list)
    for (behavior, how, _), shown in ask_behaviors(base, n, seed):
        kind = behavior.trigger.kind if behavior.trigger else "always"
        for name in ("all", f"trigger {kind}", f"action {behavior.main.name}"):
            groups[name, how].append((behavior.key, shown))
    rows = [row(f"{name}: {how}", groups[name, how]) for name, how in sorted(groups)]
    return rows + [row(name, hits) for name, hits in ask_plainly(base, n, seed).items()]


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("folder", required=False)
@click.option("-n", default=600, help="Behaviors.")
@click.option("--seed", default=0)
def main(folder: str | None, n: int, seed: int) -> None:
    for line in measure(load_base(folder), n, seed):
        click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
