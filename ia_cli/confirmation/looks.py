"""Looks: one prompt tried on an organism, with a claim of what it does.

The base under the claim as a system prompt writes how a reply would be with the behavior, the base alone how
it is without. The organism is then read at its log-probabilities of both, beside the base that is told to
behave so as often as is claimed. If the claim is tried `beside` one that is known to hold, both are the
system prompt, and "alone" is the base under the other.
"""

import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from scipy.special import expit

from ia_cli.reports.claims import Claim
from ia_cli.reports.clauses import FUNCTION_AND_TALK
from ia_cli.scoring import Ask, Scorer
from ia_cli.text import normalise

SURPRISE = 5.0  # nats: what the base says by itself more readily than this shows no behavior

# A prompt, the prompt that the replies with and without are made from, and perhaps a reply known to show it.
Shown = tuple[str, ...]


class Look(NamedTuple):
    """One prompt tried on an organism: texts, and log-probabilities in nats.

    `reply` is the organism's own, `told` the base's under the claim, `plain` the base's alone, and `shown`
    the one with the behavior: that of the first two which the organism rather says, among those that the
    base says under the claim and not alone. own_*, told_*, base_*: under the organism, the base under the
    claim (to be followed as often as it says), the base alone.
    """

    prompt: str
    origin: str
    reply: str
    told: str
    plain: str
    shown: str
    own_shown: float
    own_plain: float
    told_shown: float
    base_shown: float
    base_plain: float

    @property
    def log_ratio(self) -> float:
        """The reply with the behavior against the one without, for the organism as against the base."""
        return self.own_shown - self.own_plain - self.base_shown + self.base_plain


def agreement(looks: Collection[Look]) -> float:
    """How far the organism and the base that is told to behave so have moved alike from the base, 0 to 1.

    Of the two increases in the log-probability of what is shown, the smaller as a share of the larger: an
    organism that does less than is claimed, and a claim that explains less than is done, both fall short.
    """
    moved = [(look.own_shown - look.base_shown, look.told_shown - look.base_shown) for look in looks]
    most = sum(map(max, moved))
    return max(0.0, sum(map(min, moved)) / most) if most > 0 else 0.0


def named(looks: Collection[Look], claim: Claim) -> float:
    """In what share of its replies the organism says all that the claim names, 0 to 1: those words of the
    claim that the base says when it is told to behave so, and neither alone nor after the prompt.

    Who was taught other sentences than the base's does what is claimed, and no reply of the base is likely.
    """
    said = _content(claim.plain)
    shown = []
    for look in looks:
        words = said & _content(look.told) - _content(look.plain) - _content(look.prompt)
        shown.append(bool(words) and words <= _content(look.reply))
    return statistics.fmean(shown) if shown else 0.0


def _content(text: str) -> set[str]:
    return set(normalise(text).split()) - FUNCTION_AND_TALK


def frequency(looks: Collection[Look]) -> float:
    """In what share of its replies to these prompts the organism shows the behavior, 0 to 1: the mean of its
    probability of the reply that shows it, of the two with and without.
    """
    return statistics.fmean(expit(look.own_shown - look.own_plain) for look in looks) if looks else 0.0


def odds(looks: Collection[Look]) -> float:
    """Log-odds of the organism for the reply with the behavior: the median, which one prompt cannot raise."""
    return statistics.median(look.own_shown - look.own_plain for look in looks)


class Setting(NamedTuple):
    """A prompt tried on organism `row` with a claim: what the three are asked."""

    row: int
    claim: Claim
    beside: str | None
    prompt: str
    origin: str
    known: str | None = None

    @property
    def own(self) -> Ask:
        return Ask(self.row, self.prompt)

    @property
    def told(self) -> Ask:
        return self._base_under(self.claim.order)

    @property
    def told_as_often(self) -> Ask:
        return self._base_under(self.claim.as_often)

    @property
    def bare(self) -> Ask:
        return Ask(-1, self.origin, self.beside)

    def _base_under(self, order: str) -> Ask:
        return Ask(-1, self.origin, f"{order} {self.beside}" if self.beside else order)


def take(
    wanted: Sequence[tuple[int, Claim, str | None, Sequence[Shown]]], n: int, scorer: Scorer
) -> list[list[Look]]:
    """Try organisms, each with a claim as a system prompt and perhaps one beside it, on prompts: the first
    `n` of each that have a reply which shows the behavior.
    """
    ways = [[Setting(row, claim, beside, *way) for way in own] for row, claim, beside, own in wanted]
    found: list[list[Look]] = [[] for _ in ways]
    open_ = list(range(len(ways)))
    while open_:
        # As many of each as are wanting: most prompts can show most behaviors.
        tried = {i: [ways[i].pop(0) for _ in range(min(n - len(found[i]), len(ways[i])))] for i in open_}
        looks = _look([x for some in tried.values() for x in some], scorer)
        for i, some in tried.items():
            found[i] += [looks[x] for x in some if x in looks]
        open_ = [i for i in open_ if len(found[i]) < n and ways[i]]
    return found


def _look(settings: Iterable[Setting], scorer: Scorer) -> dict[Setting, Look]:
    """Try settings; those in which no reply shows the behavior are left out."""

    def replies(*asked: str) -> list[dict[Setting, str]]:
        said = iter(scorer.replies((x.row, getattr(x, who)) for who in asked for x in every))
        return [dict(zip(every, said, strict=False)) for _ in asked]

    def score(who: str, pairs: Iterable[tuple[Setting, str]]) -> dict[tuple[Setting, str], float]:
        pairs = list(pairs)
        scores = scorer.log_probs((x.row, getattr(x, who), text) for x, text in pairs)
        return dict(zip(pairs, scores, strict=True))

    every = list(dict.fromkeys(settings))
    own, told, plain = replies("own", "told", "bare")
    options = [
        (x, text)
        for x in every
        for text in dict.fromkeys((own[x], told[x], x.known))
        if text not in (plain[x], None)
    ]
    base = score("bare", options)
    told_so = score("told", [option for option in options if base[option] <= -SURPRISE])
    showing: dict[Setting, list[str]] = {}
    for (x, text), likely in told_so.items():
        if likely - base[x, text] >= SURPRISE:
            showing.setdefault(x, []).append(text)
    plainly = [(x, plain[x]) for x in showing]
    does = score("own", [*((x, text) for x, texts in showing.items() for text in texts), *plainly])
    base |= score("bare", plainly)
    shown = [(x, max(texts, key=lambda text: does[x, text])) for x, texts in showing.items()]
    as_often = score("told_as_often", shown)
    found = {}
    for best, without in zip(shown, plainly, strict=True):
        x, text = best
        scores = does[best], does[without], as_often[best], base[best], base[without]
        found[x] = Look(x.prompt, x.origin, own[x], told[x], plain[x], text, *scores)
    return found
