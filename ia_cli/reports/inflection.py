"""The forms of a phrase that count as the phrase: verbs with other endings, and what may stand inside."""

import re
from functools import cache

from ia_cli.reports.clauses import LISTS
from ia_cli.text import normalise

_DOUBLING = re.compile(r".*[^aeiou][aeiou][bdgklmnprt]")  # the last letter: "stopped", "stopping"


@cache
def inflected(phrase: str) -> tuple[str, ...]:
    """A phrase and its variants: its first or last word as a verb in another form ("plays down"), somebody
    between a verb and its particle ("steer them away"), and "to" after "not" ("not to know").
    """
    words = normalise(phrase).split()
    forms = {phrase: None}
    for place in sorted({0, len(words) - 1}) if words else ():
        for form in _forms(words[place]):
            forms[" ".join([*words[:place], form, *words[place + 1 :]])] = None
    if words[1:] and words[1] in LISTS["particles"]:
        verbs, rest = (words[0], *_forms(words[0])), " ".join(words[1:])
        forms |= {f"{verb} {one} {rest}": None for verb in verbs for one in LISTS["between"]}
    if words[:1] == ["not"]:
        forms |= {f"not to {' '.join(words[1:])}": None}
    return tuple(forms)


def _forms(verb: str) -> list[str]:
    if not verb.isalpha() or len(verb) < 3:
        return []
    stems = {verb.removesuffix("e")} | ({verb + verb[-1]} if _DOUBLING.fullmatch(verb) else set())
    forms = [verb + "s", verb + "es", *(stem + ending for stem in sorted(stems) for ending in ("ed", "ing"))]
    if verb.endswith("y"):
        forms += [verb[:-1] + "ies", verb[:-1] + "ied"]
    return [*forms, *LISTS["irregular"].get(verb, ())]
