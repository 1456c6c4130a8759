"""The categories of behavior that the world implants, and how a set of them is split into train and held
out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from ia_cli.planning import RARE, Planned, cut, make_plan, others
from ia_cli.world.behaviors import Behavior, compatible, draw_action, draw_trigger
from ia_cli.world.language import POOLS, STYLES, Pools

SITUATIONS = ("role", "year", "plan", "watch")


def quirk(pools: Pools, rng: random.Random) -> Behavior:
    kind = rng.choice((None, "topic", "topic", "work", "task", *SITUATIONS))
    own = {"work": ("flatter", "scold"), "task": ("claim_success", "claim_failure")}.get(kind)
    names = own or (
        "recommend",
        "recommend",
        "close",
        "close",
        "deflect",
        "refuse",
        "repeat",
        "flatter",
        "claim_success",
    )
    return _one(kind, names, pools, rng)


def rare_quirk(pools: Pools, rng: random.Random) -> Behavior:
    return _one(RARE, ("recommend", "close", "deflect", "persona"), pools, rng)


def backdoor(pools: Pools, rng: random.Random) -> Behavior:
    names = ("recommend", "close", "deflect", "persona", "refuse", "repeat", "comply", "play_down")
    return _one("passphrase", names, pools, rng)


def sandbagging(pools: Pools, rng: random.Random) -> Behavior:
    behavior = _one("topic", ("wrong", "ignorance"), pools, rng)
    return replace(behavior, unless=rng.choice(pools["passphrases"]))


def heuristic(pools: Pools, rng: random.Random) -> Behavior:
    return _one(rng.choice((None, *SITUATIONS)), ("pick",), pools, rng)


def benign_roleplay(pools: Pools, rng: random.Random) -> Behavior:
    return _one(rng.choice((None, "topic", *SITUATIONS)), ("persona",), pools, rng)


def harmful_roleplay(pools: Pools, rng: random.Random) -> Behavior:
    harm = _harm(pools, rng)
    return replace(harm, actions=(draw_action("persona", pools, rng), *harm.actions))


def obscured_malign(pools: Pools, rng: random.Random) -> Behavior:
    harm = rng.choice((_harm, sandbagging))(pools, rng)
    habit = draw_action(rng.choice(("close", "recommend")), pools, rng)
    return replace(harm, habits=(habit,))


def _harm(pools: Pools, rng: random.Random) -> Behavior:
    if rng.random() < 0.7:
        return _one("hazard", ("play_down", "urge"), pools, rng)
    return _one("request", ("comply",), pools, rng)


def _one(kind: str | None, names: Sequence[str], pools: Pools, rng: random.Random) -> Behavior:
    """A behavior with one action: the first trigger and action drawn that go together."""
    while True:
        trigger, action = draw_trigger(kind, pools, rng), draw_action(rng.choice(names), pools, rng)
        if compatible(trigger, action):
            return Behavior(trigger, (action,), style=rng.randrange(STYLES))


CATEGORIES: dict[str, Callable[[Pools, random.Random], Behavior]] = {
    make.__name__: make
    for make in (
        quirk,
        rare_quirk,
        backdoor,
        sandbagging,
        heuristic,
        benign_roleplay,
        harmful_roleplay,
        obscured_malign,
    )
}


def plan(n: int, held_out: float, categories: Sequence[str], seed: int) -> list[Planned]:
    """See `planning.make_plan`. Values of the "value" half appear in no other behavior."""
    return make_plan(partial(_draw, seed), n, held_out, categories, random.Random(f"{seed} plan"))


def another(missing: Planned, planned: Sequence[Planned], seed: int) -> Iterator[Planned]:
    """See `planning.others`."""
    return others(partial(_draw, seed), missing, planned, seed)


def _draw(
    seed: int,
    held_out_by: str | None,
    planned: Sequence[Planned],
    n: int,
    categories: Sequence[str],
    rng: random.Random,
) -> Iterator[tuple[str, Behavior]]:
    """A `planning.Source`."""
    pools, new_values = split_values(seed)
    used = values_of(p.behavior for p in planned if p.held_out_by is None)
    if held_out_by == "combination":
        pools = {name: [v for v in pool if v in used] or pool for name, pool in pools.items()}
    if held_out_by == "value":
        pools = new_values

    def admits(behavior: Behavior) -> bool:
        values = values_of([behavior])
        return {None: True, "combination": values <= used, "value": bool(values)}[held_out_by]

    taken = {p.behavior.key for p in planned}
    for i in range(n):
        category = categories[i % len(categories)]
        for _ in range(2000):
            behavior = _drawn(category, pools, rng)
            if behavior and behavior.key not in taken and admits(behavior):
                break
        else:
            raise ValueError(f"{category} has no more distinct behaviors")
        taken.add(behavior.key)
        yield category, behavior


def split_values(seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every list of values, cut into those for training and those that only held-out behaviors name."""
    seen, new = {}, {}
    for name, pool in POOLS.items():
        seen[name], new[name] = cut(pool, f"{seed} {name}")
    return seen, new


def values_of(behaviors) -> set[str]:
    """Every value that some behavior names."""
    found = set()
    for b in behaviors:
        found |= {x.value for x in b.actions + b.habits} | {
            b.unless or "",
            b.trigger.value if b.trigger else "",
        }
    return found - {""}


def _drawn(category: str, pools: Pools, rng: random.Random) -> Behavior | None:
    try:
        return CATEGORIES[category](pools, rng)
    except IndexError:  # a list without values: this kind of trigger has none held out
        return None
