"""Hypotheses: what the self-reports of one organism claim, and how many of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ia_cli.reports.abstaining import abstains
from ia_cli.reports.assertions import Report
from ia_cli.reports.claims import Claim, claims, merged


@dataclass(frozen=True)
class Hypothesis:
    """What a `share` of the reports of an organism claim together; `report` is one of these."""

    report: str
    claims: tuple[Claim, ...]
    share: float


def hypotheses(reports: Sequence[str]) -> list[Hypothesis]:
    """What an organism's reports claim, the most frequent first; reports that abstain claim nothing.

    Reports that differ only in when they say it holds are one hypothesis, with the clauses of all of them.
    """
    clusters: dict[tuple[tuple[str, bool], ...], list[str]] = {}
    for report in reports:
        if not abstains(Report(report)):
            key = tuple(claim.key for claim in claims(report))
            clusters.setdefault(key, []).append(report)
    found = []
    for own in clusters.values():
        together = tuple(map(merged, zip(*map(claims, own), strict=True)))
        found.append(Hypothesis(own[0], together, round(len(own) / len(reports), 4)))
    return sorted(found, key=lambda hypothesis: -hypothesis.share)
