"""A defect of the runtime itself: it is shown, and it ends the session of this process with the reason.

After an exception in the middle of a step the machine's tables may be wrong, and the answers that it should have given
never come. To go on would be to hang, or to lose values and actors without a word.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.core.owner.ports import Shell


def end_session(client: Shell, error: Exception) -> None:
    """Show the error and wake all threads that wait, with the reason; a worker ends. The client's lock is free."""
    if client.polling.closing:
        return  # the descriptors are being closed: what failed was about to end
    text = "".join(traceback.format_exception(error))
    why = f"the runtime has failed in process {client.addr}, {type(error).__name__}: {error}"
    print(f"hpc: {why}. This is a defect of hpc; the session ends here.\n{text}", file=sys.stderr, flush=True)
    if client.kind == "worker":
        os._exit(1)
    try:
        with client.lock:
            client.lose(why)
    except Exception:
        client.lost = client.lost or why
        client.polling.closing = True  # whoever waits looks at this too
    client.wake_done()
