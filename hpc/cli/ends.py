"""How a command ends: the exit code, and the error in the user's words."""

from __future__ import annotations

import os
from collections.abc import Callable

from hpc.settings import errors
from hpc.settings.errors import CliError


def told(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; an error that the user can do something about is printed."""
    try:
        return command()
    except CliError as error:
        return errors.report(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains once more at its end
        return 141
    except KeyboardInterrupt:
        return 130
