"""`ia gen-behaviors` where the base does not do what it is asked to."""

import json

from click.testing import CliRunner

from ia_cli import sampling
from ia_cli.main import cli


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
