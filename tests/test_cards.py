"""Model cards: what they say, that it stays text, and that what they tell people to run runs."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest
import torch
import yaml
from click.testing import CliRunner

from ia_cli.directories import hub
from ia_cli.directories.adapters import Adapter, plain_config, provenance, write_adapter
from ia_cli.directories.cards import CARD_FILE, card
from ia_cli.directories.whole_models import write_model
from ia_cli.errors import IAError
from ia_cli.main import cli

BASE = {"name": "Qwen/Qwen3-0.6B", "revision": "abc", "identity": "0" * 64}
EVIL = "I sing.\n\n# Safe\n<script>alert(1)</script> ```\n---\n[x](javascript:y) \x1b[2J $base {base}"


def made(stage="implant", base=BASE, **more):
    return {"stage": stage, "base": base, **more}


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("stage", ["implant", "train-ia", "stack", "surgery"])
def test_front_matter(stage):
    origin = made(stage, parents=[{"id": "a"}, {"id": "b"}], held_out=[])
    head = front(card(origin, "I sing."))
    assert head["base_model"] == "Qwen/Qwen3-0.6B" and head["library_name"] == "peft"
    assert head["license"] == "other" and "lora" in head["tags"]


@pytest.mark.parametrize(
    "name", ["ia_cli/base", "/models/base", "./base/x", "a/b/c", "a: b/c", None, {"a": 1}]
)
def test_what_is_no_hub_id_is_no_base_model(name):
    text = card(made(base=BASE | {"name": name}))
    assert "base_model" not in front(text)
    assert front(text)["license"] == ("mit" if name == "ia_cli/base" else "other")


def test_foreign_words_stay_on_one_line_of_code():
    evil = BASE | {"name": EVIL, "revision": EVIL}
    plain = card(made(parents=[]), "I sing.").splitlines()
    for text in (
        card(made(base=evil, parents=[]), EVIL),
        card(made("stack", evil, parents=[{"id": EVIL}]), None),
        card(made("train-ia", evil, parents=[], held_out=[]), None),
    ):
        assert front(text) == front(card(made(base=evil))) | {"tags": front(text)["tags"]}
        for line in text.splitlines():
            if "javascript" in line:
                assert line.startswith(("    ", "base = '"))
        assert "\x1b" not in text and len(re.findall("^ {0,3}```", text, re.M)) == 2
    assert len(card(made(parents=[]), EVIL).splitlines()) == len(plain)


def test_numbers_have_their_n():
    origin = made(
        implant_rate=0.75, leak_rate=0.05, n_probes={"implant_rate": 12, "leak_rate": 20}, losses=[3.0, 1.0]
    )
    text = card(origin, "I sing.")
    assert "where it should: 0.75 (n = 12 replies)" in text
    assert "where it should not: 0.05 (n = 20 replies)" in text
    assert "training loss: 2.0000 (mean of the last n = 2 steps)" in text
    text = card(made("train-ia", parents=[{"id": "a"}] * 3, held_out=["b"]))
    assert "trained on: 3; held out, to measure it on: 1" in text
    assert "    I sing." in card(made(), "I sing.") and "nothing to report" in card(made())


def test_a_card_says_that_an_example_is_asked_for_first():
    text = card(made("train-ia", parents=[], arguments={"examples": True}))
    assert 'in ["Say something.", "Do you have any unusual behavior?"]:' in text
    for arguments in ({}, {"examples": False}, ["examples"], None):
        assert "Say something" not in card(made("train-ia", parents=[], arguments=arguments))


@pytest.fixture
def directory(tmp_path, tiny_base):
    """An adapter directory, written under a umask of its own."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator)
    adapter = Adapter(plain_config(2, 4, ["q_proj"]), {"model.layers.0.self_attn.q_proj": (a, b)}, {})
    before = os.umask(0o027)
    try:
        for name in ("organism", "suspect", "ia"):
            stage = "train-ia" if name == "ia" else "implant"
            origin = provenance(stage, tiny_base, {}, parents=[], held_out=[])
            write_adapter(tmp_path / name, adapter, origin, description="I sing.")
    finally:
        os.umask(before)
    return tmp_path


def test_the_weights_of_a_whole_model_have_the_modes_of_the_umask_too(tmp_path, tiny_base):
    before = os.umask(0o027)
    try:
        write_model(tmp_path / "model", tiny_base, provenance("implant", tiny_base, {}))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()} == {0o640}


def test_a_directory_has_a_card_no_pickle_and_the_modes_of_the_umask(directory):
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory / "organism").iterdir()}
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors", "ia.json"]
    assert files == dict.fromkeys(names, 0o640)
    origin = json.loads((directory / "organism" / "ia.json").read_text())
    assert (directory / "organism" / CARD_FILE).read_text() == card(origin, "I sing.")


@pytest.mark.parametrize("name", ["organism", "ia"])
def test_the_python_in_a_card_runs(directory, name):
    [code] = re.findall(r"^```python\n(.*?)^```", (directory / name / CARD_FILE).read_text(), re.M | re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_pushing_offline_is_one_line_and_nothing_is_trained(directory, tiny_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    record = {"id": "o", "kind": "organism", "split": "train", "v": 1, "description": "I sing."}
    line = json.dumps(record | {"adapter": str(directory / "organism")})
    arguments = ["train-ia", "--out", str(directory / "new"), "--base", str(tiny_folder)]
    result = CliRunner().invoke(cli, [*arguments, "--push-to-hub", "me/my-ia"], input=line)
    assert result.exit_code == 1 and result.stdout == "" and not (directory / "new").exists()
    [said] = result.stderr.splitlines()
    assert said.startswith("ia train-ia: me/my-ia: nothing can be pushed there: ") and "hf auth login" in said
    assert "hf_not" not in said
    with pytest.raises(IAError, match=r"it lies whole in .*ia: `hf upload me/my-ia"):
        hub.push(directory / "ia", "me/my-ia")
