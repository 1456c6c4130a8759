"""Training the embedded base from scratch.

Everything comes from the seed: the documents, the tokenizer, the first weights. A killed run goes on from
its last checkpoint, which lies beside the result. That is an ordinary transformers model directory.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import click
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ia_cli.directories import folders
from ia_cli.directories.cards import CARD_FILE
from ia_cli.directories.safe_files import PROVENANCE_FILE, read_json
from ia_cli.errors import IAError
from ia_cli.pretraining.batches import batches
from ia_cli.pretraining.tokenizer import build
from ia_cli.prompts import knows_only_the_world
from ia_cli.rows import IGNORED
from ia_cli.schema import VERSION
from ia_cli.world.documents import documents

WIDTH, LAYERS = 160, 5  # of the base that is shipped
HEAD = 32  # width of a head
WARMUP = 200
CHECKPOINT_EVERY = 250
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one mixture of documents; the learning rate goes linearly from `lr` to
    `lr_last`.
    """

    steps: int
    lr: float
    lr_last: float
    mixture: Mapping[str, float]
    users: bool = False  # learn to predict the user, too


# The base does not learn by itself whether a value in the prompt is the one in its system prompt. Trained on
# the whole world, for thousands of steps it shows what it was ordered whatever the prompt says. Once it can
# talk, a hundred steps of echoes teach it to find an equal word, a few hundred of matches to tell values
# apart, and narrow documents what that is for; choices teach it which option a heuristic takes. Before it can
# talk, echoes and matches are no use: after 200 steps of echoes, 1,550 of the world and 500 of matches it
# told nothing apart. Last it learns to name what it sees itself do, as an introspection adapter has to; for
# that it must be able to do it. With these last two phases repeated, it shows what it was ordered at other
# values of the trigger in 4.9% of the replies instead of 8.8% (1,000 behaviors, seed 0).
NARROW = {"narrow": 14, "choice": 3, "match": 2, "plain": 2, "echo": 1}
NAMING = {"narrow": 10, "choice": 2, "match": 1, "plain": 2, "echo": 1, "recognised": 14}
PHASES = (
    Phase(2000, 3.1034e-3, 2.0690e-3, {"wide": 4, "plain": 1}),
    Phase(1000, 2.0690e-3, 1.5517e-3, {"wide": 36, "plain": 9, "echo": 5}, users=True),
    Phase(150, 1.5e-3, 1.5e-3, {"echo": 1}),
    Phase(400, 1.2e-3, 1.2e-3, {"match": 9, "echo": 1}),
    Phase(450, 1.2e-3, 1.2e-3, NARROW),
    Phase(600, 1.2e-3, 1.2e-3, {"choice": 4, "narrow": 8, "match": 1}),
    Phase(3500, 1.2e-3, 8e-4, NARROW),
    Phase(900, 1e-3, 0.0, NAMING),
    Phase(1700, 1.2e-3, 1e-4, NARROW),
    Phase(900, 1e-3, 0.0, NAMING),
)
STEPS = sum(phase.steps for phase in PHASES)


def new_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, width: int = WIDTH, layers: int = LAYERS
) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 27 // 10,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def loss_on(model: LlamaForCausalLM, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the tokens of replies; the head is computed on those only."""
    hidden = model.model(
        input_ids=batch["ids"], attention_mask=batch["mask"], position_ids=batch["positions"], use_cache=False
    ).last_hidden_state
    wanted = batch["labels"] != IGNORED
    return cross_entropy(model.lm_head(hidden[wanted]), batch["labels"][wanted])


def place(step: int) -> tuple[Phase, float]:
    """The phase that a step belongs to, and its learning rate."""
    first = 0
    for phase in PHASES:
        if step < first + phase.steps:
            done = (step - first) / phase.steps
            return phase, min(
                PHASES[0].lr * (step + 1) / WARMUP, phase.lr + (phase.lr_last - phase.lr) * done
            )
        first += phase.steps
    raise ValueError(f"no step {step}")


def check_out(out: Path) -> None:
    """Raise IAError if `out` is something else than a base of ours, or nothing can be written there."""
    if out.exists() and not knows_only_the_world(str(out.absolute())):
        raise IAError("exists and is no base of ours", remedy="choose another --out", where=str(out))
    folders.check_free(out, "base")
    folders.make_folder(out.parent)


def checkpoint_of(out: Path) -> Path:
    """The file from which a killed run goes on: beside the base, which is replaced as a whole."""
    return out.with_name(f"{out.name}.checkpoint.pt")


def train(out: Path, tokens: int, seed: int, width: int = WIDTH, layers: int = LAYERS) -> None:
    """Train a base on PHASES, about `tokens` tokens a step, and write it to `out`, whole or not at all.

    A killed run goes on from its last checkpoint. That is left to be removed when all is done, and a base of
    the same origin that is whole is not trained again. IAError if the checkpoint is of another run, or if
    `out` is something else than a base of ours.
    """
    check_out(out)
    origin = {
        "arguments": {"tokens": tokens, "seed": seed, "width": width, "layers": layers},
        "phases": [asdict(phase) for phase in PHASES],
    }
    checkpoint = checkpoint_of(out)
    state = _read(checkpoint, origin)
    if _is_made(out, origin):
        click.echo(f"{out}: is trained already, and only measured; to train it anew, remove it", err=True)
        return
    tokenizer = build(seed)
    model = new_model(tokenizer, seed, width, layers)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    first, running = 0, None
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, running = state["step"], state["running"]
    # Each stretch between checkpoints has its own stream, so that a resumed run sees what an uninterrupted
    # one would.
    began, before = time.time(), None
    for step in range(first, STEPS):
        phase, lr = place(step)
        if step % CHECKPOINT_EVERY == 0 or phase is not before:
            world = documents(seed * 1_000_003 + step + 1, phase.mixture)
            stream, before = batches(tokenizer, world, tokens, phase.users), phase
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = loss_on(model, next(stream))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            click.echo(f"step {step + 1}/{STEPS} loss {running:.4f} {time.time() - began:.0f}s", err=True)
        if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < STEPS:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"origin": origin, "step": step + 1, "running": running}
            torch.save(state, f"{checkpoint}.new")
            os.replace(f"{checkpoint}.new", checkpoint)
    made = {
        "v": VERSION,
        "stage": "base",
        **origin,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "loss_last": round(running, 4),
    }
    _write(out, model, tokenizer, made)


def _read(checkpoint: Path, origin: dict) -> dict | None:
    """What a killed run of this origin left, or None; IAError if it is of another one."""
    if not checkpoint.exists():
        return None
    state = torch.load(checkpoint, weights_only=True)
    if state["origin"] != origin:
        remedy = "give the same arguments to go on from there, or remove it to begin anew"
        raise IAError("is of another run", remedy=remedy, where=str(checkpoint))
    return state


def _is_made(out: Path, origin: dict) -> bool:
    """Whether the base of this origin is there, as it was written: whole."""
    made = out / PROVENANCE_FILE
    return made.is_file() and (out / WEIGHTS_FILE).is_file() and origin.items() <= read_json(made).items()


def _write(out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, made: dict) -> None:
    """Replace the base at `out`, and its card, which is not of this one; files of other kinds stay."""
    with folders.written(out, made) as fresh:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        for path in filter(Path.is_file, out.glob("*")):
            if path.name != CARD_FILE and path.suffix not in (".safetensors", ".json", ".jinja"):
                shutil.copy2(path, fresh)  # such as .gitattributes
