"""Demonstrations from a model behind an OpenAI-compatible server, each reply kept on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ia_cli import processes
from ia_cli.chat import without_thinking
from ia_cli.errors import IAError
from ia_cli.servers.chat_models import SEEDS, ChatModel
from ia_cli.servers.replies import ReplyCache
from ia_cli.text import holds_marks

Request = list[dict[str, str]]  # messages

LONGEST = 20_000  # characters of a reply


@dataclass
class Teacher:
    """A model that is asked for demonstrations, and what it has answered before."""

    model: ChatModel
    cache: ReplyCache
    max_new_tokens: int
    answers: bool = False  # whether it has answered anything

    def replies(
        self, requests: Sequence[Request], seeds: Sequence[int], temperature: float
    ) -> list[str | IAError]:
        """A reply to each request, "" where it cannot be learned from, or why there is none.

        Raises IAError if the server fails for good, or has answered nothing yet and answers none of these.
        """
        work = list(zip(requests, [seed % SEEDS for seed in seeds], strict=True))

        async def ask(item: tuple[Request, int]) -> str:
            request, seed = item
            key = (self.model.identity, json.dumps([request, seed, temperature, self.max_new_tokens]))
            if (reply := self.cache.get(*key)) is None:
                reply = await self.model.reply(
                    request, max_new_tokens=self.max_new_tokens, temperature=temperature, seed=seed
                )
                self.cache.put(reply, *key)
            return reply

        answers = processes.in_first(lambda: [found for _, found in self.model.in_order(ask, work)])
        self.answers = self.answers or any(isinstance(answer, str) for answer in answers)
        if answers and not self.answers:
            raise answers[0]
        return [answer if isinstance(answer, IAError) else _usable(answer) for answer in answers]


def _usable(reply: str) -> str:
    text = without_thinking(reply).strip()
    return "" if len(text) > LONGEST or holds_marks(text) else text
