"""Self-reports of organisms that somebody else serves: `elicit` by way of an OpenAI-compatible server.

Each condition is a model of the server: the organism with the introspection adapter (what `ia stack` makes of
the two), the organism alone, the introspection adapter on the bare base. As in elicitation.py, the ground
truth decides nothing: of a record only `id` does, and its other fields are copied into the result.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ia_cli import interrupts, prompts
from ia_cli.asking import Asked, Said, replies_of
from ia_cli.chat import without_thinking
from ia_cli.errors import IAError
from ia_cli.records import failure, unknown_organism
from ia_cli.servers.chat_models import Stop
from ia_cli.servers.endpoint import Endpoint
from ia_cli.settings import ElicitSettings

Names = Mapping[str, str]  # what the server calls the model of a condition; {id} stands for the organism's id


def elicit(
    records: Sequence[dict],
    endpoint: Endpoint,
    names: Names,
    settings: ElicitSettings,
    *,
    done: Collection[tuple] = frozenset(),
    keep_going: bool = False,
) -> Iterator[dict]:
    """Yield self-report records, organism by organism in the order of `records`, except for keys in `done`.

    They are those of `elicitation.elicit`, with `served_model` besides: the model that replied. A reply that
    was cut short stays as it is. The first request without a reply ends the run as `chat_models.Stop`; with
    `keep_going` it becomes a record with `error`, unless all others would fare the same. Whatever ends the
    run, even an interrupt, what was answered by then is yielded first.
    """
    waiting = deque((record, ask) for record in records for ask in replies_of(record["id"], settings, done))
    asked = list(dict.fromkeys(ask for _, ask in waiting))
    replies: dict[Asked, Said | IAError] = {}  # as they come in
    server = _Server(endpoint, names, settings)

    async def reply(ask: Asked) -> Said | IAError:
        try:
            said = await server.reply(ask)
        except Stop:
            raise
        except IAError as error:
            if not keep_going:
                raise Stop(str(error), remedy="--keep-going goes on without it") from None
            replies[ask] = error
        else:
            replies[ask] = said
        return replies[ask]

    def report(record: dict, ask: Asked) -> dict:
        record, said = {**record, "served_model": _name(names, ask)}, replies[ask]
        if isinstance(said, IAError):
            failed = ask.answered(record, Said(""), settings)
            del failed["report"]
            return failed | failure("NoReply", str(said))
        return ask.answered(record, said, settings)

    stopped = None
    try:
        for _ in endpoint.in_order(reply, asked):
            while waiting and waiting[0][1] in replies:
                yield report(*waiting.popleft())
    except (Stop, KeyboardInterrupt, SystemExit) as stop:
        interrupts.take_up()
        stopped = stop
    yield from (report(record, ask) for record, ask in waiting if ask in replies)
    if stopped:
        raise stopped


@dataclass
class _Server:
    """Puts questions to the models of an endpoint; each of the `examples` serves all questions after it."""

    endpoint: Endpoint
    names: Names
    settings: ElicitSettings
    examples: dict[Asked, asyncio.Future[str]] = field(default_factory=dict)

    async def reply(self, ask: Asked) -> Said:
        before, example = ask.example(self.settings), None
        if before:
            if before not in self.examples:
                self.examples[before] = asyncio.ensure_future(self._text(before, None))
            example = await self.examples[before]
        return Said(await self._text(ask, example), example)

    async def _text(self, ask: Asked, example: str | None) -> str:
        said = await self.endpoint.reply(
            prompts.chat(ask.question.text, example),
            max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
            seed=ask.seed(self.settings) >> 32,  # some servers have 32 bits for it
            as_asked=True,
            model=_name(self.names, ask),
        )
        return without_thinking(said).strip()


def lone_organism(names: Names) -> dict:
    """Return the record of a served organism of which nothing else is known; its id is the model's name."""
    name = names.get("no_ia") or names.get("ia") or names["base_ia"]
    return unknown_organism(name)


def _name(names: Names, ask: Asked) -> str:
    name = names[ask.condition]
    return name if ask.organism is None else name.replace("{id}", ask.organism)
