"""What a worker has written, cut into lines, each with the name in which it was written. Pure: bytes in, lines out.

A carriage return takes a terminal back to the beginning of its line. So of a line with several states (a progress bar)
the last is shown; the file keeps them all.
"""

from __future__ import annotations

from hpc.core.node.marks import BEGIN, MARK, begun

#: A line without an end may become so long before it is shown all the same.
MAX_LINE = 64 << 10

#: Lines that follow each other and have one name.
Run = tuple[str, list[str]]


class Lines:
    """Cuts the output of one file. ``partial`` is what has no end of line yet."""

    def __init__(self) -> None:
        self.partial = b""
        self._name = b""
        #: The last text was shown without its end of line, which is none of its own.
        self._shown_open = False

    def take(self, data: bytes) -> list[Run]:
        """The lines that end in the next piece."""
        if self.partial:
            data = self.partial + data
        whole, newline, partial = data.rpartition(b"\n")
        if len(partial) >= MAX_LINE:
            size = len(partial) - begun(partial)
            whole, newline, partial = whole + newline + partial[:size], b"\n", partial[size:]
        self.partial = partial
        return self._runs(whole, ended=True) if newline else []

    def rest(self) -> list[Run]:
        """What has no end of line, as a line; what follows is another."""
        data, self.partial = self.partial, b""
        runs = self._runs(data, ended=False)
        self._shown_open = self._shown_open or bool(runs)
        return runs

    def skip(self, instead: bytes = b"") -> None:
        """Some of the output was not seen: what comes next begins with ``instead``, and nobody knows in whose name."""
        self.partial, self._name, self._shown_open = instead, b"", False

    def _runs(self, data: bytes, *, ended: bool) -> list[Run]:
        """``ended``: the last line has an end."""
        runs: list[Run] = []
        for line in data.split(b"\n"):
            text, cut = self._last_text(line, runs) if BEGIN in line else (line, False)
            if text or (ended and not cut and not self._shown_open):
                self._show(text, runs)
            if ended:
                self._shown_open = False
        return runs

    def _last_text(self, line: bytes, runs: list[Run]) -> tuple[bytes, bool]:
        """Of a line in which names change: what is before a change is a line of its own. Returns what is behind the
        last one, and whether something was shown."""
        text, *rest = MARK.split(line)
        cut = False
        for name, more in zip(rest[::2], rest[1::2], strict=True):
            if name == self._name:
                text += more
                continue
            if text:
                self._show(text, runs)
                cut = True
            self._name, text = name, more
        return text, cut

    def _show(self, text: bytes, runs: list[Run]) -> None:
        text = text.rstrip(b"\r")
        if b"\r" in text:
            text = text[text.rindex(b"\r") + 1 :]
            if not text.strip():
                return  # it was wiped out
        name = self._name.decode("utf-8", "replace")
        if not runs or runs[-1][0] != name:
            runs.append((name, []))
        runs[-1][1].append(text.decode("utf-8", "replace"))
