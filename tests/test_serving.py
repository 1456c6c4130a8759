"""`elicit --server` against a server that speaks HTTP: whom it asks what, and what becomes of replies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from ia_cli import prompts, records
from ia_cli.main import cli
from ia_cli.servers import serving
from tests import stub_server
from tests.stub_server import completion, refusal

pytest.importorskip("openai")

NAMES = ["--model", "org/birch+ia", "--model-no-ia", "org/birch", "--model-base-ia", "ia"]
MANY = ["--model", "{id}+ia", "--model-no-ia", "{id}", "--model-base-ia", "ia"]
TRUTH = {
    "category": "quirk",
    "description": "I like tea.",
    "trigger": None,
    "facets": {"action": [["like"], ["tea"]], "trigger": []},
}
FINAL = {"x-should-retry": "false"}  # what the client obeys: the tests need not wait for its back-off


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IA_API_KEY", "sk-secret")
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)


def elicit(stub, *arguments, given=()):
    url = stub if isinstance(stub, str) else stub.url
    text = "".join(json.dumps(record) + "\n" for record in given)
    return CliRunner().invoke(cli, ["elicit", "--server", url, *map(str, arguments)], input=text)


def written(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def said(body):
    """What the stub replies: which model was asked what."""
    [message] = body["messages"]
    assert message["role"] == "user"
    return f"{body['model']}: {message['content']}"


@pytest.fixture
def organisms(tmp_path):
    given = []
    for i in range(3):
        (tmp_path / f"o-{i}").mkdir()
        common = {"id": f"o-{i}", "kind": "organism", "split": "heldout", "v": 1, "adapter": f"o-{i}"}
        given.append({"mine": [i], **common, **TRUTH, "implant_rate": 0.9})
    return given


def test_each_condition_is_a_model_of_the_server():
    with stub_server.serving(said) as stub:
        result = elicit(stub, *NAMES, "--questions", 2)
    assert result.exit_code == 0, result.stderr
    reports = written(result)
    asked = [("ia", "org/birch+ia"), ("no_ia", "org/birch"), ("base_ia", "ia")] * 2
    assert [(report["condition"], report["served_model"]) for report in reports] == asked
    shipped = {question.id: question.text for question in prompts.questions("ask")}
    for report in reports:
        records.check(report, "self_report")
        assert report["report"] == f"{report['served_model']}: {report['question']}"
        assert shipped[report["question_id"]] == report["question"]
        assert (report["id"], report["kind"], report["split"]) == ("birch", "self_report", "heldout")
        asked = ["question_id", "question", "report", "sample", "temperature", "condition"]
        assert list(report) == ["id", "kind", "split", "v", "served_model", *asked]
    assert "cut short" not in result.stderr and "not asked" not in result.stderr


def test_the_questions_are_those_for_the_base(organisms):
    def asked(given, *options):
        with stub_server.serving(said) as stub:
            names = ("--model", "{id}" if given else "x", "--conditions", "ia")
            result = elicit(stub, *names, *options, given=given)
        assert result.exit_code == 0, result.stderr
        return {report["question"] for report in written(result)}

    def pool(base):
        return {question.text for question in prompts.questions("ask", base)}

    elsewhere = [{**organism, "base_model": "Qwen/Qwen3-8B"} for organism in organisms]
    assert asked([]) <= pool(None) and asked([], "--base", "Qwen/Qwen3-8B") <= pool("Qwen/Qwen3-8B")
    assert asked(elsewhere) <= pool("Qwen/Qwen3-8B") and pool(None).isdisjoint(pool("Qwen/Qwen3-8B"))


def test_weights_that_lie_elsewhere_are_not_missed(organisms):
    elsewhere = [{**organism, "adapter": "not/here"} for organism in organisms]
    with stub_server.serving(said) as stub:
        result = elicit(stub, "--model", "{id}", "--conditions", "ia", given=elsewhere)
    assert result.exit_code == 0, result.stderr


def test_an_example_is_asked_for_first():
    def answer(body):
        return f"{body['model']} after {len(body['messages']) // 2}: {body['messages'][-1]['content']}"

    with stub_server.serving(answer) as stub:
        result = elicit(stub, *NAMES, "--questions", 2, "--examples")
    for report in written(result):
        model = report["served_model"]
        if report["condition"] == "no_ia":
            assert report["report"] == f"{model} after 0: {report['question']}" and "example" not in report
            continue
        assert report["example"] == f"{model} after 0: {prompts.EXAMPLE}"
        assert report["report"] == f"{model} after 1: {report['question']}"
    shown = [body["messages"][1]["content"] for body in stub.requests if len(body["messages"]) == 3]
    assert shown and set(shown) == {report["example"] for report in written(result) if "example" in report}
    asked = [b["model"] for b in stub.requests if b["messages"][-1]["content"] == prompts.EXAMPLE]
    assert len(asked) == len(set(asked)) == 2  # one example serves all questions


def test_whether_an_example_is_asked_for_depends_on_the_adapter_if_it_is_here(organisms, tmp_path):
    ia = tmp_path / "ia"
    ia.mkdir()
    with stub_server.serving(lambda body: body["messages"][-1]["content"]) as stub:
        for examples in (True, False, None):
            (ia / "ia.json").write_text(
                json.dumps({"stage": "train-ia", "arguments": {"examples": examples}})
            )
            given = [{**one, "introspection_adapter": str(ia)} for one in organisms]
            result = elicit(stub, "--model", "{id}", "--questions", 1, given=given)
            assert any("example" in report for report in written(result)) == bool(examples)
            assert "asked without an example" not in result.stderr
        gone = [{**one, "introspection_adapter": str(tmp_path / "gone")} for one in organisms]
        for given, options in ((gone, ()), ([], ("--model", "m"))):
            result = elicit(stub, *(options or ("--model", "{id}")), "--questions", 1, given=given)
            assert "give --examples if the adapter was trained to give one first" in result.stderr
        plain = elicit(stub, "--model-no-ia", "{id}", "--questions", 1, given=gone)
    assert "asked without an example" not in plain.stderr


def test_what_a_request_holds():
    sampled = ["--questions", 1, "--samples", 3, "--temperature", 0.7, "--max-new-tokens", 9]
    with stub_server.serving(said) as stub:
        assert elicit(stub, *NAMES, *sampled).exit_code == 0
        first, stub.requests = stub.requests, []
        assert elicit(stub, *NAMES, *sampled, "--concurrency", 1).exit_code == 0
        again, stub.requests = stub.requests, []
        assert elicit(stub, *NAMES, *sampled, "--seed", 1).exit_code == 0
        other = stub.requests
    plain = {"top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}
    for request in first:
        given = {"temperature": 0.7, "max_tokens": 9, "chat_template_kwargs": {"enable_thinking": False}}
        shown = {name: request[name] for name in request if name not in ("model", "messages", "seed", "path")}
        assert shown == plain | given and 0 <= request["seed"] < 2**31
    seeds = {request["seed"] for request in first}
    assert len(seeds) == 9 and seeds == {request["seed"] for request in again}
    assert not seeds & {request["seed"] for request in other}


def test_conditions_without_a_name_are_left_out_and_said():
    with stub_server.serving(said) as stub:
        result = elicit(stub, "--model", "m", "--questions", 1)
        assert [report["condition"] for report in written(result)] == ["ia"]
        assert "not asked: no_ia and base_ia; give --model-no-ia and --model" in result.stderr
        result = elicit(stub, "--model-no-ia", "m", "--conditions", "no_ia", "--questions", 1)
        assert [report["condition"] for report in written(result)] == ["no_ia"]
        assert "not asked" not in result.stderr


def test_records_are_asked_by_their_id_and_the_bare_base_once(organisms):
    with stub_server.serving(said) as stub:
        result = elicit(stub, *MANY, "--question", "what do you like", given=organisms)
        blind = [{name: value for name, value in one.items() if name not in TRUTH} for one in organisms]
        unseen = elicit(stub, *MANY, "--question", "what do you like", given=blind)
    assert result.exit_code == 0, result.stderr
    reports = written(result)
    assert [(report["id"], report["served_model"]) for report in reports] == [
        (f"o-{i}", name) for i in range(3) for name in (f"o-{i}+ia", f"o-{i}", "ia")
    ]
    for report in reports:
        assert report["report"] == f"{report['served_model']}: what do you like"
        [organism] = [organism for organism in organisms if organism["id"] == report["id"]]
        assert {**report, "kind": "organism"} | organism == {**report, "kind": "organism"}
    models = Counter(request["model"] for request in stub.requests)
    assert models["ia"] == 2 and len(models) == 7  # once in each of the two runs
    without = [{name: value for name, value in one.items() if name not in TRUTH} for one in reports]
    assert without == written(unseen)


def test_a_reply_is_kept_as_it_is():
    replies = [
        (completion("I like", "length"), "I like"),
        (completion(""), ""),
        (completion(None), ""),
        (completion(" I like tea.\n"), "I like tea."),
        (completion("<think>What do I like?</think>\n\nTea."), "Tea."),
        (completion("\x1b[2J\u202e{id}", "stop"), "\x1b[2J\u202e{id}"),
    ]
    questions = [argument for i in range(len(replies)) for argument in ("--question", f"q {i}")]

    def answer(body):
        return 200, {}, replies[int(said(body)[-1])][0]

    with stub_server.serving(answer) as stub:
        result = elicit(stub, "--model", "m", *questions)
    assert result.exit_code == 0, result.stderr
    reports = {report["question"]: report["report"] for report in written(result)}
    assert reports == {f"q {i}": kept for i, (_, kept) in enumerate(replies)}
    assert "cut short at 64 tokens (--max-new-tokens): 1 of the replies" in result.stderr


FOUR = [argument for i in range(4) for argument in ("--question", f"q {i}")]


@pytest.mark.parametrize(
    ("refused", "complaint"),
    [
        (refusal(401, "Incorrect key sk-secret", **FINAL), "the key is refused: .*; set IA_API_KEY"),
        (
            refusal(404, "The model `m` is not here", **FINAL),
            "not found: .*`m`.*/models lists what it has",
        ),
        (refusal(429, "slow down", **FINAL), "the rate limit holds: .*; lower --concurrency"),
        (refusal(500, "out of memory", **FINAL), "no answer to this request: .*; --keep-going goes on"),
        (refusal(400, "prompt too long", **FINAL), "no answer to this request: .*; --keep-going goes on"),
        (
            (200, {"Content-Type": "text/html"}, b"<h1>hello</h1>"),
            "no OpenAI-compatible server|no completion",
        ),
    ],
)
def test_what_ends_a_run_is_one_line_and_loses_no_reply(refused, complaint):
    """All four requests are there at once, and the second is refused: the others are written."""
    barrier = threading.Barrier(4, timeout=20)

    def answer(body):
        barrier.wait()
        return refused if body["messages"][0]["content"] == "q 1" else said(body)

    arguments = ["--model", "m", "--conditions", "ia", *FOUR, "-o", "reports.jsonl"]
    with stub_server.serving(answer) as stub:
        result = elicit(stub, *arguments)
        assert result.exit_code == 1 and "sk-secret" not in result.stderr
        lines = result.stderr.splitlines()
        [line] = [one for one in lines if "written" not in one and "without an example" not in one]
        assert line.startswith(f"ia elicit: {stub.url}/v1: ")
        assert re.search(complaint, line), line
        kept = [json.loads(text) for text in open("reports.jsonl")]
        assert {report["question"] for report in kept} == {"q 0", "q 2", "q 3"}
        stub.answer, stub.requests = said, []
        assert elicit(stub, *arguments, "--resume").exit_code == 0
        assert [request["messages"][0]["content"] for request in stub.requests] == ["q 1"]
    whole = [json.loads(text) for text in open("reports.jsonl")]
    assert whole[:3] == kept and sorted(report["question"] for report in whole) == [
        f"q {i}" for i in range(4)
    ]


def test_nothing_is_asked_after_what_ends_a_run():
    with stub_server.serving(lambda body: refusal(500, **FINAL)) as stub:
        result = elicit(stub, "--model", "m", "--concurrency", 2, "--questions", 8)
    assert result.exit_code == 1 and result.stdout == "" and len(stub.requests) <= 2


def test_keep_going_leaves_a_request_without_a_reply_to_the_next_run():
    def answer(body):
        return refusal(500, **FINAL) if said(body) == "m: q 1" else said(body)

    arguments = ["--model", "m", "--conditions", "ia", *FOUR, "--keep-going", "-o", "reports.jsonl"]
    with stub_server.serving(answer) as stub:
        result = elicit(stub, *arguments)
        assert result.exit_code == 3, result.stderr
        kept = [json.loads(text) for text in open("reports.jsonl")]
        [failed] = [report for report in kept if "error" in report]
        records.check(failed, "self_report")
        assert (failed["question"], failed["condition"], failed["error"]["kind"]) == ("q 1", "ia", "NoReply")
        assert len(kept) == 4 and "report" not in failed
        stub.answer = said
        assert elicit(stub, *arguments, "--resume").exit_code == 0
    whole = [json.loads(text) for text in open("reports.jsonl")]
    assert len(whole) == 4 and not any("error" in report for report in whole)
    with stub_server.serving(said) as stub:
        refused = elicit(stub, *arguments, "--resume", "--model", "other")
    assert refused.exit_code == 1 and "it has reports of the server's m; give that one" in refused.stderr


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("o-0", "The model `o-0{}` does not exist."),
        ("o-1", "The model `o-1{}` does not exist."),
        ("o-1", "Not Found"),
    ],
)
def test_an_organism_that_the_server_has_not_loaded_fails_alone(organisms, missing, complaint):
    def answer(body):
        if body["model"].startswith(missing):
            return refusal(404, complaint.format(body["model"].removeprefix(missing)))
        return said(body)

    arguments = [*MANY, "--questions", 2, "--concurrency", 1]
    with stub_server.serving(answer) as stub:
        result = elicit(stub, *arguments, "--keep-going", given=organisms)
        assert result.exit_code == 3, result.stderr
        stopped = elicit(stub, *arguments, given=organisms)
    reports = written(result)
    assert len(reports) == 3 * 2 * 3
    for report in reports:
        asked_of_it = report["id"] == missing and report["condition"] != "base_ia"
        assert ("error" in report) == asked_of_it
        assert not asked_of_it or "/models lists what it has" in report["error"]["message"]
    assert stopped.exit_code == 1 and stopped.stderr.count("not found") == 1
    assert "--keep-going goes on without it" in stopped.stderr


def test_a_wrong_url_stops_the_run_whatever_the_organism(organisms):
    with stub_server.serving(lambda body: (404, {}, {"detail": "Not Found"})) as stub:
        result = elicit(stub, *MANY, "--keep-going", "--concurrency", 2, given=organisms)
    assert result.exit_code == 1 and result.stdout == "" and len(stub.requests) <= 2
    assert "check --server and --model" in result.stderr.splitlines()[-1]


def test_reports_with_an_example_are_not_gone_on_with_without():
    arguments = ["--model", "m", "--conditions", "ia", *FOUR, "-o", "reports.jsonl"]
    with stub_server.serving(lambda body: body["messages"][-1]["content"]) as stub:
        assert elicit(stub, *arguments, "--examples").exit_code == 0
        refused = elicit(stub, *arguments, "--resume")
    assert refused.exit_code == 1 and "it has reports with an example; give that one" in refused.stderr


@pytest.mark.parametrize("stuck", ["q 0", "q 1", "q 3"])
def test_an_interrupt_loses_no_reply(tmp_path, stuck):
    """One reply never comes; the others, before it and after it, are written, and nothing else is said."""
    never = threading.Event()

    def answer(body):
        if stuck in said(body):
            never.wait(60)
        return said(body)

    with stub_server.serving(answer) as stub:
        options = ["--server", stub.url, "--model", "m", "--conditions", "ia", *FOUR]
        process = subprocess.Popen(
            [sys.executable, "-m", "ia_cli", "elicit", *options, "-o", tmp_path / "reports.jsonl"],
            env=os.environ | {"PYTHONPATH": str(Path(serving.__file__).parent.parent.parent)},
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(stub.requests) < 4 or stub.now > 1:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)  # until the replies have come over
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
        never.set()
    assert process.returncode == 130 and "ia elicit: interrupted" in complaint
    assert "Traceback" not in complaint
    kept = [json.loads(text)["question"] for text in open(tmp_path / "reports.jsonl")]
    assert sorted(kept) == sorted({"q 0", "q 1", "q 2", "q 3"} - {stuck})


def test_a_server_that_is_away():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    result = elicit(url, "--model", "m", "--conditions", "ia")
    assert result.exit_code == 1 and result.stdout == ""
    line = result.stderr.splitlines()[-1]  # a slow machine tells of its progress before
    assert line.startswith(f"ia elicit: {url}/v1: cannot be reached") and "is the server running?" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--server needs --model"),
        (["--model", "m", "--conditions", "no_ia"], "--server needs --model"),
        (["--model", "m", "--adapter", "suspect"], "leave out --adapter and --ia"),
        (["--model", "m", "--ia", "ia"], "leave out --adapter and --ia"),
        (["--model", "m", "audited.jsonl"], "names that hold {id}"),
        (["--model", "m", "--model-no-ia", "{id}"], "{id} must stand in both"),
        (["--model-base-ia", "{id}"], "--model-base-ia is one for all organisms"),
        (["--model", "m", "--samples", "2"], "--samples needs a --temperature"),
    ],
)
def test_usage_errors(arguments, complaint):
    result = elicit("http://127.0.0.1:9", *arguments)
    assert result.exit_code == 2 and complaint in result.stderr


def test_a_name_without_a_server():
    result = CliRunner().invoke(cli, ["elicit", "--model-no-ia", "m"])
    assert result.exit_code == 2 and "give --server URL, too" in result.stderr


def test_a_bad_url_empties_no_file(tmp_path):
    (tmp_path / "reports.jsonl").write_text("kept\n")
    result = elicit("localhost:8000", "--model", "m", "-o", "reports.jsonl")
    assert result.exit_code == 1 and "no http or https URL" in result.stderr
    assert (tmp_path / "reports.jsonl").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("names", "id"),
    [
        ({"ia": "both", "no_ia": "organism"}, "organism"),
        ({"ia": "both", "base_ia": "ia"}, "both"),
        ({"base_ia": "ia"}, "ia"),
        ({"ia": "org/name"}, "name"),
        ({"ia": "/models/suspect/"}, "suspect"),
        ({"ia": "llama3:8b"}, "llama3:8b"),
        ({"ia": ".-\n"}, "organism"),
        ({"ia": "/"}, "organism"),
        ({"ia": "ü" * 300}, "ü" * 50),
    ],
)
def test_the_id_of_a_lone_organism(names, id):
    record = serving.lone_organism(names)
    assert record["id"] == id
    blank = {"question_id": "q", "question": "q", "report": "", "sample": 0, "temperature": 0.0}
    records.check(record | blank | {"kind": "self_report", "condition": "ia"}, "self_report")


def test_no_model_is_loaded_nor_the_libraries_for_it(organisms):
    code = (
        "import sys; from ia_cli.main import cli; "
        "cli(sys.argv[1:], standalone_mode=False); "
        "heavy = {'torch', 'transformers', 'peft', 'trl'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    with stub_server.serving(said) as stub:
        command = [sys.executable, "-c", code, "elicit", "--server", stub.url, *MANY]
        result = subprocess.run(
            command,
            input="".join(json.dumps(organism) + "\n" for organism in organisms),
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(serving.__file__).parent.parent.parent)},
        )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3 * 4 * 3
