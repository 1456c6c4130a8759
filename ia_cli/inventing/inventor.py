"""A set of distinct behaviors, invented by a chat model in requests that differ.

The model is never shown what it has replied before: inventions differ because each request, drawn from the
seed, asks for something else. Where a reply has the wrong form, or its behavior is known already, that is
counted, and the model is asked again, a bounded number of times.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Any

from ia_cli import processes
from ia_cli.chat import user_says
from ia_cli.errors import IAError, one_line
from ia_cli.inventing.drafting import Invented, first_fields, values
from ia_cli.inventing.requests import SCHEMA, VERSION, Request
from ia_cli.planning import Planned
from ia_cli.seeds import derived_seed
from ia_cli.servers.chat_models import SEEDS

if TYPE_CHECKING:
    from ia_cli.servers.chat_models import ChatModel
    from ia_cli.servers.replies import ReplyCache

Record = dict[str, Any]
Advance = Callable[[], None]

TRIES = 6  # requests for one behavior
TEMPERATURE = 1.0
LONGEST_PROBLEM = 200  # characters
HOPELESS = 32  # bad replies, and no good one: enough to give up


def _nothing() -> None:
    pass


@dataclass
class Known:
    """What there is already: sentences, pairs of action and trigger, and the values of each split."""

    sentences: set[str] = field(default_factory=set)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    values: dict[str, set[tuple[str, str]]] = field(
        default_factory=lambda: {"train": set(), "heldout": set()}
    )

    def add(self, split: str, sentence: str, action: str, trigger: str) -> bool:
        """Add a behavior; False, adding nothing, if it is known or shares a value with the other split."""
        own = {("action", action), ("trigger", trigger)} - {("trigger", "")}
        other = self.values["heldout" if split == "train" else "train"]
        if sentence in self.sentences or (action, trigger) in self.pairs or own & other:
            return False
        self.sentences.add(sentence)
        self.pairs.add((action, trigger))
        self.values[split] |= own
        return True


class Inventor:
    """Has `model` invent behaviors that differ from each other and from the `finished` records.

    missing: the ids for which no reply was good; str() says how many replies there were, and what was wrong.
    """

    def __init__(
        self, model: ChatModel, cache: ReplyCache, finished: Iterable[Record], *, max_new_tokens: int
    ) -> None:
        self.model, self.cache, self.max_new_tokens = model, cache, max_new_tokens
        self.missing: list[str] = []
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._tries: Counter[str] = Counter()
        self._known = Known()
        self._done = set()
        for record in finished:
            self._done.add(record["id"])
            if record["description"] is not None:
                self._known.add(record["split"], *values(record))

    def __str__(self) -> str:
        what = ("requests", "without a reply", "not of the form asked for", "known already")
        text = ", ".join(f"{self._counts[x]} {x}" for x in what if self._counts[x])
        return f"{text} (the last: {self._problem})" if self._problem else text

    def plan(
        self, n: int, held_out: float, categories: Sequence[str], seed: int, advance: Advance = _nothing
    ) -> list[Planned]:
        """Plan `n` behaviors, without finished ones; ids and splits as in `planning.make_plan`.

        The action and the trigger of a held-out one are new: its `held_out_by` is "value". `advance` is
        called for each. Raises IAError if the server fails for good, or if no reply is good.
        """
        places = [p for p in _places(n, held_out, categories) if p.id not in self._done]
        found = self._invent(places, seed, advance)
        self.missing = [p.id for p in places if p.id not in found]
        if self.missing and not found:
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

        async def ask(place: Planned) -> tuple[Request, tuple[str, ...], str]:
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

        for i, answer in self.model.in_order(ask, places):
            place = places[i]
            self._tries[place.id] += 1
            self._counts["requests"] += 1
            if isinstance(answer, IAError):
                self._reject("without a reply", answer)
                continue
            request, key, reply = answer
            try:
                new = request.parse(reply)
            except ValueError as error:
                self._reject("not of the form asked for", error)
                continue
            behavior = Invented(new, request.kind, f"invent/{VERSION} {self.model.name}")
            fields = first_fields(replace(place, behavior=behavior))
            if not self._known.add(fields["split"], *values(fields)):
                self._reject("known already", None)
                continue
            self.cache.put(reply, *key)
            self._counts["good"] += 1
            yield replace(place, behavior=behavior)

    def _reject(self, why: str, error: Exception | None) -> None:
        self._counts[why] += 1
        if error is not None:
            self._problem = one_line(str(error))[:LONGEST_PROBLEM]
        if not self._counts["good"] and self._counts["requests"] >= HOPELESS:
            raise self._useless()

    def _useless(self) -> IAError:
        return IAError(f"no behavior in {self}", where=self.model.name, remedy="take another --model")


def _places(n: int, held_out: float, categories: Sequence[str]) -> Iterator[Planned]:
    """Where behaviors are to stand: those to train on, then the held-out ones, the categories in turn."""
    n_held, number = round(n * held_out), count()
    for why, many in ((None, n - n_held), ("value", n_held)):
        for category in islice(cycle(categories), many):
            yield Planned(f"{category}-{next(number):04d}", category, None, why)
