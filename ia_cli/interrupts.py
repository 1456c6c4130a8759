"""Ctrl-C, also where a library swallows it: import machinery and callbacks turn a KeyboardInterrupt into
another error, or into nothing.
"""

import signal

_pressed = False


def listen() -> None:
    """Remember every Ctrl-C from now on, unless whoever started us wants it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def pressed() -> bool:
    """Whether Ctrl-C was pressed."""
    return _pressed


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed and we are still running."""
    if _pressed:
        raise KeyboardInterrupt


def _remember(*_: object) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt
