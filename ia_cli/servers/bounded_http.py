"""An HTTP client for servers that are not to be trusted: requests are bounded in time, replies in size.

Redirects are not followed: a server must not be able to send the prompts elsewhere.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import Any

import openai

# httpx or httpx2, whichever this version of openai is made with.
httpx = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

LARGEST_REPLY = 8 << 20  # bytes, each perhaps six in JSON: a record with it must be a line that can be read


class TooLong(httpx.ReadError):
    """A reply has more than LARGEST_REPLY bytes."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """`seconds` bounds one attempt as a whole; a timeout of httpx bounds only each read."""

    def __init__(self, seconds: float) -> None:
        plain = {"accept-encoding": "identity"}  # so that its size is known before it is read
        super().__init__(follow_redirects=False, timeout=seconds, headers=plain)
        self.seconds = seconds

    async def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        """Send as httpx does; raises httpx.ReadTimeout or TooLong where a bound is exceeded."""
        try:
            return await asyncio.wait_for(self._send(request, **how), self.seconds)
        except TimeoutError:
            raise httpx.ReadTimeout("the reply does not end", request=request) from None

    async def _send(self, request: httpx.Request, *, stream: bool = False, **how: Any) -> httpx.Response:
        response = await super().send(request, stream=True, **how)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx.DecodingError("its reply is compressed, which was not asked for", request=request)
        response.stream = _AtMost(response.stream, request)
        if not stream:
            await response.aread()
        return response


class _AtMost(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self.stream, self.request = stream, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self.stream:
            size += len(part)
            if size > LARGEST_REPLY:
                raise TooLong(f"its reply is longer than {LARGEST_REPLY >> 20} MiB", request=self.request)
            yield part

    async def aclose(self) -> None:
        await self.stream.aclose()
