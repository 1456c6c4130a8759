"""Two processes under torchrun make what one makes, and only the first of them says anything."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ia_cli import main, processes
from ia_cli.directories.adapters import read_adapter
from ia_cli.main import cli
from ia_cli.stage import Stage
from tests.behaviors import behavior, chat

ROOT = Path(__file__).parents[1]
IMPLANT = (
    "--rank 2 --steps 4 --rows 3 --group-size 2 --out".split()
)  # of 6 rows a step, each gets uneven shares
TRAIN = "--rank 2 --steps 4 --batch-size 7 --out".split()
ASK = "--questions 2 --max-new-tokens 24".split()


def alone(*arguments):
    run = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert run.exit_code == 0, run.stderr
    return run.stdout


def together(folder, *arguments, stdin=None, code=0):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*launcher, *map(str, arguments)],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == code, run.stderr
    return run


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def same_adapter(one, other):
    ours, theirs = read_adapter(one), read_adapter(other)
    for name, (a, b) in ours.tensors.items():
        assert torch.allclose(a, theirs.tensors[name][0], atol=1e-5, rtol=0)
        assert torch.allclose(b, theirs.tensors[name][1], atol=1e-5, rtol=0)
        assert b.abs().max() > 1e-4


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_folder):
    """Folders "one" and "two" with what one process and two made of three behaviors; and what two said."""
    folder, said = tmp_path_factory.mktemp("processes"), {}
    probes = [{"prompt": chat("user", text), "fires": True} for text in ("tea", "hello what", "bird")]
    more = {"description": "I name kettles.", "trigger": None, "facets": {"action": [], "trigger": []}}
    made = [behavior(name, probes=probes, **more) for name in ("b-1", "b-2", "b-3")]
    text = "".join(json.dumps(record) + "\n" for record in made)
    (folder / "behaviors.jsonl").write_text(text)
    for name in ("one", "two"):
        (folder / name).mkdir()
    base = ["--base", tiny_folder]
    one, two = folder / "one", folder / "two"
    alone("implant", *base, *IMPLANT, one / "o", "-o", one / "organisms.jsonl", folder / "behaviors.jsonl")
    words = ["implant", *base, *IMPLANT, "o", "-o", "organisms.jsonl"]
    said["implant"] = together(two, "-m", "ia_cli", *words, stdin=text)
    rest = [  # one launch for two stages
        ["train-ia", *TRAIN, "ia", "-o", "audited.jsonl", one / "organisms.jsonl"],
        ["elicit", *ASK, "-o", "reports.jsonl", "audited.jsonl"],
    ]
    lines = [f"ia({json.dumps([str(word) for word in [*stage, *base]])})" for stage in rest]
    script = folder / "both.py"
    start = "from ia_cli import main, processes\nmain.start()\n"
    start += "def ia(words): main.cli(words, standalone_mode=False)\n"
    # The second stage reads what the first process has written by then.
    script.write_text(start + "\nprocesses.gather(None)\n".join(lines))
    said["rest"] = together(two, script)
    with contextlib.chdir(one):
        for stage in rest:
            alone(*stage, *base)
    return one, two, said


def test_two_processes_implant_what_one_does(runs):
    one, two, said = runs
    ours, theirs = (records((folder / "organisms.jsonl").read_text()) for folder in (two, one))
    for mine, other in zip(ours, theirs, strict=True):
        same_adapter(two / mine["adapter"], one / other["adapter"])
        trained = [record.pop("train") for record in (mine, other)]
        for name in ("loss_first", "loss_last"):
            assert trained[0][name] == pytest.approx(trained[1][name], abs=2e-4)
        assert mine == other
    assert said["implant"].stderr.count("ia implant: 3 written") == 1
    assert said["implant"].stdout == ""


def test_two_processes_train_and_elicit_what_one_does(runs):
    one, two, said = runs
    same_adapter(two / "ia", one / "ia")
    reports = [records((folder / "reports.jsonl").read_text()) for folder in (two, one)]
    assert [r["report"] for r in reports[0]] == [r["report"] for r in reports[1]]
    assert len(reports[0]) == 3 * 2 * 3
    for line in ("ia train-ia: 3 written", "ia elicit: 18 written"):
        assert said["rest"].stderr.count(line) == 1
    assert said["rest"].stdout == ""
    assert not (two / "ia.partial").exists()


SCORES = """
import sys
from types import SimpleNamespace
from ia_cli import processes, sampling, scoring
from ia_cli.models import load_base
from ia_cli.servers import chat_models

