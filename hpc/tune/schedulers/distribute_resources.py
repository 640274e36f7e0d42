"""How free CPUs and GPUs are shared out among running trials: equally, or to the best one.

A trial has the bundles that it began with, and what was added to them: further bundles (add_bundles=True), or more in
its only bundle. What is added comes in units of `increase_by`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.trial import Controller, Trial

Bundle = Mapping[str, float]
KINDS = ("CPU", "GPU")


class DistributeResources:
    """Shares out free CPUs and GPUs equally, so that all are always used. No trial gets less than it began with.

    add_bundles: free resources make new bundles; else they are added to the only bundle. increase_by: the unit, as
    {"CPU": 2, "GPU": 1}; by default one GPU for trials with GPUs, else one CPU, or the last bundle once more.
    increase_by_times: at most so many units for one trial, if it is above 0. reserve_resources: left to others.

    It is called with the controller, the trial, its result and the scheduler. It returns what the trial is to have, or
    None for no change. Classes that decide otherwise override `_get_new_added_bundles`.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: dict[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: dict[str, float] | None = None,
    ) -> None:
        self.add_bundles = add_bundles
        self.increase_by = increase_by or {}
        self.increase_by_times = increase_by_times
        self.reserve_resources = reserve_resources or {}
        if self.increase_by and not (all(self.increase_by.get(k, 0) >= 0 for k in KINDS) and _holds(self.increase_by)):
            raise ValueError(f"increase_by needs CPU or GPU above 0, and none below, not {self.increase_by}")

    def __call__(self, controller: Controller, trial: Trial, result: dict[str, Any], scheduler: Any) -> Any:
        """What the trial is to have from now on: a PlacementGroupFactory, or None for no change."""
        base = scheduler.base_trial_resources
        if base is None:
            base = PlacementGroupFactory([{"CPU": 1}])
        if not isinstance(base, PlacementGroupFactory):
            raise ValueError(f"{type(self).__name__} changes PlacementGroupFactory objects, not {type(base).__name__}")
        if not self.add_bundles and len(base.bundles) > 1:
            raise ValueError(f"trials have {len(base.bundles)} bundles: {type(self).__name__} needs add_bundles=True")
        if result["training_iteration"] < 1:
            return None
        unit = self._unit(base)
        totals = {
            "CPU": controller.resource_updater.get_num_cpus() - self.reserve_resources.get("CPU", 0),
            "GPU": controller.resource_updater.get_num_gpus() - self.reserve_resources.get("GPU", 0),
        }
        live = list(controller.get_live_trials())
        used = {kind: sum(_needs(one).get(kind, 0) for one in live) for kind in KINDS}
        added = self._get_new_added_bundles(
            trial, live, base.bundles, unit, totals["CPU"], totals["GPU"], used["CPU"], used["GPU"]
        )
        bundles = self._joined(base.bundles, added)
        head: list[Bundle] = [{}] if base.head_bundle_is_empty else []
        return PlacementGroupFactory([*head, *bundles], base.strategy, *base._args, **base._kwargs)

    def _unit(self, base: PlacementGroupFactory) -> Bundle:
        if self.increase_by:
            return self.increase_by
        unit = base.bundles[-1] if self.add_bundles else {"GPU": 1} if base.bundles[0].get("GPU") else {"CPU": 1}
        if not _holds(unit):
            raise ValueError(f"the bundle {unit} has neither CPU nor GPU: give increase_by")
        return unit

    def _get_new_added_bundles(
        self,
        trial: Trial,
        all_trials: Collection[Trial],
        base_bundles: Sequence[Bundle],
        increase_by: Bundle,
        total_available_cpus: float,
        total_available_gpus: float,
        used_cpus: float,
        used_gpus: float,
    ) -> list[Bundle]:
        """What the trial has beside its base from now on: its equal share, as far as that is free."""
        base = _sum(base_bundles)
        left = [
            total - base.get(kind, 0) * len(all_trials)
            for kind, total in zip(KINDS, (total_available_cpus, total_available_gpus))
        ]
        units = max(_units(increase_by, *left), 0) if min(left) >= 0 else 0
        share = math.ceil(units / len(all_trials))
        if self.increase_by_times > 0:
            share = min(share, self.increase_by_times)
        added = self._added(trial, base_bundles)
        return self._changed(
            added, increase_by, total_available_cpus - used_cpus, total_available_gpus - used_gpus, share
        )

    # -------------------------------------------------------------- what a trial has beside its base

    def _added(self, trial: Trial, base: Sequence[Bundle]) -> list[Bundle]:
        bundles = trial.placement_group_factory.bundles  # type: ignore[attr-defined]
        if self.add_bundles:
            return list(bundles[len(base) :])
        return [{kind: bundles[0].get(kind, 0) - base[0].get(kind, 0) for kind in KINDS}]

    def _joined(self, base: Sequence[Bundle], added: Sequence[Bundle]) -> list[Bundle]:
        if self.add_bundles:
            return [one for one in (*base, *added) if _holds(one)]
        return [{kind: base[0].get(kind, 0) + _sum(added).get(kind, 0) for kind in KINDS}]

    def _changed(
        self, added: list[Bundle], unit: Bundle, free_cpus: float, free_gpus: float, most: int = 0
    ) -> list[Bundle]:
        """With all free units added, up to `most` if that is above 0; with units taken away where some are lacking."""
        units = _units(unit, free_cpus, free_gpus)
        most = most if most > 0 else max(self.increase_by_times, 0)
        if self.add_bundles:
            if units < 0:
                return added[:units]
            bundles = [one for one in added if _holds(one)] + [unit] * units
            return bundles[:most] if units and most else bundles if units else added
        total = {kind: added[0].get(kind, 0) + unit.get(kind, 0) * units for kind in KINDS}
        if units < 0:
            total = {kind: max(amount, 0) for kind, amount in total.items()}
        elif units and most:
            total = {kind: min(amount, unit.get(kind, 0) * most) for kind, amount in total.items()}
        return [total]


