"""What workers print, on the driver's terminal: each line with the process and node that it came from."""

from __future__ import annotations

import sys

from hpc.core.wire import LogLines


def show_log_lines(msg: LogLines) -> None:
    """Print lines that a worker wrote."""
    stream = sys.stderr if msg.is_err else sys.stdout
    head = f"({msg.name + ' ' if msg.name else ''}pid={msg.pid}, node={msg.node})"
    try:
        for line in msg.lines:
            stream.write(f"{head} {line}\n")
        stream.flush()
    except (OSError, ValueError):
        pass
