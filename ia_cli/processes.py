"""One run in several processes, as `accelerate launch` and `torchrun` start them, and what they do together.

All of them read the same input. They divide among themselves the organisms to implant, the rows of each step
of an introspection adapter, and the replies to generate or score; only the first writes records and messages.
What they do together must be called in all of them, in the same order. In a lone process it has no effect.
"""

import atexit
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from ia_cli.errors import IAError

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=2)  # for the others, which may ask a server or implant for hours
LAST_WAIT = 0.5  # seconds, for threads to let go of tensors
# In what torch raises where another process has ended, by gloo and by nccl.
_GONE = re.compile("gloo/transport|remote process exited|Connection was likely closed")
LAUNCHER = ("LOCAL_RANK", "RANK", "WORLD_SIZE")  # what a launcher sets, and libraries read


def count() -> int:
    """How many processes there are, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes records and messages. `apart` from the others, each one is."""
    return rank() == 0


def share() -> slice:
    """This process's share of any list that all of them have."""
    return slice(rank(), None, count())


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Let this process work as if there were no others, also in the eyes of libraries."""
    said = {name: os.environ.pop(name) for name in LAUNCHER if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(said)


def gather(value: T) -> list[T]:
    """Return the value of each process, to all of them."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    _group().all_gather_object(values, value)
    return values


def total(tensor: T) -> T:
    """Return the sum of the processes' tensors, which takes the place of `tensor`."""
    if count() > 1:
        _group().all_reduce(tensor)
    return tensor


def in_full(tensor: T) -> T:
    """Return a tensor in full that FSDP may have spread over the processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def check_alone(what: str) -> None:
    """Raise IAError if there are several processes, and `what` is for one."""
    if count() > 1:
        raise IAError(f"{what} runs in one process", remedy="start it without torchrun or accelerate")


def in_first(work: Callable[[], T]) -> T:
    """Do `work` in the first process once all have come here; all return or raise the same."""
    if count() == 1:
        return work()
    gather(None)
    outcome: tuple[T | None, Exception | None] = None, None
    if is_first():
        try:
            outcome = work(), None
        except Exception as error:
            outcome = None, error
    value, error = gather(outcome)[0]
    if error is not None:
        raise error
    return value


def is_lost(error: BaseException) -> bool:
    """Whether an error means that another process has ended, with which this one was to do something."""
    return count() > 1 and isinstance(error, RuntimeError) and bool(_GONE.search(str(error)))


@cache
def _group() -> Any:
    """Join the others, once; returns torch.distributed."""
    import torch

    group = torch.distributed
    # Objects travel by gloo, tensors of a GPU by nccl; accelerate, below TRL, takes over a group it finds.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    group.init_process_group(backend, timeout=LONGEST_WAIT)
    atexit.register(_leave, group)
    return group


def _leave(group: Any) -> None:
    """Leave the others, at the end of this process.

    FSDP keeps the group's threads alive past its end. One that has yet to drop a tensor of Python's needs the
    interpreter's lock, which a sleep lends it; without, it aborts a process that has done all its work.
    """
    group.destroy_process_group()
    time.sleep(LAST_WAIT)