class DistributeResourcesToTopJob(DistributeResources):
    """Gives all free CPUs and GPUs to the best trial that may have more. Others keep what they have.

    metric, mode: by what trials are compared; by default those of the scheduler. Other arguments are those of
    DistributeResources. Where more is used than there is, each trial gives up what is lacking, when it reports.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: dict[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: dict[str, float] | None = None,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(add_bundles, increase_by, increase_by_times, reserve_resources)
        self.metric = metric
        self.mode = mode

    def _get_new_added_bundles(
        self,
        trial: Trial,
        all_trials: Collection[Trial],
        base_bundles: Sequence[Bundle],
        increase_by: Bundle,
        total_available_cpus: float,
        total_available_gpus: float,
        used_cpus: float,
        used_gpus: float,
    ) -> list[Bundle]:
        """All that is free, if it is the best trial that may have more; else what it has."""
        if self.metric is None:
            raise ValueError("give a metric to DistributeResourcesToTopJob, to its scheduler or to tune.TuneConfig()")
        if self.mode not in ("min", "max"):
            raise ValueError(f'the mode must be "min" or "max", not {self.mode!r}')
        free = total_available_cpus - used_cpus, total_available_gpus - used_gpus
        ranked = sorted(all_trials, key=self._badness)
        may_grow = (one for one in ranked if self._below_limit(self._added(one, base_bundles), increase_by))
        best = next(may_grow, ranked[0])
        added = self._added(trial, base_bundles)
        if trial.trial_id != best.trial_id and _units(increase_by, *free) >= 0:
            return added
        return self._changed(added, increase_by, *free)

    def _badness(self, trial: Trial) -> float:
        """The better, the less; a trial without a result, or with NaN, is the worst."""
        value: float | None = trial.last_result.get(str(self.metric))
        if value is None or math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value

    def _below_limit(self, added: Sequence[Bundle], unit: Bundle) -> bool:
        if self.increase_by_times <= 0:
            return True
        total = _sum(added)
        return any(total.get(kind, 0) < unit[kind] * self.increase_by_times for kind in KINDS if unit.get(kind))


def _needs(trial: Trial) -> dict[str, float]:
    shape: Any = trial.placement_group_factory
    needed: dict[str, float] = shape.required_resources
    return needed


def _holds(bundle: Bundle) -> bool:
    return any(bundle.get(kind) for kind in KINDS)


def _sum(bundles: Sequence[Bundle]) -> dict[str, float]:
    return {kind: sum(one.get(kind, 0) for one in bundles) for kind in KINDS}


def _units(unit: Bundle, cpus: float, gpus: float) -> int:
    """How many whole units there are in so much; below 0 where something is lacking."""
    there = {"CPU": cpus, "GPU": gpus}
    return min(math.floor(there[kind] / unit[kind] + 1e-9) for kind in KINDS if unit.get(kind))
