"""A group of learners: one in this process, or ranks in actors that average their gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from hpc.rllib.env.fragment import Sample

T = TypeVar("T")


class LearnerGroup:
    """Learners of an algorithm. With ``config.num_learners=0`` one in this process, and no session is needed."""

    def __init__(self, *, config: Any, module_spec: Any = None, placement_group: Any = None, pg_offset: int = 0) -> None:
        raise NotImplementedError

    @property
    def is_remote(self) -> bool:
        """Whether the learners are actors."""
        raise NotImplementedError

    @property
    def is_local(self) -> bool:
        """Whether the learner is in this process."""
        raise NotImplementedError

    def update(
        self,
        *,
        samples: Sequence[Sample] | None = None,
        sample_refs: Sequence[Any] | None = None,
        batch: Mapping[str, Mapping[str, Any]] | None = None,
        episodes: Sequence[Any] | None = None,
        timesteps: Mapping[str, int] | None = None,
        async_update: bool = False,
        return_state: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Update the modules with one of these kinds of data, split over the learners. Results: one dict for each
        learner, ``{module_id: {...}, "__all_modules__": {...}}``; `reduce_results` makes one of them.

        ``kwargs`` go to `Learner.update`: num_epochs, minibatch_size, shuffle_batch_per_epoch. ``async_update``: return
        the results of earlier updates that are done by now. ``return_state``: the first result has the weights under
        ``_rl_module_state_after_update``."""
        raise NotImplementedError

    def foreach_learner(self, func: Callable[..., T], *, timeout_seconds: float | None = None, **kwargs: Any) -> list[T]:
        """What the function returns on each learner."""
        raise NotImplementedError

    def get_weights(self, module_ids: Collection[str] | None = None, *, inference_only: bool = False) -> dict[str, Any]:
        """Weights by module id: ``{module_id: {name: array}}``."""
        raise NotImplementedError

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Set the weights of all learners."""
        raise NotImplementedError

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """``{"learner": state}``: of one learner, since all are the same but for their generators."""
        raise NotImplementedError

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Set the state of all learners."""
        raise NotImplementedError

    def add_module(self, *, module_id: str, module_spec: Any, config_overrides: Any = None, new_should_module_be_updated: Any = None) -> Any:
        """Add a module on all learners. Returns the new MultiRLModuleSpec."""
        raise NotImplementedError

    def remove_module(self, module_id: str, *, new_should_module_be_updated: Any = None) -> Any:
        """Remove a module on all learners. Returns the new MultiRLModuleSpec."""
        raise NotImplementedError

    def get_stats(self) -> dict[str, Any]:
        """Counts of the queue: ``learner_group_ts_dropped_lifetime``, ``actor_manager_num_outstanding_async_reqs``."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many remote learners there are; 0 for the local one."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """End the learners."""
        raise NotImplementedError
