"""Write RESULTS.md from the committed rows: python results.py > ../../RESULTS.md"""

import sys
import textwrap
import tomllib
from functools import partial
from pathlib import Path

import jsonlines

HERE = Path(__file__).parent
HEADS = {
    "kind": "some of it",
    "action": "action",
    "trigger": "trigger",
    "whole": "whole behavior",
    "claims": "claims",
    "base_claims": "claims on the bare base",
}
MAKE = "make -C examples/study "
HEAD = """# Results

The tables of the study, on the embedded base. `make study` makes (a) to (k), but for (a1) and (f); it took
56 minutes on two threads of an Intel Xeon, with other work beside it and without (b3), which takes less than
two on one thread. What stands below a table makes that one, and `make -C examples/study shipped` makes (l) to
(n), once `make .venv/study` has installed their needs.

Rates are in percent with their 95% interval, clustered by organism (Korn and Graubard), and n, the organisms
(for the bare base: the questions) that they are from. Organisms count if they show their behavior, with an
implant rate of at least 0.9 and a leak rate of at most 0.1; how many do not is "left out". What a row is from
is made by `make -C examples/study` and what stands in the last column.
"""
REACHED = """## What was wanted, and what was reached

Each rate is from the table that is named. Under them is what was tried about the targets that are missed:
where it stands in no table, on organisms that are in none.
"""


def load(folder: Path) -> dict[str, list[dict]]:
    """Return the rows of every table that has been run."""
    tables = {}
    for path in sorted(folder.glob("*.jsonl")):
        with jsonlines.open(path) as reader:
            tables[path.stem] = list(reader)
    return tables


def render(spec: dict[str, dict], tables: dict[str, list[dict]], targets: list[dict]) -> str:
    """Return RESULTS.md; a table without rows says that it has not been run yet."""
    parts = [HEAD, _reached(spec, tables, targets)]
    for name, about in spec.items():
        rows = tables.get(name, [])
        body = _table(about, rows) if rows else "Not run yet.\n"
        body += f"\nMade by `{MAKE}{name}`{_made_with(rows)}.\n"
        parts.append(f"## {about['title']}\n\n{_filled(about['text'])}\n\n{body}")
        if rows and (HERE / "results" / f"{name}.svg").exists():
            parts.append(f"![{about['title']}](examples/study/results/{name}.svg)\n")
    return "\n".join(parts)


def _reached(spec: dict[str, dict], tables: dict[str, list[dict]], targets: list[dict]) -> str:
    """Every target beside what was measured, and what was tried about those that are missed."""
    lines, tried = [_line(["what", "wanted", "measured", "missed by", "table"]), _line(["---"] * 5)], []
    for target in targets:
        wanted, told, short = _missed(target, tables.get(target["table"], []))
        letter = spec[target["table"]]["title"].split()[0].strip("()")
        lines.append(_line([target["what"], wanted, told, f"{short:.3g}" if short > 0 else "", letter]))
        if short > 0:
            tried.append(_filled(f"- *{target['what']}*: {target.get('tried', 'nothing yet.')}", indent="  "))
    return "\n".join([REACHED, *lines, "", *tried, ""])


def _missed(target: dict, rows: list[dict]) -> tuple[str, str, float]:
    """What is wanted of a target, what was measured, and by how much that falls short; 0 or less if not."""
    sense, bound = next((name, target[name]) for name in ("at_least", "at_most") if name in target)
    claiming = {row["setting"] for row in rows if row["measure"] == "claims" and row["rate"] > 0.5}
    rows = [row for row in rows if target["row"].items() <= row.items()]
    if target.get("count"):
        hits = sum(row["rate"] > 0.5 and row["setting"] not in claiming for row in rows)
        measured = hits if rows else bound
        told = str(measured)
    else:
        measured, bound = 100 * rows[0]["rate"] if rows else 100 * bound, 100 * bound
        told = _rate(rows[0], ".3g") if rows else ""
    told = told if rows else "not run yet"
    short = bound - measured if sense == "at_least" else measured - bound
    return f"{sense.replace('_', ' ')} {bound:g}", told, short


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), 120, subsequent_indent=indent, break_on_hyphens=False)


def _table(about: dict, rows: list[dict]) -> str:
    """A Markdown table: a line for each setting, part and arm, a column for each measure."""
    keys = [key for key in ("setting", "part", "arm") if key in about]
    lines: dict[tuple, dict[str, dict]] = {}
    for row in map(partial(_in_columns, about), rows):
        if row["measure"] in about["measures"] and (row["part"] == "all" or "part" in about):
            lines.setdefault((row["setting"], row["part"], row["arm"]), {})[row["measure"]] = row
    names = HEADS | about.get("heads", {})
    measures = [names[measure] for measure in about["measures"]]
    heads = [*(about[key] for key in keys), *measures, "left out", "made by"]
    text = [_line(heads), _line(["---"] * len(heads))]
    seen = [list(dict.fromkeys(line[i] for line in lines)) for i in range(3)]
    for _, found in sorted(lines.items(), key=lambda x: [seen[i].index(x[0][i]) for i in range(3)]):
        first = next(iter(found.values()))
        told = [first[key] for key in keys]
        rates = [_rate(found.get(measure)) for measure in about["measures"]]
        made_by = f"`{first['command'].removeprefix(MAKE)}`"
        text.append(_line([*told, *rates, str(first["left_out"]), made_by]))
    return "\n".join(text) + "\n"


def _made_with(rows: list[dict]) -> str:
    made = sorted({f"base {row['base']}, seed {row['seed']}" for row in rows})
    return f" with {'; '.join(made)}" if made else ""


def _in_columns(about: dict, row: dict) -> dict:
    """In a table without arms, what the adapter claims on the bare base is a measure of its own."""
    if "arm" in about or row["arm"] == "ia":
        return row
    base = row["arm"] == "base_ia" and row["measure"] == "claims"
    return {**row, "arm": "ia", "measure": "base_claims" if base else ""}


def _rate(row: dict | None, digits: str = ".0f") -> str:
    """Such as "62 [51 to 72], n 51"; `digits` of the rate."""
    if row is None:
        return ""
    low, high = row["ci95"]
    return f"{100 * row['rate']:{digits}} [{100 * low:.0f} to {100 * high:.0f}], n {row['n']}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    spec = tomllib.loads((HERE / "tables.toml").read_text("utf-8"))
    targets = tomllib.loads((HERE / "targets.toml").read_text("utf-8"))["target"]
    sys.stdout.write(render(spec, load(HERE / "results"), targets))
