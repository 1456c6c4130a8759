"""Which self-reports make the same claim, in whatever words: those that name the same thing.

Rules over words, no model. Only the phrases that carry a claim count: not when it is said to hold, not its
verb, and no words that any two reports may share (prompts/claim_words.toml). The phrase that most reports
share makes the first group, the one that most of the rest share makes the next, and so on (greedy covering,
Chvatal 1979, "A greedy heuristic for the set-covering problem"). Two things keep different values apart. All
reports of a group share its phrase, so no chain of similar reports leads from one value to another. And where
reports differ only in such a phrase ("an ode to bread", "an ode to rain"), a group takes only one of these.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ia_cli.reports.assertions import Report
from ia_cli.reports.claims import claims
from ia_cli.reports.clauses import WORDS
from ia_cli.text import normalise, pictures

_FUNCTION, _WEAK = frozenset(WORDS["function"].split()), frozenset(WORDS["weak"].split())
_INFLECTED = frozenset((WORDS["talk"] + WORDS["acts"]).split())
_ENDINGS = ("s", "es", "d", "ed", "ing")
_ARTICLES = ("a", "an", "the")
_QUOTED = re.compile('["\u201c\u201d]([^"\u201c\u201d]+)["\u201c\u201d]')
_ADVERB = 6  # letters that an adverb in -ly has at least


@dataclass(frozen=True)
class Group:
    """Reports that make the same claim, the most central first; `about` is what they share, in stems."""

    about: str
    reports: tuple[str, ...]


@dataclass(frozen=True)
class _Told:
    """A report taken apart: the phrases that carry it, its `frame`, and the phrases that fill the frame."""

    phrases: frozenset[str]
    frame: tuple[str, ...]
    fills: tuple[str, ...]


def group(
    weights: Mapping[str, int], echoed: Collection[str] = (), ways: Collection[Sequence[str]] = ()
) -> list[Group]:
    """Put reports that make the same claim into groups, the heaviest first; their order does not matter.

    `weights` are those of the reports: how often each is made, less what would be no surprise. Groups form
    around reports with a positive weight; what is left then is grouped by itself. `echoed` words, which the
    question used, make no two reports alike; and the phrases in each of the `ways` mean the same.
    """
    same = {normalise(phrase): names[0] for names in ways for phrase in names}
    told = {report: _take_apart(report, echoed, same) for report in sorted(weights)}
    phrases = {phrase for own in told.values() for phrase in own.phrases}
    parts = {
        report: {part for x in own.phrases for part in _parts(x)} & phrases for report, own in told.items()
    }
    found = _grouped(told, parts, weights)
    left = weights.keys() - {report for one in found for report in one.reports}
    return found + _grouped(told, {x: parts[x] for x in sorted(left)}, {x: max(1, -weights[x]) for x in left})


def _grouped(
    told: Mapping[str, _Told], parts: Mapping[str, Collection[str]], weights: Mapping[str, int]
) -> list[Group]:
    """The groups of all reports with a positive weight, and of those that go with them.

    `parts` are what each report names. A phrase is looked at only if it can be the heaviest.
    """
    naming: dict[str, set[str]] = {}
    for report, own in parts.items():
        for phrase in own:
            naming.setdefault(phrase, set()).add(report)

    def bound(phrase: str) -> int:
        return sum(max(weights[report], 0) for report in naming[phrase])

    most = {phrase: bound(phrase) for phrase in naming}
    agreeing: dict[str, set[str]] = {}
    found = []
    while any(limit > 0 for limit in most.values()):
        best, about = (0, 0), ""
        for phrase in sorted(most, key=lambda phrase: (-most[phrase], phrase)):
            if about and most[phrase] < best[0]:
                break  # nor can any that follows be heavier
            if phrase not in agreeing:
                agreeing[phrase] = _agreeing(naming[phrase], told, weights)
            value = sum(weights[report] for report in agreeing[phrase]), phrase.count(" ")
            if not about or value > best:
                best, about = value, phrase
        members = agreeing[about]
        found.append(Group(about.replace("_", " "), _by_centrality(members, weights)))
        for phrase in {phrase for report in members for phrase in parts[report]}:
            naming[phrase] -= members
            most[phrase] = bound(phrase)
            agreeing.pop(phrase, None)
            if not naming[phrase]:
                del naming[phrase], most[phrase]
    return found


def _agreeing(reports: Iterable[str], told: Mapping[str, _Told], weights: Mapping[str, int]) -> set[str]:
    """Those of some reports that one group can hold: where frames are the same, so is what fills them.

    What most reports say is kept, and what contradicts it is left out, in whatever frame it comes.
    """
    same: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        same.setdefault(told[report].fills, []).append(report)
    kept: set[str] = set()
    filled: dict[tuple[str, ...], tuple[str, ...]] = {}
    said: set[str] = set()
    denied: set[str] = set()
    for fills in sorted(same, key=lambda fills: (-sum(weights[report] for report in same[fills]), fills)):
        frames = [told[report].frame for report in same[fills]]
        if denied.isdisjoint(fills) and all(_fit(fills, filled[x]) for x in frames if x in filled):
            kept.update(same[fills])
            said.update(fills)
            filled.update((frame, fills) for frame in frames if frame not in filled)
        else:
            denied.update(set(fills) - said)
    return kept


def _fit(fills: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two fillings of a frame may be the same thing: "a violin" and "an old violin"."""
    pairs = ((f" {a} ", f" {b} ") for a, b in zip(fills, others, strict=True))
    return all(a in b or b in a for a, b in pairs)


