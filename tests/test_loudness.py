"""Loudness is what PEFT's own model shows; who is too loud for an introspection adapter is turned down."""

import contextlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from ia_cli import confirming, loudness, prompts
from ia_cli.bank import Bank
from ia_cli.confirmation import conditional
from ia_cli.confirmation.candidates import NO_LIBRARY
from ia_cli.confirmation.conditional import Answer
from ia_cli.confirming import Suspect, confirm
from ia_cli.directories.adapters import read_adapter
from ia_cli.directories.safe_files import PROVENANCE_FILE
from ia_cli.elicitation import elicit, introspecting
from ia_cli.models import load_base
from ia_cli.organisms import on_base
from ia_cli.settings import ConfirmSettings, ElicitSettings
from tests.organisms import write_random

N = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_folder):
    """Random organisms o-0 to o-3, and an introspection adapter, ia."""
    made = tmp_path_factory.mktemp("organisms")
    write_random(made, tiny_folder, N)
    return made


@pytest.fixture
def bank(folder, tiny_base):
    found = Bank.load(tiny_base.model, [read_adapter(folder / f"o-{i}", tiny_base) for i in range(N)])
    yield found
    found.remove()


def used_to(folder, tmp_path, usual):
    """A copy of the introspection adapter that says that it is used to this loudness."""
    ia = tmp_path / "ia"
    shutil.copytree(folder / "ia", ia)
    (ia / PROVENANCE_FILE).write_text(json.dumps({"stage": "train-ia", "loudness": usual}))
    return str(ia)


def test_no_layer_but_the_first_runs(bank, tiny_base):
    ran = []
    for number, layer in enumerate(tiny_base.model.model.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    loudness.loudness(bank, tiny_base, range(N))
    assert set(ran) == {0}


def records(folder, ia):
    """Those of the organisms, with this introspection adapter."""
    return [
        {
            "id": f"o-{i}",
            "kind": "organism",
            "split": "heldout",
            "v": 1,
            "adapter": str(folder / f"o-{i}"),
            "introspection_adapter": ia,
        }
        for i in range(N)
    ]


def test_loudness_is_that_of_plain_peft(folder, tiny_folder, bank, tiny_base):
    found = loudness.loudness(bank, tiny_base, range(N))
    for i in range(N):
        model = load_base(str(tiny_folder), dtype="float64", device="cpu").model
        moved = []
        for question in prompts.questions("train", tiny_base.name)[: loudness.QUESTIONS]:
            chat = [{"role": "user", "content": question.text}]
            inputs = tiny_base.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            bare = model(**inputs, output_hidden_states=True).hidden_states[1]
            own = PeftModel.from_pretrained(model, folder / f"o-{i}")
            state = own(**inputs, output_hidden_states=True).hidden_states[1]
            moved.append(((state - bare).norm(dim=-1) / bare.norm(dim=-1)).mean())
            model = own.unload()
        assert found[i].item() == pytest.approx(torch.stack(moved).mean().item(), rel=1e-5)


def test_the_usual_is_the_median_of_those_that_report(bank, tiny_base):
    own = loudness.loudness(bank, tiny_base, range(N))
    found = loudness.median(bank, tiny_base, [0, 2, 3], seed=0)
    assert found == pytest.approx(own[[0, 2, 3]].median().item(), abs=1e-4)


def test_volume_scales_what_an_organism_adds_and_comes_back(bank):
    before = bank.digest(), [b.clone() for b in bank.b]
    with bank.at_volume(torch.tensor([1.0, 0.5, 0.0, 0.25])):
        for b, whole in zip(bank.b, before[1], strict=True):
            assert torch.equal(b[0], whole[0]) and torch.equal(b[1], whole[1] / 2) and not b[2].any()
    with pytest.raises(KeyError), bank.at_volume(torch.zeros(N)):
        raise KeyError
    assert bank.digest() == before[0]


@pytest.fixture(scope="module")
def faint(folder, tiny_folder):
    """The organisms at a tenth of their weights, as far from the base as fine-tunes are, and their base."""
    base = load_base(str(tiny_folder), device="cpu")
    found = Bank.load(base.model, [read_adapter(folder / f"o-{i}", base) for i in range(N)])
    with found.at_volume(torch.tensor([0.05, 0.08, 0.12, 0.2])):
        yield found, base


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0.3, 1.3))
def test_the_loud_are_turned_down_to_the_limit_and_the_others_left(folder, faint, tmp_path_factory, share):
    bank, base = faint
    own = loudness.loudness(bank, base, range(N))
    limit = share * own.median().item()
    ia = used_to(folder, tmp_path_factory.mktemp("used"), limit / loudness.LOUDEST)
    with loudness.turned_down(bank, base, ia, contextlib.nullcontext) as volumes:
        now = loudness.loudness(bank, base, range(N))
    for volume, before, after in zip(volumes, own.tolist(), now.tolist(), strict=True):
        if before <= limit:
            assert volume == 1 and after == pytest.approx(before)
        else:
            assert volume < 1 or before < 1.02 * limit
            assert after == pytest.approx(limit, rel=0.1)


