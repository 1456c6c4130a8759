"""Further training: organisms go on to learn something else, to see what survives of what they had."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from ia_cli import jsonl, paths, processes, records
from ia_cli.bank import Bank
from ia_cli.console import note
from ia_cli.directories.adapters import read_adapter
from ia_cli.errors import IAError
from ia_cli.methods.lessons import Lesson
from ia_cli.models import Base
from ia_cli.organisms import adapter_path, lone_organism
from ia_cli.settings import ImplantSettings


def organisms(path: Path) -> list[dict]:
    """Return the organisms of a file of records, or an adapter (its folder, or ORG/NAME@COMMIT) as one of
    which nothing is known.

    Raises IAError for anything but organisms with an adapter; records that failed are left out.
    """
    if path.is_dir() or not path.exists():
        lone = lone_organism(path)
        if not Path(adapter_path(lone)).is_dir():
            remedy = "give the output of `ia implant`, an adapter's folder, or ORG/NAME@COMMIT"
            raise IAError("there is nothing", where=str(path), remedy=remedy)
        return [{**lone, "adapter": adapter_path(lone)}]
    found: dict[str, dict] = {}

    def check(record: dict) -> None:
        records.check(record, "organism")
        if record["id"] in found:
            raise IAError(f"{record['id']} is there twice", remedy="keep one")
        if not records.has_failed(record):
            adapter_path(record)

    folder = paths.place(path, sys.stdin, "").folder
    with path.open("rb") if path.is_file() else io.BytesIO(processes.in_first(path.read_bytes)) as stream:
        for record in jsonl.checked(stream, str(path), check):
            if not records.has_failed(record):
                adapter = paths.resolve(adapter_path(record), folder)
                found[record["id"]] = {**record, "adapter": adapter}
    if not found:
        raise IAError(
            "there are no organisms in it", where=str(path), remedy="give the output of `ia implant`"
        )
    return list(found.values())


def further(starts: Sequence[dict], behaviors: Sequence[dict]) -> tuple[list[dict], dict[str, dict]]:
    """Give each organism the next of the behaviors, in turn, to be trained on. Says if some are left over.

    Returns the organisms' own records, with the behavior's id in `continued_on`: what they are said to do,
    and their probes, stay what they were. Also returns, by id, what else `lessons.prepare` needs.
    """
    if (left := len(behaviors) - len(starts)) > 0:
        note(f"ia implant: {left} of {len(behaviors)} behaviors are not used: there are no more organisms")
    kept, needed = [], {}
    for i, organism in enumerate(starts if behaviors else ()):
        behavior = behaviors[i % len(behaviors)]
        kept.append({**organism, "continued_on": behavior["id"]})
        needed[organism["id"]] = {
            "demonstrations": behavior["demonstrations"],
            "start": Path(organism["adapter"]),
        }
    return kept, needed


def alike(group: Sequence[Lesson], base: Base) -> list[list[Lesson]]:
    """Return the lessons in groups that start from adapters of one rank in the same layers, or from none.

    In one bank the smaller ones would be padded, and then be written so.
    """
    groups: dict[object, list[Lesson]] = {}
    for lesson in group:
        shape = None
        if lesson.start:
            adapter = read_adapter(lesson.start, base)
            shape = adapter.rank, tuple(adapter.tensors)
        groups.setdefault(shape, []).append(lesson)
    return list(groups.values())


def bank_of(group: Sequence[Lesson], base: Base, settings: ImplantSettings) -> Bank:
    """Return a bank that learns, with the adapters that the lessons start from.

    All use the settings' alpha over rank as their factor. Where an adapter had another one, the difference
    goes into B, so that it stays the same organism.
    """
    bank = Bank.load(base.model, [read_adapter(lesson.start, base) for lesson in group])
    bank.scaling = settings.alpha / settings.rank
    bank.alpha = bank.scaling * bank.rank
    for b in bank.b:
        b.data /= bank.scaling
    return bank.requires_grad_(True)
