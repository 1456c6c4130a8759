"""Chat models, which answer one request after another, some at once; and one that is loaded in here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from ia_cli.errors import IAError

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
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T]
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

        with asyncio.Runner() as runner:
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


class LocalModel(ChatModel):
    """A model that is loaded in here and replies to one chat at a time."""

    def __init__(self, directory: str, device: str = "auto") -> None:
        from ia_cli import models

        self._base = models.load_base(directory, device=device)
        self.name = self._base.name
        self.identity = self._base.identity

    async def reply(
        self,
        messages: list[dict],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        **_: Any,
    ) -> str:
        from ia_cli.sampling import generate

        [reply] = generate(
            self._base,
            [messages],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed or 0,
        )
        return reply
