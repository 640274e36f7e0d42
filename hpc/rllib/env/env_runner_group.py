"""A group of env runners: none, or many actors beside a local one, that lose members and get them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from hpc.rllib.env.fragment import Sample

T = TypeVar("T")


class EnvRunnerGroup:
    """Env runners of an algorithm: a local one, and ``config.num_env_runners`` actors with the ids 1 to n.

    With ``num_env_runners=0`` there is the local runner only, and no session is needed.
    """

    def __init__(
        self,
        *,
        config: Any,
        local_env_runner: bool = True,
        num_env_runners: int | None = None,
        placement_group: Any = None,
        pg_offset: int = 0,
        spaces: Mapping[str, Any] | None = None,
        **unused: Any,
    ) -> None:
        raise NotImplementedError

    # -- sampling

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

        It ends by the count, not by the runner: runners that are faster do more of the pieces, and pieces of a runner
        that has died are done by others. ``rows``: the rows of a piece, by default the share of each runner, in up to
        four pieces. After ``timeout_s`` (``config.sample_timeout_s``) it returns what there is; the counters tell the rest.
        Without remote runners the local one samples in this thread."""
        raise NotImplementedError

    # -- calls on runners

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
        """What the function, or the method of that name, returns on each runner: the local one's first."""
        raise NotImplementedError

    def foreach_env_runner_async(
        self,
        func: Callable[[Any], T] | str | Sequence[Callable[[Any], T]] | Sequence[str],
        tag: str | None = None,
        *,
        kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        healthy_only: bool = True,
        remote_worker_ids: Sequence[int] | None = None,
    ) -> int:
        """Call without waiting. Returns how many calls were made: full queues of runners take none."""
        raise NotImplementedError

    def fetch_ready_async_reqs(
        self,
        *,
        tags: str | Sequence[str] | None = None,
        timeout_seconds: float | None = 0.0,
        return_obj_refs: bool = False,
        mark_healthy: bool = False,
    ) -> list[tuple[int, Any]]:
        """Results of earlier calls, each with the id of its runner."""
        raise NotImplementedError

    # -- weights and states

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

        Calls to a runner are in order: what it samples after this has these weights, also with ``timeout_seconds=0``.
        The source is a LearnerGroup, a Learner or an env runner; by default the local runner."""
        raise NotImplementedError

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
        (``broadcast_env_runner_states``), with the count of steps."""
        raise NotImplementedError

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """Spaces of observations and actions by module id, and "__env__"."""
        raise NotImplementedError

    # -- health

    @property
    def local_env_runner(self) -> Any:
        """The local runner, or None."""
        raise NotImplementedError

    def healthy_env_runner_ids(self) -> list[int]:
        """Ids of remote runners that answer."""
        raise NotImplementedError

    def num_remote_env_runners(self) -> int:
        """How many remote runners there are, well or not."""
        raise NotImplementedError

    def num_healthy_remote_env_runners(self) -> int:
        """How many remote runners answer."""
        raise NotImplementedError

    def num_healthy_env_runners(self) -> int:
        """How many runners answer, the local one counted."""
        raise NotImplementedError

    def num_in_flight_async_reqs(self, tag: str | None = None) -> int:
        """How many calls have not been answered."""
        raise NotImplementedError

    def num_remote_worker_restarts(self) -> int:
        """How many times runners have begun anew."""
        raise NotImplementedError

    def num_env_runners_dropped_lifetime(self) -> int:
        """How many answers came too late to count."""
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        """Counts for results: ``fragments_lost``, ``fragments_stale``, ``steps_lost``, ``runners_died`` and others."""
        raise NotImplementedError

    def probe_unhealthy_env_runners(self, timeout_seconds: float | None = None) -> list[int]:
        """See whether runners that had died are back. They get weights and state first; their ids."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop all runners."""
        raise NotImplementedError
