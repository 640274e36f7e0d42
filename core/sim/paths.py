"""Which of the paths that few programs lead to a seed has taken: what never happens is not checked.

Paths are seen in the messages that a process is about to take, or told by its simulated shell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hpc.core.ids import Address
from hpc.core.owner.pins import Pins
from hpc.core.sim.processes import Process
from hpc.core.wire import AskSealed, CallsDone, Fetched, FetchedAll, LeaseLost, PleaseUnpin, Skip

SECOND_PIN = "a second pin of an object"
ASKED, ASKED_IN_VAIN = "asked for pins", "asked for pins while all have views"
BEFORE_WAIT, WHILE_WAITING = "given back before a wait", "given back as it came, during a wait"
BEHIND_LONG, LOST_BEHIND = "given back behind a long task", "lost with its worker before it began"
CANCELLED_QUEUED, CANCELLED_RUNNING = "cancelled before it began", "cancelled while it ran"
LOST_UNTOLD = "lost with its worker after a value was written, and before it was told"
LOST_UNSENT = "lost with its worker, and outcomes that waited to be sent"
SKIPPED = "a call that will never come"
MANY_VALUES, FULL_BATCH = "values of a run told together", "a full batch of outcomes"
ACK_AWAITED, END_AWAITS_ACK = "an outcome that waits for acknowledgements", "an end that waits for acknowledgements"
NEEDED = "not wanted any more, and needed"
IN_SPAN, SEAL_AWAITED = "a value in the span of its worker", "asked what is sealed, for an object that is missing"
EXITED, RECALLED = "an actor that ends itself", "an actor that looks at what it keeps"
PATHS = (
    SECOND_PIN, ASKED, ASKED_IN_VAIN, BEFORE_WAIT, WHILE_WAITING, BEHIND_LONG, LOST_BEHIND, LOST_UNTOLD, LOST_UNSENT,
    CANCELLED_QUEUED, CANCELLED_RUNNING, SKIPPED, MANY_VALUES, FULL_BATCH, ACK_AWAITED, END_AWAITS_ACK, NEEDED, EXITED,
    RECALLED, IN_SPAN, SEAL_AWAITED,
)  # fmt: skip


def watch(process: Process, paths: Counter[str]) -> None:
    """Count the paths that a process takes because of what it is told."""
    pins = process.machine.pins

    def before(kind: type, see: Callable[[Any], str]) -> None:
        handler = process.machine.handlers.get(kind)
        if handler is None:
            return

        def handle(src: Address, msg: Any) -> None:
            if path := see(msg):
                paths[path] += 1
            handler(src, msg)

        process.machine.handlers[kind] = handle

    before(Fetched, lambda m: SECOND_PIN if m.offset >= 0 and m.ident in pins.held else "")
    before(FetchedAll, lambda m: SECOND_PIN if any(ident in pins.held for ident in m.idents) else "")
    before(PleaseUnpin, lambda m: _asked(pins))
    before(AskSealed, lambda m: SEAL_AWAITED)
    before(LeaseLost, lambda m: LOST_BEHIND if _is_behind(process, m) else "")
    before(CallsDone, lambda m: MANY_VALUES if len(m.results) > 1 else "")
    before(Skip, lambda m: SKIPPED)


def _asked(pins: Pins) -> str:
    return ASKED_IN_VAIN if pins.held and all(pin.views for pin in pins.held.values()) else ASKED


def _is_behind(process: Process, msg: LeaseLost) -> bool:
    lease = process.machine.state.leases.get(msg.lease)
    return lease is not None and bool(msg.task) and any(task != msg.task for task in lease.inflight)
