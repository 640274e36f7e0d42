"""Objects that can never have a value, as far as their owner can tell: they come from a call that cannot run.

Which calls cannot run is the caller's to say (see `hpc.core.worker.deadlock`). A task or call one of whose arguments
may still come, or fail, is never counted: when in doubt an object may come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import CallRec


def never_come(machine: OwnerMachine, idents: Iterable[bytes], blocked: Callable[[CallRec], bool]) -> list[CallRec]:
    """For each of the objects that can never have a value: the call that cannot run and that it comes from. A chain of
    tasks that use each other's values may be as long as a program makes it, so there is no recursion here."""
    verdicts: dict[bytes, CallRec | None] = {}
    found: list[CallRec] = []
    for ident in idents:
        if machine.state.entries[ident].result is not None:
            continue
        maker = machine.streams.maker_of(ident)
        to_judge = [maker]
        while to_judge:
            task = to_judge[-1]
            rec = machine.state.unfinished(task)
            if task in verdicts or rec is None or rec.cancelled:
                verdicts.setdefault(task, None)
                to_judge.pop()
                continue
            refs = rec.msg.refs if rec.unresolved else ()
            missing = [arg for arg in refs if machine.state.entries[arg].result is None]
            makers = [machine.streams.maker_of(arg) for arg in missing]
            unknown = [one for one in makers if one not in verdicts]
            if unknown:
                to_judge += unknown
                continue
            if makers:  # one that can come can fail too, and the task with it
                verdict = verdicts[makers[0]] if all(verdicts[one] is not None for one in makers) else None
            else:
                verdict = rec if isinstance(rec, CallRec) and blocked(rec) else None
            verdicts[task] = verdict
            to_judge.pop()
        last = verdicts[maker]
        if last is not None:
            found.append(last)
    return found
