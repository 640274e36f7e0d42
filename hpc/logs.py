"""What workers print, on the driver's terminal: each line with the process and node that it came from."""

from __future__ import annotations

import sys
from typing import Any

from hpc.core.ids import Address
from hpc.core.wire import LogLines, Message


def show_log_lines(src: Address, msg: Message, via: Any) -> None:
    """Print the lines of a LogLines message; other messages are none of ours."""
    if not isinstance(msg, LogLines):
        return
    stream = sys.stderr if msg.is_err else sys.stdout
    head = f"({msg.name + ' ' if msg.name else ''}pid={msg.pid}, node={msg.node})"
    try:
        for line in msg.lines:
            stream.write(f"{head} {line}\n")
        stream.flush()
    except (OSError, ValueError):
        pass
