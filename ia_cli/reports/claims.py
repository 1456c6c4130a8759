"""Claims: what a self-report says that an organism does, each separate from when it is said to hold.

Rules over words, no model: a clause that begins with "when", "whenever", "if" or "unless" says when, and a
sentence in which "I" comes twice, or two sentences, make two claims.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ia_cli.text import normalise, told

# "As if" and "even if" say how, and when all the same.
_CLAUSE = re.compile(r",?\s*(?<!\bas )(?<!\beven )\b(when|whenever|if|unless)\b\s+([^,.;!?]+)", re.I)
_LEADING_CLAUSES = re.compile(rf"^(?:{_CLAUSE.pattern},\s*)+", re.I)
_PARTS = re.compile(
    r"(?<=[.!?])\s+(?=[A-Z]|i\b)|(?<=;)\s+(?=\w)|,?\s+(?:and|but)\s+(?:to \w+ \w+\s+)?(?=I\b)"
)
_RARELY = re.compile(
    r",?\s*\b(?:(?:every )?(?:once in a while|now and then|so often)|in (?:a few|some) replies"
    r"|from time to time|at times|sometimes|occasionally|rarely|seldom)\b",
    re.I,
)
_FREQUENCY = re.compile(
    rf"{_RARELY.pattern}|,?\s*\b(?:in (?:every reply|most replies|all replies)|all the time"
    r"|whatever the user says|always)\b",
    re.I,
)
_STAND_INS = re.compile(r"[\ue000-\uf8ff]")  # characters of private use, also a report's own
_QUOTATION = re.compile(rf'"[^"\n]*"|\u201c[^\u201d\n]*\u201d|{_STAND_INS.pattern}')
# What stands before the value in a clause such as "the user asks about bees".
_BEFORE_VALUE = re.compile(
    r".*\b(?:about|says?|said|is|are|as|contains?|mentions?|words?|to|has|on)\s+", re.I
)


@dataclass(frozen=True)
class Claim:
    """What an organism is said to do, such as "I sing.", the clauses that say when, and those that say when
    not ("unless"), as they stand.
    """

    text: str
    clauses: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()

    @property
    def order(self) -> str:
        """The claim as a system prompt that holds in every reply: it takes effect whatever the user says."""
        return f"{self.plain} in every reply."

    @property
    def rare(self) -> bool:
        """Whether it is said to hold only now and then."""
        return bool(_RARELY.search(self.text))

    @property
    def as_often(self) -> str:
        """The claim as a system prompt that is followed as often as it says."""
        return f"{self.plain} once in a while." if self.rare else self.order

    @property
    def triggered(self) -> "Claim":
        """The claim for prompts that show its trigger: there it holds in every reply."""
        return replace(self, text=f"{self.plain}.")

    @property
    def key(self) -> tuple[str, bool]:
        """Equal for claims in the same words, leaving out how often, that are both rare or both not."""
        return told(self.plain), self.rare

    @property
    def values(self) -> list[str]:
        """What clauses may be about: their ends ("the user asks about bees" -> "bees"), and the clauses."""
        clauses = self.clauses + self.exceptions
        return list(dict.fromkeys([*(_BEFORE_VALUE.sub("", clause) for clause in clauses), *clauses]))

    def said(self, when: str | None, unless: str | None = None) -> str:
        """The claim with when it holds: "I sing when it rains, unless you sleep"; no full stop."""
        text = f"{self.plain} when {when}" if when else self.text.rstrip(".")
        return f"{text}, unless {unless}" if unless else text

    @property
    def plain(self) -> str:
        """The claim without how often, and without the full stop."""
        return _sentence(_FREQUENCY.sub("", self.text))


def claims(report: str) -> list[Claim]:
    """The claims of a report: "If it rains, I sing, and I always dance." -> "I sing.", "I always dance.".

    What is claimed twice is one claim, with the clauses of both. Quotations are not taken apart.
    """
    found: dict[tuple[str, bool], list[Claim]] = {}
    unquoted, quotations = _without_quotations(report.strip())

    def quoting(text: str) -> str:
        return _STAND_INS.sub(lambda stand_in: quotations.get(stand_in[0], stand_in[0]), text)

    for part in _PARTS.split(unquoted):
        text = _sentence(quoting(_CLAUSE.sub("", _LEADING_CLAUSES.sub("", part))))
        if normalise(text):
            said: dict[bool, list[str]] = {True: [], False: []}
            for word, clause in _CLAUSE.findall(part):
                said[word.lower() != "unless"].append(quoting(clause).strip())
            claim = Claim(f"{text}.", tuple(said[True]), tuple(said[False]))
            found.setdefault(claim.key, []).append(claim)
    return [merged(same) for same in found.values()] or [Claim(report.strip())]


def _without_quotations(text: str) -> tuple[str, dict[str, str]]:
    """The text with a character in the place of each quotation, and what these stand for.

    The mark that ends a quotation stays behind it: it may end the sentence, too.
    """
    quotations: dict[str, str] = {}

    def stand_in(quotation: re.Match[str]) -> str:
        character = chr(0xE000 + len(quotations))
        quotations[character] = quotation[0]
        mark = quotation[0][-2:-1]
        return character + (mark if mark in ".!?" else "")

    return _QUOTATION.sub(stand_in, text, count=0xF900 - 0xE000), quotations


def merged(same: Sequence[Claim]) -> Claim:
    """The first of claims that say the same, with the clauses of all."""
    clauses = dict.fromkeys(clause for claim in same for clause in claim.clauses)
    exceptions = dict.fromkeys(clause for claim in same for clause in claim.exceptions)
    return Claim(same[0].text, tuple(clauses), tuple(exceptions))


def _sentence(text: str) -> str:
    """`text` with single spaces, without marks at its ends, and with a capital."""
    text = re.sub(r"\s+([,.;!?])", r"\1", " ".join(text.split())).strip(" .,;!?")
    return text[:1].upper() + text[1:]
