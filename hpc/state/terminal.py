"""What workers print, on the driver's terminal. Each line has its task or actor, its process, and its node where that
is another one. A line that many print alike is shown once (see `folding`)."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from hpc.api.logging_config import is_structured
from hpc.core import variables
from hpc.core.variables import switch, text
from hpc.core.wire import LogLines
from hpc.state.folding import Folder, Origin, Shown

RESET = "\x1b[0m"
#: What is in front of a line, and what the runtime says of it.
CYAN, GREEN = "\x1b[36m", "\x1b[32m"
#: For processes that are told apart: magenta, cyan, green, grey, light blue, light magenta.
COLORS = ("\x1b[35m", "\x1b[36m", "\x1b[32m", "\x1b[90m", "\x1b[94m", "\x1b[95m")
_SGR = re.compile(r"\x1b\[([\d;:]*)m")


@dataclass(frozen=True)
class Looks:
    """What the environment says about workers' lines. ``color``: "0" none, "1" one for each process, else one for all;
    they are for terminals only. ``prefix``: whether there is anything in front of a line."""

    fold: bool = True
    window_s: float = 5.0
    allow: re.Pattern[str] | None = None
    skip: re.Pattern[str] | None = None
    color: str = ""
    prefix: bool = True


def wanted_looks(log_to_driver: bool | None, logging: dict[str, Any] | None = None) -> Looks | None:
    """How lines of workers are shown, or None: not at all. What ``log_to_driver`` does not say the environment does;
    ValueError for what makes no sense there. Lines of a job with ``logging`` say themselves where they come from."""
    if not (switch(variables.LOG_TO_DRIVER, True) if log_to_driver is None else log_to_driver):
        return None
    return Looks(
        fold=switch(variables.DEDUP_LOGS, True) and not is_structured(logging),
        window_s=_seconds(variables.DEDUP_WINDOW, 5.0),
        allow=_pattern(variables.DEDUP_ALLOW),
        skip=_pattern(variables.DEDUP_SKIP),
        color=text(variables.COLOR_PREFIX),
        prefix=logging is None and not switch(variables.NO_PREFIX, False),
    )


def _seconds(variable: variables.Variable, default: float) -> float:
    found = text(variable)
    try:
        seconds = float(found) if found else default
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e7:
        raise ValueError(f"{variables.named(variable)} is {found!r}; it takes a number of seconds")
    return seconds


def _pattern(variable: variables.Variable) -> re.Pattern[str] | None:
    found = text(variable)
    try:
        return re.compile(found) if found else None
    except re.error as error:
        raise ValueError(f"{variables.named(variable)} is {found!r}, which is no regular expression: {error}") from None


class Terminal:
    """Shows the lines of workers. ``node`` is the driver's own. A thread of its own shows what was held back, while
    there is something; it holds no lock of the runtime."""

    def __init__(self, node: int, how: Looks) -> None:
        self._node = node
        self._how = how
        self._folders = {is_err: Folder(how.window_s, how.allow, how.skip) for is_err in (False, True)}
        # A signal's handler may come here in the middle of a line.
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._explained = False

    def show(self, msg: LogLines) -> None:
        """Print lines that a worker wrote, or count them."""
        origin = Origin(msg.name, msg.pid, msg.node)
        with self._lock:
            if self._how.fold:
                self._print(self._folders[msg.is_err].take(origin, msg.lines, time.monotonic()), msg.is_err)
                self._watch()
            else:
                self._print((Shown(origin, line) for line in msg.lines), msg.is_err)

    def finish(self, unheard: Sequence[int] = ()) -> None:
        """Print what was held back: nothing more comes. ``unheard``: nodes of which some output may be missing."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            for is_err, folder in self._folders.items():
                self._print(folder.rest(), is_err)
            if unheard:
                nodes = f"node{'s' if len(unheard) > 1 else ''} {', '.join(map(str, unheard))}"
                said = f"hpc: output of workers on {nodes} may be missing: no answer within some seconds\n"
                self._write(said, sys.stderr)

    def _watch(self) -> None:
        now = time.monotonic()
        waits = [wait for folder in self._folders.values() if (wait := folder.wait_s(now)) is not None]
        if waits and self._timer is None:
            self._timer = threading.Timer(min(waits) + 0.01, self._due)
            self._timer.name = "hpc-folded-lines"
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        with self._lock:
            self._timer = None
            for is_err, folder in self._folders.items():
                self._print(folder.due(time.monotonic()), is_err)
            self._watch()

    def _print(self, lines: Iterable[Shown], is_err: bool) -> None:
        stream = sys.stderr if is_err else sys.stdout
        colored = self._how.color != "0" and _is_terminal(stream)
        self._write("".join([self._line(line, colored) for line in lines]), stream)

    @staticmethod
    def _write(shown: str, stream: TextIO) -> None:
        if not shown:
            return
        try:
            stream.write(shown)
            stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more

    def _line(self, shown: Shown, colored: bool) -> str:
        line = shown.line
        if _stays_colored(line):
            line += RESET
        if shown.times:
            said = f" [repeated {shown.times}x across cluster]"
            if not self._explained:
                self._explained = True
                said += f" (equal lines of several workers are counted; {variables.DEDUP_LOGS.name}=0 shows each)"
            line += f"{GREEN}{said}{RESET}" if colored else said
        return f"{self._prefix(shown.origin, colored)}{line}\n"

    def _prefix(self, origin: Origin, colored: bool) -> str:
        if not self._how.prefix:
            return ""
        name = f"{origin.name} " if origin.name else ""
        where = f", node={origin.node}" if origin.node != self._node else ""
        said = f"({name}pid={origin.pid}{where})"
        if not colored:
            return f"{said} "
        return f"{COLORS[origin.pid % len(COLORS)] if self._how.color == '1' else CYAN}{said}{RESET} "


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _stays_colored(line: str) -> bool:
    """Whether a line leaves a colour behind, which the next line would have too."""
    if "\x1b[" not in line:
        return False
    changes = _SGR.findall(line)
    return bool(changes) and changes[-1].strip("0;:") != ""
