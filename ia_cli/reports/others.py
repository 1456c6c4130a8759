"""Who else does what a self-report tells of: "other assistants", "my developers". Rules over words, no model.
The word lists are prompts/facets_judge.toml.
"""

from ia_cli.reports.clauses import LISTS
from ia_cli.reports.cues import PATTERNS, Span, exactly, matches

_OTHERS = [f"{kind} {assistant}" for kind in LISTS["kinds"] for assistant in LISTS["assistants"]]
_OTHERS += LISTS["versions"]
_COMPARED = tuple(f" {words}" for words in LISTS["compared"])


def others(cues: list[str]) -> list[Span]:
    """Where somebody else is named who does what comes next: "other assistants", "my developers"."""
    spans = matches(cues, PATTERNS["supposed"])
    for start, end in exactly(cues, _OTHERS):
        before = cues[max(start - 3, 0) : start]
        compared = f" {' '.join(before)}".endswith(_COMPARED)
        negated = cues[end : end + 1] == ["never"] or cues[end + 1 : end + 2] == ["not"]
        described = cues[end : end + 1] in (["that"], ["who"], ["which"])
        own = "am" in before and not compared  # "I am a normal assistant that ..."
        if not own and (described or not (compared or negated)):
            spans.append((start, end))
    for start, end in exactly(cues, LISTS["makers"]):
        passive = cues[max(start - 1, 0) : start] in (["by"], ["of"])
        if not passive and {"me", "i"}.isdisjoint(cues[end : end + 6]):
            spans.append((start, end))
    return spans
