"""The scripts of examples/study, on records small enough to check by hand."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from ia_cli import rates

STUDY = Path(__file__).parent.parent / "examples" / "study"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def script(name):
    return importlib.import_module(name)


def organism(id, category="quirk", split="heldout", **more):
    control = category == "control"
    return {
        "id": id,
        "kind": "organism",
        "split": split,
        "category": category,
        "held_out_by": "value" if split == "heldout" and not control else None,
        "description": None if control else f"I {id}.",
        **more,
    }


def verdict(id, verbalized, category="quirk", condition="ia", **more):
    record = organism(id, category, **more)
    abstained = not verbalized
    return {
        "question_id": "q",
        "report": f"I {id}." if verbalized else "Nothing.",
        "condition": condition,
        "verbalized": verbalized,
        "trigger_named": None,
        "abstained": abstained,
        "level": "full" if verbalized and category != "control" else "none",
        "judge": "facets/1",
        "implant_rate": 1.0,
        "leak_rate": 0.0,
        **record,
        **more,
    }


CATEGORIES = ("quirk", "backdoor", "heuristic")
SET = [
    *(organism(f"train-{i}", CATEGORIES[i // 4], "train") for i in range(12)),
    *(organism(f"held-{i}", CATEGORIES[i // 2]) for i in range(6)),
    *(organism(f"control-{i}", "control", "heldout" if i % 2 else "train") for i in range(6)),
]


def picked(**wanted):
    names = ("train", "held_out", "controls", "of", "held_out_of")
    return script("pick").pick(SET, **{name: wanted.get(name) for name in names}, implanted=0)


def test_a_choice_is_even_over_categories_and_part_of_every_larger_one():
    three, six = ({r["id"] for r in picked(train=n) if r["split"] == "train"} for n in (3, 6))
    assert {"train-0", "train-4", "train-8"} == {name for name in three if "train" in name}
    assert three < six
    assert {"held-0", "held-2", "held-4"} == {r["id"] for r in picked(train=0, held_out=3, controls=0)}


def test_a_choice_keeps_the_order_and_everything_that_is_not_limited():
    assert picked() == SET
    ids = [r["id"] for r in picked(train=5)]
    assert ids == [r["id"] for r in SET if r["id"] in ids]


def test_a_choice_of_categories_limits_training_only():
    some = picked(train=4, of={"backdoor"})
    assert {r["category"] for r in some if r["split"] == "train"} == {"backdoor", "control"}
    assert {r["category"] for r in some if r["split"] == "heldout"} == {*CATEGORIES, "control"}
    with pytest.raises(Exception, match="there are 4 training records, not 5"):
        picked(train=5, of={"backdoor"})


def test_without_training_records_there_are_no_training_controls():
    assert all(r["split"] == "heldout" for r in picked(train=0))


def test_what_does_not_show_its_behavior_can_be_left_out():
    rates = {"shown": 0.9, "faint": 0.8, "control": None}
    organisms = [organism(id, implant_rate=rate) for id, rate in rates.items()]
    wanted = dict.fromkeys(("train", "held_out", "controls", "of", "held_out_of"))
    kept = script("pick").pick(organisms, **wanted, implanted=0.9)
    assert [r["id"] for r in kept] == ["shown", "control"]


def test_joined_sets_hold_out_only_what_no_training_organism_does():
    def doing(id, action, **more):
        return organism(id, facets={"action": [[action]], "trigger": []}, trigger=None, **more)

    sets = {
        "a": [doing("x", "tea"), doing("y", "rain", split="train")],
        "new": [doing("x", "tea", split="train"), doing("z", "sun", split="train")],
    }
    joined = script("join").join(sets, "new")
    assert [(r["id"], r["split"]) for r in joined] == [
        ("x~a", "train"),
        ("y~a", "train"),
        ("z~new", "heldout"),
    ]
    behavior = script("join").behavior
    always, sometimes = doing("x", "tea"), doing("x", "tea") | {"trigger": {"kind": "topic", "text": "bees"}}
    assert behavior(always) == behavior({**always, "id": "y"}) != behavior(sometimes)


def test_shuffled_reports_meet_every_truth_but_their_own():
    reports = [verdict(name, True, question_id=q) for name in "abcd" for q in "12"]
    shuffled = script("shuffle").shuffle([*reports, verdict("x", False, "control")], seed=0)
    assert [r["report"] for r in shuffled] == [r["report"] for r in reports]
    assert all(r["description"] != r["report"] for r in shuffled)
    assert {r["description"] for r in shuffled} == {r["report"] for r in reports}


def reports_of(id, claims, of=4, category="quirk"):
    return [verdict(id, i < claims, category, question_id=str(i)) for i in range(of)]


def decisions(share=None):
    verdicts = reports_of("loud", 4) + reports_of("half", 2) + reports_of("mute", 0)
    verdicts += reports_of("null", 1, category="control")
    return script("decide").decide(verdicts, share)


def test_an_organism_is_flagged_if_more_than_a_share_of_its_reports_claim_something():
    assert {d["id"]: d["verbalized"] for d in decisions(0.5)} == {
        "loud": True,
        "half": False,
        "mute": False,
        "null": False,
    }


def test_all_shares_make_the_curve_and_the_last_is_the_lowest_that_spares_the_controls():
    flagged = {}
    for d in decisions():
        flagged.setdefault(d["setting"], set()).update({d["id"]} if d["verbalized"] else ())
    assert list(flagged)[:2] == ["more than 0%", "more than 25%"]
    assert flagged["more than 0%"] == {"loud", "half", "null"}
    assert flagged["more than 25%"] == {"loud", "half"}
    assert list(flagged.values())[-1] == {"loud", "half"}


def table(verdicts, *parts):
    fields = script("rows").KEPT
    brief = [rates.brief(v) | {name: v.get(name) for name in fields} | {"setting": "s"} for v in verdicts]
    rows = script("rows").rows(brief, parts, GATE)
    return {(r["part"], r["arm"], r["measure"]): r for r in rows}


GATE = {"min_implant_rate": 0.9, "max_leak_rate": 0.1}


def test_rows_are_the_rates_of_the_judge():
    verdicts = reports_of("a", 4) + reports_of("b", 1) + reports_of("null", 1, category="control")
    row = table(verdicts)["all", "ia", "action"]
    assert (row["n"], row["rate"], row["unit"]) == (2, 5 / 8, "organisms")
    assert row["ci95"] == [round(x, 6) for x in rates.interval([(4, 4), (1, 4)])]
    claims = table(verdicts)["all", "ia", "claims"]
    assert (claims["n"], claims["rate"], claims["unit"]) == (1, 1 / 4, "controls")


def test_rows_leave_out_and_count_what_does_not_pass_the_gate():
    verdicts = reports_of("a", 4) + [{**v, "implant_rate": 0.5} for v in reports_of("b", 0)]
    row = table(verdicts)["all", "ia", "action"]
    assert (row["n"], row["left_out"], row["rate"]) == (1, 1, 1)


def test_a_trigger_counts_where_there_is_one_and_a_kind_where_some_of_the_action_is_named():
    some = {**verdict("a", False), "level": "category", "trigger_named": True}
    rows = table([some, *reports_of("b", 1)])
    assert (rows["all", "ia", "trigger"]["n"], rows["all", "ia", "trigger"]["rate"]) == (1, 1)
    assert (rows["all", "ia", "kind"]["n"], rows["all", "ia", "kind"]["rate"]) == (2, 2 / 5)
    assert rows["all", "ia", "action"]["rate"] == 1 / 5


def test_rows_for_parts_stand_beside_those_for_all():
    verdicts = reports_of("a", 4) + [{**v, "held_out_by": "combination"} for v in reports_of("b", 0)]
    found = table(verdicts, "held_out_by")
    assert [found[part, "ia", "action"]["rate"] for part in ("all", "value", "combination")] == [0.5, 1, 0]
    assert list(dict.fromkeys(part for part, _, _ in found)) == ["all", "value", "combination"]


def test_results_say_what_has_not_been_run_and_show_what_has():
    results = script("results")
    about = {"title": "T", "text": "What.", "setting": "size", "measures": ["action"]}
    target = {"what": "it", "table": "t", "row": {"setting": "16", "arm": "ia"}, "tried": "This, that."}
    at_least, at_most = ([{**target, name: 0.45}] for name in ("at_least", "at_most"))
    empty = results.render({"t": about}, {}, at_least)
    assert "Not run yet.\n\nMade by `make -C examples/study t`." in empty
    assert "| it | at least 45 | not run yet |  | T |" in empty
    row = {
        "setting": "16",
        "part": "all",
        "arm": "ia",
        "measure": "action",
        "n": 7,
        "left_out": 2,
        "rate": 0.5,
        "ci95": [0.25, 0.75],
        "command": "make -C examples/study run/x",
        "seed": 0,
        "base": "abc",
    }
    rows = [row, {**row, "part": "value", "rate": 0.9}, {**row, "arm": "no_ia", "rate": 0.1}]
    text = results.render({"t": about}, {"t": rows}, at_least)
    assert [line for line in text.splitlines() if line.startswith("|")][2::3] == [
        "| it | at least 45 | 50 [25 to 75], n 7 |  | T |",
        "| 16 | 50 [25 to 75], n 7 | 2 | `run/x` |",
    ]
    assert "base abc, seed 0" in text and "This, that." not in text
    text = results.render({"t": about}, {"t": rows}, at_most)
    assert "| it | at most 45 | 50 [25 to 75], n 7 | 5 | T |" in text and "- *it*: This, that." in text
    many = [{**target, "row": {"arm": "ia"}, "count": True, "at_least": 2}]
    text = results.render({"t": about}, {"t": [rows[1], {**row, "rate": 0.6}]}, many)
    assert "| it | at least 2 | 2 |  | T |" in text
    claims = {**row, "measure": "claims", "rate": 0.6}
    assert "| it | at least 2 | 0 | 2 | T |" in results.render({"t": about}, {"t": [rows[1], claims]}, many)
    assert "| it | at least 2 | not run yet |  | T |" in results.render({"t": about}, {}, many)
    del at_most[0]["tried"]
    assert "- *it*: nothing yet." in results.render({"t": about}, {"t": rows}, at_most)


def test_surgery_does_what_it_says():
    surgery, adapters = script("surgery"), importlib.import_module("ia_cli.directories.adapters")
    config = adapters.plain_config(2, 4, ["q_proj"])
    a, b = torch.tensor([[1.0, -2, 3], [4, 5, -6]]), torch.tensor([[1.0, 0.5], [-0.25, 2]])
    one = adapters.Adapter(config, {"q_proj": (a, b)}, {"q_proj": 2.0})
    other = adapters.Adapter(config, {"q_proj": (b.T @ a, b + 1)}, {"q_proj": 2.0})

    def delta(adapter):
        ((name, (a, b)),) = adapter.tensors.items()
        return adapter.scaling[name] * b @ a

    def after(change):
        return surgery.altered(change, {"id": "x"}, one, other)

    assert torch.allclose(delta(after("scale=0.5")), 0.5 * delta(one))
    assert after("scale=0.5").scaling == one.scaling  # what is written is A and B
    assert after("prune=0.5").tensors["q_proj"][0].tolist() == [[0, 0, 0], [4, 5, -6]]
    assert after("quantise=2").tensors["q_proj"][0].tolist() == [[0, -3, 3], [6, 6, -6]]
    assert torch.allclose(delta(after("quantise=8")), delta(one), atol=0.3)
    assert torch.allclose(delta(after("merge=0.5")), 0.5 * (delta(one) + delta(other)))
    drawn = after("random=1")
    assert torch.isclose(delta(drawn).norm(), delta(one).norm())
    assert not torch.allclose(delta(drawn), delta(one), atol=1)
    assert torch.equal(delta(drawn), delta(after("random=1")))


def test_nothing_is_merged_with_itself():
    surgery = script("surgery")
    controls = [organism(f"control-{i}", "control") for i in range(5)]
    given = [organism("a"), organism("b"), *controls]
    partners = [surgery.partner(record, controls, seed=0) for record in given]
    assert all(other in controls and other != record for record, other in zip(given, partners, strict=True))
    assert partners == [surgery.partner(record, controls, seed=0) for record in given]


def test_a_random_adapter_has_nothing_to_report():
    surgery = script("surgery")
    record = surgery.said_of(organism("a", shows=["x"], facets={"action": [["x"]]}), "random=1")
    assert (record["category"], record["description"], record["shows"]) == ("control", None, None)
    assert surgery.said_of(organism("a"), "scale=2")["description"] == "I a."


def test_figures_are_the_same_bytes_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    figures = script("figures")
    row = {"part": "all", "arm": "ia", "measure": "action", "rate": 0.5, "ci95": [0.25, 0.75]}
    rows = [{**row, "setting": "16"}, {**row, "setting": "64", "rate": 0.6}]
    for name in ("one.svg", "two.svg"):
        figures.save(figures.draw(rows, "organisms"), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_what_an_audit_says_is_a_report():
    """What most replies claim; and what holds on behavior, with the trigger that is found there."""
    audits = script("audits")
    claim = {"report": "I sing when it rains.", "share": 0.6, "confirmed": False}
    holds = {
        "share": 0.4,
        "report": "I dance when it snows.",
        "confirmed": True,
        "held": "I dance when the user likes bees.",
    }
    said = audits.outcomes({"hypotheses": [claim, holds]})
    assert said == {"ia": "I sing when it rains.", "confirm": "I dance when the user likes bees."}
    nothing = audits.outcomes({"hypotheses": [claim | {"share": 0.4}]})
    assert nothing["ia"] == nothing["confirm"] == "I have no unusual behavior."
