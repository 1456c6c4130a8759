"""Ctrl-C, SIGTERM and a closed terminal, also where a library swallows them: import machinery, callbacks and
destructors turn a KeyboardInterrupt into another error, or into nothing.
"""

import signal

_exit_code = 0
_taken_up = False


def listen(*, terminate: bool) -> None:
    """Remember every Ctrl-C from now on, unless whoever started us wants it ignored; and every SIGTERM, and
    SIGHUP unless it is ignored (nohup), if these are to `terminate` the run in the same way.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)
    if terminate:
        signal.signal(signal.SIGTERM, _remember)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _remember)


def exit_code() -> int:
    """The exit code of a run that was told to stop; 0 if it was not."""
    return _exit_code


def check() -> None:
    """Raise KeyboardInterrupt if the run was told to stop and nobody has called `take_up` since."""
    if _exit_code and not _taken_up:
        raise KeyboardInterrupt


def take_up() -> None:
    """Declare that the caller caught the KeyboardInterrupt, and raises it after writing what there is."""
    global _taken_up
    _taken_up = True


def _remember(number: int, _: object) -> None:
    global _exit_code, _taken_up
    _exit_code, _taken_up = 128 + number, False
    raise KeyboardInterrupt
