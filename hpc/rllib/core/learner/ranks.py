"""Remote learners as one: updates in order, and a rank that dies costs its process alone.

The others go on as a smaller group at once: their states are made equal. Updates that no rank has done are done again
with the same data. A new actor takes the place of the dead one, gets the state of a rank that lives, and joins.
An update is done on all ranks or on none that lives, since each of its gradients takes all ranks.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hpc
from hpc import spi
from hpc.collective import CollectiveError
from hpc.exceptions import ActorError, HpcError, ObjectLostError, SessionLostError
from hpc.rllib.core.learner.remote_learner import RemoteLearner, Share
from hpc.rllib.flow.answers import Answers
from hpc.runs.reservation import Request, Reservation
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

_log = logging.getLogger(__name__)
#: Ranks that lost each other this often in one update, though none has died, will do so again.
MOST_ATTEMPTS = 3

#: Learners that have not begun after this time are told of, and then again.
SAID_S, SAID_AGAIN_S = 10.0, 60.0


@dataclass
class Rank:
    """One learner. ``index`` is that of its bundle, and stays. ``life`` counts its actors."""

    index: int
    actor: Any = None
    life: int = 0
    is_in: bool = False
    """Whether it is in the group that updates"""
    entering: Any = None
    """Reference to the call by which it takes the others' state; None once it is known to have that"""


@dataclass
class Pending:
    """An update that is under way. ``share``: makes its data for so many ranks."""

    number: int
    share: Callable[[int], list[Share]]
    kwargs: Callable[[int], dict[str, Any]]
    wants_weights: bool
    attempt: int = 0
    """How often it was sent: answers to an earlier attempt are none to this one"""
    calls: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """rank: references to the results and the weights"""
    answers: dict[int, Any] = field(default_factory=dict)
    """rank: its results, or the error"""


@dataclass(frozen=True)
class Done:
    """An update that all ranks have done: their results, and the reference to the weights of one of them."""

    number: int
    results: list[dict[str, Any]]
    weights: Any


