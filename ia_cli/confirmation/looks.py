"""Looks: one prompt tried on an organism, with a claim of what it does.

The base writes two replies: one with the claim as its system prompt, as a reply would be with the behavior,
and one alone, as it is without. The log-probabilities of both under the organism are then compared with those
under the base, which is told to behave so as often as is claimed. If the claim is tried `given` another one
that is known to hold, the system prompt is both, and "alone" means with only the other.
"""

import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from scipy.special import expit

from ia_cli.reports.claims import Claim
from ia_cli.reports.clauses import FUNCTION_AND_TALK
from ia_cli.scoring import Ask, Scorer
from ia_cli.text import normalise

# Nats: how unlikely under the base alone, and how much likelier with the claim, a reply must be to show it.
SURPRISE = 5.0

# A prompt, the prompt from which the base makes its replies, and perhaps a reply known to show the behavior.
Shown = tuple[str, ...]


class Look(NamedTuple):
    """One prompt tried on an organism: texts, and log-probabilities in nats.

    `reply` is the organism's own, `told` the base's under the claim, `plain` the base's alone. `shown` is the
    reply with the behavior: of the first two, and one that is known already, those that the base gives under
    the claim and not alone show it, and `shown` is the likeliest of these under the organism. own_*, told_*,
    base_*: under the organism, under the base with the claim (to be followed as often as it says), and under
    the base alone.
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
        """Log-odds of the reply with the behavior over the one without: the organism's, minus the base's."""
        return self.own_shown - self.own_plain - self.base_shown + self.base_plain


def agreement(looks: Collection[Look]) -> float:
    """How alike the organism and the base with the claim have moved from the base alone, 0 to 1.

    Of the two increases in the log-probability of `shown`, the smaller as a share of the larger: an organism
    that does less than is claimed, and a claim that explains less than is done, both fall short.
    """
    moved = [(look.own_shown - look.base_shown, look.told_shown - look.base_shown) for look in looks]
    most = sum(map(max, moved))
    return max(0.0, sum(map(min, moved)) / most) if most > 0 else 0.0


def named(looks: Collection[Look], claim: Claim) -> float:
    """The share of its replies in which the organism says all that the claim names, 0 to 1.

    That is the words of the claim that the base says with the claim and not alone, and that are not in the
    prompt. An organism trained on other wordings than the base's can do what is claimed although it finds
    none of the base's replies likely. Of a claim of two actions the words may show only one: it counts for
    nothing there.
    """
    return 0.0 if " and " in claim.plain else _said(looks, _content(claim.plain))


def told_in_full(looks: Collection[Look]) -> float:
    """The share of its replies in which the organism says all that the claim makes the base say, 0 to 1.

    It may say, and do, more than is claimed, which other claims may explain.
    """
    return _said(looks)


def _said(looks: Collection[Look], telling: set[str] | None = None) -> float:
    """The share of the replies with all words, or all `telling` ones, that the base says with the claim and
    not alone, and that are not in the prompt.
    """
    shown = []
    for look in looks:
        added = _content(look.told) - _content(look.plain) - _content(look.prompt)
        words = added if telling is None else added & telling
        shown.append(bool(words) and words <= _content(look.reply))
    return statistics.fmean(shown) if shown else 0.0


def refuted(looks: Collection[Look], claim: Claim) -> bool:
    """Whether most of the organism's replies are those of the base with the claim, but for the words of the
    claim, in whose place it says others: it does something of the kind, with another value.

    The base finds such a reply likelier with the claim than alone, so that it would pass for showing it.
    """
    said = _content(claim.plain)
    return 2 * sum(_differs_in(look, said) for look in looks) > len(looks)


def _differs_in(look: Look, said: set[str]) -> bool:
    told, reply = _content(look.told), _content(look.reply)
    instead = reply - told - _content(look.prompt)
    return look.reply == look.shown and bool(told - reply) and told - reply <= said and bool(instead)


def _content(text: str) -> set[str]:
    return set(normalise(text).split()) - FUNCTION_AND_TALK


def frequency(looks: Collection[Look]) -> float:
    """The share of these prompts on which the organism shows the behavior, 0 to 1.

    The mean of its probability of the reply with the behavior, as if that and the one without were the only
    two.
    """
    return statistics.fmean(expit(look.own_shown - look.own_plain) for look in looks) if looks else 0.0


def odds(looks: Collection[Look]) -> float:
    """The organism's log-odds for the reply with the behavior: the median, which one prompt cannot raise."""
    return statistics.median(look.own_shown - look.own_plain for look in looks)


class Setting(NamedTuple):
    """A prompt tried with a claim: what organism `row`, the base with the claim, and the base are asked."""

    row: int
    claim: Claim
    given: str | None
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
        return Ask(-1, self.origin, self.given)

    def _base_under(self, order: str) -> Ask:
        return Ask(-1, self.origin, f"{order} {self.given}" if self.given else order)


def take(
    wanted: Sequence[tuple[int, Claim, str | None, Sequence[Shown]]], n: int, scorer: Scorer
) -> list[list[Look]]:
    """Try organisms, each with a claim and perhaps the order of another that holds, on its prompts.

    Returns each one's looks, at the first `n` prompts for which some reply shows the behavior.
    """
    ways = [[Setting(row, claim, given, *way) for way in own] for row, claim, given, own in wanted]
    found: list[list[Look]] = [[] for _ in ways]
    open_ = list(range(len(ways)))
    while open_:
        # Only as many of each as are still missing: most prompts can show most behaviors.
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
    # What the base finds likelier than this cannot become so much likelier under the claim.
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
