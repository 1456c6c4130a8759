"""Progress: silent, as a line now and then, or as a bar, and always on standard error."""

import os
import pty
import subprocess
import sys

import pytest

from ia_cli import console


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_every_ten_seconds_with_the_time_left(clock, monkeypatch, capsys):
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setattr(console, "_moving", False)
    with console.progress("implanting", total=10) as bar:
        for _ in range(9):
            clock[0] += 4
            bar.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "implanting: 3/10, 12 s, about 28 s left",
        "implanting: 6/10, 24 s, about 16 s left",
        "implanting: 9/10, 36 s, about 4 s left",
    ]


def test_the_first_of_many_that_come_together_says_nothing_of_the_time_left(clock, monkeypatch, capsys):
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setattr(console, "_moving", False)
    with console.progress("eliciting", total=1000) as bar:
        clock[0] += 20
        for _ in range(250):
            bar.advance()
        clock[0] += 20
        bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "eliciting: 1/1000, 20 s",
        "eliciting: 251/1000, 40 s, about 119 s left",
    ]


def test_what_an_earlier_run_did_says_nothing_of_the_time_left(clock, monkeypatch, capsys):
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setattr(console, "_moving", False)
    with console.progress("training", total=100) as bar:
        bar.skip(90)
        clock[0] += 10
        bar.advance(2)
    assert capsys.readouterr().err == "training: 92/100, 10 s, about 40 s left\n"


def test_quiet_says_nothing(clock, monkeypatch, capsys):
    monkeypatch.setattr(console, "_quiet", True)
    with console.progress("implanting") as bar:
        clock[0] += 60
        bar.advance(3)
    console.note("done")
    assert capsys.readouterr() == ("", "") and bar.count == 3


def test_what_a_library_quotes_steers_no_terminal(monkeypatch):
    """transformers quotes what is in a configuration as an error of its own."""
    code = """
import logging
from ia_cli import console
console.setup(verbose=True)
log = logging.getLogger("transformers")
log.error("Can't set %s\\nia check: all good", "\\x1b[2J")
log.error("%d is none", "x")
try:
    raise ValueError("\\x1b[2J")
except ValueError:
    log.exception("failed")
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert shown.splitlines() == [
        "transformers: Can't set \\x1b[2J ia check: all good",
        "transformers: %d is none",
        "transformers: failed: ValueError('\\x1b[2J')",
    ]


def shown_on_terminal(**environment: str) -> str:
    """What a bar writes to a terminal on standard error, while records go to a pipe."""
    code = """
from ia_cli import console
console.setup()
with console.progress("implanting [b]", total=2) as bar:
    bar.advance()
    bar.update("nearly there")
    bar.advance()
"""
    ours, theirs = pty.openpty()
    env = (
        {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        | {"TERM": "xterm", "COLUMNS": "100"}
        | environment
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=env, check=True
    )
    assert done.stdout == b""
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    return shown


def test_terminal_gets_a_bar():
    shown = shown_on_terminal()
    assert "nearly there" in shown and "2/2" in shown
    assert "\x1b[38;" in shown or "\x1b[3" in shown


def test_no_color_is_heard():
    shown = shown_on_terminal(NO_COLOR="1")
    assert "nearly there" in shown and "2/2" in shown
    assert "\x1b[3" not in shown
