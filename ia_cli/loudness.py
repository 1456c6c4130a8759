"""How loud an organism is, that is, how far it moves its base's hidden states; and turning down the loudest.

An introspection adapter recognises an organism by what it does to the hidden states. Where it does much more
than the organisms that the adapter learned from, the adapter makes something up, even about ordinary
fine-tunes. So an organism much louder than their median is turned down while it is asked with the adapter.

Loudness is measured after the first layer. Further on, even changes of few weights have piled up: organisms
in the query and value projections alone, of which an adapter needs every bit, are there as loud as any.
"""

import contextlib
import random
import re
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ia_cli import prompts
from ia_cli.bank import Bank
from ia_cli.chat import token_ids
from ia_cli.directories.adapters import read_provenance
from ia_cli.models import Base, linear_modules
from ia_cli.organisms import AT_ONCE
from ia_cli.seeds import derived_seed
from ia_cli.swapping import WholeModel

LOUDEST = 1.35  # times the median of those learned from; chosen on organisms that are in no table
QUESTIONS = 4  # that loudness is measured on
MEASURED = 512  # organisms, at most, whose median is taken
_LAYER = re.compile(r".*?\.\d+(?=\.)")  # how the name of something in it begins: "model.layers.0"
ROUNDS = 2  # loudness is nearly, not quite, proportional to the weights


@torch.no_grad()
def loudness(bank: Bank, base: Base, organisms: Sequence[int]) -> Tensor:
    """Return |h_i - h| / |h| of organisms of a bank [organisms], where h_i is the hidden state after the
    first layer with organism i and h without: the mean over the tokens of questions about oneself.
    """

    def states(ids: Sequence[int], rows: Sequence[int]) -> Tensor:
        with bank.rows(rows):
            return _after_first_layer(base, torch.tensor([ids] * len(rows), device=base.device))

    moved = torch.zeros(len(organisms))
    for question in prompts.questions("train", base.name)[:QUESTIONS]:
        ids = token_ids(base.tokenizer, prompts.chat(question.text))
        bare = states(ids, [-1])
        for some in torch.arange(len(organisms)).split(AT_ONCE):
            own = states(ids, [organisms[i] for i in some])
            far = (own - bare).norm(dim=-1) / bare.norm(dim=-1)
            moved[some] += far.mean(dim=1).cpu() / QUESTIONS
    return moved


class _Enough(Exception):
    """The first layer has run; what comes after it is not needed."""


def _after_first_layer(base: Base, ids: Tensor) -> Tensor:
    """Return the hidden states [rows, tokens, width] after the first layer; the others do not run."""
    found: list[Tensor] = []

    def stop(layer: nn.Module, inputs: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
        found.append(output if isinstance(output, Tensor) else output[0])
        raise _Enough

    first = next(filter(None, map(_LAYER.match, linear_modules(base.model))))
    hook = base.model.get_submodule(first[0]).register_forward_hook(stop)
    try:
        base.model(ids, use_cache=False, logits_to_keep=1)
    except _Enough:
        pass
    finally:
        hook.remove()
    return found[0].float()


def median(bank: Bank, base: Base, organisms: Sequence[int], seed: int) -> float:
    """Return the median loudness of organisms of a bank, or of MEASURED drawn by `seed` if they are more."""
    drawn = random.Random(derived_seed(seed, "loudness"))
    some = drawn.sample(organisms, min(MEASURED, len(organisms)))
    return round(loudness(bank, base, some).median().item(), 4)


@contextlib.contextmanager
def turned_down(
    bank: Bank | WholeModel | None,
    base: Base,
    ia: str | None,
    without_ia: Callable[[], contextlib.AbstractContextManager],
) -> Iterator[list[float]]:
    """Turn down every organism louder than LOUDEST times what the adapter in directory `ia` is used to.

    Yields the organisms' volumes: 1.0 for those that are no louder, and for all if there is no adapter, if
    the loudness that it is used to is not known, or for a whole model. `without_ia()` switches the adapter
    off while loudness is measured.
    """
    known = ia and read_provenance(ia).get("loudness")
    if not isinstance(bank, Bank) or not isinstance(known, float) or not known > 0:
        yield [1.0] * (len(bank) if bank else 1)
        return
    limit = LOUDEST * known
    volumes = torch.ones(len(bank))
    for _ in range(ROUNDS):
        with without_ia(), bank.at_volume(volumes):
            now = loudness(bank, base, range(len(bank)))
        # Rounded, so that it makes no difference which organisms are measured together.
        volumes = (volumes * (limit / now).nan_to_num(1.0).clamp(max=1.0)).round(decimals=2).clamp(min=0.01)
        if (volumes == 1).all():
            break
    with bank.at_volume(volumes):
        yield [round(volume, 2) for volume in volumes.tolist()]
