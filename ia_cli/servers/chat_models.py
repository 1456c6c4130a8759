"""Chat models, which answer one request after another, some at once; and one that is loaded in here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Generator, Iterable, Iterator
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from ia_cli import processes
from ia_cli.errors import IAError
from ia_cli.seeds import derived_seed
from ia_cli.settings import JUDGE_TOKENS

T = TypeVar("T")
R = TypeVar("R")

SEEDS = 2**31  # a seed below it is valid on every server
AHEAD = 4  # requests begun for each that may run at once, so that a slow one does not hold up others


class Stop(IAError):
    """The server is away, the key or the model is wrong, or the rate limit holds: it is no use going on."""


class ChatModel:
    """Something that replies to a chat. `identity` is what tells it from others, in caches."""

    name: str
    identity: str
    concurrency = 1

    async def reply(self, messages: list[dict], *, max_new_tokens: int, **options: Any) -> str:
        """The reply to a chat; IAError if there is none. Options are those of `Endpoint.reply`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of what `reply` has opened."""

    async def _end(self) -> None:
        """Cancel what still runs, and only then let go of what it would use."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.close()

    def in_order(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T]
    ) -> Iterator[tuple[int, R | IAError]]:
        """Yield (index, what `work(item)` gives, or its IAError) in the order of `items`.

        `concurrency` of them run at once. On `Stop` nothing more is begun: what runs is waited for, the
        answers that are left are yielded, and then it is raised, so that no answer is lost.
        """
        slots = asyncio.Semaphore(self.concurrency)
        waiting: deque[tuple[int, asyncio.Task]] = deque()
        stopped: list[Stop] = []

        async def run(item: T) -> R | IAError | None:
            async with slots:
                if stopped:
                    return None
                try:
                    return await work(item)
                except Stop as stop:
                    stopped.append(stop)
                    return None
                except IAError as error:
                    return error

        def oldest() -> Iterator[tuple[int, R | IAError]]:
            index, task = waiting.popleft()
            if (result := runner.run(_wait(task))) is not None:
                yield index, result

        with asyncio.Runner(loop_factory=_Loop) as runner:
            try:
                for index, item in enumerate(items):
                    if stopped:
                        break
                    waiting.append((index, runner.get_loop().create_task(run(item))))
                    if len(waiting) >= AHEAD * self.concurrency:
                        yield from oldest()
                while waiting:
                    yield from oldest()
            finally:
                runner.run(self._end())
        if stopped:
            raise stopped[0]


async def _wait(task: asyncio.Task) -> Any:
    return await task


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while it does not run: while somebody works on a result.

    Otherwise replies that come in the meantime would be too late, though they only wait to be read.
    """

    _stood = 0.0  # seconds for which it has not run
    _left: float | None = None  # when it ran last

    def time(self) -> float:
        return super().time() - self._stood

    def run_forever(self) -> None:
        if self._left is not None:
            self._stood += super().time() - self._left
        try:
            super().run_forever()
        finally:
            self._left = super().time()


class _Request(NamedTuple):
    """A reply that is wanted: awaiting it stops a coroutine until whoever runs it sends the reply."""

    messages: list[dict]
    max_new_tokens: int
    temperature: float
    seed: int

    def __await__(self) -> Generator[_Request, str, str]:
        return (yield self)


class LocalModel(ChatModel):
    """A model that is loaded in here, and replies to many chats in one batch."""

    def __init__(self, directory: str, device: str = "auto", *, max_new_tokens: int = JUDGE_TOKENS) -> None:
        """max_new_tokens: how long replies may be, by which as many are generated at once as suit the device.
        IAError if the model cannot be loaded.
        """
        from ia_cli import models, sampling

        self._base = models.load_base(directory, device=device)
        self.name = self._base.name
        self.identity = self._base.identity
        tokens = min(self._base.max_length, 2 * max_new_tokens)  # a prompt may be as long as its reply
        # Several processes generate what is asked together, so that all must ask for the same at once.
        self.concurrency = min(processes.gather(sampling.suitable_batch_size(self._base, tokens)))

    async def reply(
        self,
        messages: list[dict],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        **_: Any,
    ) -> str:
        """As there, but only within `in_order`."""
        from ia_cli.models import prompt_ids

        prompt_ids(self._base, messages, max_new_tokens)  # a prompt that is too long fails alone
        return await _Request(messages, max_new_tokens, temperature, seed or 0)

    def in_order(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T]
    ) -> Iterator[tuple[int, R | IAError]]:
        """As there, for `work` that awaits nothing but replies: those that `concurrency` items ask for first
        are generated together, then those that some of these ask for next, and so on.
        """
        numbered = enumerate(items)
        while running := {index: work(item) for index, item in islice(numbered, self.concurrency)}:
            results: dict[int, R | IAError] = {}
            expected = min(running)
            replies: dict[int, str | None] = dict.fromkeys(running)  # nothing, to begin with
            while replies:
                asked = {}
                for index, reply in replies.items():
                    try:
                        asked[index] = running[index].send(reply)
                    except StopIteration as end:
                        results[index] = end.value
                    except IAError as error:
                        results[index] = error
                while expected in results:
                    yield expected, results[expected]
                    expected += 1
                replies = dict(zip(asked, self._generate(asked.values()), strict=True))

    def _generate(self, asked: Collection[_Request]) -> list[str]:
        """A reply to each request, the same to equal ones."""
        from ia_cli.sampling import generate

        different = {str(request): request for request in asked}
        replies: dict[str, str] = {}
        alike = groupby(different.values(), key=attrgetter("max_new_tokens", "temperature"))
        for (max_new_tokens, temperature), some in alike:
            requests = list(some)
            said = generate(
                self._base,
                [request.messages for request in requests],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=[derived_seed(request.seed, 0) for request in requests],  # as if each were asked alone
            )
            replies.update(zip(map(str, requests), said, strict=True))
        return [replies[str(request)] for request in asked]
