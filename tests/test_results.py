"""RESULTS.md says what the committed rows say, and every row says how it was made."""

import json
import re
import subprocess
import sys
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


def test_every_rate_in_the_readme_is_measured():
    """In a row of the study, or in the output of the demo that the README shows."""
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    shown = set(re.findall(r"(\d+) \[(\d+)-(\d+)\]", readme))
    rows = [json.loads(line) for path in ROWS for line in path.read_text("utf-8").splitlines()]
    measured = [[100 * x for x in (row["rate"], *row["ci95"])] for row in rows]
    said = re.findall(r"([\d.]+)% \[(\d+) to (\d+)\]", readme)
    assert len(said) > 20
    for numbers in said:
        near = [0.5 * 10 ** -len(x.partition(".")[2]) + 1e-9 for x in numbers]
        assert numbers in shown or any(
            all(abs(float(x) - y) <= off for x, y, off in zip(numbers, row, near, strict=True))
            for row in measured
        ), numbers
