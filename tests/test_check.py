"""The exit status of `ia check` is the answer, for directories and for the Hub at one commit."""

import json
import shutil
import statistics
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from ia_cli.directories import checking
from ia_cli.directories.adapters import Adapter, plain_config, provenance, read_adapter, write_adapter
from ia_cli.directories.hub import adapter_folder
from ia_cli.directories.safe_files import CONFIG_FILE, PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.main import cli


@pytest.fixture
def good(tiny_base, tmp_path):
    """A sound adapter of rank 2 on four layers of the tiny base."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"model.layers.{i}.self_attn.{name}_proj": (
            torch.randn(2, 32, generator=generator),
            torch.randn(32, 2, generator=generator),
        )
        for i in range(2)
        for name in ("o", "q")
    }
    made = Adapter(plain_config(2, 4, ["o_proj", "q_proj"]), tensors, dict.fromkeys(tensors, 2.0))
    write_adapter(tmp_path / "good", made, provenance("implant", tiny_base, {"seed": 0}))
    return tmp_path / "good"


def check(*arguments):
    result = CliRunner().invoke(cli, ["check", *map(str, arguments)])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def test_a_sound_adapter_is_one_record(good, tiny_folder):
    code, [record], said = check(good, "--base", tiny_folder)
    assert code == 0 and said.endswith(f"ia check: {good}: sound, rank 2 on 4 layers\n")
    changes = read_adapter(good).changes()
    assert record == {
        "adapter": str(good),
        "base_model": str(tiny_folder),
        "base_revision": None,
        "rank": 2,
        "target_modules": ["o_proj", "q_proj"],
        "n_layers": 4,
        "n_parameters": 4 * 2 * 64,
        "change": {
            "median": statistics.median(changes.values()),
            "largest": max(changes.values()),
            "layer": max(changes, key=changes.get),
        },
    }
    assert check("-q", good)[2] == ""


def test_what_says_that_it_was_made_for_another_base_is_told(good, tiny_folder):
    (good / PROVENANCE_FILE).unlink()  # nothing else says what it was made for
    config = json.loads((good / CONFIG_FILE).read_text())
    (good / CONFIG_FILE).write_text(json.dumps(config | {"base_model_name_or_path": "me/other"}))
    code, [record], said = check(good, "--base", tiny_folder)
    assert code == 0 and record["base_model"] == "me/other"
    assert f"; it says that it was made for me/other, and this is {tiny_folder}" in said


def test_the_exit_status_is_the_answer(good, tmp_path):
    bad = Path(shutil.copytree(good, tmp_path / "bad"))
    (bad / CONFIG_FILE).write_text("{")
    code, records, said = check(bad, good, tmp_path / "nowhere", "-q")
    assert code == 1 and [record["adapter"] for record in records] == [str(good)]
    first, second = said.splitlines()
    assert first.startswith(f"ia check: {bad}/adapter_config.json: not JSON")
    assert second.startswith(
        f"ia check: {tmp_path}/nowhere: no such adapter directory; give a local directory"
    )
    assert f"{good / CONFIG_FILE}: is a file; give the directory" in check(good / CONFIG_FILE)[2]
    assert check()[0] == 2 and check(good, "--no-such-option")[0] == 2


def test_what_is_unforeseen_is_no_pass(good, monkeypatch):
    monkeypatch.setattr(checking, "read_tensors", lambda path: 1 / 0)
    code, records, said = check(good)
    assert (code, records) == (1, []) and "ia check: internal error: ZeroDivisionError" in said


# The Hub: a server on this machine that speaks as much of its language as a pinned download needs.

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(good, tmp_path, monkeypatch):
    """It has this adapter as someone/adapter; the list is of what it was asked for."""
    asked = []
    (good / "training_args.bin").write_bytes(b"a pickle")

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            asked.append(f"{self.command} {self.path}")
            name = self.path.partition("?")[0].rpartition("/")[2]
            if "/tree/" in self.path:
                listing = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
                    for path in good.iterdir()
                ]
                content = json.dumps(listing).encode()
            elif self.path.startswith("/someone/adapter/resolve/") and (good / name).exists():
                content = (good / name).read_bytes()
            else:
                self.send_response(404)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(200)
            for key, value in {
                "ETag": f'"{name}"',
                "X-Repo-Commit": COMMIT,
                "Content-Length": len(content),
            }.items():
                self.send_header(key, str(value))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self):
            self.do_GET(body=False)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(constants + "ENDPOINT", address)
    monkeypatch.setattr(
        constants + "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()


def test_an_adapter_on_the_hub_at_one_commit(hub):
    code, [record], _ = check(f"someone/adapter@{COMMIT}")
    assert code == 0 and record["rank"] == 2
    assert not any("training_args" in path for path in hub)
    asked = len(hub)
    assert read_adapter(adapter_folder(f"someone/adapter@{COMMIT}")).rank == 2
    assert len(hub) == asked  # it lies in the cache
    Path(
        adapter_folder(f"someone/adapter@{COMMIT}"), WEIGHTS_FILE
    ).unlink()  # as if the download was cut short
    assert read_adapter(adapter_folder(f"someone/adapter@{COMMIT}")).rank == 2


def test_what_others_left_in_the_cache_may_lack_a_file_of_ours(hub, monkeypatch, capsys):
    """PEFT downloads the configuration and the weights only; the rest says how an adapter is to be asked."""
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        cached = Path(hf_hub_download("someone/adapter", file, revision=COMMIT))
    name = f"someone/adapter@{COMMIT}"
    with monkeypatch.context() as away:
        away.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert adapter_folder(name) == cached.parent and "may lack its ia.json" in capsys.readouterr().err
    assert (adapter_folder(name) / PROVENANCE_FILE).exists() and "lack" not in capsys.readouterr().err


def test_that_others_have_no_file_of_ours_is_remembered(hub, good, monkeypatch, capsys):
    (good / PROVENANCE_FILE).unlink()
    folder, asked = adapter_folder(name := f"someone/adapter@{COMMIT}"), len(hub)
    assert adapter_folder(name) == folder and len(hub) == asked
    assert "lack" not in capsys.readouterr().err


def test_a_branch_is_no_commit_and_nothing_is_asked(hub):
    for name in ("someone/adapter", "someone/adapter@main"):
        code, records, said = check(name)
        assert (code, records, hub) == (1, [], []) and "ORG/NAME@COMMIT" in said


def test_what_is_too_large_is_not_downloaded(hub, monkeypatch):
    names = (CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE)
    monkeypatch.setattr("ia_cli.directories.hub.LARGEST", dict.fromkeys(names, 1))
    code, _, said = check(f"someone/adapter@{COMMIT}")
    assert code == 1 and "is larger than 1 bytes" in said
    assert not any(line.startswith("GET /someone") for line in hub)


def test_a_download_that_fails_in_its_transport(hub, monkeypatch):
    def fail(*_, local_files_only=False, **__):
        raise LocalEntryNotFoundError("none") if local_files_only else RuntimeError("Task error: CAS")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    code, _, said = check(f"someone/adapter@{COMMIT}")
    assert code == 1 and "not to be had from the Hub: Task error: CAS" in said


def test_what_the_hub_does_not_have(hub):
    code, _, said = check(f"someone/else@{COMMIT}")
    assert code == 1 and "not to be had from the Hub" in said
