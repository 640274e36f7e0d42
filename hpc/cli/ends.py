"""How a command ends: the exit code, and the error in the user's words."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

from hpc.settings import errors
from hpc.settings.errors import CliError


def open_streams() -> None:
    """Standard streams that are closed lead nowhere from now on: else the next file or socket would be one of them."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))


def told(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; an error that the user can do something about is printed.

    A terminal or a reader that is gone does not change the exit code: Python's own would be 120. Neither do standard
    streams that were closed before (`<&-`).
    """
    open_streams()
    try:
        code = command()
        sys.stdout.flush()
    except CliError as error:
        code = errors.report(error)
    except BrokenPipeError:
        code = 141
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        if error.errno != errno.EIO:  # a terminal that was closed
            raise
        code = 128 + signal.SIGHUP
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # or Python complains once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code
