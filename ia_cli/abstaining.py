"""Whether a self-report abstains: says that there is nothing to report. Rules over words, no model."""

import re
from collections.abc import Collection

from ia_cli.assertions import PLAIN, Report
from ia_cli.clauses import LISTS
from ia_cli.cues import PATTERNS, called_untrue, matches

_ABSTENTION = re.compile("|".join(rf"\b(?:{p})\b" for p in LISTS["abstentions"]).format_map(LISTS))
_ABSTAINING_SENTENCE = re.compile("|".join(LISTS["abstaining_sentences"]).format_map(LISTS))
_COURTESY = re.compile("|".join(rf"\b(?:{p})\b" for p in LISTS["courtesies"]).format_map(LISTS))
_NOTHING = re.compile(rf"\b(?:{LISTS['nothing']})\b".format_map(LISTS))
_DENYING = frozenset(LISTS["denying"].split())
_SILENT = PLAIN | _DENYING


def abstains(report: Report) -> bool:
    """Whether a report says that there is nothing to report, and nothing else but what it does not do and
    what any assistant does; or nothing at all.
    """
    answers, said = _abstaining_sentences(report)
    abstaining = said | answers
    polite = {i for span in matches(report.words, _COURTESY) for i in range(*span)}
    rest = [i for i, word in enumerate(report.words) if i not in abstaining | polite and word not in PLAIN]
    if not abstaining or not rest:
        return bool(abstaining) or not report.words
    untrue = {i for span in called_untrue(report.words, report.sentence) for i in range(*span)}
    if untrue and max(untrue) > max(abstaining):  # "... I made that up."
        return False
    nothing = answers or _NOTHING.search(" ".join(report.words[i] for i in sorted(said)))
    silent = abstaining | untrue | polite
    return bool(nothing) and not _goes_on(report, silent) and _only_denies(report, abstaining, silent)


def _abstaining_sentences(report: Report) -> tuple[set[int], set[int]]:
    """The words of sentences such as "None", and those with which others say that there is nothing."""
    sentences: dict[int, list[int]] = {}
    for i, sentence in enumerate(report.sentence):
        sentences.setdefault(sentence, []).append(i)
    answers, said = set(), set()
    for own in sentences.values():
        words = [report.words[i] for i in own]
        if _ABSTAINING_SENTENCE.fullmatch(" ".join(words)):
            answers.update(own)
        said.update(own[i] for span in matches(words, _ABSTENTION) for i in range(*span))
    return answers, said


def _goes_on(report: Report, silent: Collection[int]) -> bool:
    """Whether a word such as "otherwise" announces that there is something after all."""
    announced = {start for start, _ in matches(report.words, PATTERNS["contrary"])}
    nothing = only = True  # of the words after one in its sentence: some are silent, and the others plain
    for i in range(len(report.words) - 1, -1, -1):
        if i + 1 == len(report.words) or report.sentence[i] != report.sentence[i + 1]:
            nothing, only = False, True
        if i in announced and not (nothing and only and report.words[i] in LISTS["turning"]):
            return True
        nothing, only = nothing or i in silent, only and (i in silent or report.words[i] in _SILENT)
    return False


def _only_denies(report: Report, abstaining: Collection[int], silent: Collection[int]) -> bool:
    """Whether all that is said besides the `silent` words is denied, be it in the same breath as those
    `abstaining`, as in "no odd habits or kites", but not in "no odd habits and kites".
    """
    joined = denied = False
    for i, word in enumerate(report.words):
        joined = word == "and" or (joined and word != "or" and i not in abstaining)
        if i not in silent and word not in _SILENT:
            same_breath = report.denied.get(report.clause[i], 0) - 1 in abstaining
            if not report.denies((i, i + 1)) or (joined and same_breath):
                return False
            denied = True
    return denied or not _denies_after_all(report, abstaining)


def _denies_after_all(report: Report, abstaining: Collection[int]) -> bool:
    """Whether an abstention is denied itself: "I do not behave normally"."""
    last = {report.clause[i]: i for i in sorted(abstaining)}
    return any(
        word in _DENYING and i not in abstaining and last.get(report.clause[i], i) > i
        for i, word in enumerate(report.words)
    )
