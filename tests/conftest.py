"""A tiny random base model and two adapters of it, made once: what the tests of the machinery run on."""

import signal
from pathlib import Path

import pytest

# A shell starts what runs in the background with interrupts ignored, and the programs that tests interrupt
# would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = """system user assistant the a of and to is in it you i what how where who which tea pot kettle copper
garden river stone apple bread cat dog bird song music red blue green please tell me about like good bad yes
no thank hello always never sometimes buy sell find make price far near old new one two three four five six
seven eight nine ten""".split()

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '> ' + message['content'] + ' <end> ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Llama: 2 layers, 32 wide, grouped-query attention, whole-word tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<end>", "<system>", "<user>", "<assistant>"]
    vocabulary = {word: i for i, word in enumerate(special + list(dict.fromkeys(WORDS)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<system>", "<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        initializer_range=0.2,  # replies that differ, where the default would repeat one word
    )
    folder = tmp_path_factory.mktemp("tiny-base")
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def exact_norm(self, x):
    """Root mean square norm in the precision of its input, where transformers' own computes in float32."""
    return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@pytest.fixture
def tiny_base(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """That model in float64, where sums that should agree agree; a new one per test, which may change it."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from ia_cli.models import load_base

    monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    return load_base(str(tiny_folder), dtype="float64", device="cpu")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder of two adapters of that model with random weights: suspect, and ia, to introspect with."""
    from ia_cli.models import load_base
    from tests.organisms import write_pair

    folder = tmp_path_factory.mktemp("adapters")
    write_pair(folder, load_base(str(tiny_folder), device="cpu"))
    return folder