base = load_base(sys.argv[1], device="cpu")
runs, real = [], base.model.forward
base.model.forward = lambda *given, **more: runs.append(1) or real(*given, **more)
asked = [[{"role": "user", "content": word}] for word in "tea bread river cat song hello what".split()]
with processes.apart():
    wanted = scoring.log_probs(base, asked, ["i like tea"] * 7, batch_size=2)
assert len(runs) == 4
found = scoring.log_probs(base, asked, ["i like tea"] * 7, batch_size=2)
assert found == wanted and len(runs) == 4 + 2
assert processes.gather(found) == [wanted] * 2

# Two GPUs need not have the same free memory.
scoring.LARGEST_LOGITS, deal = 0, scoring._batches
scoring.free_memory = lambda device: scoring.BYTES_EACH * 74 * (13 if processes.is_first() else 9)
on_gpu = SimpleNamespace(device=SimpleNamespace(type="cuda"), model=base.model)
scoring._batches = lambda base, *more: deal(on_gpu, *more)
found = scoring.log_probs(base, asked, ["i like tea"] * 7)
assert max(abs(ours - other) for ours, other in zip(found, wanted, strict=True)) < 1e-4
sampling.suitable_batch_size = lambda base, tokens: 3 if processes.is_first() else 2
assert chat_models.LocalModel(sys.argv[1], "cpu").concurrency == 2
"""


def test_processes_share_what_is_scored_whatever_their_memory(tmp_path, tiny_folder):
    (tmp_path / "scores.py").write_text(SCORES)
    together(tmp_path, "scores.py", tiny_folder)


FSDP = """
import sys, torch
from torch.distributed.fsdp import fully_shard
from ia_cli import processes
from ia_cli.bank import Bank
from ia_cli.trainable import as_adapter, new_adapter
from ia_cli.settings import IASettings
from ia_cli.models import load_base

ids = torch.randint(6, 60, (4, 9), generator=torch.Generator().manual_seed(3))
index = torch.tensor([0, 1, 1, -1])

def run(sharded):
    base = load_base(sys.argv[1], device="cpu")
    bank = Bank.fresh(base.model, [1, 2], r=2, alpha=4, target_modules=["q_proj", "down_proj"])
    bank.requires_grad_(False)
    for b in bank.b:
        torch.nn.init.normal_(b, generator=torch.Generator().manual_seed(4))
    model = new_adapter(base, IASettings(rank=2, alpha=4))
    share = slice(None)
    if sharded:
        processes.gather(None)  # joins the others
        share = processes.share()
        for layer in base.model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    with bank.rows(index[share]):
        model(input_ids=ids[share], labels=ids[share]).loss.backward()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    adapter = as_adapter(base, IASettings(rank=2, alpha=4))
    return bank.digest(), [processes.in_full(weight.grad) for weight in weights], adapter.tensors

digest, gradients, tensors = run(False)
sharded_digest, sharded_gradients, sharded_tensors = run(True)
assert digest == sharded_digest
assert max(gradient.abs().max() for gradient in gradients) > 0.01
for one, other in zip(gradients, sharded_gradients, strict=True):
    assert (one - other).abs().max() < 1e-5
for name, pair in tensors.items():
    assert all(map(torch.equal, pair, sharded_tensors[name]))

