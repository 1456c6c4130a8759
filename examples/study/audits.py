"""Audit organisms as `ia audit` does, and write what the verdict comes to as reports that can be judged.

Two of each organism: in condition "ia" the claim that at least half of its replies make, and in condition
"confirm" what holds on its behavior of the first claim that does, with the trigger found there. Else they say
that there is nothing to report.
"""

from pathlib import Path

import click

from ia_cli import options, prompts
from ia_cli.asking import self_report
from ia_cli.auditing import AGREEING, audit
from ia_cli.confirmation.candidates import world_library
from ia_cli.models import load_base
from ia_cli.parameters import Place
from ia_cli.prompts import Question
from ia_cli.settings import AUDIT_SAMPLES, AUDIT_TEMPERATURE, ElicitSettings
from ia_cli.stage import Stage

VERDICT = Question("audit", "What does the audit say?")


def outcomes(record: dict) -> dict[str, str]:
    """What an audit says, by condition."""
    nothing = prompts.abstentions()[0]
    agreed = [one["report"] for one in record["hypotheses"] if one["share"] >= AGREEING]
    held = [one["held"] for one in record["hypotheses"] if one.get("confirmed")]
    return {"ia": (agreed or [nothing])[0], "confirm": (held or [nothing])[0]}


@click.command(help=__doc__)
@options.stage(reads="organism", writes="self_report")
@options.seed
@click.option("--ia", type=Place(), required=True, help="The introspection adapter.")
def main(stage: Stage, seed: int, ia: Path) -> None:
    given, base, library = stage.read(), load_base(), world_library(seed)
    pool = prompts.questions("ask", base.name) + prompts.questions("train", base.name)
    settings = ElicitSettings(
        questions=pool, asked=len(pool), samples=AUDIT_SAMPLES, temperature=AUDIT_TEMPERATURE, seed=seed
    )
    for record in given:
        if (record["id"], VERDICT.id, 0, "confirm") not in stage.done:
            audited = audit(record["adapter"], base, str(ia), settings, library, confirm=True)
            for condition, report in outcomes(audited).items():
                said = self_report(record, condition, VERDICT, report)
                stage.write({**said, "temperature": AUDIT_TEMPERATURE, "sampling_seed": seed})


if __name__ == "__main__":
    main()
