"""Follow the ranks of one attempt: take their events, keep the metrics, make the checkpoints, and tell them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from hpc.runs.callbacks import UserCallback
from hpc.runs.ranking import Stored
from hpc.runs.storage import RunStorage, Target, say
from hpc.train.config import TrainRunContext
from hpc.train.errors import ControllerError, WorkerGroupError
from hpc.train.events import Answered, Begun, Complete, Exchanged, Gone, Leaving, Order
from hpc.train.pilot import Pilot, Told
from hpc.train.rounds import PREEMPTION_INFO, Round, Rounds, Uneven
from hpc.train.telling import TrainTelling
from hpc.train.validating import Validator


class Follower:
    """What the driver does with the ranks' events."""

    def __init__(
        self,
        storage: RunStorage,
        context: TrainRunContext,
        watchers: Sequence[UserCallback],
        validator: Validator,
        telling: TrainTelling,
    ) -> None:
        self.storage = storage
        self.context = context
        self.watchers = watchers
        self.validator = validator
        self.telling = telling

    def follow(self, group: Any, pilot: Pilot) -> Any:
        """Until all ranks have returned; rank 0's return value.

        Raises WorkerGroupError when a rank fails, and ControllerError when a checkpoint cannot be stored. When the one
        that was asked for is stored, what `Pilot.completed` raises. PreemptionError when ranks are gone, and the others
        have returned or their time is over.
        """
        rounds = Rounds(len(group.actors), pilot.relaxed)
        self.telling.started(group, rounds)
        talk = Talk(group)
        targets: dict[int, tuple[Target | None, Told]] = {}
        while not rounds.is_over:
            talk.go_on(rounds)
            pilot.look()
            for rank, event in group.events(talk.pending, self.validator.refs, pilot.spared()):
                self.telling.event(rank, event)
                if isinstance(event, Leaving):
                    pilot.heard(rank, event)
                    continue
                if isinstance(event, Gone):
                    pilot.lost(rank)
                try:
                    met = rounds.take(rank, event)
                except Uneven as error:
                    raise _uneven(error) from None
                if isinstance(met, Round):
                    target, told = self._begin(met), pilot.met()
                    targets[met.number] = target, told
                    met.begun = True
                    if met.number not in self._complete(rounds, targets, talk, pilot):
                        path = target.path if target is not None else None
                        name = target.name if target is not None else self._name_of(met)
                        talk.tell_all(Begun(met.number, name, path, met.waits, told.must_save))
                        targets[met.number] = target, told._replace(gone_on=not (met.waits and met.parts))
                elif met:
                    answered_here = met[0].what == PREEMPTION_INFO
                    data = cloudpickle.dumps(pilot.info) if answered_here else met[0].data
                    talk.tell_all(Exchanged(met[0].number, data))
                else:
                    self._complete(rounds, targets, talk, pilot)
            self.validator.poll()
            for rank, asked in rounds.answerable(self.validator.is_busy):
                talk.tell(rank, Answered(asked.number, self.validator.reported()))
        pilot.finished()
        return rounds.returned[0].value

    def _begin(self, met: Round) -> Target | None:
        """All ranks are in a report: where its files go, if it has any."""
        names = {one.dir_name for one in met.reports.values() if one.way is not None}
        if len(names) > 1:
            raise ControllerError(ValueError(f"the ranks gave different values of checkpoint_dir_name: {names}"))
        target = None
        if any(one.way == "files" for one in met.reports.values()):
            target = _storing(lambda: self.storage.begin(names.pop()))
        return target

    def _name_of(self, met: Round) -> str | None:
        """The name that a function of the user's is told."""
        if not any(one.way == "function" for one in met.reports.values()):
            return None
        return next((one.dir_name for one in met.reports.values() if one.dir_name), None) or self.storage.next_name()

    def _complete(
        self, rounds: Rounds, targets: dict[int, tuple[Target | None, Told]], talk: Talk, pilot: Pilot
    ) -> set[int]:
        """Keep the reports that are complete, and tell the ranks of them; their numbers."""
        done = set()
        while (one := rounds.next_complete()) is not None:
            target, told = targets.pop(one.number)
            stored = self._keep(one, target)
            path = stored.checkpoint.path if stored is not None else None
            told = pilot.completed(told, path)
            talk.tell_all(Complete(one.number, path, told.must_save))
            done.add(one.number)
        return done

    def _keep(self, one: Round, target: Target | None) -> Stored | None:
        metrics = one.reports[0].metrics
        self.storage.history.append(metrics)
        stored = self._store(one, target, metrics)
        self.telling.reported(one, stored, len(self.storage.history))
        checkpoint = stored.checkpoint if stored is not None else None
        for watcher in self.watchers:
            watcher.after_report(self.context, [report.metrics for report in one.reports.values()], checkpoint)
        return stored

    def _store(self, one: Round, target: Target | None, metrics: dict[str, Any]) -> Stored | None:
        """Make the checkpoint of what the ranks have brought. None: there is none, or a rank could not bring it."""
        failed = {rank: brought.failure for rank, brought in one.brought.items() if brought.failure is not None}
        if failed:
            rank = min(failed)
            say(f"report number {one.number} has no checkpoint: rank {rank} could not store it: {failed[rank]}")
            if target is not None:
                self.storage.abandon(target)
            return None
        if not one.brought:
            return None
        validation = next((report.validation for report in one.reports.values() if report.validation is not None), None)
        reports = len(self.storage.history)
        paths = {brought.path for brought in one.brought.values() if brought.path is not None}
        if target is not None and not paths:
            entries = [one.brought[rank].entries for rank in sorted(one.brought)]
            stored: Stored = _storing(lambda: self.storage.commit(target, entries, metrics, reports, validation))
        elif target is None and len(paths) == 1:
            stored = _storing(lambda: self.storage.adopt(paths.pop(), metrics, reports, validation))
        else:
            places = ", ".join(sorted(paths)) or "the run's directory"
            raise ControllerError(ValueError(f"the ranks reported parts of a checkpoint in different places: {places}"))
        self.validator.add(stored)
        return stored


class Talk:
    """The calls to the ranks: each rank has one that waits for its next event, as long as there can be one."""

    def __init__(self, group: Any) -> None:
        self._actors = group.actors
        self._orders: dict[int, list[Order]] = {rank: [] for rank in range(len(group.actors))}
        self.pending: dict[Any, int] = {}

    def tell(self, rank: int, order: Order) -> None:
        """With the next call."""
        self._orders[rank].append(order)

    def tell_all(self, order: Order) -> None:
        """Tell every rank."""
        for orders in self._orders.values():
            orders.append(order)

    def go_on(self, rounds: Rounds) -> None:
        """Send what is to be told, and wait for events of the ranks that can have one."""
        waiting = set(self.pending.values())
        for rank, orders in self._orders.items():
            if rank in rounds.gone:
                pass
            elif rank in waiting:
                if orders:
                    self._actors[rank].tell.remote(orders)
            elif rounds.may_speak(rank):
                self.pending[self._actors[rank].next.remote(orders)] = rank
            else:
                continue
            self._orders[rank] = []


def _storing(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (OSError, ValueError) as error:
        raise ControllerError(OSError(f"the checkpoint cannot be stored: {error}")) from error


def _uneven(error: Uneven) -> WorkerGroupError:
    message = (
        f"{error}: report() and the calls of hpc.train.collective are barriers, which every rank must call equally "
        "often and in the same order"
    )
    return WorkerGroupError(message, {error.rank: RuntimeError(message)})