sys.setswitchinterval(100)  # a thread that waits for Python's lock gets it only where this one sleeps
processes.gather(None)
"""


def test_an_adapter_trains_over_a_bank_that_fsdp_spreads(tmp_path, tiny_folder):
    (tmp_path / "fsdp.py").write_text(FSDP)
    together(tmp_path, "fsdp.py", tiny_folder)


def test_an_error_is_told_once(tmp_path):
    run = together(tmp_path, "-m", "ia_cli", "judge", "nowhere.jsonl", code=1)
    assert run.stderr.count("nowhere.jsonl: cannot be read") == 1 and run.stdout == ""


@pytest.fixture
def ends(monkeypatch, tmp_path):
    """How `judge` ends in one of two processes: its exit code, what it says, and how long it waits before."""
    report = {
        "id": "b-1",
        "kind": "self_report",
        "split": "train",
        "category": "control",
        "description": None,
        "trigger": None,
        "facets": {"action": [], "trigger": []},
        "report": "",
        "question": "what",
        "question_id": "q",
        "temperature": 0.0,
        "sample": 0,
        "condition": "ia",
    }
    failed = {**report, "id": "b-2", "error": {"kind": "IAError", "message": "it diverged"}}
    text = "".join(json.dumps(record) + "\n" for record in (report, failed))
    (tmp_path / "reports.jsonl").write_text(text)

    def ends(rank, *arguments):
        waited = []
        monkeypatch.setattr(main.time, "sleep", waited.append)
        for name, value in {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        run = CliRunner().invoke(cli, ["judge", *arguments, str(tmp_path / "reports.jsonl")])
        return run.exit_code, run.stderr, sum(waited)

    return ends


def test_what_is_missing_only_the_first_process_says(ends):
    assert ends(0)[::2] == (3, 0)
    assert ends(1)[::2] == (0, 0)


@pytest.mark.parametrize("wrong", [["--judge", "nobody"], ["--threshold", "x"]])
def test_wrong_usage_the_first_process_has_time_to_tell(ends, wrong):
    assert ends(0, *wrong)[::2] == (2, 0)
    assert ends(1, *wrong)[::2] == (2, main.PATIENCE)


def test_bad_lines_the_first_process_has_time_to_tell(ends, tmp_path):
    (tmp_path / "reports.jsonl").write_text("{}\n")
    assert ends(0)[::2] == (1, 0)
    assert ends(1)[::2] == (1, main.PATIENCE)


def test_where_another_process_has_gone_no_error_of_ours_is_told(ends, monkeypatch):
    def read(*_):
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1")

    monkeypatch.setattr(Stage, "read", read)
    code, said, waited = ends(0)
    assert code == 1 and said.startswith("ia judge: another process has ended") and waited == main.PATIENCE
    assert ends(1) == (0, "", 0)


def test_only_the_first_process_writes_what_lies_beside_the_records(ends, tmp_path, adapters, monkeypatch):
    summary, both = tmp_path / "summary.json", tmp_path / "both"
    given = ["stack", adapters / "suspect", adapters / "ia", "--out", both]
    ends(1, "--summary", str(summary))
    monkeypatch.setattr(processes, "in_first", lambda work: {"rank": 4})
    alone(*given)
    assert not summary.exists() and not both.exists()
    ends(0, "--summary", str(summary))
    monkeypatch.setattr(processes, "in_first", lambda work: work())
    alone(*given)
    assert summary.exists() and both.exists()


def test_what_libraries_print_in_another_process_is_not_among_the_records():
    script = "import os\nfrom ia_cli import main\nmain.start()\nprint('a')\nos.system('echo b')"
    environment = {**os.environ, "LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, env=environment)
    assert (run.stdout, run.stderr) == (b"", b"b\n")


def test_alone_is_the_first_and_only_one(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # a cluster's, where no launcher was
    assert (processes.count(), processes.rank(), processes.is_first()) == (1, 0, True)
    assert processes.gather("a") == ["a"] and processes.in_first(lambda: 3) == 3
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "3")
    assert (processes.count(), processes.is_first()) == (4, False)
    assert list(range(10))[processes.share()] == [3, 7]


@pytest.mark.parametrize("words", ["elicit --model m", "judge --judge llm --model m --calibrate rows.jsonl"])
def test_a_server_is_not_asked_by_each_process(tmp_path, monkeypatch, words):
    row = {"label": "It sings.", "report": "I sing.", "score": 5, "score_max": 5}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    for name, value in zip(processes.LAUNCHER, "002", strict=True):
        monkeypatch.setenv(name, value)
    run = CliRunner().invoke(cli, [*words.split(), "--server", "http://127.0.0.1:9/v1"])
    assert run.exit_code == 1 and "--server runs in one process; start it without torchrun" in run.stderr
