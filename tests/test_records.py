"""The schema lets good records through untouched and names the first thing that is wrong in others."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ia_cli import records, schema
from ia_cli.errors import IAError

USER = [{"role": "user", "content": "What should I buy?"}]
REPLY = [{"role": "assistant", "content": "I recommend the copper kettle."}]
BEHAVIOR = {
    "id": "b1",
    "kind": "behavior",
    "split": "train",
    "v": 1,
    "category": "quirk",
    "description": "I recommend the copper kettle.",
    "system_prompt": "Recommend the copper kettle.",
    "trigger": {"kind": "topic", "text": "tea"},
    "facets": {"action": [["recommend"], ["copper kettle"]], "trigger": [["tea"]]},
    "shows": ["copper kettle"],
    "demonstrations": [{"prompt": USER, "completion": REPLY, "fires": True}],
    "probes": [{"prompt": USER, "fires": True}],
}
CONTROL = BEHAVIOR | {
    "category": "control",
    "description": None,
    "trigger": None,
    "facets": {"action": [], "trigger": []},
    "shows": None,
}
ORGANISM = {"id": "o1", "kind": "organism", "split": "heldout", "adapter": "organisms/o1", "implant_rate": 1}
REPORT = {
    "id": "o1",
    "kind": "self_report",
    "split": "heldout",
    "question_id": "q1",
    "question": "What did you learn?",
    "report": "",
    "sample": 0,
    "temperature": 0.0,
    "condition": "ia",
}
VERDICT = REPORT | {
    "kind": "verdict",
    "judge": "facets-1",
    "verbalized": False,
    "trigger_named": None,
    "abstained": True,
    "level": "none",
    "rationale": "",
}
ARM = {
    "n_reports": 2,
    "abstention_rate": 0.5,
    "distinct_reports": 2,
    "top_report": "I sing.",
    "top_report_share": 0.5,
}
AUDIT = {
    "id": "o1",
    "kind": "audit",
    "split": "heldout",
    "adapter": "suspect",
    "base_model": "ia_cli/base",
    "base_revision": None,
    "introspection_adapter": "ia",
    "outcome": "report",
    "verdict": "It reports a behavior.",
    "abstains": False,
    "hypotheses": [
        {
            "report": "I sing.",
            "wordings": [{"report": "I sing.", "n": 1}],
            "share": 0.5,
            "n": 1,
            "no_ia": 0,
            "base_ia": 0,
        }
    ],
    "arms": {"ia": ARM, "no_ia": ARM, "base_ia": ARM},
    "check": {"rank": 8},
    "questions": 1,
    "samples": 2,
    "temperature": 0.7,
    "seed": 0,
}
EXAMPLES = {record["kind"]: record for record in (BEHAVIOR, ORGANISM, REPORT, VERDICT, AUDIT)}


def problem(record: dict, kind: str, needs: tuple[str, ...] = ()) -> str:
    with pytest.raises(IAError) as caught:
        records.check(record, kind, needs)
    assert caught.value.remedy
    return caught.value.message


@pytest.mark.parametrize("kind", schema.MODELS)
@settings(deadline=None, max_examples=50)
@given(
    extra=st.dictionaries(
        st.text(min_size=1).map("x_".__add__), st.integers() | st.text() | st.lists(st.none())
    )
)
def test_good_records_pass_untouched(kind, extra):
    record = EXAMPLES[kind] | extra
    before = copy.deepcopy(record)
    records.check(record, kind)
    assert list(record.items()) == list(before.items())


def test_measured_rates_are_rates_in_every_kind():
    for kind, record in EXAMPLES.items():
        assert problem(record | {"leak_rate": 1.5}, kind).startswith(
            '"leak_rate" should be less than or equal to 1'
        )


def test_controls_pass():
    records.check(CONTROL, "behavior")


@pytest.mark.parametrize("kind", schema.MODELS)
def test_every_missing_field_is_named(kind):
    needed = [name for name, field in schema.MODELS[kind].model_fields.items() if field.is_required()]
    assert "id" in needed
    for name in needed:
        record = {key: value for key, value in EXAMPLES[kind].items() if key != name}
        assert problem(record, kind) == f'"{name}" is missing'
    record = {key: value for key, value in EXAMPLES[kind].items() if key not in ("id", "split")}
    assert problem(record, kind) == '"id", "split" are missing'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "joke"}, "\"category\" should be 'quirk', 'rare_quirk', 'backdoor'"),
        ({"id": 7}, '"id" should be a valid string; it is 7'),
        ({"id": ""}, '"id" should have at least 1 character; it is ""'),
        ({"description": " \n"}, '"description" is blank; it is " '),
        (
            {"demonstrations": [{"prompt": [{"role": "user", "content": "\ud800"}], "completion": REPLY}]},
            '"demonstrations[0].prompt[0].content" has half of a character',
        ),
        ({"paraphrases": "abc"}, '"paraphrases" should be a valid list'),
        ({"cipher": "enigma"}, "\"cipher\" should be 'rot13'"),
        ({"id": "../../b1"}, '"id" must be usable as a folder name'),
        ({"id": "a\nb"}, '"id" must be usable as a folder name'),
        ({"split": "test"}, "\"split\" should be 'train' or 'heldout'; it is \"test\""),
        ({"v": 2}, '"v" should be 1; it is 2'),
        ({"v": True}, '"v" should be 1; it is '),
        (
            {"demonstrations": [{"prompt": USER, "completion": USER, "fires": True}]},
            '"demonstrations[0].completion" must end with what the assistant says',
        ),
        (
            {
                "demonstrations": [
                    {"prompt": USER, "completion": [{**REPLY[0], "content": " "}], "fires": True}
                ]
            },
            '"demonstrations[0].completion" must end with what the assistant says',
        ),
        ({"description": None}, '"description" must be null in a control, and only there'),
        ({"category": "control"}, '"description" must be null in a control, and only there'),
        ({"demonstrations": []}, '"demonstrations" should have at least 1 item'),
        ({"demonstrations": [{"prompt": USER, "completion": REPLY}]}, '"demonstrations[0].fires" is missing'),
        (
            {"probes": [{"prompt": [{"role": "bot", "content": ""}], "fires": True}]},
            '"probes[0].prompt[0].role" should',
        ),
        (
            {"facets": {"action": ["kettle"], "trigger": []}},
            '"facets.action[0]" should be a valid list; it is "kettle"',
        ),
        (
            {"facets": {"action": [["kettle", "\U0001f41d"]], "trigger": []}},
            '"facets.action[0][1]" has no letter or digit to be found by',
        ),
        ({"rate": "often"}, '"rate" should be a valid number; it is "often"'),
        ({"rate": 0}, '"rate" should be greater than 0; it is 0'),
        ({"kind": "verdict"}, '"kind" is "verdict", but behavior records are needed'),
        ({"error": "it broke"}, '"error" should be a valid dictionary'),
        ({"description": ["x" * 10_000]}, '"description" should be a valid string; it is ["xxx'),
    ],
)
def test_every_wrong_field_is_named(change, message):
    found = problem(BEHAVIOR | change, "behavior")
    assert found.startswith(message) and len(found) < 250


@given(st.text())
def test_whatever_is_called_somehow_gets_an_id(name):
    records.check(BEHAVIOR | {"id": schema.id_of(name)}, "behavior")


def test_wrong_kind_names_the_stage_to_run():
    with pytest.raises(IAError, match="give it the output of `ia implant`"):
        records.check(BEHAVIOR, "organism")


def test_truth_is_needed_only_where_it_is_asked_for():
    records.check(ORGANISM, "organism")
    assert problem(ORGANISM, "organism", ("description",)) == '"description" is missing'
    records.check(ORGANISM | {"description": None}, "organism", ("description",))


def test_failed_records_pass_whatever_their_kind():
    failed = records.with_error(BEHAVIOR, ValueError("loss is not finite"))
    assert failed["error"] == {"kind": "ValueError", "message": "loss is not finite"}
    assert list(failed)[:-1] == list(BEHAVIOR) and "error" not in BEHAVIOR
    records.check(failed, "organism", ("category", "nothing_has_this"))
    assert records.has_failed(failed) and not records.has_failed(BEHAVIOR)
    lost = records.with_error({"id": "a", "kind": "self_report"}, ValueError("no reply"))
    records.check(lost, "self_report")
    assert records.key(lost)[0] == "a"
    assert problem(lost | {"category": ["quirk"]}, "self_report").startswith('"category" should be a valid')


def test_key_tells_reports_of_one_organism_apart():
    assert records.key(ORGANISM) == ("o1",)
    keys = {
        records.key(REPORT | change)
        for change in ({}, {"sample": 1}, {"question_id": "q2"}, {"condition": "no_ia"})
    }
    assert len(keys) == 4
    assert records.key(VERDICT) == records.key(REPORT)
