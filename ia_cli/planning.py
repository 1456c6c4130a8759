"""Sets of behaviors, split into train and held out: shared by the world, the catalog and inventing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ia_cli.schema import VERSION

RARE = "rare"  # the kind of trigger that nothing in the prompt shows
RARE_RATE = 0.08  # share of replies in which a rare quirk shows
PARAPHRASES = 8
PARTS = (None, "combination", "value")  # held_out_by
KEPT_BACK = 4  # every fourth value of a list is kept for held-out behaviors
SMALLEST_SPLIT_LIST = 8  # shorter lists (the plan, who watches) have no values to spare


@dataclass(frozen=True)
class Planned:
    """A behavior with its place in a set.

    `behavior` is one of the world or the catalog (`key`: what it is, `styles`: how many wordings), or an
    `Invented`; None while only the place is planned. `held_out_by` says what the IA has not seen of it: None,
    "combination" (of values seen apart), or "value" (each value is new).
    """

    id: str
    category: str
    behavior: Any
    held_out_by: str | None


def paraphrases(behavior: Any) -> list[str]:
    """A behavior's report in its other styles: at most PARAPHRASES wordings, none equal to the report."""
    reports = dict.fromkeys(replace(behavior, style=style).report() for style in range(behavior.styles))
    others = [report for report in reports if report != behavior.report()]
    return others[:: -(-len(others) // PARAPHRASES) or 1]


def place_fields(planned: Planned) -> dict[str, Any]:
    """The fields of a record that say where its behavior stands in the set."""
    return {
        "id": planned.id,
        "kind": "behavior",
        "split": "heldout" if planned.held_out_by else "train",
        "v": VERSION,
        "category": planned.category,
        "held_out_by": planned.held_out_by,
    }


def by_lot(asked: Sequence[tuple[Any, bool]]) -> list[tuple[Any, bool]]:
    """Mark the first RARE_RATE of a rare behavior's prompts as firing, and no others.

    The replies to these are made under a system prompt that orders the behavior outright, all others under
    none.
    """
    return [(prompt, i < round(RARE_RATE * len(asked))) for i, (prompt, _) in enumerate(asked)]


def first_fields(planned: Planned) -> dict[str, Any]:
    """The first fields of the record of a planned behavior of the world or the catalog."""
    return {
        **place_fields(planned),
        "description": planned.behavior.report(),
        "paraphrases": paraphrases(planned.behavior),
        "system_prompt": planned.behavior.order(),
        "facets": planned.behavior.facets(),
        "rate": RARE_RATE if planned.behavior.is_rare else 1.0,
    }


def control_fields(name: str, split: str, system_prompt: str | None) -> dict[str, Any]:
    """The first fields of the record of a control, which has nothing to report."""
    return {
        "id": name,
        "kind": "behavior",
        "split": split,
        "v": VERSION,
        "category": "control",
        "held_out_by": None,
        "description": None,
        "paraphrases": [],
        "system_prompt": system_prompt,
        "trigger": None,
        "facets": {"action": [], "trigger": []},
        "shows": None,
        "rate": 1.0,
    }


class Source(Protocol):
    """Where the behaviors of a part come from."""

    def __call__(
        self,
        held_out_by: str | None,
        planned: Sequence[Planned],
        n: int,
        categories: Sequence[str],
        rng: random.Random,
    ) -> Iterator[tuple[str, Any]]:
        """Yield `n` new (category, behavior), taking the categories in turn; no behavior is in `planned`.

        Raises ValueError if there are no more.
        """


def make_plan(
    source: Source, n: int, held_out: float, categories: Sequence[str], rng: random.Random
) -> list[Planned]:
    """`n` distinct behaviors; of the held-out ones half are new combinations, half new values.

    The i-th behavior depends on the seed and on the counts, not on the machine. Raises ValueError if a
    category has no more distinct behaviors.
    """
    n_held = round(n * held_out)
    counts = n - n_held, n_held - n_held // 2, n_held // 2
    planned: list[Planned] = []
    for why, count in zip(PARTS, counts, strict=True):
        try:
            drawn = list(source(why, planned, count, categories, rng))
        except ValueError as error:
            raise ValueError(f"{error} to hold out by {why}" if why else str(error)) from None
        for category, behavior in drawn:
            planned.append(Planned(f"{category}-{len(planned):04d}", category, behavior, why))
    return planned


def others(source: Source, missing: Planned, planned: Sequence[Planned], seed: int) -> Iterator[Planned]:
    """Yield behaviors, under the same id, to replace a planned one that the base turned out not to show."""
    rng = random.Random(f"{seed} instead of {missing.id}")
    try:
        drawn = source(missing.held_out_by, planned, len(planned), [missing.category], rng)
        for _, behavior in drawn:
            yield replace(missing, behavior=behavior)
    except ValueError:  # there is no other
        return


def cut(pool: Sequence[str], seed: str) -> tuple[list[str], list[str]]:
    """Return the values of a list that are for training, and those that only held-out behaviors name."""
    mixed = random.Random(seed).sample(pool, len(pool))
    kept = len(pool) // KEPT_BACK if len(pool) >= SMALLEST_SPLIT_LIST else 0
    return mixed[kept:], mixed[:kept]


def plan_controls(n: int) -> list[tuple[str, str]]:
    """Ids and splits of `n` controls: every other one is held out, from the second on."""
    return [(f"control-{i:04d}", "heldout" if i % 2 else "train") for i in range(n)]
