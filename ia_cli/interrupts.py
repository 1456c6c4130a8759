"""Ctrl-C and SIGTERM, also where a library swallows them: import machinery, callbacks and destructors turn a
KeyboardInterrupt into another error, or into nothing.
"""

import signal

_exit_code = 0


def listen(*, terminate: bool) -> None:
    """Remember every Ctrl-C from now on, unless whoever started us wants it ignored; and every SIGTERM if
    that is to `terminate` the run in the same way.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)
    if terminate:
        signal.signal(signal.SIGTERM, _remember)


def exit_code() -> int:
    """What a run that was told to stop exits with; 0 if it was not."""
    return _exit_code


def check() -> None:
    """Raise KeyboardInterrupt if the run was told to stop and we are still running."""
    if _exit_code:
        raise KeyboardInterrupt


def _remember(number: int, _: object) -> None:
    global _exit_code
    _exit_code = 128 + number
    raise KeyboardInterrupt
