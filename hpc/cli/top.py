"""`hpc top [JOB]`: a session at the terminal while it runs, drawn anew twice a second at most."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hpc.cli import session, top_view
from hpc.cli.top_view import Kind, Look
from hpc.cli.words import ADDRESS, JOB_DIR, chosen, of_jobs
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = "hpc top [JOB] [options]     tasks, nodes, GPUs, actors and what waits, as they change"
TABLE = (
    ADDRESS,
    JOB_DIR,
    Option("once", ("--once",), "switch", "print one screen and leave, as where no terminal is", "", default=False),
    Option("show", ("--show",), "text", "what to begin with: tasks, nodes, gpus, actors or why", "", metavar="KIND"),
)
#: No two screens are drawn within this time; an age is drawn anew after the other.
LEAST_S, MOST_S = 0.5, 1.0
#: A session that does not answer keeps nobody from leaving for longer than this.
QUIT_S = 1.0
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
#: Lines of one screen where the terminal has no height.
LINES = 40


def run(words: list[str]) -> int:
    """Show it until q; returns the exit code."""
    options, rest = of_jobs(words, TABLE)
    wanted = options["show"] or "tasks"
    kind = next((one for one in top_view.KINDS.values() if one == wanted), None)
    if kind is None:
        known = ", ".join(top_view.KINDS.values())
        raise CliError("USAGE", f"hpc top shows {known}, not {wanted}", fix="hpc top --help")
    if len(rest) > 1:
        raise CliError("USAGE", "hpc top shows one job", fix=f"hpc top {rest[0]}")
    address = options["address"]
    if rest:
        job = chosen(options, rest)[0]
        if session.is_elsewhere(job):  # a step of the scheduler has no terminal
            return session.run_there(job, ["top", "--once", f"--show={kind}"])
        address = session.address_of(job)
        if not address:
            what = f"the session of job {job.number} does not run"
            raise CliError("NO-SESSION", what, fix=f"hpc status {job.number}")
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    is_once = options["once"] or not is_terminal
    with session.connected(address):
        return _once(kind) if is_once else _follow(Look(kind))


def _once(kind: Kind) -> int:
    from hpc.dashboard.pages.registry import QUESTIONS

    overview = QUESTIONS["overview"].ask()
    rows = [row for name in top_view.NEEDS.get(kind, ()) for row in QUESTIONS[name].ask()]
    width = shutil.get_terminal_size((80, LINES)).columns
    height = len(top_view.chosen(overview, rows, Look(kind))) + 8
    lines = top_view.screen(overview, rows, Look(kind), "", width, height)
    sys.stdout.write(top_view.plain(lines[:-1]).rstrip("\n") + "\n")
    return 0


def _follow(look: Look) -> int:
    from hpc.dashboard.asking import Asker
    from hpc.dashboard.pages.registry import QUESTIONS

    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    changed = threading.Event()

    def wake(*_: Any) -> None:
        changed.set()
        try:
            os.write(wake_out, b"!")
        except BlockingIOError:
            pass

    asker = Asker(QUESTIONS, wake, lambda: None)  # a trace would be written over the screen, which says it shortly
    needs: list[str] = ["overview", *top_view.NEEDS.get(look.kind, ())]
    asker.want(needs)
    asker.start()
    try:
        with _terminal() as screen:
            now: Look | None = look
            while now is not None and not asker.ended:
                if (wanted := ["overview", *top_view.NEEDS.get(now.kind, ())]) != needs:
                    asker.want(wanted)
                    asker.leave(needs)
                    needs = wanted
                screen.draw(_lines(asker.known, now))
                changed.clear()
                now = _keys(now, wake_in, changed)
    finally:
        if asker.close(QUIT_S):  # else its thread still writes there, and ends with the process
            os.close(wake_in)
            os.close(wake_out)
    if asker.ended:
        raise CliError("SESSION-LOST", asker.ended)
    return 0


def _lines(known: dict[str, Any], look: Look) -> list[str]:
    """The screen as it is now."""
    width, height = shutil.get_terminal_size((80, 24))
    overview = known.get("overview")
    if overview is None or overview.value is None:
        return [top_view.printable(overview.error)[:width] if overview else "asking the session"]
    rows = [row for name in top_view.NEEDS.get(look.kind, ()) if name in known for row in known[name].value or ()]
    age = top_view.age_in_words(overview.at_s, time.time(), overview.error)
    lines = top_view.screen(overview.value, rows, look, age, width, height)
    if os.environ.get("NO_COLOR"):
        return [top_view.plain([line]).rstrip() for line in lines]
    return [top_view.coloured(line) for line in lines]


def _keys(look: Look, wake_in: int, changed: threading.Event) -> Look | None:
    """What is looked at next: after a key at once, else when something new is known, or an age has changed."""
    begun_s = time.monotonic()
    while True:
        waited_s = time.monotonic() - begun_s
        if waited_s >= (LEAST_S if changed.is_set() else MOST_S):
            return look
        ready, _, _ = select.select([0, wake_in], [], [], (LEAST_S if changed.is_set() else MOST_S) - waited_s)
        if wake_in in ready:
            os.read(wake_in, 4096)
        if 0 in ready:
            text = os.read(0, 64).decode(errors="ignore")
            if not text:
                return None
            if text.startswith("\x1b") and len(text) > 1:  # an arrow or a function key
                return look
            found: Look | None = look
            for key in text:
                found = top_view.pressed(found, key) if found is not None else None
            return found


class Screen:
    """The terminal's other screen: only lines that have changed are written."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """What is on it is not known any more."""
        self._lines: list[str] = []
        self._size = (0, 0)

    def draw(self, lines: list[str]) -> None:
        """Show these lines."""
        out = []
        now = shutil.get_terminal_size((80, 24))
        if now != self._size:
            self._lines, self._size = [], now
            out.append("\x1b[2J")
        for number in range(max(len(lines), len(self._lines))):
            line = lines[number] if number < len(lines) else ""
            if number >= len(self._lines) or self._lines[number] != line:
                out.append(f"\x1b[{number + 1};1H{line}\x1b[K")
        self._lines = lines
        if out:
            sys.stdout.write("".join(out))
            sys.stdout.flush()


@contextmanager
def _terminal() -> Iterator[Screen]:
    """The other screen, with keys as they are pressed. The terminal is as it was at the end, and while it is left by
    Ctrl-Z. Handlers write past `sys.stdout`, which they may have interrupted."""
    screen = Screen()
    before = termios.tcgetattr(0)

    def enter() -> None:
        tty.setcbreak(0)
        os.write(1, ENTER.encode())
        screen.forget()

    def leave() -> None:
        try:
            os.write(1, LEAVE.encode())
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def stop(number: int, frame: FrameType | None) -> None:
        leave()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # it goes on here
        signal.signal(number, stop)
        enter()

    ways = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGQUIT: end, signal.SIGTSTP: stop}
    handlers = {number: signal.signal(number, way) for number, way in ways.items()}
    try:
        enter()
        yield screen
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # not between the two halves of leaving
        try:
            leave()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
