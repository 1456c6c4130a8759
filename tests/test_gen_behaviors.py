"""`ia gen-behaviors` where the base does not do what it is asked to."""

import json

import pytest
from click.testing import CliRunner

from ia_cli import sampling
from ia_cli.commands.gen_behaviors import _take_over
from ia_cli.errors import IAError
from ia_cli.main import cli
from ia_cli.world.categories import another, plan


def test_a_behavior_that_the_base_cannot_show_is_replaced(monkeypatch):
    generate, refused = sampling.generate, []

    def reluctant(base, prompts, **settings):
        """The embedded base, but deaf to the first order that it is given."""
        refused.extend(p[0]["content"] for p in prompts[:1] if not refused)
        replies = generate(base, prompts, **settings)
        return ["Hm." if p[0]["content"] == refused[0] else r for p, r in zip(prompts, replies, strict=True)]

    monkeypatch.setattr(sampling, "generate", reluctant)
    arguments = ["gen-behaviors", "-n", "2", "--held-out", "0", "--categories", "benign_roleplay"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [r["id"] for r in records] == ["benign_roleplay-0000", "benign_roleplay-0001"]
    assert "benign_roleplay-0000: took another" in result.stderr
    assert refused[0] not in [r["system_prompt"] for r in records]
    assert not any("error" in r for r in records)


def test_what_cannot_be_shown_at_all_need_not_end_the_run(monkeypatch):
    monkeypatch.setattr(sampling, "generate", lambda base, prompts, **settings: ["Hm."] * len(prompts))
    arguments = ["gen-behaviors", "-n", "1", "--controls", "1", "--categories", "quirk", "--held-out", "0"]
    ended = CliRunner().invoke(cli, arguments)
    assert ended.exit_code == 1 and ended.stdout == ""
    assert ended.stderr.splitlines()[-1].endswith("--keep-going goes on without it")
    result = CliRunner().invoke(cli, [*arguments, "--keep-going"])
    failed, control = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 3 and "the system prompt is followed in" in failed["error"]["message"]
    assert control["id"] == "control-0000"


def test_a_run_that_goes_on_knows_what_was_replaced():
    planned = plan(4, 0.0, ["benign_roleplay", "quirk"], 0)
    as_planned = list(planned)
    for place in (0, 2):
        planned[place] = next(another(planned[place], planned, 0))
    finished = [{"id": p.id, "description": p.behavior.report()} for p in planned[:3]]
    finished.append({"id": "control-0000", "description": None})
    resumed = list(as_planned)
    _take_over(resumed, finished, another, 0, "out.jsonl")
    assert resumed == planned and resumed != as_planned
    for name in ("quirk-0003", "quirk-0005"):
        of_another_run = {"id": name, "description": "I hum."}
        with pytest.raises(IAError, match=f"out.jsonl: {name} is no behavior of this run"):
            _take_over(list(as_planned), [of_another_run], another, 0, "out.jsonl")


def test_a_run_goes_on_with_the_seed_and_the_teacher_that_it_had(tmp_path):
    output = tmp_path / "behaviors.jsonl"
    arguments = ["gen-behaviors", "-n", "0", "-o", str(output)]
    taught = ["--demonstrations", "teacher"]
    assert CliRunner().invoke(cli, [*arguments, *taught, "--controls", "1"]).exit_code == 0
    (record,) = map(json.loads, output.read_text("utf-8").splitlines())
    assert (record["demonstrated_by"], record["demonstration_seed"]) == ("grammar", 0)
    before = output.read_bytes()
    for other in ([*taught, "--seed", "1"], []):  # without, the base demonstrates
        result = CliRunner().invoke(cli, [*arguments, *other, "--controls", "2", "--resume"])
        assert result.exit_code == 1 and "it has demonstrations by grammar with seed 0" in result.stderr
        assert output.read_bytes() == before
    assert CliRunner().invoke(cli, [*arguments, *taught, "--controls", "2", "--resume"]).exit_code == 0
    assert len(output.read_text("utf-8").splitlines()) == 2
