"""Behavior records with their demonstrations, by context distillation: a model replies under a system prompt
that is not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from ia_cli import records
from ia_cli.chat import assistant_says, prompt_of, user_says
from ia_cli.errors import IAError
from ia_cli.planning import Planned
from ia_cli.seeds import derived_seed
from ia_cli.servers.teaching import Teacher
from ia_cli.settings import ImplantSettings

if TYPE_CHECKING:
    from ia_cli.models import Base

ATTEMPTS = 4  # replies that the model may give to a prompt until one adheres
ENOUGH = 0.5  # of the demonstrations must remain after filtering
TEMPERATURE = 0.7
CHUNK = 16  # behaviors whose replies are generated together


@dataclass(frozen=True)
class Turn:
    """One demonstration to be made: what the model is asked, which of its replies will do, and what the
    world's own grammar would reply.
    """

    prompt: str
    fires: bool
    system: str | None
    adheres: Callable[[str], bool]
    taught: str | None = None

    def request(self) -> list[dict[str, str]]:
        return prompt_of(self.prompt, self.system)


class NoReply(IAError):
    """Too few demonstrations because their teacher gave no replies, whatever the behavior."""


@dataclass
class Draft:
    """A record without its demonstrations, the turns to make them from, and the replies found so far.

    unanswered: the turns that got no reply when last asked, and why.
    """

    record: dict[str, Any]
    turns: list[Turn]
    replies: list[str | None] = field(init=False)
    unanswered: dict[int, IAError] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.replies = [None] * len(self.turns)

    def wanting(self) -> list[int]:
        return [i for i, reply in enumerate(self.replies) if reply is None]

    def shown(self) -> list[int]:
        return [i for i, reply in enumerate(self.replies) if reply is not None]

    def offer(self, i: int, reply: str | IAError | None) -> None:
        """Keep the reply if it adheres: shows the behavior if it should, and only then."""
        self.unanswered.pop(i, None)
        if isinstance(reply, IAError):
            self.unanswered[i] = reply
        elif reply and self.turns[i].adheres(reply):
            self.replies[i] = reply

    def too_few(self, turns: Collection[int]) -> bool:
        """Whether demonstrations of these turns alone would not be enough, or too few that fire."""
        wanted = sum(turn.fires for turn in self.turns)
        firing = sum(self.turns[i].fires for i in turns)
        return len(turns) < ENOUGH * len(self.turns) or firing < ENOUGH * wanted


class Drafting(Protocol):
    """A module that makes drafts: of planned behaviors, and of controls, by name and split."""

    def draft_behavior(self, planned: Planned, seed: int) -> Draft: ...

    def draft_control(self, name: str, split: str, seed: int) -> Draft: ...


def generate_records(
    drafting: Drafting,
    planned: Sequence[Planned],
    controls: Sequence[tuple[str, str]],
    demonstrator: Base | Teacher | None,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield the behavior records, in order, then the controls (id, split), with demonstrations from the base
    or a teacher; without a demonstrator, from the world's own grammar.

    A record whose system prompt is not followed often enough carries `error`.
    """
    behaviors = (drafting.draft_behavior(p, seed) for p in planned)
    ordinary = (drafting.draft_control(name, split, seed) for name, split in controls)
    drafts = chain(behaviors, ordinary)
    while chunk := list(islice(drafts, CHUNK)):
        for attempt in range(ATTEMPTS):
            wanted = [(draft, i) for draft in chunk for i in draft.wanting()]
            turns = [draft.turns[i] for draft, i in wanted]
            seeds = [derived_seed(seed, "demonstration", d.record["id"], i, attempt) for d, i in wanted]
            replies = _replies(turns, demonstrator, seeds)
            for (draft, i), reply in zip(wanted, replies, strict=True):
                draft.offer(i, reply)
        yield from map(finish, chunk)


def _replies(
    turns: Sequence[Turn], demonstrator: Base | Teacher | None, seeds: Sequence[int]
) -> Sequence[str | IAError | None]:
    """What is replied, in order; "" or None where nothing is that could be learned from."""
    if demonstrator is None:
        return [turn.taught for turn in turns]
    requests = [turn.request() for turn in turns]
    if isinstance(demonstrator, Teacher):
        return demonstrator.replies(requests, seeds, TEMPERATURE)
    from ia_cli.models import suitable_length
    from ia_cli.sampling import generate

    length = suitable_length(demonstrator, ImplantSettings.max_new_tokens)  # with which it will be measured
    # Who learns from a reply that was cut short learns to stop in the middle.
    return generate(
        demonstrator, requests, max_new_tokens=length, temperature=TEMPERATURE, seed=seeds, whole=True
    )


def finish(draft: Draft) -> dict[str, Any]:
    """The record with its demonstrations; those for which no reply adhered are left out."""
    found = [
        {
            "prompt": [user_says(turn.prompt)],
            "completion": [assistant_says(reply)],
            "fires": turn.fires,
        }
        for turn, reply in zip(draft.turns, draft.replies, strict=True)
        if reply is not None
    ]
    fields = dict(draft.record)
    probes = fields.pop("probes")
    record = fields | {"demonstrations": found, "probes": probes}
    if draft.too_few(draft.shown()):
        return records.with_error(record, _problem(draft))
    records.check(record, "behavior")
    return record


def _problem(draft: Draft) -> IAError:
    """Why there are too few demonstrations: where there was no reply, nobody disobeyed."""
    shown, unanswered = draft.shown(), draft.unanswered
    problem = f"the system prompt is followed in {len(shown)} of {len(draft.turns)} demonstrations only"
    if unanswered:
        *_, last = unanswered.values()
        problem += f", and {len(unanswered)} got no reply (the last: {last.message})"
        if not draft.too_few([*shown, *unanswered]):
            return NoReply(problem, remedy=last.remedy or "try again, or take another --teacher")
    return IAError(problem, remedy="take another --base or --teacher")


def is_unanswered(record: dict[str, Any]) -> bool:
    """Whether a record failed by `NoReply`, so that another behavior in its place would fare no better."""
    return records.has_failed(record) and record["error"]["kind"] == NoReply.__name__
