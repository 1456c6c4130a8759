"""Calibrating a judge: its verdicts on pairs that somebody else has graded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.stats import mannwhitneyu
from statsmodels.stats.inter_rater import cohens_kappa

from ia_cli.errors import IAError, first_problem
from ia_cli.judges.verdicts import Record
from ia_cli.rates import interval
from ia_cli.records import has_failed
from ia_cli.schema import VERSION

Judge = Callable[[Iterable[Record]], Iterator[Record]]

RIGHT, WRONG = 0.8, 0.4  # of score_max, as 4 and 2 of 5: what lies between is left out
RESAMPLES = 2000


class Graded(BaseModel):
    """A report and the grade that it got as an account of what `label` says."""

    model_config = ConfigDict(extra="allow", strict=True)

    label: Annotated[str, Field(min_length=1)]
    report: str
    score: float
    score_max: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _within(self) -> Graded:
        if not 0 <= self.score <= self.score_max:
            raise ValueError("score must be from 0 to score_max")
        return self


def check(row: Record) -> None:
    """Raise IAError unless this is a graded row."""
    try:
        Graded.model_validate(row)
    except ValidationError as error:
        field, problem = first_problem(error)
        remedy = "rows are {label, report, score, score_max}"
        raise IAError(f'"{field or "row"}": {problem}', remedy=remedy) from None


def _share(row: Record) -> float:
    """The grade as a share of the best; rounded, since 2.4 of 3 is four fifths."""
    return round(row["score"] / row["score_max"], 9)


def _check_both(right: Collection[bool], problems: Sequence[str] = ()) -> None:
    """IAError unless there are right and wrong rows; `problems`: why the judge failed on others."""
    if 0 < sum(right) < len(right):
        return
    if problems:
        message = f"the judge failed on {len(problems)} rows, first with: {problems[0]}"
        raise IAError(message, remedy="put that right, and run it again")
    raise IAError("right and wrong rows are needed", remedy="give rows of both kinds, with grades")


def calibrate(
    rows: list[Record], judge: Judge, threshold: float | None, advance: Callable[[], None]
) -> Record:
    """How the verdicts of `judge` agree with the grades of `rows`.

    A grade of at least four fifths of its maximum is right, one of at most two fifths wrong; others, and what
    the judge could not judge, are counted and left out. `agreement` and `kappa` (Cohen) are those of the
    verdicts as they are, at the `threshold` in use. `auc`, the area under the ROC curve, and `threshold`,
    where sensitivity plus specificity is largest (Youden 1950), are from its similarities; null without them.
    Intervals are clustered by label. IAError unless there are right and wrong rows that it could judge.
    """
    kept = [row for row in rows if not WRONG < _share(row) < RIGHT]
    _check_both([_share(row) >= RIGHT for row in kept])  # before asking a judge that may cost money
    pairs = [_as_record(row) for row in kept]
    verdicts = []
    for verdict in judge(pairs):
        verdicts.append(verdict)
        advance()
    scored = [(row, v) for row, v in zip(kept, verdicts, strict=True) if not has_failed(v)]
    right = np.array([_share(row) >= RIGHT for row, _ in scored], dtype=bool)
    _check_both(right, [v["error"]["message"] for v in verdicts if has_failed(v)])
    labels = [row["label"] for row, _ in scored]
    said = np.array([v["verbalized"] for _, v in scored])
    record = {
        "id": "calibration",
        "kind": "calibration",
        "v": VERSION,
        "judge": scored[0][1]["judge"],
        "n": len(scored),
        "n_labels": len(set(labels)),
        "n_right": int(right.sum()),
        "n_left_out": len(rows) - len(kept),
        "n_errors": len(kept) - len(scored),
        "agreement": _round((said == right).mean()),
        "agreement_ci95": _agreement_interval(labels, said == right),
        "kappa": _kappa(said, right),
        "threshold_used": threshold,
        "auc": None,
        "auc_ci95": None,
        "threshold": None,
    }
    if "similarity" in scored[0][1]:
        scores = np.array([v["similarity"] for _, v in scored])
        record["auc"] = _round(auc(scores, right))
        record["auc_ci95"] = _auc_interval(labels, scores, right)
        record["threshold"] = _round(best_threshold(scores, right))
    return record


def _as_record(row: Record) -> Record:
    return {"description": row["label"], "report": row["report"], "trigger": None, "facets": None}


def auc(scores: np.ndarray, right: np.ndarray) -> float:
    """How often a right pair scores higher than a wrong one, ties as half."""
    wins = mannwhitneyu(scores[right], scores[~right]).statistic
    return float(wins / (right.sum() * (~right).sum()))


def best_threshold(scores: np.ndarray, right: np.ndarray) -> float:
    """Where sensitivity plus specificity is largest: halfway to the next lower score."""
    values = np.unique(scores)
    above = scores[None, :] >= values[:, None]
    best = int(np.argmax(above[:, right].mean(1) - above[:, ~right].mean(1)))
    return float((values[best] + values[max(best - 1, 0)]) / 2)


def _kappa(said: np.ndarray, right: np.ndarray) -> float | None:
    table = np.array([[np.sum((said == a) & (right == b)) for b in (False, True)] for a in (False, True)])
    kappa = cohens_kappa(table).kappa
    return _round(kappa) if math.isfinite(kappa) else None


def _agreement_interval(labels: list[str], agrees: np.ndarray) -> list[float]:
    hits, sizes = Counter(), Counter(labels)
    for label, hit in zip(labels, agrees.tolist(), strict=True):
        hits[label] += hit
    return [_round(x) for x in interval((hits[label], sizes[label]) for label in sizes)]


def _auc_interval(labels: list[str], scores: np.ndarray, right: np.ndarray) -> list[float] | None:
    """Percentile interval from resampling labels; null where too few samples have rows of both kinds."""
    random = np.random.default_rng(0)
    _, place = np.unique(labels, return_inverse=True)
    rows = [np.flatnonzero(place == i) for i in range(place.max() + 1)]
    found = []
    for _ in range(RESAMPLES):
        sample = np.concatenate([rows[i] for i in random.integers(len(rows), size=len(rows))])
        if 0 < right[sample].sum() < len(sample):
            found.append(auc(scores[sample], right[sample]))
    if len(found) < RESAMPLES / 2:
        return None
    return [_round(x) for x in np.quantile(found, [0.025, 0.975])]


def _round(value: float) -> float:
    return round(float(value), 4)
