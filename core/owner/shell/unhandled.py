"""Errors that nobody looked at: shown when their last reference goes.

The machine notes which results are errors that nobody has got (`OwnerState.unseen`) and hands over those that are let
go (`OwnerState.unhandled`). Here they become text, on the thread of the runtime that calls callbacks. A task that is
submitted a thousand times fails a thousand times alike: that is shown once, and then counted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hpc.core import variables
from hpc.core.failures import text_of
from hpc.core.owner.tables import Waiter

if TYPE_CHECKING:
    from hpc.core.owner.machine import OwnerMachine

#: At most this many different errors are told apart; later ones are all shown.
MAX_KNOWN = 1000


class Unhandled:
    """Shows the errors that a machine gives up unseen."""

    def __init__(self, machine: OwnerMachine) -> None:
        self._state = machine.state
        self._counts: dict[str, int] = {}
        machine.state.unhandled_waiter = None if variables.text(variables.UNHANDLED) else Waiter(0, self.show)

    def show(self) -> None:
        """Print those that have come; each text once, and how often at its tenth, hundredth ... time."""
        unhandled = self._state.unhandled
        while unhandled:
            name, text = text_of(unhandled.popleft())
            count = self._counts.get(text, 0) + 1
            if count > 1 or len(self._counts) < MAX_KNOWN:
                self._counts[text] = count
            if count == 1:
                said = f"hpc: nobody got this error ({variables.UNHANDLED.name}=1 hides such)"
                print(f"{said}:\n{text}", file=sys.stderr, flush=True)
            elif str(count).strip("0") == "1":
                print(f"hpc: nobody got {count} errors like that of {name}", file=sys.stderr, flush=True)
