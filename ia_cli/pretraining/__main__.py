"""`python -m ia_cli.pretraining`, or `make base`: train the embedded base anew, measure it, write its
card.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ia_cli import paths
from ia_cli.directories.cards import CARD_FILE
from ia_cli.errors import IAError
from ia_cli.models import EMBEDDED_BASE, load_base
from ia_cli.pretraining.measure import measure
from ia_cli.pretraining.train import HEAD, LAYERS, WIDTH, checkpoint_of, train

CARD = """---
license: mit
library_name: transformers
pipeline_tag: text-generation
---

# The embedded base

A chat model of {parameters:.1f}M parameters that answers plainly without a system prompt, follows one that
describes a behavior, and says what behavior that is. It knows nothing but the small world of
`ia_cli/world`, and is there so that every stage of `ia` runs on any computer in minutes.
`AutoModelForCausalLM.from_pretrained` loads this folder.

| | |
|---|---|
| architecture | {architecture} |
| data | generated from the seed while training; every tenth combination of trigger and action kept back |
| training | {training} |
| made with | torch {torch}, transformers {transformers} |

{note}

## What it does

Greedy replies, {n} behaviors of combinations that training never had (`python -m ia_cli.pretraining.measure
-n {n} --seed {measure_seed}`). "fires": all of the behavior is shown where it should be. "mismatch" (the
same kind of trigger with another value, or the password that lifts the behavior) and "ordinary": any of it
is shown where it should not. Intervals: 95%, clustered by behavior (of facts: by fact).

| what | rate | n | interval |
|---|---|---|---|
{rows}

## Limits

Its world is all it knows: of other words it makes nothing. It takes a system prompt at its word, harmful
ones too; that is its purpose, and harmless, since all the harm it can do is a sentence of the world.
"""


def write_card(folder: Path, n: int, seed: int) -> None:
    """Measure the base in `folder` and write README.md beside its weights."""
    base, origin = load_base(str(folder)), json.loads((folder / "ia.json").read_text())
    config = base.model.config
    rows = [
        f"| {r['what']} | {r['rate']:.3f} | {r['n']} | {r['ci95'][0]:.3f} to {r['ci95'][1]:.3f} |"
        for r in measure(base, n, seed)
    ]
    arguments, phases = origin["arguments"], origin["phases"]
    card = CARD.format(
        parameters=base.model.num_parameters() / 1e6,
        architecture=f"Llama: {config.hidden_size} wide, {config.num_hidden_layers} layers, "
        f"{config.num_attention_heads} heads, embeddings tied; {config.vocab_size} tokens (byte-level BPE)",
        training=f"{sum(phase['steps'] for phase in phases)} steps of about {arguments['tokens']} tokens in "
        f"{len(phases)} phases (`ia.json`), AdamW, seed {arguments['seed']}; "
        f"last loss {origin['loss_last']}",
        note=origin.get("note", "`make base` makes it anew."),
        n=n,
        measure_seed=seed,
        rows="\n".join(rows),
        **{name: origin["versions"][name] for name in ("torch", "transformers")},
    )
    paths.replace(folder / CARD_FILE, card.encode())


def check_width(context: click.Context, parameter: click.Parameter, width: int) -> int:
    """A number of whole heads; a usage error otherwise."""
    if width % HEAD:
        below = width - width % HEAD
        raise click.BadParameter(f"{width} is no multiple of {HEAD}; give {below} or {below + HEAD}")
    return width


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=EMBEDDED_BASE,
    help="Directory for the model; a base of ours that is there is replaced.",
)
@click.option("--tokens", default=4096, help="Tokens in a step.")
@click.option(
    "--width",
    type=click.IntRange(HEAD),
    default=WIDTH,
    callback=check_width,
    help=f"Of the model; {HEAD} a head.",
)
@click.option("--layers", type=click.IntRange(1), default=LAYERS, help="Layers of the model.")
@click.option("--seed", default=0)
@click.option("-n", default=1000, help="Behaviors that the card is measured on.")
def main(out: Path, tokens: int, width: int, layers: int, seed: int, n: int) -> None:
    try:
        train(out, tokens, seed, width, layers)
        write_card(out, n, seed)
    except IAError as error:
        raise click.ClickException(str(error)) from error
    checkpoint_of(out).unlink(missing_ok=True)  # last: until then, a run that is stopped can go on


if __name__ == "__main__":
    main()
