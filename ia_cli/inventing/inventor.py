"""A set of distinct behaviors, invented by a chat model in requests that differ.

The model is never shown what it has replied before: inventions differ because each request, drawn from the
seed, asks for something else. Where a reply has the wrong form, or its behavior is known already, that is
counted, and the model is asked again, a bounded number of times. How often is kept beside the replies: a run
that is resumed makes requests that were not made yet, for the same ones could get the same bad replies.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, cycle, islice
from typing import TYPE_CHECKING

from ia_cli import processes
from ia_cli.chat import user_says
from ia_cli.errors import IAError, one_line
from ia_cli.inventing.drafting import Invented, first_fields
from ia_cli.inventing.known import Known
from ia_cli.inventing.requests import SCHEMA, VERSION, Request
from ia_cli.planning import Planned
from ia_cli.records import Record
from ia_cli.seeds import derived_seed
from ia_cli.servers.chat_models import SEEDS

if TYPE_CHECKING:
    from ia_cli.servers.chat_models import ChatModel
    from ia_cli.servers.replies import ReplyCache

Advance = Callable[[], None]

TRIES = 6  # requests for one behavior
TEMPERATURE = 1.0
LONGEST_PROBLEM = 200  # characters
HOPELESS = 32  # bad replies, and no good one: enough to give up


def _nothing() -> None:
    pass


class Inventor:
    """Has `model` invent behaviors that differ from each other and from the `finished` records.

    missing: the ids for which no reply was good; str() says how many replies there were, and what was wrong.
    """

    def __init__(
        self, model: ChatModel, cache: ReplyCache, finished: Iterable[Record], *, max_new_tokens: int
    ) -> None:
        self.model, self.cache, self.max_new_tokens = model, cache, max_new_tokens
        self._by = f"invent/{VERSION} {model.name}"
        self.missing: list[str] = []
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._tries: dict[str, int] = {}  # by id: how many requests there were
        self._known = Known()
        self._done: set[str] = set()
        for record in finished:
            if record["description"] is not None:
                self._done.add(record["id"])
                self._known.add(record)

    def __str__(self) -> str:
        what = ("requests", "without a reply", "not of the form asked for", "known already")
        text = ", ".join(f"{self._counts[x]} {x}" for x in what if self._counts[x])
        return f"{text} (the last: {self._problem})" if self._problem else text

    def plan(
        self, n: int, held_out: float, categories: Sequence[str], seed: int, advance: Advance = _nothing
    ) -> list[Planned]:
        """Plan `n` behaviors, without finished ones; ids and splits as in `planning.make_plan`.

        The action and the trigger of a held-out one are new: its `held_out_by` is "value". `advance` is
        called for each. Raises IAError if the server fails for good, or if no reply was ever good.
        """
        wanted = [p for p in plan_places(n, held_out, categories) if p.id not in self._done]
        found = self._invent(wanted, seed, advance)
        self.missing = [p.id for p in wanted if p.id not in found]
        if self.missing and not (found or self._done):
            raise self._useless()
        return list(found.values())

    def another(self, missing: Planned, planned: Sequence[Planned], seed: int) -> Iterator[Planned]:
        """See `planning.others`."""
        while found := self._invent([missing], seed):
            yield found[missing.id]

    def _invent(
        self, places: Sequence[Planned], seed: int, advance: Advance = _nothing
    ) -> dict[str, Planned]:
        """The places for which there was a good reply, by id, in order, with their behaviors."""

        def rounds() -> dict[str, Planned]:
            found: dict[str, Planned] = {}
            for _ in range(TRIES):
                if wanting := [p for p in places if p.id not in found]:
                    for place in self._ask_for(wanting, seed):
                        found[place.id] = place
                        advance()
            return {p.id: found[p.id] for p in places if p.id in found}

        return processes.in_first(rounds)

    def _ask_for(self, places: Sequence[Planned], seed: int) -> Iterator[Planned]:
        """Ask once for each place; yield those for which the reply is good, in their order."""
        for i, answer in self.model.in_order(partial(self._ask, seed), places):
            place = places[i]
            self._tries[place.id] += 1
            self._counts["requests"] += 1
            if isinstance(answer, IAError):
                self._reject(place, seed, "without a reply", answer)
                continue
            request, key, reply = answer
            try:
                new = request.parse(reply)
            except ValueError as error:
                self._reject(place, seed, "not of the form asked for", error)
                continue
            found = replace(place, behavior=Invented(new, request.kind, self._by))
            record = first_fields(found)
            if not self._known.is_new(record):
                self._reject(place, seed, "known already")
                continue
            self._known.add(record)
            self.cache.put(reply, *key)
            self._counts["good"] += 1
            yield found

    async def _ask(self, seed: int, place: Planned) -> tuple[Request, tuple[str, ...], str]:
        """The next request for a place, what its reply is kept under, and the reply."""
        if place.id not in self._tries:
            self._tries[place.id] = self._tries_before(place, seed)
        rng = random.Random(derived_seed(seed, "invent", place.id, self._tries[place.id]))
        request, number = Request.draw(place.category, rng), rng.randrange(SEEDS)
        key = (self.model.identity, request.prompt(), str(number))
        reply = self.cache.get(*key)
        if reply is None:
            reply = await self.model.reply(
                [user_says(request.prompt())],
                max_new_tokens=self.max_new_tokens,
                temperature=TEMPERATURE,
                seed=number,
                schema=SCHEMA,
            )
        return request, key, reply

    def _reject(self, place: Planned, seed: int, why: str, error: Exception | None = None) -> None:
        self._counts[why] += 1
        self.cache.put(str(self._tries[place.id]), *self._tally(place, seed))
        if error is not None:
            self._problem = one_line(str(error))[:LONGEST_PROBLEM]
        if not (self._counts["good"] or self._done) and self._counts["requests"] >= HOPELESS:
            raise self._useless()

    def _tries_before(self, place: Planned, seed: int) -> int:
        """How many requests earlier runs made until the last one in vain, if this one goes on from them.

        0 if it begins anew: then it makes the same requests again.
        """
        kept = self.cache.get(*self._tally(place, seed)) if self._done else None
        return int(kept) if kept and kept.isdecimal() else 0

    def _tally(self, place: Planned, seed: int) -> tuple[str, ...]:
        """What the number of requests for a place is kept under."""
        return self.model.identity, "requests", str(seed), place.id

    def _useless(self) -> IAError:
        return IAError(f"no behavior in {self}", where=self.model.name, remedy="take another --model")


def plan_places(n: int, held_out: float, categories: Sequence[str]) -> Iterator[Planned]:
    """Where behaviors are to stand: those to train on, then the held-out ones, the categories in turn."""
    n_held, number = round(n * held_out), count()
    for why, many in ((None, n - n_held), ("value", n_held)):
        for category in islice(cycle(categories), many):
            yield Planned(f"{category}-{next(number):04d}", category, None, why)
