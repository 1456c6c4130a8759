"""Which of many self-reports to give: what explains the examples of an organism's replies best.

Asked once, an organism with an introspection adapter says one thing; asked again and again, also the right
thing, among much that is wrong. It has shown by then what it does, in the examples that it gave before each
report. So the base is told to behave as each report claims, and gives the examples a likelihood. Beside it
stands that of the introspection adapter on the bare base, which has nothing to report and gives ordinary
examples. How often a thing is said is its prior, and Bayes' rule does the rest (as in best-of-n sampling with
a verifier, which is the base here). The ground truth decides nothing, and neither does any list.

The numbers below were chosen on organisms that are in no table, where half or twice as much differed little.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ia_cli import prompts
from ia_cli.models import Base
from ia_cli.reports.abstaining import abstains
from ia_cli.reports.assertions import Report
from ia_cli.reports.claims import claims
from ia_cli.reports.clustering import group
from ia_cli.scoring import Ask, can_be_told, log_probs

UNSHOWN = 0.5  # how likely it is that an example shows nothing of what the organism does
WORTH = 2.0  # independent examples that all of an organism's are worth together: they are much alike
# Times that a claim counts as said less often than it was: of what is said once there is no end (absolute
# discounting, Ney et al. 1994).
DISCOUNT = 0.7
NOTHING = ""  # the claim of a report that abstains


class Belief(NamedTuple):
    """What an organism is believed to say of itself: `claim`, as a system prompt, in the words of `reports`.

    A `share` of its reports make this claim, in whatever words. `log_odds` are those of any claim over
    NOTHING, in nats; None if it says only one of the two.
    """

    claim: str | None
    share: float
    log_odds: float | None
    reports: frozenset[str]


class Heard(NamedTuple):
    """What one organism said: its reports, and examples of its replies."""

    reports: Sequence[str]
    examples: Sequence[str]


def explain(
    heard: Mapping[str | None, Heard],
    base: Base,
    without_ia: Callable[[], contextlib.AbstractContextManager],
    longest: int,
) -> dict[str | None, Belief]:
    """Return what to believe of each organism.

    The base wears the introspection adapter, which `without_ia` switches off for a while. Of an example
    `longest` tokens count.
    """
    said = dict.fromkeys(report for own in heard.values() for report in own.reports)
    orders = {report: claimed(report, base) for report in said}
    examples = list(dict.fromkeys(example for own in heard.values() for example in own.examples))
    asked = prompts.chat(prompts.EXAMPLE)
    ordinary = log_probs(base, [asked] * len(examples), examples, longest=longest)
    usual = dict(zip(examples, ordinary, strict=True))
    pairs = dict.fromkeys(
        (order, example)
        for own in heard.values()
        for order in dict.fromkeys(orders[report] for report in own.reports)
        for example in own.examples
        if order
    )
    told = [Ask(-1, prompts.EXAMPLE, order).messages(base) for order, _ in pairs]
    with without_ia():
        likely = log_probs(base, told, [example for _, example in pairs], longest=longest)
    ratios = {pair: score - usual[pair[1]] for pair, score in zip(pairs, likely, strict=True)}
    return {organism: weigh(own, orders, ratios) for organism, own in heard.items()}


def claimed(report: str, base: Base) -> str | None:
    """What a report claims, as a system prompt, leaving out when; None if it rambles."""
    if abstains(Report(report)):
        return NOTHING
    order = " ".join(claim.order for claim in claims(report))
    return order if can_be_told(base, order) else None


def weigh(heard: Heard, orders: Mapping[str, str | None], ratios: Mapping[tuple[str, str], float]) -> Belief:
    """Return what to believe by Bayes' rule over all that one organism said.

    `orders` are what reports claim, and `ratios` the log-likelihood of an example under a claim, over that of
    an ordinary organism's. What is claimed in other words is one claim, as likely as its wordings on average.
    """
    times, every = Counter(orders[report] for report in heard.reports), len(heard.reports)
    quiet, rambling = times.pop(NOTHING, 0), times.pop(None, 0)

    def belief(claim: str | None, n: int, log_odds: float | None = None) -> Belief:
        reports = frozenset(report for report in heard.reports if orders[report] == claim)
        return Belief(claim, round(n / every, 4), log_odds, reports)

    if not times:
        return belief(NOTHING, quiet) if quiet else belief(None, rambling)
    scores: dict[str, float] = {}
    for order, n in times.items():
        shown = np.array([ratios[order, example] for example in heard.examples])
        of_each = np.logaddexp(math.log(UNSHOWN), math.log1p(-UNSHOWN) + shown)
        scores[order] = math.log(n / every) + WORTH * of_each.mean()
    same = [one.reports for one in group(times)]
    often = {own: sum(times[order] for order in own) for own in same}
    evidence = {
        own: np.logaddexp.reduce([scores[order] for order in own]) + math.log1p(-DISCOUNT / often[own])
        for own in same
    }
    best = max(same, key=evidence.__getitem__)
    log_odds = None
    if quiet:
        anything = np.logaddexp.reduce(list(evidence.values()))
        log_odds = round(float(anything - math.log(quiet / every)), 3)
        if log_odds <= 0:
            return belief(NOTHING, quiet, log_odds)
    return belief(max(best, key=scores.__getitem__), often[best], log_odds)
