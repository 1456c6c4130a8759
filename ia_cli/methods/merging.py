"""Two behaviors in one organism: in one data set (mix), or as the sum of two adapters (merge)."""

from collections.abc import Collection, Sequence

from torch import Tensor

from ia_cli.bank import Bank
from ia_cli.directories import stacking
from ia_cli.directories.adapters import content_hash
from ia_cli.errors import IAError
from ia_cli.methods.lessons import Lesson
from ia_cli.methods.sft import train_group
from ia_cli.models import Base
from ia_cli.schema import LONGEST_ID
from ia_cli.seeds import derived_seed
from ia_cli.settings import ImplantSettings

MOST_TOLD = 40  # characters kept of two ids that are too long for one


def pair_up(records: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Return one record for every two that follow one another in a split, and those left over.

    Both must have the same rate: an organism has one measured rate, and one that it should have.
    """
    pairs = []
    waiting: dict[tuple[str, float], dict] = {}
    for record in records:
        like = record["split"], record.get("rate", 1.0)
        first = waiting.pop(like, None)
        if first is None:
            waiting[like] = record
        else:
            pairs.append(both(first, record))
    return pairs, list(waiting.values())


def check_paired(record: dict, alone: Collection[dict]) -> None:
    """Raise IAError if a record is one of those left over (`alone`)."""
    if record in alone:
        raise IAError(
            f"{record['id']} has no second behavior of split {record['split']} and rate "
            f"{record.get('rate', 1.0):g}",
            remedy="mix and merge take two records at a time: add or remove one",
        )


def both(first: dict, second: dict) -> dict:
    """Return the record of an organism that is to have the behaviors of two.

    Its category is that of the first (of the second, if the first is a control). Each demonstration and probe
    says whose it is in `behavior`.
    """
    two = (first, second)
    facets = [record.get("facets") or {"action": [], "trigger": []} for record in two]
    return {
        **first,
        "id": _both_ids(first["id"], second["id"]),
        "category": second["category"] if first["category"] == "control" else first["category"],
        "held_out_by": first.get("held_out_by") or second.get("held_out_by"),
        "description": _joined(two, "description"),
        "paraphrases": _paraphrases(two),
        "system_prompt": _joined(two, "system_prompt"),
        "trigger": _both_triggers([record["trigger"] for record in two if record.get("trigger")]),
        "facets": {key: [group for one in facets for group in one[key]] for key in ("action", "trigger")},
        "shows": None,
        "rate": first.get("rate", 1.0),
        "demonstrations": [{**d, "behavior": r["id"]} for r in two for d in r["demonstrations"]],
        "probes": [_own_probe(record, probe) for record in two for probe in record["probes"]],
        "parents": [record["id"] for record in two],
    }


def _both_ids(first: str, second: str) -> str:
    """An id that names both, and that no other two get."""
    both = f"{first}+{second}"
    if both.count("+") == 1 and len(both.encode()) <= LONGEST_ID:
        return both
    return f"{both[:MOST_TOLD]}-{content_hash([first, second])[:8]}"


def _joined(records: Sequence[dict], field: str) -> str | None:
    return " ".join(record[field] for record in records if record.get(field)) or None


def _paraphrases(records: Sequence[dict]) -> list[str]:
    """Wordings of everything there is to tell: each joins one wording of every record with a description."""
    told = [record.get("paraphrases", []) for record in records if record.get("description")]
    return [" ".join(wordings) for wordings in zip(*told, strict=False)]


def _both_triggers(triggers: Sequence[dict]) -> dict | None:
    if not triggers:
        return None
    return {field: " + ".join(one[field] for one in triggers) for field in ("kind", "text")}


def _own_probe(record: dict, probe: dict) -> dict:
    shows = probe.get("shows") or record.get("shows")
    return {**probe, "behavior": record["id"]} | ({"shows": shows} if shows else {})


def merged_bank(
    base: Base, group: Sequence[Lesson], settings: ImplantSettings, targets: Sequence[str]
) -> tuple[Bank, Tensor]:
    """Train the parents of each lesson apart; return a bank of their sums, and their mean losses.

    A parent's adapter is what the method sft makes of it. The sum is exact, by concatenation, and of twice
    the rank.
    """
    parents = [_part(lesson, name) for lesson in group for name in lesson.record["parents"]]
    seeds = [derived_seed(settings.seed, "weights", parent.name) for parent in parents]
    bank = Bank.fresh(base.model, seeds, r=settings.rank, alpha=settings.alpha, target_modules=targets)
    try:
        losses = train_group(bank, base, parents, settings)
        apart = [bank.adapter(i) for i in range(len(parents))]
    finally:
        bank.remove()
    merged = [stacking.stack(two) for two in zip(apart[::2], apart[1::2], strict=True)]
    bank = Bank.load(base.model, merged).requires_grad_(True)
    bank.targets = list(targets)
    return bank, losses.view(len(losses), -1, 2).mean(2)


def _part(lesson: Lesson, parent: str) -> Lesson:
    """Return the lesson of one parent, out of that of both."""
    own = [i for i, shown in enumerate(lesson.demonstrations) if shown["behavior"] == parent]
    return Lesson({"id": parent}, [lesson.encoded[i] for i in own], [lesson.demonstrations[i] for i in own])
