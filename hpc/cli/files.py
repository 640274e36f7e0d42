"""Files that commands write where the user says: one that cannot be written is an error of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpc.settings.errors import CliError


@contextmanager
def writing(path: object, option: str) -> Iterator[None]:
    """Around what writes a file: that it cannot be written is a CliError, which names the option to change."""
    try:
        yield
    except OSError as error:
        raise CliError("USAGE", f"this cannot be written: {path}", why=str(error), fix=option) from None
