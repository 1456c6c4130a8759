"""Which rows share a step."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ia_cli.rows import WINDOW, steps_by_length


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_every_row_comes_once_and_stays_within_its_window(steps, rows, seed):
    lengths = torch.randint(1, 90, (steps * rows,), generator=seeded(seed))
    order = steps_by_length(lengths, rows, seeded(seed), seeded(seed + 1))
    assert order.shape == (steps, rows)
    assert order.flatten().sort().values.tolist() == list(range(steps * rows))
    windows = torch.arange(steps) // WINDOW
    assert (order // rows // WINDOW == windows[:, None]).all()


def test_steps_are_hardly_wider_than_their_rows():
    lengths = torch.randint(10, 90, (64 * 16,), generator=seeded(0))
    order = steps_by_length(lengths, 16, seeded(1), seeded(2))
    drawn = lengths.view(64, 16).amax(1).sum() * 16 / lengths.sum()
    padded = lengths[order].amax(1).sum() * 16 / lengths.sum()
    assert drawn > 1.6
    assert padded < 1.3


def test_short_and_long_steps_come_in_the_same_order_for_all_who_share_a_generator():
    lengths = torch.randint(10, 90, (WINDOW * 4,), generator=seeded(0))
    first, second = (steps_by_length(lengths, 4, seeded(own), seeded(9)) for own in (1, 2))
    assert not torch.equal(first, second)  # the lengths are blurred, each time otherwise
    widths = [lengths[order].float().mean(1) for order in (first, second)]
    assert torch.corrcoef(torch.stack(widths))[0, 1] > 0.9
