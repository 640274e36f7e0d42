"""The actor that holds an env runner: it samples when asked, and takes weights before a fragment or in its middle."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hpc
from hpc.rllib.env.fragment import Fragment, Sample

#: The group of threads of an actor that takes weights while it samples.
MAIL = "mail"


@dataclass(frozen=True)
class Fresh:
    """What a runner is to have before it does what it is asked: weights, and state (counts, connectors).

    ``serial`` counts the weights that were given out. ``version`` is the learners' count of updates, which is smaller
    after a checkpoint was restored."""

    serial: int = 0
    version: int = 0
    weights: tuple[Any, ...] = ()
    """References to dicts by module; the later ones hold where they have the same modules."""
    state: Mapping[str, Any] | None = None

    def wire(self) -> tuple[Any, ...]:
        """The same of plain types: an instance of a class of ours takes 60 us more to pickle."""
        return self.serial, self.version, list(self.weights), self.state


def take_sample(
    runner: Any,
    *,
    rows: int | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    explore: bool | None = None,
    random_actions: bool = False,
    force_reset: bool = False,
) -> Sample:
    """A sample of a runner. Users' classes that have `sample` only are asked for episodes, which become a fragment."""
    kwargs: dict[str, Any] = {"explore": explore, "random_actions": random_actions}
    if force_reset:
        kwargs["force_reset"] = True
    if hasattr(runner, "sample_fragment"):
        taken: Sample = runner.sample_fragment(rows=rows, episodes=episodes, steps=steps, **kwargs)
        return taken
    if rows is not None:
        steps = rows * getattr(runner, "num_envs", 1)
    found = runner.sample(num_timesteps=steps, num_episodes=episodes, **kwargs)
    return sample_of_episodes(found, runner)


def sample_of_episodes(episodes: list[Any], runner: Any) -> Sample:
    """A sample of episodes that a user's runner has returned."""
    by_module: dict[str, list[Any]] = {}
    for episode in episodes:
        by_module.setdefault(getattr(episode, "module_id", None) or "default_policy", []).append(episode)
    modules = {name: Fragment.of_episodes(some) for name, some in by_module.items() if any(len(one) for one in some)}
    steps = {name: fragment.valid_steps for name, fragment in modules.items()}
    metrics = runner.get_metrics() if hasattr(runner, "get_metrics") else {}
    return Sample(
        modules, sum(steps.values()), runner=getattr(runner, "worker_index", 0), module_steps=steps, metrics=metrics
    )


def by_module(weights: Sequence[Any]) -> dict[str, Any]:
    """What references lead to as one dict by module."""
    return {module_id: one for part in hpc.get(list(weights)) for module_id, one in part.items()}


class RemoteRunner:
    """An env runner in a process of its own."""

    def __init__(self, cls: type, config: Any, index: int, count: int, restarts: int, threads: int) -> None:
        overrides = getattr(config, "env_runner_overrides", None)
        if overrides is not None:
            config = overrides(index, count)
        self._mail: tuple[int, int, Any] | None = None
        self._mail_lock = threading.Lock()
        self._serial = -1
        self._rows = 0
        self._threads = threads
        self._limit_threads()
        self.runner = cls(config=config, worker_index=index, num_workers=count, restarts=restarts)
        self.runner.between_rows = self._between_rows
        prepare = getattr(config, "prepare_env_runner", None)
        if prepare is not None:
            prepare(self.runner)
        self._limit_threads()

    def _limit_threads(self) -> None:
        """torch takes all processors of the node otherwise, in each of its runners."""
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(self._threads)

    def call(self, fresh: tuple[Any, ...] | None, function: Callable[..., Any] | str, kwargs: Mapping[str, Any]) -> Any:
        """A function with the runner, or the runner's method of that name."""
        self._refresh(fresh)
        if isinstance(function, str):
            found = getattr(self.runner, function)
            return found(**kwargs) if callable(found) else found
        return function(self.runner, **kwargs)

    @hpc.method(num_returns=2)
    def sample(self, fresh: tuple[Any, ...] | None, kwargs: Mapping[str, Any]) -> tuple[Sample, Sample]:
        """A sample without its fragments, which is small and goes to the coordinator. And one that has them and
        nothing for results, which goes to learners and shards."""
        self._refresh(fresh)
        self._take_mail()
        taken = take_sample(self.runner, **kwargs)
        rows = max((fragment.rows for fragment in taken.modules.values()), default=0)
        return replace(taken, modules={}, rows=rows), replace(
            taken, rows=rows, episodes=[], metrics={}, timers={}, faults={}
        )

    @hpc.method(concurrency_group=MAIL)
    def post(self, serial: int, version: int, weights: list[Any]) -> None:
        """New weights, which the runner takes between two rows."""
        value = by_module(weights)
        with self._mail_lock:
            if self._mail is None or self._mail[0] < serial:
                self._mail = (serial, version, value)

    @hpc.method(concurrency_group=MAIL)
    def rows(self) -> int:
        """How many rows it has begun, also while it is at one."""
        return self._rows

    def stop(self) -> None:
        """Close the environments."""
        self.runner.stop()

    def _between_rows(self) -> None:
        self._rows += 1
        if self._mail is not None:
            self._take_mail()

    def _take_mail(self) -> None:
        if self._mail is None:
            return
        with self._mail_lock:
            mail, self._mail = self._mail, None
        if mail is not None:
            self._set_weights(*mail)

    def _refresh(self, fresh: tuple[Any, ...] | None) -> None:
        if fresh is None:
            return
        serial, version, weights, state = fresh
        if weights:
            self._set_weights(serial, version, by_module(weights))
        if state is not None:
            self.runner.set_state(
                {name: hpc.get(part) if isinstance(part, hpc.ObjectRef) else part for name, part in state.items()}
            )

    def _set_weights(self, serial: int, version: int, weights: Any) -> None:
        if serial > self._serial:
            self._serial = serial
            self.runner.set_weights(version, weights)
