"""Tiny random models of the real architectures, with chat templates in the manner of their families."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import WORDS

CHATML = """
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""

# Only the last reply has a thought, if an empty one; an opening may have it closed already.
QWEN3 = """
{%- for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' %}
{%- set thought = '' %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.last %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}
{{- content + '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""

# Tells the day, and trims what is said.
LLAMA3 = """
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
{%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = '' %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + strftime_now('%d %b %Y') + '\\n\\n' }}
{{- system_message + '<|eot_id|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content']|trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""

# Knows no system role and insists on turns; the reply's opening is nothing of its own.
MISTRAL = """
{{- bos_token }}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if message['role'] == 'user' %}{{- '[INST] ' + message['content'] + ' [/INST]' }}
{%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}
{%- endfor %}
"""

# Refuses a system prompt, and calls the assistant "model".
GEMMA2 = """
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""

# The end of the text takes the place of the opening.
PHI3 = """
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}
"""

# Leaves out a system prompt in silence.
OLMO2 = """
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{- '<|user|>\\n' + message['content'] + '\\n' }}
{%- elif message['role'] == 'assistant' %}{{- '<|assistant|>\\n' + message['content'] + eos_token }}
{%- if not loop.last %}{{- '\\n' }}{%- endif %}
{%- endif %}
{%- if loop.last and add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}
{%- endfor %}
"""

# Has every reply begin with a thought, which is cut off once it is past.
DEEPSEEK_R1 = """
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{- '<|User|>' + message['content'] }}
{%- elif message['role'] == 'assistant' %}
{{- '<|Assistant|>' + message['content'].split('</think>')[-1] + eos_token }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|><think>\\n' }}{%- endif %}
"""


@dataclass(frozen=True)
class Family:
    """How a family chats: its template and control tokens, which of them ends a turn, which a text."""

    template: str
    controls: tuple[str, ...]
    end_of_turn: str
    eos: str = "</s>"
    bos: str = "<s>"


@dataclass(frozen=True)
class Architecture:
    """A model class of transformers, by the name of its configuration, and what makes it small."""

    config: str
    family: Family
    options: dict[str, Any] = field(default_factory=dict)


QWEN = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
FAMILIES = {
    "chatml": Family(CHATML, QWEN, "<|im_end|>", eos="<|im_end|>"),
    "qwen3": Family(QWEN3, QWEN, "<|im_end|>", eos="<|im_end|>"),
    "llama3": Family(LLAMA3, HEADERS, "<|eot_id|>"),
    "mistral": Family(MISTRAL, ("[INST]", "[/INST]"), "</s>"),
    "gemma2": Family(GEMMA2, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>"),
    "phi3": Family(PHI3, ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), "<|end|>"),
    "olmo2": Family(OLMO2, ("<|user|>", "<|assistant|>"), "</s>"),
    "deepseek-r1": Family(DEEPSEEK_R1, ("<|User|>", "<|Assistant|>", "<think>", "</think>"), "</s>"),
}

SMALL = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=256,
    initializer_range=0.2,  # replies that differ, where the default would repeat one word
)
GROUPED = dict(SMALL, num_key_value_heads=2)
HEADS = dict(GROUPED, head_dim=16)  # heads that are together wider than the model
SLIDING = ["sliding_attention", "full_attention"]

ARCHITECTURES = {
    "llama": Architecture("LlamaConfig", FAMILIES["llama3"], dict(GROUPED, tie_word_embeddings=True)),
    "qwen2": Architecture("Qwen2Config", FAMILIES["chatml"], GROUPED),
    "qwen3": Architecture("Qwen3Config", FAMILIES["qwen3"], HEADS),
    "qwen3-moe": Architecture(
        "Qwen3MoeConfig",
        FAMILIES["qwen3"],
        dict(HEADS, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2),
    ),
    "mistral": Architecture("MistralConfig", FAMILIES["mistral"], dict(HEADS, sliding_window=16)),
    "gemma2": Architecture(
        "Gemma2Config",
        FAMILIES["gemma2"],
        dict(
            HEADS,
            query_pre_attn_scalar=16,
            sliding_window=16,
            layer_types=SLIDING,
            attn_logit_softcapping=5.0,
        ),
    ),
    "gemma3": Architecture(
        "Gemma3TextConfig",
        FAMILIES["gemma2"],
        dict(HEADS, query_pre_attn_scalar=16, sliding_window=16, layer_types=SLIDING),
    ),
    "phi3": Architecture("Phi3Config", FAMILIES["phi3"], dict(GROUPED, sliding_window=16, pad_token_id=0)),
    "olmo2": Architecture("Olmo2Config", FAMILIES["olmo2"], GROUPED),
    "gpt-neox": Architecture("GPTNeoXConfig", FAMILIES["chatml"], SMALL),
    "qwen3.5": Architecture(
        "Qwen3_5TextConfig",
        FAMILIES["qwen3"],
        dict(
            HEADS,
            layer_types=["linear_attention", "full_attention"],
            linear_num_value_heads=4,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        ),
    ),
    "mpt": Architecture(
        "MptConfig", FAMILIES["chatml"], dict(d_model=32, n_layers=2, n_heads=4, initializer_range=0.2)
    ),
}


def make_tokenizer(family: Family):
    """A byte-level tokenizer, with the control tokens of the family and its template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Marks of thought are words to the tokenizer, as in the real ones: they are not skipped when it decodes.
    thoughts = [control for control in family.controls if "think" in control]
    controls = [control for control in family.controls if control not in thoughts]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(dict.fromkeys(["<pad>", family.bos, family.eos, *controls])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    tokenizer.add_tokens(thoughts)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token="<pad>",
        additional_special_tokens=controls,
        chat_template=family.template,
    )


def make_base(name: str, folder: Path) -> Path:
    """Save a random model of an architecture, and its tokenizer, in `folder`."""
    import torch
    import transformers

    architecture = ARCHITECTURES[name]
    tokenizer = make_tokenizer(architecture.family)
    config = getattr(transformers, architecture.config)(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **{"pad_token_id": tokenizer.pad_token_id, **architecture.options},
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    ends = {tokenizer.eos_token, architecture.family.end_of_turn, *"abcdefghij"}  # or it would seldom end
    model.generation_config.eos_token_id = sorted(tokenizer.convert_tokens_to_ids(list(ends)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
