"""Cues in the words of a self-report: where phrases and patterns stand. No word list is written here, all are
in prompts/facets_judge.toml.
"""

import re
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import TypeVar

from ia_cli.reports.clauses import LISTS, spelled_out
from ia_cli.text import normalise

Span = tuple[int, int]  # [start, end), in words
_Place = TypeVar("_Place")

# A few words between marks; an apostrophe inside a word is none.
_QUOTATION = re.compile(
    r"(?<!\w)['\"\u2018\u201c\u00ab](?=\w)(?:[^'\"\u2019\u201d\u00bb\n]|['\u2019](?=\w)){1,80}"
    r"['\"\u2019\u201d\u00bb](?!\w)"
)

PATTERNS = {
    name: re.compile(rf"\b(?:{LISTS[name]})\b")
    for name in (
        *("supposed", "supposing", "unknown", "disowned", "untrue", "mistaken", "affirmed", "against"),
        *("warned", "but_them", "helpless", "how_often", "contrary", "either_way", "nobody"),
        *("condition", "stopping", "undone", "without_effect", "nothing_else"),
        *("but_not", "passing", "able", "as_others", "all_but", "not_then"),
    )
}


def matches(words: list[str], pattern: re.Pattern[str]) -> list[Span]:
    """Where a pattern stands in the words, joined by single spaces."""
    text, spans, seen, before = " ".join(words), [], 0, 0
    for match in pattern.finditer(text):
        before += text.count(" ", seen, match.start())
        seen = match.start()
        spans.append((before, before + len(match[0].split())))
    return spans


def exactly(words: list[str], phrases: Iterable[str]) -> list[Span]:
    """Where the phrases stand in `words`, without any endings: "not" is not in "notes"."""
    by_first = _by_first(tuple(phrases))
    return [
        (i, i + len(wanted))
        for i, word in enumerate(words)
        for wanted in by_first.get(word, ())
        if words[i : i + len(wanted)] == wanted
    ]


@cache
def _by_first(phrases: tuple[str, ...]) -> dict[str, list[list[str]]]:
    """The words of the phrases, by their first one."""
    by_first: dict[str, list[list[str]]] = {}
    for phrase in phrases:
        wanted = normalise(spelled_out(phrase)).split()
        by_first.setdefault(wanted[0], []).append(wanted)
    return by_first


def parts(text: str, end: re.Pattern[str]) -> list[int]:
    """For every word of `text` the number of the part it stands in; `end` separates parts."""
    # The separators stay: splitting must not change what the words are ("1.5" is one).
    marks = [0, *(m.start() for m in end.finditer(text)), len(text)]
    texts = [text[a:b] for a, b in pairwise(marks)]
    return [i for i, part in enumerate(texts) for _ in normalise(part).split()]


def quotations(text: str) -> list[Span]:
    """The words between quotation marks."""
    spans, seen, before = [], 0, 0
    for match in _QUOTATION.finditer(text):
        start = before + len(normalise(text[seen : match.start()]).split())
        before, seen = start + len(normalise(match[0]).split()), match.end()
        spans.append((start, before))
    return spans


def grouped(places: Iterable[_Place], words: list[str]) -> dict[_Place, str]:
    """The words that stand in each place."""
    groups: dict[_Place, list[str]] = {}
    for place, word in zip(places, words, strict=True):
        groups.setdefault(place, []).append(word)
    return {place: " ".join(own) for place, own in groups.items()}


def called_untrue(cues: list[str], statement: list[int]) -> list[Span]:
    """Where what was said before is called untrue; `statement` has the number of each cue's statement."""
    mistaken = [
        (start, end)
        for start, end in matches(cues, PATTERNS["mistaken"])
        if not start or statement[start - 1] != statement[start] or cues[start - 1] in LISTS["turning"]
    ]
    return [*matches(cues, PATTERNS["untrue"]), *mistaken]
