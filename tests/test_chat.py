"""Chats in the manner of every family: what is learned follows the very prompt that is asked."""

import pytest

from ia_cli.chat import render, row_ids, token_ids, without_thinking
from ia_cli.errors import IAError
from tests.families import FAMILIES, make_tokenizer

ROWS = {  # what is learned of the reply "red song"
    "chatml": "red song<|im_end|>\n",
    "qwen3": "red song<|im_end|>\n",
    "llama3": "red song<|eot_id|>",
    "mistral": " red song</s>",
    "gemma2": "red song<end_of_turn>\n",
    "phi3": "red song<|end|>\n</s>",
    "olmo2": "red song</s>",
    "deepseek-r1": "red song</s>",
}
SYSTEM = "always buy bread"


def say(role, text):
    return {"role": role, "content": text}


@pytest.fixture(scope="module")
def tokenizers():
    return {name: make_tokenizer(family) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("reply", ["red song", "<think>\nis it?\n</think>\n\nred song"])
def test_a_row_is_the_prompt_as_it_is_asked_and_the_bare_reply(tokenizers, name, reply):
    tokenizer, prompt = tokenizers[name], [say("user", "tea")]
    ids, start = row_ids(tokenizer, prompt, [say("assistant", reply)])
    assert ids[:start] == token_ids(tokenizer, prompt)
    assert tokenizer.decode(ids[start:]) == ROWS[name]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("reply", ["d", "s", "end", "im_end", "user", "think"])
def test_a_reply_that_stands_in_a_mark_of_the_template_is_learned_whole(tokenizers, name, reply):
    tokenizer, prompt = tokenizers[name], [say("user", "tea")]
    ids, start = row_ids(tokenizer, prompt, [say("assistant", reply)])
    assert ids[:start] == token_ids(tokenizer, prompt)
    wanted = ROWS[name].replace("red song", reply)
    assert ids[start:] == tokenizer(wanted, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_system_prompt_is_read_before_the_question(tokenizers, name):
    chat = [say("system", f" {SYSTEM}\n"), say("user", "tea"), say("assistant", "no"), say("user", "kettle")]
    text = render(tokenizers[name], chat, True)
    assert text.count(SYSTEM) == 1
    assert text.index(SYSTEM) < text.index("tea") < text.index("kettle")
    folded = f"{SYSTEM}\n\ntea" in text
    assert folded == (name in ("mistral", "gemma2", "olmo2", "deepseek-r1"))


def test_openings_have_their_thought_behind_them(tokenizers):
    closed = "<think>\n\n</think>\n\n"
    for name in FAMILIES:
        text = render(tokenizers[name], [say("user", "tea")], True)
        assert text.endswith(closed) == (name in ("qwen3", "deepseek-r1"))
    # The thought of a reply in the past is the template's business.
    assert closed not in render(
        tokenizers["deepseek-r1"], [say("user", "tea"), say("assistant", "no")], False
    )


def test_several_replies_are_learned_as_the_template_writes_them(tokenizers):
    completion = [say("assistant", "red song"), say("user", "bird"), say("assistant", "blue bird")]
    ids, start = row_ids(tokenizers["gemma2"], [say("user", "tea")], completion)
    assert tokenizers["gemma2"].decode(ids[start:]) == (
        "red song<end_of_turn>\n<start_of_turn>user\nbird<end_of_turn>\n"
        "<start_of_turn>model\nblue bird<end_of_turn>\n"
    )


def test_the_day_is_always_the_same(tokenizers):
    assert "Today Date: 26 Jul 2024\n" in render(tokenizers["llama3"], [say("user", "tea")], True)


def test_what_a_template_refuses_is_told_in_one_line(tokenizers):
    with pytest.raises(IAError, match="refuses these messages: Conversation roles must alternate") as error:
        render(tokenizers["mistral"], [say("user", "tea"), say("user", "kettle")], True)
    assert error.value.remedy
    with pytest.raises(IAError, match="Conversation roles must alternate"):
        render(tokenizers["mistral"], [say("system", SYSTEM), say("user", "a"), say("user", "b")], True)
    with pytest.raises(IAError, match="takes no system prompt"):
        render(tokenizers["gemma2"], [say("system", SYSTEM), say("assistant", "no")], True)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 / 0 }}", "refuses these messages: division by zero"),
        ("{{ messages[0]['content'] + 5 }}", "refuses these messages: can only concatenate"),
        ("{% for i in range(1000000000) %}x{% endfor %}", "refuses these messages: .*too big"),
        (" ", "writes nothing"),
    ],
)
def test_a_template_that_fails_is_told_in_one_line(template, said):
    tokenizer = make_tokenizer(FAMILIES["chatml"])
    tokenizer.chat_template = template
    with pytest.raises(IAError, match=said):
        token_ids(tokenizer, [say("user", "hello")])


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("red song", "red song"),
        ("<think>\nhm\n</think>\n\nred song", "red song"),
        ("hm\n</think>\n\nred song", "red song"),
        ("<think>\nhm, let me", ""),
        ("<think>a</think> red <think>b</think> song", "song"),
        ("red song <think>and then", "red song"),
    ],
)
def test_what_is_thought_is_not_said(reply, said):
    assert without_thinking(reply) == said


def test_a_template_that_calls_itself_without_end_is_refused():
    tokenizer = make_tokenizer(FAMILIES["chatml"])
    tokenizer.chat_template = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"
    with pytest.raises(IAError, match="refuses these messages: maximum recursion"):
        render(tokenizer, [say("user", "buy bread")], True)
