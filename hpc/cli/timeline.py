"""`hpc timeline FILE`: what ran when."""

from __future__ import annotations

import sys
from typing import Any

from hpc.cli.files import writing
from hpc.cli.look import is_one, look
from hpc.cli.words import ADDRESS
from hpc.settings import errors

USAGE = "hpc timeline FILE [options]     what ran when: open FILE in ui.perfetto.dev"
TABLE = (ADDRESS,)


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _timeline, is_one("file"))


def _timeline(given: dict[str, Any], rest: list[str]) -> int:
    import hpc

    with writing(rest[0], "hpc timeline FILE"):
        hpc.timeline(rest[0])
    errors.note(f"written to {rest[0]}: open it in ui.perfetto.dev", sys.stdout)
    return 0
