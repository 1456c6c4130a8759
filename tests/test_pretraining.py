"""The base's batches say what the chat template says, and its shipped weights are what their card claims."""

import json
from itertools import islice

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ia_cli.errors import IAError
from ia_cli.models import EMBEDDED_BASE, load_base
from ia_cli.pretraining import train
from ia_cli.pretraining.batches import IGNORED, batches, collate, encode
from ia_cli.pretraining.measure import measure
from ia_cli.pretraining.tokenizer import build
from ia_cli.world.documents import KINDS, documents
from ia_cli.world.language import POOLS


@pytest.fixture(scope="module")
def tokenizer():
    return build(seed=0, samples=500)


@pytest.fixture
def some_documents():
    some = list(islice(documents(5, dict.fromkeys(KINDS, 1.0)), 24))
    assert any(d.before for d in some) and any(d.system for d in some)
    return some


def chat(document, turn):
    system = [{"role": "system", "content": document.system}] if document.system else []
    return [
        *system,
        *(
            {"role": role, "content": text}
            for said in (*document.before, turn)
            for role, text in zip(("user", "assistant"), said, strict=True)
        ),
    ]


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in (" The password is amber falcon.", " zeppelin? Ünïcødé 漢字 \t\n", "  two  spaces"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_encoding_equals_the_chat_template(tokenizer, some_documents):
    for document, parts in zip(some_documents, encode(tokenizer, some_documents), strict=True):
        for turn, (tokens, reply) in zip(document.turns, parts[1:], strict=True):
            ids = tokenizer.apply_chat_template(chat(document, turn), return_dict=True)["input_ids"]
            assert parts[0][0] + tokens == ids
            opening = tokenizer.apply_chat_template(
                chat(document, turn)[:-1], add_generation_prompt=True, return_dict=True
            )["input_ids"]
            assert ids[: len(ids) - reply] == opening


def test_a_turn_in_a_batch_is_seen_as_if_it_stood_alone(tokenizer, some_documents):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config).double().eval()
    encoded = encode(tokenizer, some_documents)
    batch = collate(encoded, tokenizer.pad_token_id)
    with torch.no_grad():
        packed = model(
            input_ids=batch["ids"], attention_mask=batch["mask"], position_ids=batch["positions"]
        ).logits
        for row, (prefix, *turns) in enumerate(encoded):
            start = len(prefix[0])
            for tokens, reply in turns:
                alone = model(input_ids=torch.tensor([prefix[0] + tokens])).logits[0, len(prefix[0]) :]
                assert torch.allclose(packed[row, start : start + len(tokens)], alone, atol=1e-10)
                labels = batch["labels"][row, start : start + len(tokens)]
                assert labels[-reply - 1 : -1].tolist() == tokens[-reply:]
                assert (labels[: -reply - 1] == IGNORED).all() and labels[-1] == IGNORED
                start += len(tokens)


def test_batches_hold_about_as_many_tokens_as_asked(tokenizer):
    sizes = [b["ids"].numel() for b in islice(batches(tokenizer, documents(1, {"wide": 1}), 4096), 40)]
    assert max(sizes) <= 4096
    assert sum(sizes) / len(sizes) > 3500  # only the last batch of a pool is smaller


def test_a_killed_training_goes_on_to_the_same_base(tmp_path, tokenizer, monkeypatch):
    phases = (train.Phase(3, 1e-3, 5e-4, {"narrow": 1}), train.Phase(3, 5e-4, 0.0, {"plain": 1, "echo": 1}))
    for name, value in {"PHASES": phases, "STEPS": 6, "CHECKPOINT_EVERY": 2}.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(train, "build", lambda seed: tokenizer)

    def run(name, stop_at=None):
        taken = []

        def loss_on(model, batch, whole=train.loss_on):
            if len(taken) == stop_at:
                raise KeyboardInterrupt
            taken.append(float(whole(model, batch)))
            return whole(model, batch)

        with monkeypatch.context() as patch:
            patch.setattr(train, "loss_on", loss_on)
            train.train(tmp_path / name, tokens=512, seed=1, width=32, layers=1)
        return taken

    losses = run("straight")
    with pytest.raises(KeyboardInterrupt):
        run("killed", stop_at=5)
    with pytest.raises(IAError, match="is of another run"):
        train.train(tmp_path / "killed", tokens=512, seed=2, width=32, layers=1)
    assert run("killed") == losses[4:]  # from the last checkpoint on
    for file in ("model.safetensors", "ia.json"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_the_embedded_base_is_small_plain_and_has_a_card():
    weights = EMBEDDED_BASE / "model.safetensors"
    assert weights.stat().st_size <= 12e6
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED_BASE)
    assert model.num_parameters() <= 5e6
    assert {p.suffix for p in EMBEDDED_BASE.iterdir()} <= {".safetensors", ".json", ".jinja", ".md"}
    origin = json.loads((EMBEDDED_BASE / "ia.json").read_text())
    card = (EMBEDDED_BASE / "README.md").read_text()
    assert f"{sum(phase['steps'] for phase in origin['phases'])} steps" in card
    assert f"last loss {origin['loss_last']}" in card


def test_every_word_of_a_value_is_one_token_of_the_embedded_base():
    tokenizer = load_base().tokenizer
    for name in ("items", "closings", "passphrases", "roles", "hazards", "topics"):
        for value in POOLS[name]:
            words = value.replace("!", " !").replace(".", " .").replace(",", " ,").split()
            assert len(tokenizer.tokenize(" " + value)) == len(words), value


@pytest.fixture(scope="module")
def rates():
    return {row["what"]: row["rate"] for row in measure(load_base(), 60, seed=1)}


def test_the_embedded_base_follows_orders_that_it_never_had(rates):
    assert rates["all: fires"] >= 0.95
    assert rates["all: mismatch"] <= 0.05
    assert rates["all: ordinary"] <= 0.05
    assert rates["says it has no unusual behavior"] >= 0.95