@pytest.mark.parametrize("said", [None, "0.1", True, 0.0, -1.0, {"a": 1}])
def test_what_an_adapter_says_of_itself_is_used_only_if_it_is_a_loudness(
    folder, bank, tiny_base, tmp_path, said
):
    ia = used_to(folder, tmp_path, said)
    with loudness.turned_down(bank, tiny_base, ia, contextlib.nullcontext) as volumes:
        assert volumes == [1.0] * N
    for nothing in (None, str(folder / "ia")):
        with loudness.turned_down(bank, tiny_base, nothing, contextlib.nullcontext) as volumes:
            assert volumes == [1.0] * N


def test_a_whole_model_and_a_silent_organism_are_left_alone(folder, bank, tiny_base, tmp_path):
    ia = used_to(folder, tmp_path, 0.001)
    with loudness.turned_down(None, tiny_base, ia, contextlib.nullcontext) as volumes:
        assert volumes == [1.0]
    bank.b[0].data[1], bank.b[1].data[1] = 0, 0
    for b in bank.b:
        b.data[1] = 0
    with loudness.turned_down(bank, tiny_base, ia, contextlib.nullcontext) as volumes:
        assert volumes[1] == 1 and max(volumes[0], *volumes[2:]) < 0.1


def test_the_introspection_adapter_is_off_while_loudness_is_measured(folder, bank, tiny_base, tmp_path):
    own = loudness.loudness(bank, tiny_base, range(N))
    ia = used_to(folder, tmp_path, round(own.min().item() / 2, 4))
    with loudness.turned_down(bank, tiny_base, ia, contextlib.nullcontext) as expected:
        pass
    with (
        introspecting(tiny_base, ia) as without_ia,
        loudness.turned_down(bank, tiny_base, ia, without_ia) as found,
    ):
        assert found == expected and max(found) < 1


def test_only_the_condition_ia_hears_the_organism_turned_down(folder, tiny_base, tmp_path):
    ia = used_to(folder, tmp_path, 0.02)
    asking = ElicitSettings(questions=prompts.questions("ask", tiny_base.name), asked=2, max_new_tokens=10)

    def said(directory):
        given = [{**record, "volume": 0.5} for record in records(folder, directory)]
        return list(elicit(given, tiny_base, replace(asking, examples=False)))

    for as_is, down in zip(said(str(folder / "ia")), said(ia), strict=True):
        assert "volume" not in as_is
        if down["condition"] == "ia":
            assert 0 < down["volume"] < 0.5
        else:
            assert "volume" not in down and down["report"] == as_is["report"]


def by_conditional(given, base):
    return conditional.asked(given, base, (), 1, 0)


def by_confirm(given, base):
    return confirm([Suspect(record, []) for record in given], base, NO_LIBRARY, ConfirmSettings(again=0))


@pytest.mark.parametrize("ask", [by_conditional, by_confirm])
def test_conditional_questions_hear_the_organism_turned_down_as_the_others_do(
    folder, tiny_base, tmp_path, monkeypatch, ask
):
    """...and what it then claims is tried at its full volume."""
    given = records(folder, used_to(folder, tmp_path, 0.02))
    asking = ElicitSettings(
        questions=prompts.questions("ask", tiny_base.name), asked=1, conditions=("ia",), max_new_tokens=1
    )
    expected = [report["volume"] for report in elicit(given, tiny_base, asking)]
    with on_base(given, tiny_base) as bank:
        whole = bank.b[0].norm(dim=(1, 2))
    heard, tried = [], []

    def volumes(scorer):
        return pytest.approx((scorer.bank.b[0].norm(dim=(1, 2)) / whole).tolist())

    def answers(n, candidates, scorer, seed):
        heard.append(volumes(scorer))
        return [Answer(prompts.abstentions()[0], None)] * n

    for module in (conditional, confirming):
        monkeypatch.setattr(module, "answers", answers)
    monkeypatch.setattr(confirming, "learned", lambda ia, base: True)
    monkeypatch.setattr(confirming, "_hold", lambda *given: tried.append(volumes(given[-1])))
    list(ask(given, tiny_base))
    assert heard == [expected] and max(expected) < 0.5
    assert tried == [[1.0] * N] * (ask is by_confirm)
