"""Demonstrations by context distillation: a model replies under a system prompt that is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from ia_cli.chat import assistant_says, system_says, user_says
from ia_cli.errors import IAError
from ia_cli.records import with_error
from ia_cli.seeds import derived_seed
from ia_cli.teaching import Teacher

if TYPE_CHECKING:
    from ia_cli.models import Base

ATTEMPTS = 4  # replies that the model may give to a prompt until one adheres
ENOUGH = 0.5  # of the demonstrations must remain after filtering
TEMPERATURE = 0.7
CHUNK = 16  # behaviors whose replies are generated together


@dataclass(frozen=True)
class Turn:
    """One demonstration to be made: what the model is asked, and which of its replies will do."""

    prompt: str
    fires: bool
    system: str | None
    adheres: Callable[[str], bool]

    def request(self) -> list[dict[str, str]]:
        opening = [system_says(self.system)] if self.system else []
        return [*opening, user_says(self.prompt)]


@dataclass
class Draft:
    """A record without its demonstrations, the turns to make them from, and the replies found so far."""

    record: dict[str, Any]
    turns: list[Turn]
    replies: list[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.replies = [None] * len(self.turns)

    def wanting(self) -> list[int]:
        return [i for i, reply in enumerate(self.replies) if reply is None]

    def offer(self, i: int, reply: str) -> None:
        """Keep the reply if it adheres: shows the behavior if it should, and only then."""
        if reply and self.turns[i].adheres(reply):
            self.replies[i] = reply


def demonstrate(
    drafts: Iterable[Draft], demonstrator: Base | Teacher, seed: int, *, max_new_tokens: int
) -> Iterator[dict[str, Any]]:
    """Yield the records of `drafts`, in order, with demonstrations from the base or a teacher.

    A record whose system prompt it does not follow often enough carries `error`.
    """
    drafts = iter(drafts)
    while chunk := list(islice(drafts, CHUNK)):
        for attempt in range(ATTEMPTS):
            wanted = [(draft, i) for draft in chunk for i in draft.wanting()]
            requests = [draft.turns[i].request() for draft, i in wanted]
            seeds = [derived_seed(seed, "demonstration", d.record["id"], i, attempt) for d, i in wanted]
            if isinstance(demonstrator, Teacher):
                replies = demonstrator.replies(requests, seeds, TEMPERATURE)
            else:
                from ia_cli.sampling import generate

                replies = generate(
                    demonstrator,
                    requests,
                    max_new_tokens=max_new_tokens,
                    temperature=TEMPERATURE,
                    seed=seeds,
                )
            for (draft, i), reply in zip(wanted, replies, strict=True):
                draft.offer(i, reply)
        yield from map(finish, chunk)


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
    wanted = sum(turn.fires for turn in draft.turns)
    firing = sum(demonstration["fires"] for demonstration in found)
    fields = dict(draft.record)
    probes = fields.pop("probes")
    record = fields | {"demonstrations": found, "probes": probes}
    if len(found) < ENOUGH * len(draft.turns) or firing < ENOUGH * wanted:
        problem = f"the system prompt is followed in {len(found)} of {len(draft.turns)} demonstrations only"
        return with_error(record, IAError(problem, remedy="take another --base or --teacher"))
    return record
