"""Rows of tokens: conversations tokenised once, stacked, and dealt out to steps by their length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ia_cli import prompts
from ia_cli.chat import Message, assistant_says, row_ids
from ia_cli.errors import IAError
from ia_cli.models import Base

IGNORED = -100  # the label of a token that is not learned, in torch and TRL
WINDOW = 8  # steps among which rows are sorted by length


@dataclass(frozen=True)
class Rows:
    """Tokenised training rows: left-padded `ids` [n, width]; `lengths` and `completions` [n], in tokens.

    Padding on the left puts all completions at the end, so that the language model head runs on those
    positions only.
    """

    ids: Tensor
    lengths: Tensor
    completions: Tensor

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Return the model's inputs for some rows, cut to the longest, and `labels`: what follows each of the
        last positions. The last token of a row is only a label, since nothing follows it.
        """
        lengths, completions = self.lengths[index, None], self.completions[index, None]
        width, learned = int(lengths.max()), int(completions.max())
        ids = self.ids[index, self.ids.size(1) - width :]
        position = torch.arange(width) - (width - lengths)
        labels = ids[:, width - learned :].masked_fill(torch.arange(learned) < learned - completions, IGNORED)
        return {
            "input_ids": ids[:, :-1],
            "attention_mask": (position >= 0).long()[:, :-1],
            "position_ids": position.clamp(min=0)[:, :-1],
            "labels": labels,
        }


def encode(base: Base, prompt: Sequence[Message], completion: Sequence[Message]) -> tuple[list[int], int]:
    """Return a row's token ids and how many of them, at the end, are the completion (as TRL splits them).

    Raises IAError if the row is longer than the base can read, or if nothing is left to learn.
    """
    ids, shared = row_ids(base.tokenizer, prompt, completion)
    if len(ids) > base.max_length:
        raise IAError(
            f"{len(ids)} tokens, where the base reads {base.max_length}",
            remedy="shorten prompt and completion",
        )
    if not 0 < shared < len(ids):
        raise IAError("the completion adds no tokens to the prompt", remedy="give it some content")
    return ids, len(ids) - shared


def encode_answer(
    base: Base, question: str, answer: str, example: str | None = None
) -> tuple[list[int], int]:
    """As `encode`, for the answer to a question about oneself, perhaps after an example of one's replies."""
    return encode(base, prompts.chat(question, example), [assistant_says(answer)])


def pad_rows(encoded: Sequence[tuple[list[int], int]], pad: int) -> Rows:
    """Stack the rows that `encode` returned."""
    lengths = torch.tensor([len(ids) for ids, _ in encoded])
    ids = torch.full((len(encoded), int(lengths.max())), pad)
    for row, (own, _) in zip(ids, encoded, strict=True):
        row[len(row) - len(own) :] = torch.tensor(own)
    return Rows(ids, lengths, torch.tensor([completion for _, completion in encoded]))


def steps_by_length(lengths: Tensor, rows: int, own: Generator, shared: Generator) -> Tensor:
    """Deal the places of `lengths` [n], each once, out to steps of so many `rows`: [n / rows, rows].

    Within every WINDOW steps, rows of similar length share a step, since shorter ones are padded to the
    longest. `own` blurs the lengths, so that the same rows do not meet again and again; `shared` decides the
    order of the steps in a window.
    """
    steps = []
    for window in torch.arange(len(lengths)).split(WINDOW * rows):
        about = lengths[window] * (1 + 0.1 * torch.randn(len(window), generator=own))
        by_length = window[about.argsort()].view(-1, rows)
        steps.append(by_length[torch.randperm(len(by_length), generator=shared)])
    return torch.cat(steps)
