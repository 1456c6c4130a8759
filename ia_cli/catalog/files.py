"""The data files of the catalog as Python objects: topics, triggers, entries, controls."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from string import Formatter
from typing import Any

from ia_cli.settings import CATEGORIES

FOLDER = files(__package__)
AREAS = ("everyday", "knowledge", "advice")  # the files of topics/


def load(name: str) -> dict[str, Any]:
    return tomllib.loads(FOLDER.joinpath(name).read_text("utf-8"))


def slots_of(*texts: str) -> list[str]:
    """The names of the {slots} in some texts, each once, in order."""
    found = (name for text in texts for _, name, _, _ in Formatter().parse(text) if name)
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Topic:
    """What questions can be about: `phrase` in "the user asks about ...", `names` for reports."""

    area: str
    phrase: str
    names: tuple[str, ...]
    questions: tuple[str, ...]  # every template with every value of its slots


@dataclass(frozen=True)
class Situation:
    """A kind of trigger: its clause, what a user says to show it, and the values that it can have."""

    when: str
    says: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Entry:
    """One hand-written behavior, with open slots and without a trigger; quirk.toml says what is what."""

    category: str
    name: str
    description: str
    wordings: list[str]
    system_prompt: str
    facets: list[list[str]]
    triggers: list[str]
    shows: list[str] | None = None
    about: str | None = None
    pick: Mapping[str, Any] | None = None

    @property
    def slots(self) -> list[str]:
        return slots_of(self.description, self.system_prompt)

    @property
    def value(self) -> str:
        """The name of this entry among the values that a set of behaviors names."""
        return f"{self.category}/{self.name}"


@dataclass(frozen=True)
class Control:
    name: str
    system_prompt: str
    topics: tuple[str, ...]  # empty: all


def _topics() -> dict[str, Topic]:
    tables = [(area, *item) for area in AREAS for item in load(f"topics/{area}.toml").items()]
    return {key: Topic(area, t["phrase"], tuple(t["names"]), _questions(t)) for area, key, t in tables}


def _questions(table: Mapping[str, Any]) -> tuple[str, ...]:
    filled = []
    for template in table["prompts"]:
        slots = slots_of(template)
        for values in product(*(table[slot] for slot in slots)):
            filled.append(template.format(**dict(zip(slots, values, strict=True))))
    return tuple(filled)


def _entries() -> dict[str, list[Entry]]:
    tables = {category: load(f"behaviors/{category}.toml") for category in CATEGORIES}
    return {
        category: [Entry(category, **{"triggers": table["triggers"], **row}) for row in table["behavior"]]
        for category, table in tables.items()
    }


TOPICS = _topics()
ENTRIES = _entries()
CONTROLS = [
    Control(x["name"], x["system_prompt"], tuple(x.get("topics", ())))
    for x in load("controls.toml")["control"]
]
CHOICES = load("choices.toml")

_TRIGGERS = load("triggers.toml")
RARE_CLAUSES: list[str] = _TRIGGERS.pop("rare")["clauses"]
SITUATIONS = {
    kind: Situation(x["when"], tuple(x.get("says", ())), tuple(x.get("values", TOPICS)))
    for kind, x in _TRIGGERS.items()
}

# Every list of values that behaviors are made of: of slots, of triggers, covers, and the entries themselves.
POOLS: dict[str, list[str]] = {
    **load("slots.toml"),
    "cover": load("behaviors/obscured_malign.toml")["covers"],
    **{kind: list(situation.values) for kind, situation in SITUATIONS.items()},
    **{category: [entry.value for entry in entries] for category, entries in ENTRIES.items()},
}
