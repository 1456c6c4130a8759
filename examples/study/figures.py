"""Draw the figures of RESULTS.md beside the rows that they show: python figures.py"""

from pathlib import Path

import matplotlib
from matplotlib import pyplot
from results import HERE, load

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "ia", "svg.fonttype": "none", "font.size": 9}  # the same bytes again

FIGURES = {"organisms": "training organisms", "categories": "categories trained on"}


def rates(rows: list[dict], measure: str, **wanted: str) -> dict[str, dict]:
    """The rows of a measure, by setting."""
    return {r["setting"]: r for r in rows if r["measure"] == measure and wanted.items() <= r.items()}


def draw(rows: list[dict], what: str) -> pyplot.Figure:
    """The share of held-out organisms whose action is named, by a number, a line for each part."""
    figure, axes = pyplot.subplots(figsize=(4.5, 3), layout="constrained")
    for part in dict.fromkeys(row["part"] for row in rows):
        found = rates(rows, "action", part=part, arm="ia")
        _points(axes, [int(setting) for setting in found], list(found.values()), part)
    axes.set_xscale("log", base=2)
    ticks = sorted({int(row["setting"]) for row in rows})
    axes.set_xticks(ticks, map(str, ticks))
    axes.set(xlabel=what, ylabel="action named", ylim=(0, 1))
    axes.legend()
    return figure


def roc(rows: list[dict]) -> pyplot.Figure:
    """Held-out organisms flagged against controls flagged, a line for each arm."""
    figure, axes = pyplot.subplots(figsize=(3.5, 3.5), layout="constrained")
    for arm in dict.fromkeys(row["arm"] for row in rows):
        hits, alarms = (rates(rows, measure, part="all", arm=arm) for measure in ("action", "claims"))
        found = sorted((alarms[s]["rate"], hits[s]["rate"]) for s in hits if s in alarms)
        axes.plot(*zip(*[(0, 0), *found, (1, 1)], strict=True), marker="o", label=arm)
    axes.set(xlabel="controls flagged", ylabel="organisms flagged", xlim=(-0.02, 1), ylim=(0, 1.02))
    axes.legend()
    return figure


def _points(axes: pyplot.Axes, x: list[int], rows: list[dict], label: str) -> None:
    y = [row["rate"] for row in rows]
    errors = [[row["rate"] - row["ci95"][0] for row in rows], [row["ci95"][1] - row["rate"] for row in rows]]
    axes.errorbar(x, y, yerr=errors, marker="o", capsize=3, label=label)


def save(figure: pyplot.Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    tables = load(HERE / "results")
    for name, what in FIGURES.items():
        if name in tables:
            save(draw(tables[name], what), HERE / "results" / f"{name}.svg")
    if "decision" in tables:
        save(roc(tables["decision"]), HERE / "results" / "decision.svg")
