"""A table on a terminal that is drawn anew in its place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TextIO

from hpc.tune.reporter.table import text_of

#: Seconds between two drawings.
REFRESH_S = 0.25


class LiveTable:
    """Lines and a table at the bottom of the terminal; what is printed meanwhile stands above."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=out)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="ellipsis")
        self._live.start()
        self._due = time.monotonic()

    def is_due(self) -> bool:
        """Whether it may be drawn again."""
        return time.monotonic() >= self._due

    def show(self, lines: Sequence[str], heads: Sequence[str], rows: Sequence[Sequence[Any]], left_out: str) -> None:
        """Draw this in the place of what was there."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for head in heads:
            table.add_column(Text(head))
        for row in rows:
            table.add_row(*(Text(text_of(one)) for one in row))
        below = [Text(left_out)] if left_out else []
        self._live.update(Group(*map(Text, lines), table, *below), refresh=True)
        self._due = time.monotonic() + REFRESH_S

    def say(self, text: str) -> None:
        """Print above it."""
        from rich.text import Text

        self._console.print(Text(text))

    def close(self) -> None:
        """Take it away: the last tables follow."""
        from rich.text import Text

        self._live.update(Text(""))
        self._live.stop()
