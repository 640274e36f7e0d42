"""A group of env runners: none, or many actors beside a local one, that lose members and get them back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import hpc
from hpc.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR
from hpc.rllib.env.collecting import Collector, count_steps
from hpc.rllib.env.connector_states import Pipelines, has_content, merge
from hpc.rllib.env.remote_runner import by_module, take_sample
from hpc.rllib.env.remote_runners import LOOK_S, RemoteRunners, nth
from hpc.rllib.env.vector.registration import creator_of
from hpc.rllib.flow.machine import Tally
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

if TYPE_CHECKING:
    from hpc.rllib.env.fragment import Sample

T = TypeVar("T")
CONNECTORS = (COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR)
STEPS_LIFETIME = "num_env_steps_sampled_lifetime"


class EnvRunnerGroup:
    """Env runners of an algorithm: a local one, and ``config.num_env_runners`` actors with the ids 1 to n.

    With ``num_env_runners=0`` there is the local runner only, and no session is needed. Beside remote runners the local
    one is made when somebody asks for it.
    """

    def __init__(
        self,
        *,
        config: Any,
        local_env_runner: bool = True,
        num_env_runners: int | None = None,
        placement_group: Any = None,
        pg_offset: int = 0,
        **unused: Any,
    ) -> None:
        self.config = config
        count = config.num_env_runners if num_env_runners is None else num_env_runners
        self.env_runner_cls = config.env_runner_cls or _default_class(config)
        self._local: Any = None
        self._may_be_local = local_env_runner or count == 0
        self._kept_pipelines: Pipelines | None = None
        self._version = 0
        """Of the local runner's weights, where there is no other"""
        self.is_streaming = False
        """Whether a driver of a flow takes the events of remote runners"""
        self.stream_tally: Tally | None = None
        self.remote: RemoteRunners | None = None
        self.collector: Collector | None = None
        if count:
            self._begin(count, placement_group, pg_offset)
        else:
            self._local = self._make_local(0)

    # -------------------------------------------------------------- making

    def _begin(self, count: int, placement_group: Any, pg_offset: int) -> None:
        config = self.config
        cpus = float(config.num_cpus_per_env_runner)
        held: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": config.num_gpus_per_env_runner,
            "resources": dict(config.custom_resources_per_env_runner or {}),
            **environment_of_actors(config),
        }

        def options(index: int) -> dict[str, Any]:
            if placement_group is None:
                return held
            bundle = pg_offset + index - 1
            if bundle >= len(placement_group.bundle_specs):
                bundle = -1
            return {**held, "scheduling_strategy": PlacementGroupSchedulingStrategy(placement_group, bundle)}

        self.remote = RemoteRunners(self.env_runner_cls, _for_actors(config), options, max(1, int(cpus)))
        self.collector = Collector(config, self.remote)
        try:
            self.add_workers(count, validate=config.validate_env_runners_after_construction)
        except BaseException:
            self.remote.members.end()
            raise

    def add_workers(self, num_workers: int, validate: bool = False) -> None:
        """Add remote runners. With ``validate`` wait until they are there.

        Raises ValueError if the group has the local one only. Raises what their constructors raise, if failures are
        neither mended nor ignored, or the first ones fail alike."""
        if self.remote is None:
            raise ValueError(
                "the group has a local env runner only, to which none can be added: set num_env_runners=1 or more"
            )
        self.remote.add(num_workers, validate)

    def _make_local(self, count: int) -> Any:
        # Beside remote runners it has no environment, so their spaces are its own.
        spaces = self._remote_spaces() if count else None
        return self.env_runner_cls(config=self.config, worker_index=0, num_workers=count, spaces=spaces)

    @property
    def local_env_runner(self) -> Any:
        """The local runner; beside remote ones it is made when it is first asked for. None if there is to be none."""
        if self._local is None and self._may_be_local:
            self._local = self._make_local(self.num_remote_env_runners())
            if self.remote is not None and self.remote.weights:
                self._local.set_weights(self.remote.version, by_module(self.remote.weights))
        return self._local

    # -------------------------------------------------------------- sampling

    def collect(
        self,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        timeout_s: float | None = None,
        count_by: str = "env_steps",
        rows: int | None = None,
    ) -> list[Sample]:
        """Samples with at least this many steps (or finished episodes) in all, from the weights that runners have now.

        It ends by the count, not by the runner: faster runners do more of the pieces. Pieces of a runner that has
        died are done by others. ``rows``: of a piece, by default a share of each runner's part. After
        ``timeout_s`` (by default ``config.sample_timeout_s``) it returns what there is: the counters tell the rest.
        Without remote runners the local one samples in this thread.

        Raises ValueError unless either steps or episodes are given."""
        if (steps is None) == (episodes is None):
            raise ValueError("give either steps= or episodes= to collect")
        kwargs = {"explore": explore, "random_actions": random_actions, "force_reset": force_reset}
        if self.collector is None:
            return self._collect_here(steps, episodes, count_by, kwargs)
        timeout = self.config.sample_timeout_s if timeout_s is None else timeout_s
        return self.collector.collect(steps, episodes, rows, count_by, timeout, kwargs)

    def _collect_here(
        self, steps: int | None, episodes: int | None, count_by: str, kwargs: dict[str, Any]
    ) -> list[Sample]:
        taken: list[Sample] = []
        if steps is None:
            taken.append(take_sample(self._local, episodes=episodes, **kwargs))
            return taken
        have, width = 0, max(1, int(self.config.num_envs_per_env_runner))
        while have < steps:
            # Steps of the environment are counted by the runner itself: a row in which one is reset is none.
            rows = {"rows": max(1, math.ceil((steps - have) / width))}
            amount: dict[str, Any] = {"steps": steps - have} if count_by == "env_steps" else rows
            if self.config.batch_mode == "complete_episodes":
                amount = {"episodes": width}
            taken.append(take_sample(self._local, **amount, **kwargs))
            kwargs = {**kwargs, "force_reset": False}
            have += count_steps(taken[-1], count_by)
        return taken

    # -------------------------------------------------------------- calls on runners

    def foreach_env_runner(
        self,
        func: Callable[[Any], T] | str | Sequence[Callable[[Any], T]] | Sequence[str],
        *,
        kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        local_env_runner: bool = True,
        healthy_only: bool = True,
        remote_worker_ids: Sequence[int] | None = None,
        timeout_seconds: float | None = None,
        return_obj_refs: bool = False,
        mark_healthy: bool = False,
    ) -> list[T]:
        """What the function, or the method of that name, returns on each runner: the local one's first.

        A local runner that nobody has used beside remote ones is not made for this. ``timeout_seconds=0`` waits for no
        answer, and returns those of the local runner.

        Raises what a remote runner raises, if failures are neither mended nor ignored."""
        found: list[Any] = []
        if local_env_runner and self._local is not None:
            first = func[0] if isinstance(func, (list, tuple)) else func
            found.append(_call(self._local, first, nth(kwargs, 0)))
        if self.remote is None:
            return found
        calls = self.remote.call(func, kwargs, remote_worker_ids)
        if return_obj_refs:
            return [*found, *(ref for _, _, ref in calls)]
        if timeout_seconds == 0:
            self.remote.leave_alone(calls)
            return found
        return [*found, *(value for _, value in self.remote.results(calls, timeout_seconds))]

    def foreach_env_runner_async(
        self,
        func: Callable[[Any], T] | str | Sequence[Callable[[Any], T]] | Sequence[str],
        tag: str | None = None,
        *,
        kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        healthy_only: bool = True,
        remote_worker_ids: Sequence[int] | None = None,
    ) -> int:
        """Call without waiting. Returns how many calls were made: a runner that has its full number of calls of this
        tag (``max_requests_in_flight_per_env_runner``) gets none."""
        if self.remote is None:
            return 0
        most = self.config.max_requests_in_flight_per_env_runner
        calls = self.remote.call(func, kwargs, remote_worker_ids, tag, most)
        self.remote.leave_open(calls, tag)
        return len(calls)

    def fetch_ready_async_reqs(
        self,
        *,
        tags: str | Sequence[str] | None = None,
        timeout_seconds: float | None = 0.0,
        return_obj_refs: bool = False,
        mark_healthy: bool = False,
    ) -> list[tuple[int, Any]]:
        """Results of earlier calls that are there, each with the id of its runner. It waits so long for the first."""
        return [] if self.remote is None else self.remote.fetch(tags, timeout_seconds, return_obj_refs)

    def foreach_env_runner_async_fetch_ready(
        self,
        func: Any,
        kwargs: Any = None,
        tag: str | None = None,
        timeout_seconds: float | None = 0.0,
        return_obj_refs: bool = False,
        mark_healthy: bool = False,
        healthy_only: bool = True,
        remote_worker_ids: Sequence[int] | None = None,
        return_actor_ids: bool = False,
    ) -> list[Any]:
        """Call without waiting, and return what earlier calls of the tag have brought."""
        self.foreach_env_runner_async(func, tag, kwargs=kwargs, remote_worker_ids=remote_worker_ids)
        found = self.fetch_ready_async_reqs(tags=tag, timeout_seconds=timeout_seconds, return_obj_refs=return_obj_refs)
        return found if return_actor_ids else [value for _, value in found]

    # -------------------------------------------------------------- weights and states

    def sync_weights(
        self,
        policies: Sequence[str] | None = None,
        from_worker_or_learner_group: Any = None,
        to_worker_indices: Sequence[int] | None = None,
        global_vars: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = 0.0,
        inference_only: bool = False,
    ) -> int:
        """Bring weights to runners, once to each node. Returns their version.

        They travel by reference with the next call to each runner: what it samples after this has these weights. With
        ``timeout_seconds`` other than 0 they are there when this returns. The source is a LearnerGroup, a Learner or an
        env runner; by default the local runner.

        Raises TypeError where there is neither a source nor a local runner."""
        source = from_worker_or_learner_group if from_worker_or_learner_group is not None else self.local_env_runner
        if source is None:
            raise TypeError("the group has no local env runner: give sync_weights from_worker_or_learner_group=")
        is_own = source is self._local
        if self.remote is not None:
            weights = _weights_of(source, policies, inference_only, by_reference=True)
            version = self.remote.set_weights(weights, getattr(source, "weights_version", None), policies)
            if timeout_seconds != 0:
                calls = self.remote.call("ping", None, to_worker_indices)
                self.remote.results(calls, timeout_seconds)
        else:
            weights = None if is_own else _weights_of(source, policies, inference_only, by_reference=False)
            self._version = version = getattr(source, "weights_version", self._version + 1)
        if self._local is not None and not is_own and weights is not None:
            self._local.set_weights(version, _value(weights))
        return version

    @property
    def weights_version(self) -> int:
        """The version of the newest weights."""
        return self.remote.version if self.remote is not None else self._version

    def sync_env_runner_states(
        self,
        *,
        config: Any,
        from_worker: Any = None,
        env_steps_sampled: int | None = None,
        connector_states: Sequence[Mapping[str, Any]] | None = None,
        rl_module_state: Mapping[str, Any] | None = None,
        env_runner_indices_to_update: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Merge the states of connectors of all runners (``merge_env_runner_states``), and give the result to all
        (``broadcast_env_runner_states``), with the count of steps. It travels with the next call to each.

        A local runner alone takes the states of from_worker, if that is another one, as runners that evaluate do."""
        state: dict[str, Any] = {}
        if env_steps_sampled is not None:
            state[STEPS_LIFETIME] = int(env_steps_sampled)
        state.update(rl_module_state or {})
        if self.remote is None:
            if from_worker is not None and from_worker is not self._local:
                state = {**self._connector_states(config, from_worker, connector_states), **state}
            if state and self._local is not None:
                self._local.set_state(state)
            return
        merged = self._connector_states(config, from_worker, connector_states)
        if self._local is not None and (merged or state):
            self._local.set_state({**merged, **state})
        if config.broadcast_env_runner_states:
            state = {**merged, **state}
        if state:
            self.remote.set_state(state)

    def _connector_states(
        self, config: Any, from_worker: Any, given: Sequence[Mapping[str, Any]] | None
    ) -> dict[str, Any]:
        merging = config.merge_env_runner_states
        if merging is True or (merging == "training_only" and not config.in_evaluation):
            states = given
            if states is None:
                states = self.foreach_env_runner(
                    "get_state", kwargs={"components": list(CONNECTORS)}, local_env_runner=False
                )
            if not any(has_content(state.get(name)) for state in states for name in CONNECTORS):
                return {}
            return merge(self._pipelines(), states)
        source = from_worker if from_worker is not None else self._local
        if source is None:
            return {}
        state = source.get_state(components=list(CONNECTORS))
        return {name: state[name] for name in CONNECTORS if name in state}

    def _pipelines(self) -> Mapping[str, Any]:
        """The pipelines that know what all runners began from."""
        kept = self.connectors
        if kept is None:
            return {}
        return kept.by_name if isinstance(kept, Pipelines) else dict(kept._pipelines())

    @property
    def connectors(self) -> Any:
        """What keeps the states of connectors here: the local runner, or pipelines where there is to be none. None
        when all runners are gone.

        Checkpoints have the states from here, and so have groups that evaluate."""
        if self.local_env_runner is not None:
            return self.local_env_runner
        if self._kept_pipelines is None and self.healthy_env_runner_ids():
            self._kept_pipelines = Pipelines(self.config, self._remote_spaces())
        return self._kept_pipelines

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """Spaces of observations and actions by module id, and "__env__"."""
        return dict(self._local.get_spaces()) if self._local is not None else self._remote_spaces()

    def _remote_spaces(self) -> dict[str, tuple[Any, Any]]:
        assert self.remote is not None
        while not self.is_streaming and not self.healthy_env_runner_ids() and self.remote.members.any_coming:
            self._hear(LOOK_S)
        first = self.healthy_env_runner_ids()[:1]
        found: list[Any] = self.foreach_env_runner("get_spaces", local_env_runner=False, remote_worker_ids=first)
        if not found:
            raise RuntimeError("no env runner answers, so nobody knows the spaces: see the warnings above")
        return dict(found[0])

    # -------------------------------------------------------------- health

    def healthy_env_runner_ids(self) -> list[int]:
        """Ids of remote runners that answer."""
        return self.remote.members.up() if self.remote is not None else []

    def num_remote_env_runners(self) -> int:
        """How many remote runners there are, well or not."""
        return len(self.remote.members) if self.remote is not None else 0

    def num_healthy_remote_env_runners(self) -> int:
        """How many remote runners answer."""
        return len(self.healthy_env_runner_ids())

    def num_healthy_env_runners(self) -> int:
        """How many runners answer, the local one counted."""
        return self.num_healthy_remote_env_runners() + int(self._may_be_local)

    healthy_worker_ids = healthy_env_runner_ids
    num_remote_workers = num_remote_env_runners
    num_healthy_remote_workers = num_healthy_remote_env_runners
    num_healthy_workers = num_healthy_env_runners

    def num_in_flight_async_reqs(self, tag: str | None = None) -> int:
        """How many calls have not been answered."""
        if self.remote is None:
            return 0
        return self.remote.in_flight(tag) + (self.remote.asked if tag is None else 0)

    def num_remote_worker_restarts(self) -> int:
        """How many times runners have begun anew."""
        return self.remote.members.restarts if self.remote is not None else 0

    def num_env_runners_dropped_lifetime(self) -> int:
        """How many answers came too late to count."""
        return self.remote.late if self.remote is not None else 0

    def counters(self) -> dict[str, int]:
        """Counts for results: fragments that were lost with their runner or came too late, and runners that died."""
        tally = self.stream_tally or (self.collector.tally if self.collector is not None else Tally())
        return {
            "num_fragments_lost_lifetime": tally.fragments_lost,
            "num_fragments_stale_lifetime": tally.fragments_stale,
            "num_env_steps_stale_lifetime": tally.steps_stale,
            "num_env_runners_died_lifetime": self.remote.members.died if self.remote is not None else 0,
        }

    def probe_unhealthy_env_runners(self, timeout_seconds: float | None = None) -> list[int]:
        """Ids of runners that have come back since this was asked last. They have weights and state when they next
        sample. Runners that were lost are made anew without being asked for: it waits for one for ``timeout_seconds``
        at most, and by default not at all."""
        if self.remote is None or self.collector is None:
            return []
        self._hear(min(LOOK_S, timeout_seconds or 0.0))
        found, self.remote.members.back = self.remote.members.back, []
        return found

    def _hear(self, timeout_s: float) -> None:
        """Take what has happened to remote runners, unless a driver of a flow does so."""
        if self.collector is not None and not self.is_streaming:
            self.collector.hear(timeout_s)

    def begin_anew_with(self, config: Any) -> None:
        """Runners that are made from now on have this configuration: modules have come or gone."""
        self.config = config
        if self.remote is not None:
            self.remote.members.begin_with(_for_actors(config))

    def stop(self) -> None:
        """Stop all runners."""
        local, self._local = self._local, None
        self._may_be_local = False
        if local is not None:
            local.stop()
        if self.remote is not None and hpc.is_initialized():
            self.remote.members.end()


def _weights_of(source: Any, policies: Any, inference_only: bool, *, by_reference: bool) -> Any:
    if by_reference and hasattr(source, "weights_reference"):
        return source.weights_reference(policies, inference_only=inference_only)
    weights = source.get_weights(policies, inference_only=inference_only)
    return hpc.put(weights) if by_reference else weights


def _value(weights: Any) -> Any:
    return hpc.get(weights) if isinstance(weights, hpc.ObjectRef) else weights


def _call(runner: Any, func: Any, kwargs: Mapping[str, Any]) -> Any:
    if isinstance(func, str):
        found = getattr(runner, func)
        return found(**kwargs) if callable(found) else found
    return func(runner, **kwargs)


def environment_of_actors(config: Any) -> dict[str, Any]:
    """The option of actors that sets the variables of ``extra_python_environs_for_worker``."""
    variables = getattr(config, "extra_python_environs_for_worker", None)
    return {"runtime_env": {"env_vars": {key: str(value) for key, value in variables.items()}}} if variables else {}


def _for_actors(config: Any) -> Any:
    """A configuration whose environment other processes find, too: names are registered in this one only."""
    if not isinstance(getattr(config, "env", None), str):
        return config
    shipped = config.copy(copy_frozen=False)
    shipped.env = creator_of(config.env)
    return shipped


def _default_class(config: Any) -> type:
    if getattr(config, "output", None):
        from hpc.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

        return OfflineSingleAgentEnvRunner
    if config.is_multi_agent:
        from hpc.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

        return MultiAgentEnvRunner
    from hpc.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    return SingleAgentEnvRunner
