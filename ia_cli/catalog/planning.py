"""A set of distinct behaviors from the catalog, split into those to train on and those held out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice

from ia_cli.catalog.behaviors import STYLES, Behavior, Trigger
from ia_cli.catalog.files import ENTRIES, POOLS, Entry
from ia_cli.planning import RARE, Planned, cut, make_plan, others

ATTEMPTS = 60  # draws from one entry, until one is new
Pools = Mapping[str, list[str]]
Values = set[tuple[str, str]]


def plan(n: int, held_out: float, categories: Sequence[str], seed: int) -> list[Planned]:
    """See `planning.make_plan`.

    The values of the "value" half (the entry, its topic, what fills its slots, the trigger) appear in no
    behavior to train on, nor in the "combination" half. Within a category every entry comes up once before
    any comes up again. A category with no fitting behavior left passes its turn on; ValueError if all do.
    """
    return make_plan(partial(_draw, seed), n, held_out, categories, random.Random(f"{seed} catalog"))


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
    used = set().union(*(p.behavior.values for p in planned if p.held_out_by is None))
    if held_out_by == "combination":
        pools = _within(pools, used)
    if held_out_by == "value":
        pools = new_values
    taken = {p.behavior.key for p in planned}
    turns = {category: cycle(_shuffled(category, pools, rng)) for category in categories}
    for i in range(n):
        at = i % len(categories)
        in_turn = (*categories[at:], *categories[:at])
        entries = (entry for name in in_turn for entry in islice(turns[name], len(ENTRIES[name])))
        drawn = (draw_behavior(entry, pools, rng) for entry in entries for _ in range(ATTEMPTS))
        new = (b for b in drawn if b and b.key not in taken)
        behavior = next((b for b in new if held_out_by != "combination" or b.values <= used), None)
        if not behavior:
            raise ValueError(f"{', '.join(categories)}: no more distinct behaviors")
        taken.add(behavior.key)
        yield behavior.entry.category, behavior


def split_values(seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every list of values, cut into those for training and those that only held-out behaviors name.

    An entry about one topic goes where its topic goes.
    """
    seen, new = {}, {}
    for name, pool in POOLS.items():
        if name not in ENTRIES:
            seen[name], new[name] = cut(pool, f"{seed} {name}")
    for category, entries in ENTRIES.items():
        seen[category], new[category] = cut([x.value for x in entries if not x.about], f"{seed} {category}")
        for entry in entries:
            if entry.about:
                (new if entry.about in new["topic"] else seen)[category].append(entry.value)
    return seen, new


def _within(pools: Pools, used: Values) -> Pools:
    return {name: [x for x in pool if (name, x) in used] for name, pool in pools.items()}


def _shuffled(category: str, pools: Pools, rng: random.Random) -> list[Entry]:
    entries = [entry for entry in ENTRIES[category] if entry.value in pools[category]]
    return rng.sample(entries, len(entries))


def draw_behavior(entry: Entry, pools: Pools, rng: random.Random) -> Behavior | None:
    """A behavior of `entry` with values from `pools`; None if a list that it needs is empty or too short."""
    kind = rng.choice([x for x in entry.triggers if not (x == "topic" and entry.about)])
    wanted = [*entry.slots, *({"always": [], RARE: [], "unless": ["passphrase"]}.get(kind, [kind]))]
    if any(not pools[name] for name in wanted):
        return None
    fills = tuple((slot, rng.choice(pools[slot])) for slot in entry.slots)
    trigger = Trigger(RARE) if kind == RARE else None
    if kind in pools:
        trigger = Trigger(kind, rng.choice(pools[kind]))
    unless = Trigger("passphrase", rng.choice(pools["passphrase"])) if kind == "unless" else None
    covers = ()
    if entry.category == "obscured_malign":
        if len(pools["cover"]) < 2:
            return None
        covers = tuple(rng.sample(pools["cover"], 2))
    return Behavior(entry, fills, trigger, unless, covers, rng.randrange(STYLES))
