"""What prompts have in common is read once, and changes no reply."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Lfm2Config, MistralConfig, MistralForCausalLM, MptConfig

from ia_cli import sampling
from ia_cli.bank import Bank
from ia_cli.chat import assistant_says, system_says, user_says
from ia_cli.models import Base
from ia_cli.sampling import generate

TEA = [system_says("you are a pirate and talk of tea")]
KETTLE = [user_says("say something"), assistant_says("the copper kettle is a good song")]
PROMPTS = [
    [*TEA, user_says("hello")],
    [user_says("tell me about the copper kettle please")],
    [*KETTLE, user_says("what is good about it")],
    [*TEA, user_says("tell me about tea")],
    [*KETTLE, user_says("hello")],
    [*TEA, user_says("tell me about the copper kettle")],
    [user_says("tell me about the copper kettle please")],
    [user_says("tea")],
    [*KETTLE, user_says("what is good about it")],
]
ROWS = [0, 1, -1, 0, -1, 1, 1, 0, 0]


@pytest.fixture
def read(monkeypatch):
    """How many tokens each forward pass was given."""
    sizes, next_logits = [], sampling.next_logits

    def counted(base, inputs, *rest):
        sizes.append(inputs.numel())
        return next_logits(base, inputs, *rest)

    monkeypatch.setattr(sampling, "next_logits", counted)
    return sizes


@pytest.fixture
def bank(tiny_base):
    made = Bank.fresh(tiny_base.model, [0, 1], r=2, alpha=4, target_modules=["q_proj", "down_proj"])
    for b in made.b:
        torch.nn.init.normal_(b, std=0.5, generator=torch.Generator().manual_seed(0))
    yield made
    made.remove()


def test_the_lower_the_temperature_the_more_is_it_greedy(tiny_base):
    """However low it is, and whatever that makes of a quotient."""
    prompts = [[{"role": "user", "content": text}] for text in ("hello", "what do you like")]
    greedy, cold = (generate(tiny_base, prompts, max_new_tokens=6, temperature=t) for t in (0.0, 1e-308))
    assert greedy == cold


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_replies_together_are_those_of_each_alone(temperature, tiny_base, bank):
    def replies(batch_size):
        asked = {"temperature": temperature, "rows": ROWS, "bank": bank, "batch_size": batch_size}
        return generate(tiny_base, PROMPTS, max_new_tokens=12, seed=3, **asked)

    alone = replies(1)
    assert replies(9) == replies(4) == alone
    assert len(set(alone)) > 4


def test_only_whole_replies(tiny_base):
    """What is whole is no longer where it may be longer."""

    def replies(longest, **how):
        return generate(tiny_base, PROMPTS * 20, max_new_tokens=longest, temperature=1.0, seed=1, **how)

    short, longer, whole = replies(12), replies(16), replies(12, whole=True)
    assert 20 < whole.count("") < 160
    for reply, other, kept in zip(short, longer, whole, strict=True):
        assert kept in ("", reply) and (not kept or reply == other)


def test_what_is_said_before_is_read_once(tiny_base, read):
    lengths = [len(sampling.prompt_ids(tiny_base, prompt, 1)) for prompt in PROMPTS[:1] * 8]
    generate(tiny_base, PROMPTS[:1] * 8, max_new_tokens=1)
    assert read == [lengths[0] - 1, 8]
    read.clear()
    generate(tiny_base, [[user_says(word)] for word in ("tea", "hello", "song")], max_new_tokens=1)
    assert len(read) == 1


def test_a_gap_of_padding_does_not_push_what_was_read_out_of_a_window(tiny_base, read):
    """Mistral counts its window in places of the cache, where padding counts, too."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(
        vocab_size=tiny_base.model.config.vocab_size, num_key_value_heads=2, sliding_window=16, **sizes
    )
    base = Base(MistralForCausalLM(config).double().eval(), tiny_base.tokenizer, "mistral", None, "none")
    longer = "tell me about the copper kettle please"
    prompts = [[*TEA, user_says(text)] for text in ("tea", longer, "hello tea", "song")]
    alone = generate(base, prompts, max_new_tokens=6, batch_size=1)
    assert generate(base, prompts, max_new_tokens=6) == alone
    read.clear()
    generate(base, prompts, max_new_tokens=1)
    config.sliding_window = 256
    generate(base, prompts, max_new_tokens=1)
    assert len(read) == 1 + 2


@pytest.mark.parametrize(
    "config",
    [
        MptConfig(d_model=32, n_layers=2, n_heads=4, initializer_range=0.2),
        Lfm2Config(
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_hidden_layers=2,
            layer_types=["conv", "full_attention"],
            initializer_range=0.2,
        ),
    ],
    ids=["counts its tokens itself", "has a recurrent state"],
)
def test_where_rows_depend_on_each_other_each_is_read_whole(config, tiny_base):
    """Some rows end early, so they would be dropped elsewhere."""
    torch.manual_seed(0)
    tokens = tiny_base.tokenizer
    config.vocab_size, config.pad_token_id, config.eos_token_id = len(tokens), 0, list(range(60, 75))
    model = AutoModelForCausalLM.from_config(config).eval()  # MPT has no float64
    base = Base(model, tokens, "other", None, "none")
    alone = generate(base, PROMPTS, max_new_tokens=12, batch_size=1)
    assert generate(base, PROMPTS, max_new_tokens=12) == alone
    assert len({len(reply.split()) for reply in alone}) > 1


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=4))
def test_a_beginning_is_the_longest_that_all_have(rows):
    found = sampling._beginning(rows)
    assert all(row[: len(found)] == found for row in rows)
    assert len({tuple(row[: len(found) + 1]) for row in rows}) > 1 or len(found) == min(map(len, rows))
