"""Chats as text and token ids, through the chat template of the base, whatever its family.

No model thinks aloud here: a template that knows of thinking is told to leave it out, an opening that begins
a thought is closed again, and text between think marks is neither learned nor part of a reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from ia_cli.errors import IAError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

THINK, THOUGHT = "<think>", "</think>"

# Some templates tell the day, which would make today's prompts differ from yesterday's.
FIXED_DAY = "{%- macro strftime_now(format) -%} 26 Jul 2024 {%- endmacro %}"


def system_says(text: str) -> Message:
    return {"role": "system", "content": text}


def user_says(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant_says(text: str) -> Message:
    return {"role": "assistant", "content": text}


def prompt_of(user: str, system: str | None = None) -> list[Message]:
    """The chat that ends with what the user says, after a system prompt if there is one."""
    return [*([system_says(system)] if system else []), user_says(user)]


def token_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Return a chat as token ids, with the opening of the assistant's turn at the end.

    If the chat ends with an assistant's turn, that is left open instead, to be continued.
    """
    return _ids(tokenizer, render(tokenizer, messages, True))


def row_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], completion: Sequence[Message]
) -> tuple[list[int], int]:
    """Return a row's token ids and how many of them, at the start, are the prompt and the reply's opening."""
    opening = render(tokenizer, prompt, True)
    replies = [{**message, "content": without_thinking(message["content"])} for message in completion]
    whole = render(tokenizer, [*prompt, *replies], False)
    if len(replies) == 1 and (said := replies[0]["content"].strip()):
        # Search from about where the two part: not earlier, and not so late as to hit the ending mark.
        at = whole.find(said, max(0, shared_length(opening, whole) - len(said)))
        # A template may write a past reply differently from how it has a new one begin, with an empty thought
        # or without. What is learned must follow the very opening that is used when asking.
        if at >= 0 and not (whole.startswith(opening) and not whole[len(opening) : at].strip()):
            whole = opening + whole[at:]
    before, ids = _ids(tokenizer, opening), _ids(tokenizer, whole)
    return ids, shared_length(before, ids)


def shared_length(one: Sequence, other: Sequence) -> int:
    """Return the length of the beginning that both share, of texts or of token ids."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], reply_follows: bool) -> str:
    """Return a chat as the text that the model reads.

    A system prompt that the template refuses, or leaves out in silence, stands before the first message of
    the user. IAError if the template refuses the chat even so.
    """
    has_system = messages[0]["role"] == "system"
    try:
        text = _apply(tokenizer, messages, reply_follows)
    except TemplateError as error:
        if not has_system:
            raise _refusal(error) from error
        text = ""
    if has_system and messages[0]["content"].strip() not in text:
        try:
            text = _apply(tokenizer, _without_system(messages), reply_follows)
        except TemplateError as error:
            raise _refusal(error) from error
    if not text.strip():
        raise IAError("the base's chat template writes nothing", remedy="use another --base")
    if reply_follows and text.rstrip().endswith(THINK):
        text = f"{text.rstrip()}\n\n{THOUGHT}\n\n"
    return text


def without_thinking(reply: str) -> str:
    """Return a reply without its thoughts; nothing of a thought that was cut short."""
    if THINK not in reply and THOUGHT not in reply:
        return reply
    return reply.rpartition(THOUGHT)[2].partition(THINK)[0].strip()


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], reply_follows: bool) -> str:
    template = tokenizer.get_chat_template()
    begun = reply_follows and messages[-1]["role"] == "assistant"
    try:
        return tokenizer.apply_chat_template(
            list(messages),
            chat_template=FIXED_DAY + template if "strftime_now" in template else template,
            add_generation_prompt=reply_follows and not begun,
            continue_final_message=begun,
            tokenize=False,
            enable_thinking=False,  # Qwen3 and others; the rest ignores it
        )
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:  # in it itself
        raise TemplateError(first_line(error)) from error


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Put the system prompt at the head of the user's first message."""
    system, *others = messages
    if not others or others[0]["role"] != "user":
        remedy = "begin the chat with a message of the user"
        raise IAError("the base's chat template takes no system prompt", remedy=remedy)
    first = {**others[0], "content": f"{system['content'].strip()}\n\n{others[0]['content']}"}
    return [first, *others[1:]]


def _refusal(error: TemplateError) -> IAError:
    remedy = "let user and assistant take turns, or use another --base"
    return IAError(f"the base's chat template refuses these messages: {error}", remedy=remedy)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
