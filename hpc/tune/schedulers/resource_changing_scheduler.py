"""Change what trials hold while the experiment runs, beside what another scheduler decides about them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

from hpc.tune.schedulers.distribute_resources import DistributeResources, DistributeResourcesToTopJob
from hpc.tune.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler
from hpc.tune.trial import Controller, Trial

__all__ = ["DistributeResources", "DistributeResourcesToTopJob", "ResourceChangingScheduler"]

_EQUAL_SHARES = DistributeResources()


class ResourceChangingScheduler(TrialScheduler):
    """Asks after each result that lets a trial go on what it is to hold. A trial that is to hold other things pauses.

    It goes on with these when there is room, from the checkpoint that it makes on pausing. All trials must begin with
    the same resources.

    base_scheduler: decides about trials; FIFOScheduler without one. resources_allocation_function: is called with the
    controller, the trial, its result and this scheduler, and returns a PlacementGroupFactory, or None for no change.
    """

    def __init__(
        self,
        base_scheduler: TrialScheduler | None = None,
        resources_allocation_function: Callable[..., Any] | None = _EQUAL_SHARES,
    ) -> None:
        super().__init__()
        if resources_allocation_function is None:
            warnings.warn("without a resources_allocation_function no resources change", stacklevel=2)
        if isinstance(resources_allocation_function, DistributeResources):
            resources_allocation_function = copy.copy(resources_allocation_function)
        self._resources_allocation_function = resources_allocation_function
        self._base_scheduler = base_scheduler or FIFOScheduler()
        self._base_trial_resources: Any = None
        #: What trials are to hold at their next start, and what was given to which trial.
        self._to_give: dict[str, Any] = {}
        self._given: dict[str, Any] = {}
        self._mode: Any = None

    @property
    def metric(self) -> str | None:
        """The metric of the scheduler behind it."""
        return self._base_scheduler.metric

    @property
    def supports_buffered_results(self) -> bool:
        """As the scheduler behind it says."""
        return self._base_scheduler.supports_buffered_results

    @property
    def base_trial_resources(self) -> Any:
        """What all trials begin with; None before the first one."""
        return self._base_trial_resources

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Hand the metric and the mode to the scheduler behind it."""
        self._metric, self._mode = metric, mode
        return self._base_scheduler.set_search_properties(metric, mode, **spec)

    # -------------------------------------------------------------- what happens to trials

    def on_trial_add(self, controller: Controller, trial: Trial, **kwargs: Any) -> None:
        """Take in a trial. RuntimeError if it begins with other resources than the first one."""
        if self._base_trial_resources is None:
            self._base_trial_resources = trial.placement_group_factory
        elif trial.trial_id not in self._given and trial.placement_group_factory != self._base_trial_resources:
            raise RuntimeError(
                f"ResourceChangingScheduler needs trials that begin with the same resources: the first one had "
                f"{self._base_trial_resources}, and trial {trial.trial_id} has {trial.placement_group_factory}"
            )
        self._base_scheduler.on_trial_add(controller, trial, **kwargs)

    def on_trial_error(self, controller: Controller, trial: Trial, **kwargs: Any) -> None:
        """Tell the scheduler behind it."""
        self._base_scheduler.on_trial_error(controller, trial, **kwargs)

    def on_trial_complete(self, controller: Controller, trial: Trial, result: dict[str, Any], **kwargs: Any) -> None:
        """Tell the scheduler behind it."""
        self._to_give.pop(trial.trial_id, None)
        self._base_scheduler.on_trial_complete(controller, trial, result, **kwargs)

    def on_trial_remove(self, controller: Controller, trial: Trial, **kwargs: Any) -> None:
        """Tell the scheduler behind it."""
        self._to_give.pop(trial.trial_id, None)
        self._base_scheduler.on_trial_remove(controller, trial, **kwargs)

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """As the scheduler behind it says; PAUSE if the trial may go on, and is to hold other resources."""
        decision = self._base_scheduler.on_trial_result(controller, trial, result)
        if decision == TrialScheduler.CONTINUE:
            wanted = self.reallocate_trial_resources_if_needed(controller, trial, result)
            if wanted:
                self._to_give[trial.trial_id] = wanted
                return TrialScheduler.PAUSE
        return decision

    def choose_trial_to_run(self, controller: Controller, **kwargs: Any) -> Trial | None:
        """Give paused trials what they are to hold; then as the scheduler behind it says."""
        for trial_id, wanted in list(self._to_give.items()):
            trial = controller.get_trial(trial_id)
            if trial is None or trial.status != Trial.RUNNING:
                del self._to_give[trial_id]
                if trial is not None and not trial.is_finished() and trial.placement_group_factory != wanted:
                    self.set_trial_resources(trial, wanted)
        return self._base_scheduler.choose_trial_to_run(controller, **kwargs)

    def set_trial_resources(self, trial: Trial, new_resources: Any) -> bool:
        """Let a trial that does not run hold this at its next start. False: there was nothing to change."""
        if not new_resources:
            return False
        trial.update_resources(new_resources)
        self._given[trial.trial_id] = new_resources
        return True

    def reallocate_trial_resources_if_needed(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> Any:
        """What the trial is to hold, by the user's function; None if that is what it holds."""
        function: Any = self._resources_allocation_function
        if function is None:
            return None
        for name, value in (("metric", self.metric or self._metric), ("mode", self._mode_to_compare_by())):
            if not getattr(function, name, None):
                setattr(function, name, value)
        wanted = function(controller, trial, result, self)
        return wanted if wanted and wanted != trial.placement_group_factory else None

    def _mode_to_compare_by(self) -> Any:
        return getattr(self._base_scheduler, "_mode", None) or self._mode

    # -------------------------------------------------------------- for people, and for the journal

    def debug_string(self) -> str:
        """What the scheduler behind it says."""
        return f"(ResourceChangingScheduler) {self._base_scheduler.debug_string()}"

    def state(self) -> dict[str, Any]:
        """What trials hold and are to hold, and the state of the scheduler behind it."""
        return {
            "base": self._base_scheduler.state(),
            "resources": self._base_trial_resources,
            "given": dict(self._given),
            "to_give": dict(self._to_give),
        }

    def load(self, state: dict[str, Any], get_trial: Callable[[str], Trial | None] | None = None) -> None:
        """Go on from a `state()`. Trials get again what they held."""
        self._base_scheduler.load(state["base"], get_trial)
        self._base_trial_resources = state["resources"]
        self._given = dict(state["given"])
        self._to_give = {**state["given"], **state["to_give"]}
