"""The benchmark compares like with like: both ways give the same replies."""

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

SCRIPT = Path(__file__).parent.parent / "examples" / "benchmark.py"


def test_every_stage_is_measured_in_both_ways():
    main = runpy.run_path(str(SCRIPT))["main"]
    small = "--organisms 2 --implant-steps 2 --train-steps 2 --questions 3 --repeats 1".split()
    result = CliRunner().invoke(main, small, catch_exceptions=False)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["implant", "train-ia", "elicit"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds_plain"] / row["seconds"], rel=0.1)
    assert rows[-1]["same_replies"] == "6 of 6"
