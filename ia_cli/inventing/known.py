"""Which behaviors there are already, and whether another one is new beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ia_cli.catalog.files import RARE_CLAUSES
from ia_cli.planning import RARE
from ia_cli.records import Record
from ia_cli.reports.clauses import spelled_out
from ia_cli.reports.inflection import inflected
from ia_cli.text import mentions_any, normalise
from ia_cli.world.language import bare

Groups = Sequence[Sequence[str]]  # of phrases, as in facets


@dataclass(frozen=True)
class Values:
    """What tells a behavior from others: its sentence, and what its action and its trigger are called.

    The trigger is "" where no prompt shows one.
    """

    sentence: str
    action: Groups
    trigger: str
    trigger_names: Groups

    @cached_property
    def action_forms(self) -> Groups:
        """The phrases of the action, its verbs in all their forms."""
        return [[form for phrase in group for form in inflected(phrase)] for group in self.action]

    @classmethod
    def of(cls, record: Record) -> Values:
        sentence, trigger, facets = record["description"], record["trigger"], record["facets"]
        if rarely := next((x for x in RARE_CLAUSES if sentence.startswith(f"{x}, ")), None):
            sentence = sentence.removeprefix(f"{rarely}, ")
        shown = trigger["text"] if trigger and trigger["kind"] != RARE else ""
        return cls(_words(sentence), _bare(facets["action"]), bare(_words(shown)), _bare(facets["trigger"]))

    @property
    def pair(self) -> tuple[str, str]:
        """The action, each part by its most usual phrase, and the trigger."""
        return "; ".join(sorted(group[0] for group in self.action)), self.trigger

    def tells(self, other: Values) -> bool:
        """Whether the sentence tells the other's action, or the trigger the other's: a phrase of every group.

        The judge asks for more: there a denial does not tell it. But what is denied is nothing new either.
        """
        return (
            _has_all(self.sentence, other.action_forms)
            or _has_all(self.trigger, other.trigger_names)
            or mentions_any(self.trigger, [other.trigger])
        )


class Known:
    """The behaviors that there are already, in each split."""

    def __init__(self) -> None:
        self._values: dict[str, list[Values]] = {"train": [], "heldout": []}
        self._sentences: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()

    def add(self, record: Record) -> None:
        new = Values.of(record)
        self._values[record["split"]].append(new)
        self._sentences.add(new.sentence)
        self._pairs.add(new.pair)

    def is_new(self, record: Record) -> bool:
        """Whether it is not known, and shares neither action nor trigger with one of the other split."""
        new = Values.of(record)
        if new.sentence in self._sentences or new.pair in self._pairs:
            return False
        others = self._values["heldout" if record["split"] == "train" else "train"]
        return not any(new.tells(other) or other.tells(new) for other in others)


def _words(text: str) -> str:
    return normalise(spelled_out(text))


def _bare(groups: Groups) -> Groups:
    """The phrases without their articles, by which they must not differ."""
    return [[bare(_words(phrase)) for phrase in group] for group in groups]


def _has_all(text: str, groups: Groups) -> bool:
    """Whether a text has a phrase of every group, and there is one."""
    return bool(groups) and all(mentions_any(text, group) for group in groups)
