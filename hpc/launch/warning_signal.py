"""The signal by which a scheduler warns of the end of a job: which one, and a handler where the program is a user's."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from hpc.launchers.loop import SessionLoop
from hpc.settings.errors import CliError


def signal_number(name: str | None) -> int:
    """Of USR1, SIGUSR1 or 10, 0 where none is named; CliError for what is none that can be watched."""
    if not name:
        return 0
    text = name.upper()
    try:
        found = int(text) if text.isdigit() else int(signal.Signals["SIG" + text.removeprefix("SIG")])
    except KeyError:
        found = 0
    if found not in (signal.SIGUSR1, signal.SIGUSR2):
        raise CliError("USAGE", f"--drain-signal: {name!r} is neither USR1 nor USR2", fix="--drain-signal=USR1")
    return found


def at_signal(signum: int, loop: SessionLoop, begin: Callable[[str], object]) -> None:
    """Call ``begin`` with the name of the signal when it comes, and then the handler that the program has for it.

    In the main thread only: elsewhere Python lets nobody set handlers, and the signal is the program's own.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signum)

    def tell() -> None:
        with loop.hold():
            begin(signal.Signals(signum).name)

    def came(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=tell, name="hpc-warned", daemon=True).start()  # this one may hold the loop's lock
        if callable(before):
            before(number, frame)

    signal.signal(signum, came)
