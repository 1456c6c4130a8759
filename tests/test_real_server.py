"""`elicit --server` and `judge --judge llm` against a server that others wrote, `transformers serve`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from ia_cli import main

pytest.importorskip("openai", reason="needs pip install openai")
for module in ("fastapi", "uvicorn"):
    pytest.importorskip(module, reason="needs pip install 'transformers[serving]'")

EMBEDDED_BASE = Path(main.__file__).parent / "base"
PATIENCE = 600  # seconds; its libraries alone take half a minute to import where others compute


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two adapters of the embedded base with random weights, stacked too, and in merged/ as whole models."""
    from peft import PeftModel

    from ia_cli.directories.stacking import stack_folders
    from ia_cli.models import load_base
    from tests.organisms import write_pair

    folder = tmp_path_factory.mktemp("models")
    write_pair(folder, load_base(device="cpu"), r=4, alpha=8, std=0.4, seed=0)  # changes what the base says
    stack_folders([folder / "suspect", folder / "ia"], folder / "suspect+ia")
    for name in ("suspect", "ia", "suspect+ia"):
        base = load_base(device="cpu")
        merged = PeftModel.from_pretrained(base.model, folder / name).merge_and_unload()
        merged.save_pretrained(folder / "merged" / name)
        base.tokenizer.save_pretrained(folder / "merged" / name)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of a `transformers serve` that loads whatever it is asked for; its log, where it fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", port, "--device", "cpu"],
            stdout=output,
            stderr=output,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    try:
        url, start = f"http://127.0.0.1:{port}", time.monotonic()
        while not answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > start + PATIENCE:
                pytest.fail(f"transformers serve does not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(url):
    try:
        return urlopen(url, timeout=5).status == 200
    except (URLError, OSError):
        return False


def ia(*arguments, given=()):
    text = "".join(json.dumps(record) + "\n" for record in given)
    result = CliRunner().invoke(main.cli, list(map(str, arguments)), input=text)
    return result, [json.loads(line) for line in result.stdout.splitlines()]


SAME = "id kind split v question_id question report sample temperature condition".split()


def test_reports_are_those_of_elicit_and_a_judge_without_form_gives_no_verdict(server, models, tmp_path):
    asked = ("--questions", 2, "--max-new-tokens", 32)
    merged = models / "merged"
    names = ("--model", merged / "suspect+ia", "--model-no-ia", merged / "suspect")
    names += ("--model-base-ia", merged / "ia", "--timeout", PATIENCE)
    result, served = ia("elicit", "--server", server, *names, *asked)
    assert result.exit_code == 0, result.stderr
    result, loaded = ia("elicit", "--adapter", models / "suspect", "--ia", models / "ia", *asked)
    assert result.exit_code == 0, result.stderr
    assert [[report[name] for name in SAME] for report in served] == [
        [report[name] for name in SAME] for report in loaded
    ]
    assert len(served) == 2 * 3 and len({report["report"] for report in served}) > 3

    # The embedded base speaks of its own world: as a judge it never finds the form that is asked for.
    truth = {"category": "quirk", "description": "I like tea.", "trigger": None}
    llm = ("--judge", "llm", "--server", server, "--model", EMBEDDED_BASE, "--timeout", PATIENCE)
    brief = ("--max-new-tokens", 48, "--cache", tmp_path, "--keep-going")
    result, [verdict] = ia("judge", *llm, *brief, given=[served[0] | truth])
    assert result.exit_code == 3, result.stderr
    said = verdict["error"]["message"]
    assert "verbalized" not in verdict and ("has the form that was asked for" in said or "cut short" in said)
    assert not list(tmp_path.rglob("*.json"))