class Ranks:
    """The actors of a learner group. Answers come under the keys ("learner", rank, attempt, number)."""

    def __init__(
        self, cls: type, config: Any, module_spec: Any, placement_group: Any, pg_offset: int, answers: Answers
    ) -> None:
        self._cls, self._config, self._spec = cls, hpc.put(config), hpc.put(module_spec)
        self.answers = answers
        count = config.num_learners
        cpus = config.num_cpus_per_learner
        self._cpus = float((0 if config.num_gpus_per_learner else 1) if cpus == "auto" else cpus)
        self._gpus = float(config.num_gpus_per_learner)
        self._custom = dict(config.custom_resources_per_learner or {})
        self._backend = "nccl" if self._gpus >= 1 else "shm"
        self._room, self._offset = placement_group, pg_offset
        self._reservation: Reservation | None = None
        each = {"CPU": self._cpus, "GPU": self._gpus, **self._custom}
        self._request = Request(count, {name: held for name, held in each.items() if held})
        if placement_group is None and count > 1:
            self._reservation = Reservation(self._request)
        variables = {key: str(value) for key, value in (config.extra_python_environs_for_worker or {}).items()}
        self._made: Any = hpc.remote(RemoteLearner)
        if variables:
            self._made = self._made.options(runtime_env={"env_vars": variables})
        self.rows = [Rank(index) for index in range(count)]
        self._pending: dict[int, Pending] = {}
        self._name, self._generation = uuid.uuid4().hex[:12], 0
        self._whole: Any = None
        """Reference to all weights, as they were set last from outside"""
        self._newest: dict[Any, Any] = {}
        """modules (None: all of them): reference to the newest weights that were given out, the latest one last"""
        self.died = 0
        try:
            for rank in self.rows:
                self._start(rank)
            self._await_all()
        except BaseException:
            self.end()
            raise
        for rank in self.rows:
            rank.is_in = True
        self._make_equal(self.rows[0])
        hpc.get(self._join())

    # -------------------------------------------------------------- actors

    def _options(self, index: int) -> dict[str, Any]:
        if self._reservation is not None:
            return self._reservation.options(index)
        options: dict[str, Any] = {"num_cpus": self._cpus, "num_gpus": self._gpus, "resources": self._custom}
        if self._room is not None:
            bundle = self._offset + index
            bundle = bundle if bundle < len(self._room.bundle_specs) else -1
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._room, bundle)
        return options

    def _start(self, rank: Rank) -> None:
        threads = max(1, int(self._cpus))
        made = self._made.options(**self._options(rank.index))
        rank.actor = made.remote(self._cls, self._config, self._spec, rank.index, threads)

    def _await_all(self) -> None:
        """Wait until all have begun. Say what they wait for where that takes long."""
        ready = [rank.actor.__getattr__("__ray_ready__").remote() for rank in self.rows]
        patience_s = SAID_S
        while waiting := hpc.wait(ready, num_returns=len(ready), timeout=patience_s)[1]:
            why = self._request.why_not(spi.rooms()) or "they start"
            _log.warning(
                "%d of %d learners have not begun: %s. Env runners have their room first; fewer of them, or "
                "num_learners=0 (the learner is in this process), leave more.",
                len(waiting),
                len(ready),
                why,
            )
            patience_s = SAID_AGAIN_S
        hpc.get(ready)

    @property
    def members(self) -> list[Rank]:
        """Ranks that update now."""
        return [rank for rank in self.rows if rank.is_in]

    def _join(self) -> list[Any]:
        """Make a new group of the members; one reference for each."""
        self._generation += 1
        name, members = f"rllib-{self._name}-{self._generation}", self.members
        return [rank.actor.join.remote(name, place, len(members), self._backend) for place, rank in enumerate(members)]

    def end(self) -> None:
        """End all learners, and give their room back."""
        for rank in self.rows:
            if rank.actor is not None:
                _kill(rank.actor)
                rank.actor, rank.is_in = None, False
        if self._reservation is not None:
            self._reservation.release()

    # -------------------------------------------------------------- updates

    def begin(
        self,
        number: int,
        share: Callable[[int], list[Share]],
        kwargs: Callable[[int], dict[str, Any]],
        wants_weights: bool,
    ) -> None:
        """Begin an update: with the data and the keywords for as many ranks as there are."""
        pending = self._pending[number] = Pending(number, share, kwargs, wants_weights)
        self._send(pending)

    def _send(self, pending: Pending) -> None:
        members = self.members
        pending.attempt += 1
        kwargs = pending.kwargs(len(members))
        pending.calls.clear()
        pending.answers.clear()
        for place, (rank, share) in enumerate(zip(members, pending.share(len(members)))):
            wants = pending.wants_weights and place == 0
            results, weights = rank.actor.update.remote(share.wire(), kwargs, wants)
            pending.calls[rank.index] = (results, weights)
            self.answers.expect(("learner", rank.index, pending.attempt, pending.number), results)

    @property
    def pending(self) -> int:
        """How many updates are under way."""
        return len(self._pending)

    @property
    def under_way(self) -> list[int]:
        """Their numbers."""
        return list(self._pending)

    def take(self, key: Hashable, ref: Any) -> list[Done]:
        """An answer of a rank has come: updates that are done with it, in their order.

        Raises what a learner raises; the death of one that is not the only one is mended."""
        assert isinstance(key, tuple)
        kind, index, turn, number = key
        if kind == "learner-up":
            self._came(self.rows[index], turn, ref)
            return []
        pending = self._pending.get(number)
        if pending is None or pending.attempt != turn:
            return []
        pending.answers[index] = _value_or_error(ref)
        if len(pending.answers) < len(pending.calls):
            return []
        failed = [answer for answer in pending.answers.values() if isinstance(answer, Exception)]
        if not failed:
            return [self._done(pending)]
        return self._mend()

    def _done(self, pending: Pending, without: Sequence[int] = ()) -> Done:
        del self._pending[pending.number]
        indices = [i for i in pending.calls if i not in without and _is_good(pending.answers[i])]
        weights = None
        if pending.wants_weights:
            first = next(iter(pending.calls))
            weights = pending.calls[first][1] if indices[0] == first else self._weights_now()
            self.note_weights(weights)
        return Done(pending.number, [pending.answers[index] for index in indices], weights)

    def _weights_now(self) -> Any:
        return self.call_first("get_weights", {"inference_only": True})

    # -------------------------------------------------------------- what a learner begins with where none is left

    def note_weights(self, weights: Any, modules: Sequence[str] | None = None) -> None:
        """These weights, a reference, are the newest ones: of these modules, or of all."""
        key = None if modules is None else tuple(modules)
        if key is None:
            self._newest.clear()
        self._newest.pop(key, None)
        self._newest[key] = weights

    def note_state(self) -> None:
        """The learners have got weights from outside: no older ones count."""
        self._whole = self.call_first("get_weights", {})
        self._newest.clear()

    # -------------------------------------------------------------- deaths

    def _mend(self) -> list[Done]:
        """A rank has died, or raised. Wait for the others, go on without it, and do what was not done again."""
        for pending in self._pending.values():
            for index, (results, _) in pending.calls.items():
                if index not in pending.answers:
                    pending.answers[index] = _value_or_error(results)
        dead = self._dead()
        raised = self._raised(bool(dead))
        for index in dead:
            self._lose(self.rows[index])
        done = [
            self._done(pending, without=dead)
            for pending in list(self._pending.values())
            if any(_is_good(answer) for index, answer in pending.answers.items() if index not in dead)
        ]
        self._regroup()
        if raised is not None:
            self._pending.clear()
            raise raised
        for pending in self._pending.values():
            self._send(pending)
        return done

    def _dead(self) -> list[int]:
        """Ranks whose process has ended. One may have answered all that it was asked for before."""
        calls = {rank.index: rank.actor.call.remote(_nothing, {}) for rank in self.members}
        return [index for index, ref in calls.items() if isinstance(_value_or_error(ref), ActorError)]

    def _raised(self, is_death: bool) -> Exception | None:
        """What users' code has raised; or the error of ranks that lost each other again and again, though none has
        died."""
        answers = [answer for pending in self._pending.values() for answer in pending.answers.values()]
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        own = [error for error in errors if not isinstance(error, (ActorError, CollectiveError))]
        if own or is_death:
            return own[0] if own else None
        tried = max(pending.attempt for pending in self._pending.values())
        return errors[0] if tried >= MOST_ATTEMPTS else None

    def _lose(self, rank: Rank) -> None:
        _log.warning("learner %d of %d has died: the others go on, and a new one is made", rank.index, len(self.rows))
        self.died += 1
        _kill(rank.actor)
        rank.is_in, rank.entering = False, None
        rank.life += 1
        self._start(rank)
        ready = rank.actor.__getattr__("__ray_ready__").remote()
        self.answers.expect(("learner-up", rank.index, rank.life, 0), ready)

    def _regroup(self) -> None:
        """The ranks that live become a group, with equal states. One that dies meanwhile is left out, too."""
        for left in reversed(range(len(self.rows))):
            try:
                self._make_equal(self._source())
                hpc.get(self._join())
                return
            except (ActorError, CollectiveError):
                if not left:
                    raise
                for index in self._dead():
                    self._lose(self.rows[index])

    def _source(self) -> Rank:
        """A member that has the group's state. Where none has it, a new one gets the newest weights that were given
        out. The state of its optimizers is lost then, and what acting does not need is as it was set last."""
        for rank in self.members:
            if rank.entering is None or _is_good(_value_or_error(rank.entering)):
                return rank
        first = (self.members or self.rows)[0]
        _log.warning("no learner is left: the new one begins with the newest weights, and new optimizers")
        hpc.get(first.actor.__getattr__("__ray_ready__").remote())
        first.is_in = True
        try:
            for weights in (self._whole, *self._newest.values()):
                if weights is not None:
                    hpc.get(first.actor.call.remote(_set_weights, {"weights": [weights]}))
            hpc.get(first.actor.call.remote(_have_targets_follow, {}))
        except ObjectLostError as error:
            raise RuntimeError(
                "no learner is left, and the newest weights were lost with their node: restore from a checkpoint"
            ) from error
        return first

    def _make_equal(self, source: Rank) -> None:
        """Give the state of this member to the others."""
        source.entering = None
        others = [rank for rank in self.members if rank is not source]
        if others:
            state = source.actor.call.remote("get_state", {})
            hpc.get([rank.actor.take_state.remote([state]) for rank in others])
        for rank in others:
            rank.entering = None

    def _came(self, rank: Rank, life: int, ref: Any) -> None:
        """A new learner is there: it gets the state of another one. All of them become a group, after what they
        have been asked for by now.

        Raises what its constructor raises."""
        if rank.life != life or rank.is_in:
            return
        try:
            hpc.get(ref)
        except SessionLostError:
            raise
        except ActorError as error:
            if error.actor_init_failed:
                raise error.cause or error
            self._lose(rank)
            return
        rank.entering = rank.actor.take_state.remote([self.call_first("get_state", {})])
        rank.is_in = True
        self._join()

    # -------------------------------------------------------------- calls

    def call(self, function: Any, kwargs: Mapping[str, Any], timeout_s: float | None = None) -> list[Any]:
        """A function, or the method of that name, on each learner that is there."""
        refs = [rank.actor.call.remote(function, dict(kwargs)) for rank in self.members]
        if timeout_s is not None:
            refs = hpc.wait(refs, num_returns=len(refs), timeout=timeout_s)[0]
        found: list[Any] = hpc.get(refs)
        return found

    def call_first(self, function: Any, kwargs: Mapping[str, Any]) -> Any:
        """The reference to what the first learner returns that is known to have the group's state."""
        first = next((rank for rank in self.members if rank.entering is None), self.members[0])
        return first.actor.call.remote(function, dict(kwargs))

    def begin_with(self, config: Any, module_spec: Any) -> None:
        """Learners that are made from now on have this configuration and these modules."""
        self._config, self._spec = hpc.put(config), hpc.put(module_spec)


def _set_weights(learner: Any, weights: Sequence[Any]) -> None:
    learner.set_weights(hpc.get(weights[0]))


def _have_targets_follow(learner: Any) -> None:
    """Target networks are no part of what acts: without this they would be as they were at the very beginning."""
    from hpc.rllib.core.learner.utils import update_target_network
    from hpc.rllib.core.rl_module.apis import TargetNetworkAPI

    for module in learner.module.values():
        inner = module.unwrapped()
        if isinstance(inner, TargetNetworkAPI):
            for main, target in inner.get_target_network_pairs():
                update_target_network(main_net=main, target_net=target, tau=1.0)


def _nothing(learner: Any) -> None:
    """A call that shows that a process is alive."""


def _is_good(answer: Any) -> bool:
    return not isinstance(answer, Exception)


def _value_or_error(ref: Any) -> Any:
    try:
        return hpc.get(ref)
    except SessionLostError:
        raise
    except Exception as error:
        return error


def _kill(actor: Any) -> None:
    try:
        hpc.kill(actor)
    except (HpcError, OSError):
        pass


def is_of_learners(key: Hashable) -> bool:
    """Whether an answer under this key is for `Ranks.take`."""
    return isinstance(key, tuple) and key[0] in ("learner", "learner-up")
