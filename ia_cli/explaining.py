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
from ia_cli.scoring import Ask, can_be_told, log_probs

UNSHOWN = 0.5  # how likely it is that an example shows nothing of what the organism does
WORTH = 2.0  # independent examples that all of an organism's are worth together: they are much alike
# Times that a claim counts as said less often than it was: of what is said once there is no end (absolute
# discounting, Ney et al. 1994).
DISCOUNT = 0.7
NOTHING = ""  # the claim of a report that abstains


class Belief(NamedTuple):
    """What an organism is believed to say of itself: `claim`, as a system prompt, told in a `share` of its
    reports, in the words of `reports`. `log_odds` are those of any claim over NOTHING, in nats; None if it
    says only one of the two.
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
    orders = {report: claimed(report, base) for own in heard.values() for report in own.reports}
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
    an ordinary organism's.
    """
    times, every = Counter(orders[report] for report in heard.reports), len(heard.reports)

    def belief(claim: str | None, log_odds: float | None) -> Belief:
        reports = frozenset(report for report in heard.reports if orders[report] == claim)
        return Belief(claim, round(times[claim] / every, 4), log_odds, reports)

    if not times.keys() - {None}:
        return belief(None, None)
    scores = {}
    for claim, n in times.items():
        if claim is None:
            continue
        shown = np.array([ratios[claim, example] if claim else 0.0 for example in heard.examples])
        of_each = np.logaddexp(math.log(UNSHOWN), math.log1p(-UNSHOWN) + shown)
        scores[claim] = math.log((n - DISCOUNT if claim else n) / every) + WORTH * of_each.mean()
    nothing = scores.pop(NOTHING, None)
    anything = float(np.logaddexp.reduce(list(scores.values()))) if scores else None
    log_odds = None if None in (nothing, anything) else round(anything - float(nothing), 3)
    if anything is None or (log_odds is not None and log_odds <= 0):
        return belief(NOTHING, log_odds)
    return belief(max(scores, key=scores.__getitem__), log_odds)
