"""Where lines are drawn again and again in their place: on a terminal, and below a cell of a notebook.

In a notebook the lines are one output of the cell, which is replaced: that needs IPython alone, and no widgets.
"""

from __future__ import annotations

import html
import sys
from typing import Any, Protocol


class Screen(Protocol):
    """Lines in their place."""

    @property
    def width(self) -> int:
        """Letters of a line."""

    def draw(self, lines: list[str]) -> None:
        """These lines instead of those before."""

    def stop(self) -> None:
        """Nothing of it is left."""


def screen_here() -> Screen | None:
    """The terminal of standard error, or the notebook whose kernel this process is; None elsewhere."""
    if is_kernel():
        return Notebook()
    return Terminal() if sys.stderr.isatty() else None


def is_kernel() -> bool:
    """Whether this process is the kernel of a notebook, and not IPython on a terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class Terminal:
    """What is printed meanwhile stands above the lines."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=sys.stderr), auto_refresh=False, transient=True)

    @property
    def width(self) -> int:
        """Letters of a line."""
        return self._live.console.width

    def draw(self, lines: list[str]) -> None:
        """See `Screen`."""
        from rich.text import Text

        self._live.start()
        self._live.update(Text("\n".join(lines), no_wrap=True), refresh=True)

    def stop(self) -> None:
        """See `Screen`."""
        self._live.stop()


class Notebook:
    """An output of the cell that runs."""

    #: A page shows as many letters, and scrolls for more.
    width = 120

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, lines: list[str]) -> None:
        """See `Screen`."""
        from IPython.display import DisplayHandle

        text = "\n".join(lines)
        shown = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if self._handle is None:
            handle: Any = DisplayHandle
            self._handle = handle()
            self._handle.display(shown, raw=True)
        else:
            self._handle.update(shown, raw=True)

    def stop(self) -> None:
        """See `Screen`."""
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
