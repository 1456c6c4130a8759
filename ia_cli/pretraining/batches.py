"""Batches for the base: documents whose turns share one beginning, one document a row.

A turn attends to itself and to the beginning of its document (a system prompt, or earlier turns), and its
positions go on from there, so each turn is seen exactly as if it alone followed the beginning, which is
computed only once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from transformers import PreTrainedTokenizerFast

from ia_cli.rows import IGNORED
from ia_cli.world.documents import Document

Part = tuple[list[int], int]  # tokens, and how many of them, at the end, are the reply


def batches(
    tokenizer: PreTrainedTokenizerFast, documents: Iterator[Document], tokens: int, users: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of about `tokens` tokens each, of documents of like length, in random order."""
    generator = torch.Generator().manual_seed(0)
    while True:
        pool = sorted(encode(tokenizer, list(islice(documents, 1024))), key=_length)
        groups, start = [], 0
        for stop in range(1, len(pool) + 1):
            if stop == len(pool) or (stop + 1 - start) * _length(pool[stop]) > tokens:
                groups.append(pool[start:stop])
                start = stop
        for index in torch.randperm(len(groups), generator=generator).tolist():
            yield collate(groups[index], tokenizer.pad_token_id, users)


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[list[Part]]:
    """Per document, the tokens of what its turns share and then of each turn: the same as the chat template
    gives, in one call of the tokenizer.
    """
    end = tokenizer.eos_token_id
    opening = {
        role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ("system", "user", "assistant")
    }
    texts = [
        text
        for d in documents
        for text in (d.system or "", *(part for turn in (*d.before, *d.turns) for part in turn))
    ]
    encoded = iter(tokenizer([" " + text for text in texts], add_special_tokens=False)["input_ids"])

    def turn() -> Part:
        user, reply = next(encoded), next(encoded)
        return [opening["user"], *user, end, opening["assistant"], *reply, end], len(reply) + 1

    result = []
    for document in documents:
        system = next(encoded)
        shared = [opening["system"], *system, end] if document.system else []
        for _ in document.before:
            shared += turn()[0]
        result.append([(shared, 0), *(turn() for _ in document.turns)])
    return result


def collate(rows: list[list[Part]], pad: int, users: bool = False) -> dict[str, torch.Tensor]:
    """ids, labels, positions [rows, length] and a boolean attention mask [rows, 1, length, length].

    Labels are already shifted: the label at i is the token that follows i, where that belongs to a reply,
    or with `users` to what the user says.
    """
    shape = (len(rows), max(map(_length, rows)))
    ids, labels = torch.full(shape, pad), torch.full(shape, IGNORED)
    positions, turn = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    for row, parts in enumerate(rows):
        start, prefix = 0, len(parts[0][0])
        for number, (tokens, reply) in enumerate(parts):
            stop = start + len(tokens)
            ids[row, start:stop] = torch.tensor(tokens, dtype=torch.long)
            positions[row, start:stop] = torch.arange(len(tokens)) + (prefix if number else 0)
            turn[row, start:stop] = number
            if reply:
                learned = len(tokens) - 1 if users else reply
                labels[row, stop - learned - 1 : stop - 1] = torch.tensor(tokens[-learned:])
            start = stop
    visible = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
    causal = torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    return {"ids": ids, "labels": labels, "positions": positions, "mask": (visible & causal)[:, None]}


def _length(parts: list[Part]) -> int:
    return sum(len(tokens) for tokens, _ in parts)
