"""The ways to implant a behavior, each in a small module of its own over the bank."""

from typing import NamedTuple


class Method(NamedTuple):
    """The peak learning rate and the steps that suit the embedded base."""

    learning_rate: float = 5e-3
    steps: int = 64


METHODS = {
    "sft": Method(),
    "dpo": Method(),
    "kto": Method(),
    "sdf": Method(),
    "full": Method(learning_rate=1e-3),
    "mix": Method(),
    "merge": Method(),
}
CONCEALMENTS = ("sft", "dpo", "kto")
