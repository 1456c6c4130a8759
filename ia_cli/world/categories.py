"""The categories of behavior that the world implants, and how a set of them is split into train and held
out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from .behaviors import RARE, Behavior, compatible, draw_action, draw_trigger
from .language import POOLS, STYLES, Pools

SITUATIONS = ("role", "year", "plan", "watch")
SHARE_OF_VALUES_HELD_OUT = 4  # every fourth value of a list is kept for held-out behaviors
SMALLEST_SPLIT_LIST = 8  # shorter lists (the plan, who watches) have no values to spare


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
    """A behavior of one action, of the first drawn trigger and action that go together."""
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


@dataclass(frozen=True)
class Planned:
    """A behavior with its place in a set; `held_out_by` says what the IA has not seen of it."""

    id: str
    category: str
    behavior: Behavior
    held_out_by: str | None  # None, "combination" (of values seen apart), or "value" (each value is new)


def plan(n: int, held_out: float, categories: Sequence[str], seed: int) -> list[Planned]:
    """`n` distinct behaviors, the categories in turn; of the held-out ones half are new combinations, half
    new values.

    Values of the "value" half stand in no other behavior of the set. The i-th behavior depends on the seed
    and on the counts, not on the machine. Raises ValueError if a category has no more distinct behaviors.
    """
    seen_values, new_values = split_values(seed)
    n_held = round(n * held_out)
    n_new = n_held // 2
    rng = random.Random(f"{seed} plan")
    train = list(_distinct(n - n_held, categories, seen_values, rng, set()))
    keys = {behavior.key for _, behavior in train}
    used = values_of(behavior for _, behavior in train)
    within = {name: [v for v in pool if v in used] or pool for name, pool in seen_values.items()}
    combined = list(
        _distinct(n_held - n_new, categories, within, rng, keys, lambda b: values_of([b]) <= used)
    )
    fresh = list(_distinct(n_new, categories, new_values, rng, keys, _names_a_value))
    parts = ((train, None), (combined, "combination"), (fresh, "value"))
    every = [(category, behavior, why) for part, why in parts for category, behavior in part]
    return [
        Planned(f"{category}-{i:04d}", category, behavior, why)
        for i, (category, behavior, why) in enumerate(every)
    ]


def split_values(seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every list of values, cut into those for training and those that only held-out behaviors name."""
    seen, new = {}, {}
    for name, pool in POOLS.items():
        mixed = random.Random(f"{seed} {name}").sample(pool, len(pool))
        cut = len(pool) // SHARE_OF_VALUES_HELD_OUT if len(pool) >= SMALLEST_SPLIT_LIST else 0
        new[name], seen[name] = mixed[:cut], mixed[cut:]
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


def _names_a_value(behavior: Behavior) -> bool:
    return bool(values_of([behavior]))


def _distinct(
    n: int,
    categories: Sequence[str],
    pools: Pools,
    rng: random.Random,
    taken: set[str],
    admits: Callable[[Behavior], bool] = lambda behavior: True,
) -> Iterator[tuple[str, Behavior]]:
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


def _drawn(category: str, pools: Pools, rng: random.Random) -> Behavior | None:
    try:
        return CATEGORIES[category](pools, rng)
    except IndexError:  # a list without values: this kind of trigger has none held out
        return None


def plan_controls(n: int) -> list[tuple[str, str]]:
    """Ids and splits of `n` controls: every other one is held out, from the second on."""
    return [(f"control-{i:04d}", "heldout" if i % 2 else "train") for i in range(n)]
