"""RESULTS.md says what the committed rows say, and every row says how it was made."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "examples" / "study"
ROWS = sorted((STUDY / "results").glob("*.jsonl"))


def test_results_agree_with_the_rows_that_they_are_from():
    rendered = subprocess.run(
        [sys.executable, STUDY / "results.py"], capture_output=True, check=True, text=True
    ).stdout
    assert (ROOT / "RESULTS.md").read_text("utf-8") == rendered


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_every_row_has_n_interval_command_and_seed(path):
    for row in map(json.loads, path.read_text("utf-8").splitlines()):
        low, high = row["ci95"]
        assert row["table"] == path.stem and row["n"] > 0
        assert 0 <= low <= row["rate"] <= high <= 1
        assert row["command"].startswith("make -C examples/study run/")
        assert isinstance(row["seed"], int) and row["base"]


def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def letters() -> dict[str, str]:
    """The file of each table's rows, by the letter that RESULTS.md calls it."""
    spec = tomllib.loads((STUDY / "tables.toml").read_text("utf-8"))
    return {re.match(r"\((\w+)\)", about["title"])[1]: name for name, about in spec.items()}


def measured(tables: Iterable[str]) -> list[dict]:
    paths = [path for path in ROWS if path.stem in tables]
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def is_of(numbers: Sequence[str], row: dict) -> bool:
    """Whether these are rate and interval of a row, in percent, as exact as they are written."""
    near = [0.5 * 10 ** -len(x.partition(".")[2]) + 1e-9 for x in numbers]
    exact = [100 * x for x in (row["rate"], *row["ci95"])]
    return all(abs(float(x) - y) <= off for x, y, off in zip(numbers, exact, near, strict=True))


def test_every_rate_in_the_readme_is_measured():
    """In a row of the study, or in the output of the demo that the README shows."""
    text = " ".join(readme().split())
    shown = set(re.findall(r"(\d+) \[(\d+)-(\d+)\]", text))
    rows = measured(path.stem for path in ROWS)
    said = re.findall(r"([\d.]+)% \[(\d+) to (\d+)\]", text)
    assert len(said) > 10
    for numbers in said:
        assert numbers in shown or any(is_of(numbers, row) for row in rows), numbers


def test_the_readme_names_the_table_that_each_of_its_rates_is_from():
    """A line of its table has the n of the row, too, and the row is in a table that its heading names."""
    of_letter, named, found = letters(), [], 0
    for line in readme().splitlines():
        if line.startswith("| **"):
            tables = re.search(r"\(tables? ([\w, ]+)\)", line)
            named = [of_letter[letter] for letter in tables[1].split(", ")] if tables else []
        elif named and (told := re.match(r"\| .* \| ([\d.]+)% \[(\d+) to (\d+)\] \| (\d+) \|", line)):
            *numbers, n = told.groups()
            assert any(row["n"] == int(n) and is_of(numbers, row) for row in measured(named)), line
            found += 1
    assert found >= 10
