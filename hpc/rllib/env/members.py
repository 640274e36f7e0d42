"""The actors of a group of env runners: made, lost, and made anew, each time with the next seed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import hpc
from hpc.exceptions import ActorError, GetTimeoutError, HpcError, SessionLostError, TaskError
from hpc.rllib.env.remote_runner import MAIL, RemoteRunner
from hpc.rllib.flow.answers import Answers

_log = logging.getLogger(__name__)
#: A runner that dies again soon after its start waits this long before the next one, doubled each time.
FIRST_DELAY_S = 1.0
#: A runner that has lived this long was well.
WELL_S = 30.0
#: When no sample has ever come, this many exceptions of runners end the group.
MOST_AT_START = 3


@dataclass
class Member:
    """One remote runner. ``life`` counts its actors. ``serial`` and ``state``: the newest weights and state that it was
    given."""

    index: int
    actor: Any = None
    life: int = 0
    is_up: bool = False
    began: float = 0.0
    short_lives: int = 0
    restarts: int = 0
    next_start: float | None = None
    serial: int = 0
    state: int = 0
    has_worked: bool = False
    """Whether this actor has brought a sample"""
    has_mail: bool = False
    """Whether weights are on their way in the middle of a fragment"""


@dataclass(frozen=True)
class Policy:
    """What happens when a runner fails. ``most_restarts``: of each."""

    restarts: bool = True
    ignores: bool = False
    most_restarts: int = 1000
    most_delay_s: float = 60.0
    tolerance: int = 100
    most_start_s: float = 1800.0

    @classmethod
    def of(cls, config: Any) -> Policy:
        """The settings of an AlgorithmConfig."""
        return cls(
            config.restart_failed_env_runners,
            config.ignore_env_runner_failures,
            config.max_num_env_runner_restarts,
            config.delay_between_env_runner_restarts_s,
            config.num_consecutive_env_runner_failures_tolerance,
            config.env_runner_restore_timeout_s,
        )


class Members:
    """Remote runners with the indices 1 to n."""

    def __init__(
        self, cls: type, config: Any, options: Callable[[int], Mapping[str, Any]], policy: Policy, answers: Answers,
        threads: int,
    ) -> None:  # fmt: skip
        self._cls, self._config = cls, hpc.put(config)
        self._policy, self._answers, self._threads = policy, answers, threads
        self._options = options
        """Of the actor with this index"""
        self._made: Any = hpc.remote(concurrency_groups={MAIL: 1})(RemoteRunner)
        self.rows: dict[int, Member] = {}
        self.restarts = self.died = 0
        self.back: list[int] = []
        """Runners that have come back since somebody asked"""
        self._failures = 0
        self._has_sampled = False

    # -------------------------------------------------------------- who is there

    def __len__(self) -> int:
        return len(self.rows)

    def up(self) -> list[int]:
        """Indices of those that answer."""
        return [index for index, member in self.rows.items() if member.is_up]

    @property
    def any_coming(self) -> bool:
        """Whether one is being made, or will be."""
        return any(not member.is_up and (member.actor or member.next_start) for member in self.rows.values())

    def add(self, count: int) -> None:
        """Make so many more. They come up by `arrived`."""
        first = len(self.rows) + 1
        for index in range(first, first + count):
            self.rows[index] = Member(index)
        for index in range(first, first + count):
            self._start(self.rows[index])

    def begin_with(self, config: Any) -> None:
        """Runners that are made from now on have this configuration."""
        self._config = hpc.put(config)

    def _start(self, member: Member) -> None:
        member.began, member.next_start = time.monotonic(), None
        member.serial, member.state, member.has_mail, member.has_worked = 0, 0, False, False
        member.actor = self._made.options(**self._options(member.index)).remote(
            self._cls, self._config, member.index, len(self.rows), member.life, self._threads
        )
        self._answers.expect(("up", member.index, member.life), member.actor.__getattr__("__ray_ready__").remote())

    def is_of(self, index: int, life: int) -> bool:
        """Whether an answer comes from the actor that the runner has now."""
        member = self.rows.get(index)
        return member is not None and member.life == life and member.actor is not None

    # -------------------------------------------------------------- what becomes of them

    def arrived(self, index: int, life: int, ref: Any) -> bool:
        """The constructor has run, or raised. Whether the runner is up now.

        Raises what `failed` raises."""
        if not self.is_of(index, life):
            return False
        try:
            hpc.get(ref)
        except SessionLostError:
            raise
        except Exception as error:
            self.failed(index, life, error)
            return False
        member = self.rows[index]
        member.is_up = True
        if life:
            self.back.append(index)
        return True

    def worked(self, index: int, life: int) -> None:
        """A runner has brought a sample."""
        self._failures = 0
        self._has_sampled = True
        if self.is_of(index, life):
            self.rows[index].has_worked = True

    def failed(self, index: int, life: int, error: Exception) -> None:
        """A call to a runner has failed: its process has died, or its code has raised, so that its state may be bad.
        Of the calls to one actor the first that fails counts.

        Raises the runner's error unless failures are to be ignored, or mended by a new actor."""
        if isinstance(error, SessionLostError):
            raise error
        if not self.is_of(index, life):
            return
        member = self.rows[index]
        self._forget(member)
        self.died += 1
        # A node that dies takes hundreds of runners with it that were well: they are no row of failures.
        self._failures += not member.has_worked
        if not (self._policy.restarts or self._policy.ignores) or self._is_too_much(error):
            raise cause_of(error)
        _log.warning("env runner %d has failed: %s", index, _short(error))
        if self._policy.restarts and member.restarts < self._policy.most_restarts:
            self._restart(member)

    def _is_too_much(self, error: Exception) -> bool:
        raised = isinstance(error, TaskError) or (isinstance(error, ActorError) and error.actor_init_failed)
        at_start = not self._has_sampled and raised and self._failures >= MOST_AT_START
        return at_start or self._failures > self._policy.tolerance

    def _forget(self, member: Member) -> None:
        actor, member.actor, member.is_up = member.actor, None, False
        member.life += 1
        try:
            hpc.kill(actor)
        except (HpcError, OSError):
            pass

    def _restart(self, member: Member) -> None:
        lived = time.monotonic() - member.began
        member.short_lives = 0 if lived >= WELL_S else member.short_lives + 1
        self.restarts += 1
        member.restarts += 1
        if member.short_lives <= 1:
            self._start(member)
        else:
            wait = min(self._policy.most_delay_s, FIRST_DELAY_S * 2 ** (member.short_lives - 2))
            member.next_start = time.monotonic() + wait

    def look(self) -> None:
        """Make those whose time has come."""
        now = time.monotonic()
        for member in self.rows.values():
            if member.next_start is not None and member.next_start <= now:
                self._start(member)

    def late(self, now: float) -> list[tuple[int, Exception]]:
        """Runners that were made anew and have not come up in their time, each with an error that says so."""
        most = self._policy.most_start_s
        text = (
            f"it was made anew, and has not come up for {most:g} s: there is no room for it, or its environment takes "
            "longer to make: config.fault_tolerance(env_runner_restore_timeout_s=) is how long it may"
        )
        return [
            (member.index, GetTimeoutError(text))
            for member in self.rows.values()
            if member.life and member.actor is not None and not member.is_up and now - member.began >= most
        ]

    def end(self) -> None:
        """Close environments, and end all."""
        stops = [member.actor.stop.remote() for member in self.rows.values() if member.is_up]
        if stops:
            hpc.wait(stops, num_returns=len(stops), timeout=10.0)
        for member in self.rows.values():
            if member.actor is not None:
                self._forget(member)
        self.rows.clear()


def cause_of(error: Exception) -> Exception:
    """What a constructor has raised, where the actor died of that. Errors of methods have their cause's class."""
    cause = error.cause if isinstance(error, ActorError) else None
    return cause if isinstance(cause, Exception) else error


def _short(error: Exception) -> str:
    return str(error).replace("\n", " ")[-300:] or type(error).__name__