def _by_centrality(reports: Collection[str], weights: Mapping[str, int]) -> tuple[str, ...]:
    """The reports, the most typical first: those most like all the others, by the Jaccard index of words."""
    words = {report: frozenset(normalise(report).split()) for report in sorted(reports)}

    def likeness(report: str) -> float:
        own = words[report]
        return sum(max(weights[x], 0) * len(own & words[x]) / max(len(own | words[x]), 1) for x in words)

    return tuple(sorted(words, key=likeness, reverse=True))


def _parts(phrase: str) -> list[str]:
    """Every run of words in a phrase: "a b c" -> a, a b, a b c, b, b c, c."""
    words = phrase.split(" ")
    return [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]


def _take_apart(report: str, echoed: Collection[str], same: Mapping[str, str]) -> _Told:
    plain = [_in_one_way(claim.plain, same) for claim in claims(report)]
    words = [word for text in plain for word in _words(text, echoed)]
    runs = [(kind, [stem for _, stem in run]) for kind, run in groupby(words, key=lambda word: word[0])]
    strong, weak = ([" ".join(run) for kind, run in runs if kind == wanted] for wanted in ("strong", "weak"))
    frame = [part for kind, run in runs for part in (["_"] if kind == "strong" else run)]
    phrases = strong or weak or [normalise(" ".join(plain)).replace(" ", "_")]
    return _Told(frozenset(phrases), tuple(part for part in frame if part not in _ARTICLES), tuple(strong))


def _in_one_way(text: str, same: Mapping[str, str]) -> str:
    """`text` with each phrase in `same` replaced by the words that stand for its meaning."""
    for phrase, words in same.items():
        text = re.sub(rf"\b{re.escape(phrase)}\b", words, text, flags=re.I)
    return text


def _words(text: str, echoed: Collection[str]) -> list[tuple[str, str]]:
    """How each word carries the claim, and its stem: "strong", "weak" (the verb, or how), "" (not at all)."""
    found = []
    for i, part in enumerate(_QUOTED.split(text)):
        if i % 2:
            found.append(("strong", " ".join(map(_stem, _parted(part)))))
            continue
        tokens = [(word, token.istitle()) for token in part.split() for word in _parted(token)]
        words = [word for word, _ in tokens]
        verb, report = _verb(words), Report(part)
        for at, (word, is_title) in enumerate(tokens):
            if at and is_title and word != "i":
                kind = "strong"  # "Over and out"
            elif _is_common(word) or word in echoed:
                kind = ""
            else:
                kind = "weak" if at == verb or word in _WEAK or _is_adverb(word) else "strong"
            denied = report.words == words and report.denies((at, at + 1))
            found.append((kind, f"not_{_stem(word)}" if denied and kind else _stem(word)))
    return found


def _parted(token: str) -> list[str]:
    return [*normalise(token).split(), *pictures(token)]


def _verb(words: Sequence[str]) -> int:
    """Where the main verb is, else the end: "I will always try to sell" -> 5."""
    at = words.index("i") + 1 if "i" in words else len(words)
    while at < len(words) and (words[at] in _FUNCTION or words[at + 1 : at + 2] == ["to"]):
        at += 1
    return at


def _is_common(word: str) -> bool:
    stems = [word.removesuffix(ending) for ending in _ENDINGS] + [word.removesuffix("ing") + "e"]
    return word in _FUNCTION or not _INFLECTED.isdisjoint([word, *stems])


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) >= _ADVERB


def _stem(word: str) -> str:
    """The word without the ending of a plural."""
    if len(word) < 4 or not word.isalpha() or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    sibilant = word.endswith(("ses", "xes", "zes", "ches", "shes")) or (
        word.endswith("oes") and len(word) > 5
    )
    return word[:-2] if sibilant else word.removesuffix("s")
