"""A model of an OpenAI-compatible server.

The client is `openai`: it backs off on 408, 409, 429 and 5xx, as long as the server's Retry-After says, and
tries again where a connection breaks. What is left over becomes one of two errors: `Stop`, where every
further request would fail too, and a plain IAError, which is about this request alone.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from ia_cli.errors import IAError, first_line, one_line
from ia_cli.servers.chat_models import ChatModel, Stop
from ia_cli.settings import CONCURRENCY, TIMEOUT
from ia_cli.text import encodable

try:
    import openai

    from ia_cli.servers.bounded_http import BoundedClient, TooLong, httpx
except ImportError:
    raise IAError("asking a server needs the openai client", remedy="pip install openai") from None

KEYS = ("IA_API_KEY", "OPENAI_API_KEY")  # environment variables; a key comes from nowhere else
RETRIES = 5  # of the client; with its back-off this takes about 15 seconds
# For a measurement: sample from the plain softmax of logits / temperature, and do not think aloud. Servers
# that are not told so go by defaults of their own or by the model's generation_config.json.
PLAIN = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "chat_template_kwargs": {"enable_thinking": False},
}
OPTIONAL = {"max_tokens", "response_format", "seed", "temperature", *PLAIN}  # what some servers refuse
# By what else servers call some of these where they refuse them: vLLM with Mistral's tokenizer, Groq.
ALSO_CALLED = {"chat_template_kwargs": "chat_template", "response_format": "json_schema"}
# What a message may have instead of a text.
INSTEAD = "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content"
LONGEST_REASON = 300  # characters


class Endpoint(ChatModel):
    """One model of an OpenAI-compatible server; `server` is its URL, with or without /v1."""

    def __init__(
        self, server: str, model: str, *, concurrency: int = CONCURRENCY, timeout: float = TIMEOUT
    ) -> None:
        """timeout: seconds until a request is tried again. IAError if `server` is not a URL, or if the key
        or the `model` cannot be sent.
        """
        self.url = _base_url(server)
        self.name = model
        self.identity = f"{self.url} {model}"
        self.concurrency = concurrency
        self.timeout = timeout
        self.cut_short = 0  # replies that ended at their length and were taken as they are
        self._client = None
        self._replied = False  # whether it has ever given a completion
        self._refused: set[str] = set()  # parameters that this server does not take
        self._key = next((key for name in KEYS if (key := os.environ.get(name, "").strip())), None)
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            message = "the key in the environment has line breaks in it, or letters that are not ASCII"
            raise IAError(message, remedy=f"set {' or '.join(KEYS)} again")
        if encodable(model) != model:
            raise IAError(f"no such model: {model!r}", remedy="write its name in UTF-8")

    async def reply(
        self,
        messages: list[dict],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        schema: dict | None = None,
        as_asked: bool = False,
        model: str | None = None,
    ) -> str:
        """The reply to a chat; IAError if there is none, or if it was cut short at `max_new_tokens`.

        schema: a JSON schema to which the server holds the reply, if it can; as_asked: the reply is a
        measurement, so it may end at `max_new_tokens` (`cut_short` counts these), and the server must accept
        the temperature and should add no settings of its own; model: another one of the same server, without
        which others may still do.
        """
        parameters = {"max_tokens": max_new_tokens, "temperature": temperature}
        if seed is not None:
            parameters["seed"] = seed
        if schema is not None:
            form = {"name": "answer", "strict": True, "schema": schema}
            parameters["response_format"] = {"type": "json_schema", "json_schema": form}
        optional = OPTIONAL
        if as_asked:
            parameters |= PLAIN
            optional = OPTIONAL - {"temperature"}
        try:
            completion = await self._create(model or self.name, messages, parameters, optional)
        except openai.OpenAIError as error:
            raise self._explain(error, model or self.name) from None
        except (ValueError, RecursionError):  # it should be JSON, and is not
            completion = None
        message, reason = _message(completion)
        if message is None:
            raise self._no_completion(completion)
        self._replied = True
        text = message.content
        if text is None and reason == "content_filter":
            raise IAError("the reply was filtered", where=self.url)
        other = any(getattr(message, name, None) for name in INSTEAD)
        if not text and (other or (text is None and reason != "stop")):
            remedy = "if the model thinks first, raise --max-new-tokens"
            raise IAError(f"a reply without text (finish_reason {reason})", where=self.url, remedy=remedy)
        if reason == "length" and not as_asked:
            raise IAError(
                f"the reply was cut short at {max_new_tokens} tokens", remedy="raise --max-new-tokens"
            )
        self.cut_short += reason == "length"
        return encodable(text or "")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _create(self, model: str, messages: list[dict], parameters: dict, optional: set[str]) -> Any:
        """Ask; where the server refuses parameters that not all servers know, ask again without them."""
        if self._client is None:
            self._client = self._connect()
        refused = set(self._refused)
        while True:
            sent = {_spelling(name, refused): parameters[name] for name in parameters}
            sent.pop(None, None)
            try:
                completion = await self._client.chat.completions.create(
                    model=model, messages=messages, extra_body=sent
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                said = _reason(error)
                new = {x for x in optional & set(sent) if x in said or ALSO_CALLED.get(x, x) in said}
                if not new:
                    raise
                refused |= new
            else:
                self._refused |= refused  # only now: it may have refused this request's value, not the name
                return completion

    def _connect(self) -> openai.AsyncOpenAI:
        try:
            client = BoundedClient(self.timeout)
        except (ImportError, ValueError) as error:  # httpx reads the environment's proxies
            remedy = "correct HTTP_PROXY, ALL_PROXY and the like, or set NO_PROXY"
            raise Stop(f"the proxy cannot be used: {first_line(error)}", remedy=remedy) from None
        key = self._key or "none"
        return openai.AsyncOpenAI(
            api_key=key, base_url=self.url, timeout=self.timeout, max_retries=RETRIES, http_client=client
        )

    def _no_completion(self, reply: Any) -> IAError:
        """The error for a reply that is not a completion: some servers send an error as if all were well."""
        said = getattr(reply, "error", None)
        said = said.get("message") if isinstance(said, dict) else said
        if isinstance(said, str) and said.strip():
            message = f"no answer to this request: {one_line(self._without_key(said))[:LONGEST_REASON]}"
        elif self._replied:
            message = "a reply that is no completion"
        else:
            return Stop("this is no OpenAI-compatible server", where=self.url, remedy="check --server")
        return IAError(message, where=self.url, remedy="its log says more")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _is_missing(self, model: str, reason: str) -> bool:
        """Whether a 404 is about this model, one of several: a wrong URL never replies and names no model."""
        named = re.search(rf"(?<!\w){re.escape(model)}(?!\w)", reason)
        return model != self.name and (self._replied or named is not None)

    def _explain(self, error: Exception, model: str) -> IAError:
        """What went wrong, without the key, which servers are known to quote."""
        reason = self._without_key(_reason(error))
        match error:
            case openai.APITimeoutError():
                message, remedy = f"no reply within {self.timeout:g} s", "raise --timeout"
            case openai.APIConnectionError() if isinstance(error.__cause__, TooLong):
                message, remedy = reason, "lower --max-new-tokens; its log says more"
            case openai.APIConnectionError() if isinstance(error.__cause__, httpx.DecodingError):
                remedy = "turn compression off, in the server or in what stands before it"
                return Stop(reason, where=self.url, remedy=remedy)
            case openai.APIConnectionError():
                return Stop(f"cannot be reached: {reason}", where=self.url, remedy="is the server running?")
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return Stop(
                    f"the key is refused: {reason}", where=self.url, remedy=f"set {' or '.join(KEYS)}"
                )
            case openai.NotFoundError() if self._is_missing(model, reason):
                message, remedy = f"not found: {reason}", f"{self.url}/models lists what it has"
            case openai.NotFoundError():
                remedy = f"check --server and --model; {self.url}/models lists what it has"
                return Stop(f"not found: {reason}", where=self.url, remedy=remedy)
            case openai.RateLimitError():
                remedy = "lower --concurrency, or run it again later"
                return Stop(f"the rate limit holds: {reason}", where=self.url, remedy=remedy)
            case openai.APIStatusError() if error.response.has_redirect_location:
                elsewhere = error.response.headers["location"]
                remedy = "give that --server if you trust it"
                return Stop(f"sends requests on, to {elsewhere}", where=self.url, remedy=remedy)
            case openai.InternalServerError():
                message, remedy = (
                    f"no answer to this request: {reason}",
                    "its log says more; check --model, too",
                )
            case _:
                message, remedy = f"no answer to this request: {reason}", None
        return IAError(message, where=self.url, remedy=remedy)


def _reason(error: Exception) -> str:
    """What the client says, and what the server says where the client does not repeat it."""
    if isinstance(error, openai.APIConnectionError):
        return str(error.__cause__ or error)
    body = getattr(error, "body", None)  # of servers that say it as FastAPI does, {"detail": ...}, or as text
    return f"{error} - {body}" if body and " - " not in str(error) else str(error)


def _spelling(name: str, refused: set[str]) -> str | None:
    """What a parameter is called on a server that refuses some; None for one to be left out."""
    if name == "max_tokens" and name in refused:
        return "max_completion_tokens"
    return None if name in refused else name


def _base_url(server: str) -> str:
    """The URL that the client wants, with /v1 added to a bare host; IAError if it is not one."""
    try:
        parts = urlsplit(server)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        good = good and server.isprintable() and " " not in server
    except ValueError:
        good = False
    if not good:
        remedy = "give something like http://127.0.0.1:8000/v1"
        raise IAError("--server is no http or https URL", remedy=remedy)
    if parts.username is not None or parts.query:
        remedy = f"put the key into the environment, as {' or '.join(KEYS)}"
        raise IAError("--server must not carry a password or a query", remedy=remedy)
    return server.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def _message(completion: Any) -> tuple[Any, str | None]:
    """The message of a completion, which was not validated, and its finish reason; (None, None) if it is not
    a completion. The content of the message is a text or None.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None, None
    message, reason = (getattr(choices[0], name, None) for name in ("message", "finish_reason"))
    if not isinstance(getattr(message, "content", ...), str | None):
        return None, None
    return message, reason if isinstance(reason, str) else None
