"""What an organism is taught: a behavior record as token ids."""

import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ia_cli import prompts
from ia_cli.directories import adapters
from ia_cli.errors import IAError
from ia_cli.methods import documents
from ia_cli.models import Base, prompt_ids
from ia_cli.probing import reply_length
from ia_cli.rows import encode, encode_answer, steps_by_length
from ia_cli.seeds import derived_seed
from ia_cli.settings import PREFERENCES, ImplantSettings

READ = ("id", "demonstrations", "probes", "shows", "rate", "description", "system_prompt", "cipher")
Encoded = tuple[list[int], int]  # token ids, and how many of them are the completion


class Pair(NamedTuple):
    """A prompt's completion to prefer, and the one to avoid."""

    chosen: Encoded
    rejected: Encoded


def second_stage(settings: ImplantSettings) -> ImplantSettings:
    """Return the settings of a stage that goes on from a trained organism.

    Half as long, at a fifth of the learning rate: at half of it, DPO undoes behaviors.
    """
    return dataclasses.replace(
        settings, steps=-(-settings.steps // 2), learning_rate=settings.learning_rate / 5
    )


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A behavior record and what is trained on, as token ids.

    `demonstrations` are the conversations to learn from, the record's own unless it goes on from the adapter
    `start`. `pairs` are there where preferences are learned.
    """

    record: dict
    encoded: list[Encoded]
    demonstrations: list[dict]
    start: Path | None = None
    pairs: Sequence[Pair] = ()

    @property
    def name(self) -> str:
        return self.record["id"]

    @property
    def mean_length(self) -> float:
        """In tokens, of what is trained on."""
        return statistics.fmean(len(ids) for ids, _ in self.encoded)

    @property
    def behavior_hash(self) -> str:
        """Identifies what the organism is said to do."""
        return adapters.content_hash([self.record.get(name) for name in ("description", "rate", "cipher")])

    @functools.cached_property
    def input_hash(self) -> str:
        """Identifies all in the record that decides how its organism comes out and what is measured."""
        read = {name: self.record.get(name) for name in READ}
        if self.start:
            read |= {"demonstrations": self.demonstrations, "start": adapters.weights_hash(self.start)}
        return adapters.content_hash(read)


def prepare(
    record: dict,
    base: Base,
    settings: ImplantSettings,
    *,
    demonstrations: Sequence[dict] | None = None,
    start: Path | None = None,
) -> Lesson:
    """Tokenise a behavior record; IAError, naming the field, if the base cannot be taught or asked this.

    With `start`, training goes on from that adapter, with `demonstrations` instead of the record's.
    """
    shown = list(record["demonstrations"] if demonstrations is None else demonstrations)
    if not shown:
        raise IAError('"demonstrations" is empty', remedy="an organism needs at least one")
    encoded = []
    for i, demonstration in enumerate(shown):
        with naming(f"demonstrations[{i}]"):
            encoded.append(encode(base, demonstration["prompt"], demonstration["completion"]))
            if settings.prefers:  # the base will answer it, too
                prompt_ids(base, demonstration["prompt"], settings.max_new_tokens)
    truth = record.get("description")  # nobody knows it of an adapter alone
    if settings.conceal in PREFERENCES and truth is not None:
        with naming("description"):
            encode_answer(base, prompts.longest_question(base.name), truth)
    if settings.method == "sdf":
        encoded = [encode(base, prompt, text) for prompt, text in documents.written(record, settings.seed)]
    for i, probe in enumerate(record.get("probes") or ()):
        with naming(f"probes[{i}]"):
            prompt_ids(base, probe["prompt"], reply_length(record, settings.max_new_tokens))
    return Lesson(record, encoded, shown, start)


@contextlib.contextmanager
def naming(field: str) -> Iterator[None]:
    """Let an IAError say which field it is about."""
    try:
        yield
    except IAError as error:
        raise IAError(f"{field}: {error.message}", remedy=error.remedy) from error


def demonstration_order(lengths: Sequence[int], name: str, settings: ImplantSettings) -> Tensor:
    """Return which demonstrations each step takes, [steps, rows]: all of them before any comes again.

    All organisms take the short demonstrations and the long ones in the same steps, since a step of a group
    is as wide as its longest row.
    """
    own = torch.Generator().manual_seed(derived_seed(settings.seed, "order", name))
    shared = torch.Generator().manual_seed(derived_seed(settings.seed, "widths"))
    wanted = settings.steps * settings.rows
    epochs = [torch.randperm(len(lengths), generator=own) for _ in range(-(-wanted // len(lengths)))]
    order = torch.cat(epochs)[:wanted]
    return order[steps_by_length(torch.tensor(lengths)[order], settings.rows, own, shared)]
