"""Orders to a job that runs, by files in its folder: signals that YARN cannot send, and commands to run beside it.

YARN runs nothing more in a container that is there, and knows three signals. The job's folder is seen from both sides,
and by this user alone. So an order is a file in it: `orders/ID.json`. The process that waits in the first container for
hpc-launch (container.py) carries it out. What a command says is in `ID.out` and `ID.err` while it runs, and its exit
code in `ID.code` when it has ended. Whoever gave the order removes its files.

    python -c "... orders ..." FOLDER ARGV...

gives an order from outside, and is as the command itself would be: output, errors, exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ORDERS = "orders"
LOOK_S = 0.2
TAKEN_S = 30.0  # so long an order may lie there before somebody takes it
PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.yarn.orders import main; main()"


def give(folder: Path, what: Mapping[str, Any]) -> Path:
    """Give an order; returns its file, without `.json`. OSError where the folder is not there (any more)."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no {folder}: the job does not run, or began elsewhere")
    (folder / ORDERS).mkdir(mode=0o700, exist_ok=True)
    order = folder / ORDERS / secrets.token_hex(6)
    part = order.parent / f".{order.name}"
    part.write_text(json.dumps(what))
    part.replace(f"{order}.json")
    return order


class Orders:
    """The side that carries them out. pid: the process that signals are for."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder / ORDERS
        self.pid = pid
        self._seen: set[str] = set()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def look(self) -> None:
        """Take new orders, and say what has become of those that were taken."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return
        for name in sorted(names):
            order, dot, kind = name.rpartition(".")
            if dot and kind == "json" and order not in self._seen:
                self._seen.add(order)
                self._take(order)
        for order, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[order]
                self._say(order, 128 - code if code < 0 else code)
            elif f"{order}.json" not in names:  # nobody waits for it any more
                process.kill()

    def close(self) -> None:
        """The job has ended."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def _take(self, order: str) -> None:
        try:
            what = json.loads((self.folder / f"{order}.json").read_text())
            if "signal" in what:
                os.kill(self.pid, signal.Signals[f"SIG{what['signal']}"])
                self._say(order, 0)
                return
            with (self.folder / f"{order}.out").open("wb") as out, (self.folder / f"{order}.err").open("wb") as err:
                self._running[order] = subprocess.Popen(
                    [str(word) for word in what["run"]], stdin=subprocess.DEVNULL, stdout=out, stderr=err
                )
        except (OSError, ValueError, LookupError, TypeError) as error:
            with contextlib.suppress(OSError):
                (self.folder / f"{order}.err").write_text(f"hpc: this order cannot be carried out: {error}\n")
            self._say(order, 126)

    def _say(self, order: str, code: int) -> None:
        with contextlib.suppress(OSError):
            part = self.folder / f".{order}.code"
            part.write_text(str(code))
            part.replace(self.folder / f"{order}.code")


# ---------------------------------------------------------------- from outside


def wait(order: Path, show: Callable[[bytes, bytes], None] | None = None, taken_s: float = TAKEN_S) -> int | None:
    """The exit code of an order; None where nobody takes it, or the job has ended. show: what is new of its output."""
    offsets = [0, 0]
    end = time.monotonic() + taken_s
    while True:
        code = _read(f"{order}.code")
        said = []
        for index, kind in enumerate(("out", "err")):
            data = _read(f"{order}.{kind}", offsets[index]) or b""
            offsets[index] += len(data)
            said.append(data)
        if any(said):
            end = float("inf")
            if show is not None:
                show(said[0], said[1])
        if code:
            return int(code)
        taken = os.path.exists(f"{order}.out")
        if not order.parent.parent.is_dir() or (not taken and time.monotonic() > end):
            return None
        time.sleep(LOOK_S)


def _read(path: str, offset: int = 0) -> bytes | None:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read()
    except OSError:
        return None


def withdraw(order: Path) -> None:
    """Remove an order and what was said to it."""
    for kind in ("json", "code", "out", "err"):
        with contextlib.suppress(OSError):
            os.unlink(f"{order}.{kind}")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """FOLDER ARGV...: give the order to run that, and be as it is."""
    folder, *words = list(sys.argv[1:] if argv is None else argv)

    def show(out: bytes, err: bytes) -> None:
        for stream, data in ((sys.stdout.buffer, out), (sys.stderr.buffer, err)):
            stream.write(data)
            stream.flush()

    try:
        order = give(Path(folder), {"run": words})
    except OSError as error:
        sys.exit(f"hpc: {error}")
    try:
        code = wait(order, show)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
    finally:
        withdraw(order)
    if code is None:
        sys.exit("hpc: the job's first container takes no orders: it has ended, or does not see the job's folder")
    sys.exit(code)
