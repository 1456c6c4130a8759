"""Organisms as they are run: adapters together in a bank, a whole model alone, with the base as its body."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from ia_cli import processes
from ia_cli.bank import Bank
from ia_cli.directories.adapters import Adapter, read_adapter
from ia_cli.directories.hub import adapter_folder
from ia_cli.directories.safe_files import WEIGHTS_FILE
from ia_cli.directories.whole_models import as_record, is_model, read_model
from ia_cli.errors import IAError
from ia_cli.models import Base, free_memory
from ia_cli.records import unknown_organism
from ia_cli.swapping import WholeModel, in_order, swapping, taking_on

AT_ONCE = 32  # organisms in one bank; what they say comes out together


def together(records: Sequence[dict], base: Base, at_once: int = AT_ONCE) -> Iterator[list[dict]]:
    """Yield organisms, in order, in groups that can run at once: up to `at_once` adapters, or one model.

    On a GPU a bank takes at most a sixth of the free memory, if each takes as much as the largest: there may
    be a copy for each row, and one that is turned down, and replies take half.
    """
    for has_model, run in itertools.groupby(records, key=lambda record: bool(record.get("model"))):
        waiting, size = list(run), 1 if has_model else at_once
        if base.device.type == "cuda" and not has_model:
            files = [Path(adapter_path(record), WEIGHTS_FILE) for record in waiting]
            # Where one is not there, or empty, `on_base` says what is wrong.
            stored = [file.stat().st_size for file in files if file.is_file()]
            in_bank = 2 * max([1, *stored])  # in 32 bits, and perhaps stored in 16
            free = min(processes.gather(free_memory(base.device)))  # all processes run the same groups
            size = max(1, min(size, free // 6 // in_bank))
        yield from (waiting[start : start + size] for start in range(0, len(waiting), size))


def lone_organism(name: str | Path) -> dict:
    """Return the record of a fine-tune of which nothing is known but where it is: the directory of an adapter
    or a model, or ORG/NAME@COMMIT. IAError if the Hub does not give that.
    """
    folder = adapter_folder(str(name))
    kind = "model" if is_model(folder) else "adapter"
    return unknown_organism(str(Path(name).resolve()), **{kind: str(folder)})


@contextlib.contextmanager
def on_base(records: Sequence[dict], base: Base) -> Iterator[Bank | None]:
    """Put organisms on the base; yields the bank of their adapters, or None while the base is a whole model.

    IAError if a directory is missing, broken or made for another base.
    """
    if records[0].get("model"):
        with taking_on(base, _whole_model(records[0]["model"], base).in_order):
            yield None
        return
    adapters = [adapter_of(record, base) for record in records]
    bank = Bank.load(base.model, adapters, offload=not _fits(adapters, base))
    del adapters  # the bank has what is in them
    try:
        yield bank
    finally:
        bank.remove()


@contextlib.contextmanager
def with_bare_base(records: Sequence[dict], base: Base) -> Iterator[Bank | WholeModel]:
    """Put organisms on the base so that the base itself can be run, too, as row -1.

    IAError if a directory is missing, broken or made for another base.
    """
    if records[0].get("model"):
        with swapping(base, _whole_model(records[0]["model"], base).in_order) as model:
            yield model
        return
    with on_base(records, base) as bank:
        yield bank


def _fits(adapters: Sequence[Adapter], base: Base) -> bool:
    """Whether a bank of these adapters takes no more than half of the free memory of each GPU."""
    if "ACCELERATE_USE_FSDP" in os.environ:
        return False  # FSDP would gather the whole bank on every GPU
    if base.device.type != "cuda":
        return True
    largest = max(sum(a.numel() + b.numel() for a, b in one.tensors.values()) for one in adapters)
    return len(adapters) * largest * 4 <= min(processes.gather(free_memory(base.device))) // 2


class _Weights(NamedTuple):
    """The weights of a model directory, as they are stored and as adapters of the base know them."""

    given: Mapping[str, Tensor]
    in_order: Mapping[str, Tensor]


# For each base, the model read last: an audit runs it again and again, and reading takes minutes.
_last_read: WeakKeyDictionary[nn.Module, tuple[object, _Weights]] = WeakKeyDictionary()


def _whole_model(directory: str, base: Base) -> _Weights:
    """Return the weights of a model directory; IAError as `read_model`."""
    files = sorted(Path(directory).glob("*"))
    stamp = directory, [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    known, weights = _last_read.pop(base.model, (None, None))
    if known != stamp:
        del weights  # free them before others are read
        given = read_model(directory, base)
        weights = _Weights(given, in_order(given, base))
    _last_read[base.model] = stamp, weights
    return weights


def checked(record: dict, base: Base) -> dict:
    """Return what `ia check` prints of an organism's adapter, or of a whole model; IAError for an unsound
    one.
    """
    if not record.get("model"):
        adapter = adapter_of(record, base)
        other = adapter.other_base(base)
        return adapter.as_record() | ({"made_for": other} if other else {})
    weights = _whole_model(record["model"], base)
    return as_record(*weights, base, record["model"])


def adapter_path(record: dict) -> str:
    """Return where the adapter of an organism is; IAError for a whole model, or if the record names none."""
    if record.get("adapter"):
        return record["adapter"]
    what = "is a whole model" if record.get("model") else "has no weights"
    raise IAError(f"{record['id']} {what}, and this takes adapters only", remedy="leave it out")


def adapter_of(record: dict, base: Base) -> Adapter:
    """Return the adapter of an organism; IAError if there is none, or one that this base cannot use."""
    return read_adapter(adapter_path(record), base)


def check_weights(record: dict, base: Base) -> None:
    """Raise IAError if the weights of an organism cannot be used with this base."""
    if record.get("model"):
        _whole_model(record["model"], base)
    else:
        adapter_of(record, base)
