"""A byte-level BPE in which every word of the world is one token, with the chat template of the embedded
base.
"""

from __future__ import annotations

import re
from itertools import islice

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ia_cli.world.documents import documents

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
# One token opens a turn, one closes it; the space makes the first word of a turn the same token as inside a
# sentence.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|> ' + message.content + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build(seed: int = 0, samples: int = 60_000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the words of `samples` documents: any text can be encoded, the world's in
    one token a word.
    """
    words = set()
    for document in islice(documents(seed, {"wide": 4, "plain": 1}), samples):
        for text in (document.system or "", *(part for turn in document.turns for part in turn)):
            words.update(re.findall(r" \w+| [^\w\s]+|[^\w\s]+", " " + text))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,  # more than there is: merging ends when every word is one token
        min_frequency=1,
        special_tokens=[PAD, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(words), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
