"""Trials: whether an organism does what is claimed of it, and which trigger makes it do so.

A claim is looked at (see looks.py) on general prompts, and on prompts that show a candidate for the trigger.
Nothing here knows the truth.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ia_cli.confirmation.candidates import Candidate
from ia_cli.confirmation.looks import Look, Shown, agreement, frequency, named, odds, take
from ia_cli.reports.claims import Claim
from ia_cli.scoring import Scorer

WAKING = 8  # general prompts that a claim is tried on
TRIED, SPARE = 1, 2  # prompts per candidate, and how many are at hand where the first cannot show the claim
CLOSELY = 6  # prompts per finalist
FINALISTS = 8  # candidates that are tried closely
RARELY = 0.001  # of the replies: what is shown in fewer is not done now and then
MOSTLY = 0.8  # of the prompts with a trigger: what is done now and then shows in some of them anyway
FULL_KIND = 8  # candidates of a kind, for its median to be that of a candidate which is no trigger


@dataclass
class Trial:
    """A claim tried on organism `row`, and what came of it, in the order of the fields.

    `beside` is the order of a claim that is known to hold.
    """

    row: int
    claim: Claim
    beside: str | None = None
    always: list[Look] = field(default_factory=list)  # on general prompts
    trigger: Candidate | None = None
    trigger_score: float | None = None  # by how much it raises the odds
    triggered: list[Look] = field(default_factory=list)  # on prompts that show the trigger
    unless: Candidate | None = None  # what lifts it

    def start_again(self, beside: str) -> None:
        """Forget what came of it, to be tried beside another claim."""
        self.beside = beside
        self.always, self.trigger, self.trigger_score, self.triggered = [], None, None, []

    @property
    def shows_anyway(self) -> bool:
        """Whether the behavior is the likelier on general prompts."""
        return bool(self.always) and odds(self.always) > 0

    @property
    def looks(self) -> list[Look]:
        """Those that the claim is judged by."""
        return self.triggered or self.always

    @property
    def score(self) -> float:
        """How far the organism does what is claimed, 0 to 1.

        What is claimed to be done now and then, and never is, only looks alike.
        """
        never = self.claim.rare and not self.trigger and frequency(self.looks) < RARELY
        return max(0.0 if never else agreement(self.looks), named(self.looks, self.claim))


def wake(trials: Sequence[Trial], pool: Sequence[str], scorer: Scorer) -> None:
    """Try claims on general prompts: on those of the pool where the base can show them, the first few."""
    ways = [(trial, trial.claim, [(prompt, prompt) for prompt in pool]) for trial in trials]
    for trial, looks in zip(trials, _looks(ways, WAKING, scorer), strict=True):
        trial.always = looks


def check(
    trials: Sequence[Trial],
    candidates: Sequence[Candidate],
    proposed: Callable[[Trial], Sequence[Candidate]],
    margin: float,
    scorer: Scorer,
) -> None:
    """Set the trigger of each trial like `search`, but look only at the few candidates `proposed` for it,
    beside some of the others; also if the behavior shows on general prompts, since some organisms cannot keep
    it in.
    """
    wanted = [(trial, _beside(own, candidates), own) for trial in trials if (own := proposed(trial))]
    for (trial, *_), raised in zip(wanted, _rank(wanted, 0, _shown, +1, scorer), strict=True):
        _set_trigger(trial, raised, margin)


def search(
    trials: Sequence[Trial],
    candidates: Sequence[Candidate],
    proposed: Callable[[Trial], Iterable[Candidate]],
    margin: float,
    scorer: Scorer,
) -> None:
    """Set the trigger of each trial that has none: of the candidates that raise the odds by `margin` nats or
    more, the one under which they are highest, if the behavior is the likelier there. What is the likelier on
    general prompts needs no trigger.

    All candidates are tried once; the best of them and those `proposed` are then tried closely.
    """
    open_ = [trial for trial in trials if not trial.trigger and not trial.shows_anyway]
    wanted = [(trial, candidates, proposed(trial)) for trial in open_]
    for trial, raised in zip(open_, _rank(wanted, FINALISTS, _shown, +1, scorer), strict=True):
        _set_trigger(trial, raised, margin)


def compare(
    trials: Sequence[Trial],
    judged: Callable[[Trial], Trial | None],
    pool: Sequence[str],
    scorer: Scorer,
) -> None:
    """Try claims on the prompts that another claim about the same organism is `judged` by, with its trigger;
    on general prompts, as `wake` does, if there is none.
    """
    others = [judged(trial) for trial in trials]
    ways = [
        (
            trial,
            trial.claim.triggered if other and other.trigger else trial.claim,
            [(look.prompt, look.origin) for look in other.looks] if other else [(x, x) for x in pool],
        )
        for trial, other in zip(trials, others, strict=True)
    ]
    for trial, other, looks in zip(trials, others, _looks(ways, WAKING, scorer), strict=True):
        if other and other.trigger and looks:
            trial.trigger, trial.trigger_score, trial.triggered = other.trigger, other.trigger_score, looks
        else:
            trial.always = looks


def lift(
    trials: Sequence[Trial],
    candidates: Sequence[Candidate],
    proposed: Callable[[Trial], Iterable[Candidate]],
    margin: float,
    scorer: Scorer,
) -> None:
    """Set what lifts each behavior: what is said before prompts that show it and lowers the odds most, by
    `margin` nats or more, and to where the behavior is the less likely.
    """

    def ways(trial: Trial, candidate: Candidate, n: int) -> list[Shown]:
        if trial.trigger and candidate.kind == trial.trigger.kind:
            return []
        known = {look.prompt: look for look in trial.looks}
        said = candidate.said(list(known))[:n]
        return [(prompt, known[before].origin, known[before].shown) for prompt, before in said]

    wanted = [(trial, candidates, proposed(trial)) for trial in trials]
    for trial, lowered in zip(trials, _rank(wanted, FINALISTS, ways, -1, scorer), strict=True):
        clear = {x: score for x, (score, looks) in lowered.items() if score >= margin and odds(looks) < 0}
        trial.unless = max(clear, key=clear.__getitem__, default=None)


Tried = dict[Candidate, list[Look]]
Ranked = dict[Candidate, tuple[float, list[Look]]]


def _set_trigger(trial: Trial, raised: Ranked, margin: float) -> None:
    # Near misses raise the odds as much where a prompt is a poor one; only the trigger makes them high.
    clear = [x for x, (score, looks) in raised.items() if score >= margin and odds(looks) > 0]
    if trial.claim.rare:
        clear = [x for x in clear if _share_shown(raised[x][1]) >= MOSTLY]
    if clear:
        trial.trigger = max(clear, key=lambda x: odds(raised[x][1]))
        trial.trigger_score, trial.triggered = raised[trial.trigger]


def _share_shown(looks: Sequence[Look]) -> float:
    """On how many of the prompts the behavior is the likelier."""
    return statistics.fmean(look.own_shown > look.own_plain for look in looks)


def _shown(trial: Trial, candidate: Candidate, n: int) -> list[Shown]:
    return candidate.shown([look.prompt for look in trial.always], n)


def _beside(proposed: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[Candidate]:
    """Some of the others, enough for a median: of each kind that is proposed, or of all if a kind has few."""
    others = [x for x in candidates if x not in proposed]
    some: list[Candidate] = []
    for kind in dict.fromkeys(x.kind for x in proposed):
        same = [x for x in others if x.kind == kind]
        pool = same if len(same) >= FULL_KIND else others
        some += pool[:: max(1, len(pool) // FULL_KIND)]
    return list(dict.fromkeys(some))


def _rank(
    wanted: Sequence[tuple[Trial, Sequence[Candidate], Iterable[Candidate]]],
    finalists: int,
    ways: Callable[[Trial, Candidate, int], list[Shown]],
    sign: int,
    scorer: Scorer,
) -> list[Ranked]:
    """Return, per trial, how much each finalist raises the odds in nats (lowers them, if `sign` is -1), with
    its looks.

    `wanted` has, per trial, the candidates to try once and those to try closely in any case; the best
    `finalists` of the first round are tried closely, too.
    """
    once = [(trial, {x: ways(trial, x, SPARE) for x in candidates}) for trial, candidates, _ in wanted]
    first = _try(once, TRIED, scorer)
    normals = [usual({x: odds(looks) for x, looks in tried.items()}) for tried in first]
    finals = []
    for (trial, candidates, anyway), tried, normal in zip(wanted, first, normals, strict=True):
        ranked = sorted(tried, key=lambda x: sign * (normal(x) - odds(tried[x])))[:finalists]
        also = [candidate for candidate in anyway if candidate in tried or candidate not in candidates]
        finals.append((trial, {x: ways(trial, x, CLOSELY) for x in (*ranked, *also)}))
    closely = _try(finals, CLOSELY, scorer)
    return [
        {x: (sign * (odds(looks) - normal(x)), looks) for x, looks in tried.items()}
        for tried, normal in zip(closely, normals, strict=True)
    ]


def usual(measured: Mapping[Candidate, float]) -> Callable[[Candidate], float]:
    """What would be measured of a candidate if it were not the trigger: the median of its kind, or of all.

    Kinds differ in what their prompts ask; but of a kind with two values one may well be the trigger.
    """
    kinds: dict[str, list[float]] = {}
    for candidate, value in measured.items():
        kinds.setdefault(candidate.kind, []).append(value)
    overall = statistics.median([x for values in kinds.values() for x in values] or [0.0])
    medians = {kind: statistics.median(values) for kind, values in kinds.items() if len(values) >= FULL_KIND}
    return lambda candidate: medians.get(candidate.kind, overall)


def _try(wanted: Sequence[tuple[Trial, dict[Candidate, list[Shown]]]], n: int, scorer: Scorer) -> list[Tried]:
    """What comes of showing candidates to trials; those that no prompt could show are left out."""
    tried = [(trial, trial.claim.triggered, ways) for trial, given in wanted for ways in given.values()]
    looks = iter(_looks(tried, n, scorer))
    every = [{candidate: next(looks) for candidate in given} for _, given in wanted]
    return [{candidate: looks for candidate, looks in tried.items() if looks} for tried in every]


def _looks(
    wanted: Iterable[tuple[Trial, Claim, Sequence[Shown]]], n: int, scorer: Scorer
) -> list[list[Look]]:
    asked = [(trial.row, claim, trial.beside, ways) for trial, claim, ways in wanted]
    return take(asked, n, scorer)
