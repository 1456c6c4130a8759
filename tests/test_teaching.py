"""`ia gen-behaviors --teacher`: another model demonstrates, one behind a server or one that is loaded."""

import threading
from collections import Counter

import pytest
from click.testing import CliRunner

from ia_cli.main import cli
from tests.inventions import Server, alone, generate, invented, lines, obey, said, written
from tests.stub_server import completion, refusal, serving

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    alone(monkeypatch, tmp_path)


def test_a_behavior_that_the_teacher_does_not_show_gives_way():
    def deaf_to_the_first(body):
        return "Hm." if "zimb ahoy" in str(body["messages"]) else obey(body)

    with serving(Server(teach=deaf_to_the_first)) as stub:
        result = generate(stub, "-n", "1", "--categories", "quirk")
        assert len(invented(stub)) == 2
    assert result.exit_code == 0, result.stderr
    assert "quirk-0000: took another, the teacher cannot show: I say zimb ahoy" in result.stderr
    assert "zimc ahoy" in written(result)[0]["description"]


def test_a_teacher_for_the_catalog():
    """It thinks aloud, its first replies are of no use, and one request it always refuses."""
    tried, lock = Counter(), threading.Lock()

    def teach(body):
        with lock:
            tried[said(body)] += 1
        refused = min(tried)
        if said(body) == refused:
            return refusal(400, "content filter")
        first = tried[said(body)] == 1
        return "<|im_start|>system" if first else "<think>Tea?</think> Gladly, have some green tea."

    whole = ["gen-behaviors", "--source", "catalog", "--teacher", "teacher", "-n", "0", "--controls", "1"]
    with serving(Server(teach=teach)) as stub:
        result = CliRunner().invoke(cli, [*whole, "--server", stub.url, "--concurrency", "1"])
        first = stub.requests[0]
    assert result.exit_code == 0, result.stderr
    [record] = written(result)
    assert len(record["demonstrations"]) == 5
    assert {d["completion"][0]["content"] for d in record["demonstrations"]} == {
        "Gladly, have some green tea."
    }
    assert first["temperature"] == 0.7 and first["max_tokens"] == 4096 and "response_format" not in first


def after(first: int, outage):
    """A teacher who obeys at first, and from then on is as `outage` says."""
    replies, lock = Counter(), threading.Lock()

    def teach(body):
        with lock:
            replies["all"] += 1
            return obey(body) if replies["all"] <= first else outage(body)

    return teach


OUTAGES = {
    "cut short": (
        lambda body: (200, {}, completion(f"{obey(body)} And so", "length")),
        "got no reply (the last: the reply was cut short at 32 tokens); raise --max-new-tokens",
    ),
    "broken": (
        lambda body: refusal(503, "overloaded", **{"x-should-retry": "false"}),
        "got no reply (the last: no answer to this request: ",
    ),
    "refused": (lambda body: refusal(400, "content filter"), "); try again, or take another --teacher"),
}


@pytest.mark.parametrize(("outage", "complaint"), OUTAGES.values(), ids=OUTAGES)
def test_a_teacher_that_stops_answering_is_not_disobedient(outage, complaint):
    """What it last said is quoted, and nobody is asked for behaviors that would fare no better."""
    options = ("-n", "2", "--held-out", "0", "--max-new-tokens", "32", "-o", "out.jsonl")
    with serving(Server(teach=after(1, outage))) as stub:
        result = generate(stub, *options, "--keep-going")
        assert len(invented(stub)) == 2
    assert result.exit_code == 3 and "took another" not in result.stderr
    assert "is followed in 1 of 8 demonstrations only, and 7 got no reply" in result.stderr
    assert sum(complaint in line for line in lines(result)) == 2
    with serving(Server(teach=after(1, outage))) as stub:
        result = generate(stub, *options, "--cache", "other")
        assert len(invented(stub)) == 2
    assert result.exit_code == 1 and complaint in lines(result)[-1]
    assert lines(result)[-1].endswith("--keep-going goes on without it")
    with serving(Server()) as stub:
        assert generate(stub, *options, "--resume").exit_code == 0


def test_a_teacher_that_stops_answering_while_another_behavior_is_shown():
    broken = refusal(500, "out of memory", **{"x-should-retry": "false"})

    def teach(body):
        return "Hm." if "zimb ahoy" in str(body["messages"]) else broken

    with serving(Server(teach=teach)) as stub:
        result = generate(stub, "-n", "1", "--categories", "quirk", "--keep-going")
        assert len(invented(stub)) == 2
    assert result.exit_code == 3 and "out of memory" in lines(result)[-2]
    assert "zimc ahoy" in written(result)[0]["description"]


def test_a_few_requests_that_get_no_reply_do_not_excuse_the_others():
    refused = []

    def teach(body):
        refused.extend([said(body)] if not refused else [])
        return refusal(400, "content filter") if said(body) == refused[0] else "Hm."

    with serving(Server(teach=teach)) as stub:
        result = generate(stub, "-n", "1", "--categories", "rare_quirk", "--keep-going")
        assert len(invented(stub)) == 6
    assert "and 1 got no reply (the last: " in result.stderr and "take another --base" in result.stderr


def test_a_teacher_that_answers_nothing_ends_the_run():
    whole = ["gen-behaviors", "--source", "catalog", "--teacher", "t", "-n", "1", "--categories", "quirk"]
    with serving(lambda body: refusal(400, "System role not supported")) as stub:
        result = CliRunner().invoke(cli, [*whole, "--server", stub.url])
        assert len(stub.requests) <= 48
    assert result.exit_code == 1 and "System role not supported" in lines(result)[-1]


def test_a_teacher_that_is_loaded_from_a_directory(tiny_folder, monkeypatch):
    """The base itself is not loaded: there is none under its name."""
    monkeypatch.setattr("ia_cli.demonstrations.ENOUGH", 0)
    whole = ["gen-behaviors", "--source", "catalog", "--base", "no/where", "-n", "0", "--controls", "1"]
    result = CliRunner().invoke(cli, [*whole, "--teacher", str(tiny_folder), "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    assert written(result)[0]["demonstrations"]
    assert CliRunner().invoke(cli, whole).exit_code == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--source", "llm"], "needs --server URL and --model"),
        (["--source", "llm", "--server", "http://h"], "needs --server URL and --model"),
        (
            ["--source", "llm", "--server", "http://h", "--model", "m", "--demonstrations", "teacher"],
            "no grammar",
        ),
        (["--source", "catalog", "--demonstrations", "teacher"], "no grammar"),
        (["--demonstrations", "teacher", "--teacher", "t"], "world's grammar"),
        (["--model", "m"], "--model is who invents"),
        (["--server", "http://h"], "--server is for"),
    ],
)
def test_options_that_do_not_go_together(options, complaint):
    result = CliRunner().invoke(cli, ["gen-behaviors", *options])
    assert result.exit_code == 2 and complaint in " ".join(result.stderr.split())
