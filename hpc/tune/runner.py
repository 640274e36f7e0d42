"""Runs an experiment: does what its engine commands, by the actors of its trials, and tells the engine what happens."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pickle import PicklingError
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import ActorError
from hpc.runs.checkpoint import Checkpoint, named
from hpc.tune import events as ev
from hpc.tune import records
from hpc.tune.context import NAMESPACE
from hpc.tune.engine import Engine
from hpc.tune.ledger import Ledger
from hpc.tune.rendezvous import Ended, Report
from hpc.tune.searching import Searching
from hpc.tune.seats import Answer, Seats
from hpc.tune.storing import delete_checkpoint, index_of
from hpc.tune.trial import Trial
from hpc.tune.walltime import Walltime
from hpc.tune.worker import Begun, Experiment, Happening, Work

#: A turn of the loop lasts so long where nothing happens.
TURN_S = 0.5
#: Of a result that a checkpoint came with, a trial that goes on from it needs these.
RESTORED_KEYS = ("training_iteration", "time_total_s", "timesteps_total", "episodes_total")


class Runner:
    """One run of an experiment.

    on_note, on_turn: tell callbacks, and do what is due at the end of each turn. on_decision: hears of the facts that
    change the course of a trial.
    """

    def __init__(
        self,
        engine: Engine,
        seats: Seats,
        experiment: Experiment,
        searching: Searching,
        walltime: Walltime,
        ledger: Ledger,
        on_note: Callable[[ev.Note], None],
        on_turn: Callable[[], None],
        on_decision: Callable[[records.AnyRecord], None] = lambda record: None,
    ) -> None:
        self._engine = engine
        self._seats = seats
        self._experiment = experiment
        self._searching = searching
        self._walltime = walltime
        self._ledger = ledger
        self._on_note = on_note
        self._on_turn = on_turn
        self._on_decision = on_decision
        self._seat_of: dict[str, int] = {}
        self._trial_in: dict[int, str] = {}
        #: Of trials that ran ahead: what the engine does not know yet.
        self._found: dict[str, deque[Report | Ended]] = {}
        self._goes_on: list[str] = []
        self._stopping: set[str] = set()
        self._events: list[ev.Event] = []
        self._commands: deque[ev.Command] = deque()  # what the engine said, and is not done yet
        self._next_index: dict[str, int] = {}
        self._restored: dict[str, dict[str, Any]] = {}
        self._began_s: dict[str, float] = {}  # steps and saves under way
        self._addresses: dict[str, str] = {}
        self._doomed: deque[tuple[int, Checkpoint]] = deque()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="tune-delete")
        self._end: ev.End | None = None
        self._began = False

    def adopt(self, trials: Sequence[Trial]) -> None:
        """The experiment goes on: what these trials have stored before."""
        for trial in trials:
            for checkpoint, metrics in [*trial.checkpoints, *([(trial.checkpoint, {})] if trial.checkpoint else [])]:
                self._restored.setdefault(checkpoint.path, _kept(metrics))
                after = index_of(checkpoint.path) + 1
                self._next_index[trial.trial_id] = max(self._next_index.get(trial.trial_id, 0), after)

    def run(self) -> ev.End:
        """Until the engine says that the experiment has ended."""
        try:
            with self._walltime.signals():
                while self._end is None:
                    self._turn()
            self._seats.close()
        except BaseException:
            self._record_the_rest()
            self._seats.kill()
            raise
        finally:
            self._searching.close()
            self._ledger.close()
            self._delete_doomed()
            self._threads.shutdown(wait=True)
        assert self._end is not None
        return self._end

    def _turn(self) -> None:
        """Wait for what happens, and have the engine decide until nothing is left to be told."""
        for answer in self._seats.wait(TURN_S if self._began else 0.0, self._searching.waited_for()):
            self._take(answer)
        self._began = True
        self._events.extend(self._searching.answers())
        winds = self._walltime.look()
        if winds is not None:
            self._wind_down(winds)
        self._step()
        while self._end is None and (self._events or self._goes_on):
            self._go_on()
            if self._events:
                self._step()
        self._ledger.turn()
        self._delete_doomed()
        self._on_turn()

    def _step(self) -> None:
        events, self._events = self._events, []
        self._commands.extend(self._engine.step(events, time.time()))
        while self._commands:
            command = self._commands.popleft()
            self._HOW[type(command)](self, command)

    def _record_the_rest(self) -> None:
        """An error ends the driver, of a callback or a scheduler perhaps: what trials have told is a fact all the same.

        The states are not kept: they have not seen all of it, and are told by the next driver.
        """
        with contextlib.suppress(Exception):  # the error that ends the driver says what is wrong
            for command in self._commands:
                if isinstance(command, ev.Write):
                    self._ledger.write(command.record)
            for trial_id, found in self._found.items():
                self._events.extend(self._event(trial_id, one) for one in found)
            for record in self._engine.last_facts(self._events):
                self._ledger.write(record)
        with contextlib.suppress(Exception):
            self._ledger.close(keep=False)

    def _wind_down(self, winds: ev.WindDown) -> None:
        self._events.append(winds)
        self._seats.hurry(max(0.0, winds.until - time.time()))
        if self._experiment.ends:
            spi.kv_put(NAMESPACE, self._experiment.ends, b"1")

    # -------------------------------------------------------------- what the actors say

    def _take(self, answer: Answer) -> None:
        seat, kind = answer.seat, answer.kind
        if kind == "reserve":
            if answer.error is not None:
                self._tell(ev.ReservationLost(seat, str(answer.error), preempted=False))
            else:
                self._tell(ev.Reserved(seat))
            return
        trial_id = self._trial_in.get(seat)
        if trial_id is None:
            return
        if kind == "stop":
            self._forget(seat, trial_id)
            self._tell(ev.Stopped(trial_id))
        elif answer.error is not None:
            self._failed(trial_id, answer)
        elif kind == "save":
            self._saved(trial_id, answer.value)
        else:
            self._happened(trial_id, answer.value)

    def _failed(self, trial_id: str, answer: Answer) -> None:
        error = answer.error
        assert error is not None
        self._found.pop(trial_id, None)
        if answer.kind == "save" and not isinstance(error, ActorError):
            self._tell(ev.SaveFailed(trial_id, error))
        else:
            self._tell(ev.Failed(trial_id, error, answer.preempted))

    def _saved(self, trial_id: str, name: str | None) -> None:
        self._walltime.save_took(time.monotonic() - self._began_s.get(trial_id, time.monotonic()))
        trial = self._engine.cohort.all.get(trial_id)
        metrics = trial.last_result if trial is not None else {}
        self._tell(ev.Saved(trial_id, self._checkpoint(trial_id, name, metrics) if name is not None else None))

    def _happened(self, trial_id: str, happenings: Sequence[Happening]) -> None:
        began = self._began_s.get(trial_id)
        if began is not None and len(happenings) == 1:
            self._walltime.step_took(time.monotonic() - began)
        found = self._found.setdefault(trial_id, deque())
        for one in happenings:
            if isinstance(one, Begun):
                self._tell(ev.Started(trial_id, one.pid, one.host, self._address(one.node)))
            else:
                found.append(one)
        self._goes_on.append(trial_id)

    def _go_on(self) -> None:
        """Tell the engine what it does not know yet of trials that may go on; those of which it knows all go on."""
        going, self._goes_on = self._goes_on, []
        for trial_id in going:
            seat = self._seat_of.get(trial_id)
            if seat is None or trial_id in self._stopping:
                continue
            found = self._found.get(trial_id)
            if not found:
                self._began_s[trial_id] = time.monotonic()
                self._seats.go_on(seat)
                continue
            self._tell(self._event(trial_id, found.popleft()))

    def _event(self, trial_id: str, one: Report | Ended) -> ev.Event:
        if isinstance(one, Ended):
            return ev.Returned(trial_id)
        metrics = one.metrics
        metrics["node_ip"] = self._address_of(trial_id)
        kept = self._checkpoint(trial_id, one.checkpoint, metrics) if one.checkpoint is not None else None
        return ev.Reported(trial_id, metrics, kept)

    def _checkpoint(self, trial_id: str, name: str, metrics: dict[str, Any]) -> Checkpoint:
        trial = self._engine.cohort.all.get(trial_id)
        assert trial is not None and trial.path is not None
        told = self._experiment
        checkpoint = named(f"{trial.path}/{name}", told.filesystem, told.token)
        self._restored[checkpoint.path] = _kept(metrics)
        self._next_index[trial_id] = index_of(name) + 1
        return checkpoint

    def _address_of(self, trial_id: str) -> str | None:
        trial = self._engine.cohort.all.get(trial_id)
        return trial.node_ip if trial is not None else None

    def _address(self, node: str) -> str | None:
        if node not in self._addresses:
            self._addresses = {row["NodeID"]: row["NodeManagerAddress"] for row in hpc.nodes()}
        return self._addresses.get(node)

    # -------------------------------------------------------------- what the engine commands

    def _tell(self, event: ev.Event) -> None:
        self._events.append(event)

    def _do_continue(self, command: ev.Continue) -> None:
        self._goes_on.append(command.trial_id)

    def _do_write(self, command: ev.Write) -> None:
        record = command.record
        kind = type(record)
        if kind is records.Cloned or (kind is records.Result and record.decision != "CONTINUE"):
            self._on_decision(record)
        self._ledger.write(command.record)

    def _do_note(self, command: ev.Note) -> None:
        self._on_note(command)

    def _do_ask(self, command: ev.Ask) -> None:
        self._searching.ask(command.count)
        self._events.extend(self._searching.answers())

    def _do_reserve(self, command: ev.Reserve) -> None:
        shape: Any = command.shape
        why = self._seats.why_never(shape)
        if why:
            self._tell(ev.Unschedulable(shape, f"no node will ever have room for a trial with {shape}: {why}"))
        else:
            self._seats.reserve(command.reservation, shape)

    def _do_release(self, command: ev.Release) -> None:
        self._seats.release(command.reservation)
        trial_id = self._trial_in.get(command.reservation)
        if trial_id is not None:
            self._forget(command.reservation, trial_id)

    def _do_start(self, command: ev.Start) -> None:
        trial_id, checkpoint = command.trial_id, command.checkpoint
        trial = self._engine.cohort.all.get(trial_id)
        assert trial is not None and trial.path is not None
        directory = trial.path.rpartition("/")[2]
        self._seat_of[trial_id], self._trial_in[command.reservation] = command.reservation, trial_id
        self._found.pop(trial_id, None)
        shape: Any = trial.placement_group_factory
        work = Work(
            trial_id,
            str(trial),
            directory,
            command.config,
            shape,
            checkpoint.path if checkpoint is not None else None,
            self._restored.get(checkpoint.path, {}) if checkpoint is not None else {},
            self._next_index.get(trial_id, 0),
        )
        try:
            self._seats.start(command.reservation, work)
        except (TypeError, ValueError, AttributeError, RecursionError, PicklingError) as error:
            raise TypeError(
                f"the configuration of trial {trial} cannot be sent to it: {error}. Make such objects in the trainable"
            ) from error

    def _do_save(self, command: ev.Save) -> None:
        self._began_s[command.trial_id] = time.monotonic()
        self._seats.save(self._seat_of[command.trial_id])

    def _do_stop(self, command: ev.Stop) -> None:
        self._found.pop(command.trial_id, None)
        self._stopping.add(command.trial_id)
        self._seats.stop(self._seat_of[command.trial_id])

    def _do_warn(self, command: ev.Warn) -> None:
        """Trials ask for the experiment's key by themselves, which is set when it winds down."""

    def _do_delete(self, command: ev.Delete) -> None:
        self._doomed.append((self._ledger.position, command.checkpoint))

    def _do_end(self, command: ev.End) -> None:
        self._end = command

    def _forget(self, seat: int, trial_id: str) -> None:
        self._trial_in.pop(seat, None)
        self._seat_of.pop(trial_id, None)
        self._found.pop(trial_id, None)
        self._began_s.pop(trial_id, None)
        self._stopping.discard(trial_id)

    def _delete_doomed(self) -> None:
        """Delete checkpoints, beside all else, once it is on disk that they are not kept."""
        while self._doomed and self._ledger.is_kept(self._doomed[0][0]):
            checkpoint = self._doomed.popleft()[1]
            self._restored.pop(checkpoint.path, None)
            self._threads.submit(delete_checkpoint, checkpoint)

    _HOW: dict[type[Any], Callable[[Any, Any], None]] = {
        ev.Ask: _do_ask,
        ev.Reserve: _do_reserve,
        ev.Release: _do_release,
        ev.Start: _do_start,
        ev.Continue: _do_continue,
        ev.Save: _do_save,
        ev.Stop: _do_stop,
        ev.Warn: _do_warn,
        ev.Delete: _do_delete,
        ev.Note: _do_note,
        ev.Write: _do_write,
        ev.End: _do_end,
    }


def _kept(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in RESTORED_KEYS if key in metrics}
