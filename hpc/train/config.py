"""What a training run is told beside `hpc.runs.config`: its workers. Ray Train v2's names and defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hpc.runs.config import RunConfig, need_int
from hpc.runs.reservation import ACCELERATOR, ACCELERATOR_SHARE
from hpc.util.placement_group import validate_placement_group
from hpc.util.tpu.shapes import check_topology, get_tpu_version_from_type, get_tpu_worker_resources

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


@dataclass
class ScalingConfig:
    """How many workers there are, what each of them holds, and on which nodes they run.

    num_workers: the world size; or the least and the most, (2, 8). Then the run begins with as many as there is room
    for, and is resized when nodes go or come. elastic_resize_monitor_interval_s: so often it looks for room.
    use_gpu: one GPU for each worker, unless resources_per_worker says how many.
    use_tpu: with topology and accelerator_type ("4x4", "TPU-V6E") the workers get whole slices, by default one worker
    with all chips of each host. num_workers is a multiple of the workers of a slice. One worker may have chips without
    a topology: one, unless resources_per_worker says how many.
    resources_per_worker: {"CPU": 2, "GPU": 1, "memory": bytes, "other": 1}; without it {"CPU": 1}, or {"GPU": 1}.
    placement_strategy: "PACK" fills node after node, and "SPREAD" deals the workers out over the nodes, both as far as
    there is room. "STRICT_PACK" needs one node for all of them, "STRICT_SPREAD" a node for each of them.
    accelerator_type: the workers' nodes have this kind of accelerator, as "A100". label_selector: the labels that the
    nodes must have, {"zone": "a"} for all workers, or a list with one such dict for each of them.
    """

    num_workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    placement_strategy: str = "PACK"
    accelerator_type: str | None = None
    label_selector: dict[str, str] | list[dict[str, str]] | None = None
    use_tpu: bool = False
    topology: str | None = None
    elastic_resize_monitor_interval_s: float = 60.0

    def __post_init__(self) -> None:
        self._check_numbers()
        if not isinstance(self.use_gpu, bool):
            raise TypeError(f"ScalingConfig.use_gpu must be a bool, not {type(self.use_gpu).__name__}")
        if self.placement_strategy not in STRATEGIES:
            raise ValueError(
                f"ScalingConfig.placement_strategy must be one of {', '.join(STRATEGIES)}, "
                f"not {self.placement_strategy!r}"
            )
        self._check_resources()
        self._check_labels()
        self._check_tpus()

    def _check_numbers(self) -> None:
        given = self.num_workers
        if isinstance(given, tuple) and len(given) != 2:
            raise ValueError(f"ScalingConfig.num_workers must be a number or (min, max), not {given!r}")
        for number in given if isinstance(given, tuple) else (given,):
            need_int("ScalingConfig.num_workers", number, 1)
        if self.min_workers > self.max_workers:
            raise ValueError(f"ScalingConfig.num_workers must be (min, max) with min <= max, not {given!r}")
        interval = self.elastic_resize_monitor_interval_s
        if isinstance(interval, bool) or not isinstance(interval, (int, float)):
            raise TypeError(
                f"ScalingConfig.elastic_resize_monitor_interval_s must be a number of seconds, not {interval!r}"
            )
        if not interval >= 0:
            raise ValueError(f"ScalingConfig.elastic_resize_monitor_interval_s must not be negative, not {interval}")

    def _check_resources(self) -> None:
        given = self.resources_per_worker
        if given is None:
            return
        if not isinstance(given, dict):
            raise TypeError(f"ScalingConfig.resources_per_worker must be a dict, not {type(given).__name__}")
        for name, amount in given.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"resources_per_worker has a key {name!r}: names of resources are texts")
            if isinstance(amount, bool) or not isinstance(amount, (int, float)):
                raise TypeError(f"resources_per_worker[{name!r}] must be a number, not {type(amount).__name__}")
            if not 0 <= amount < math.inf:
                raise ValueError(f"resources_per_worker[{name!r}] must be a number from 0 on, not {amount}")
        if not self.use_gpu and given.get("GPU"):
            raise ValueError("resources_per_worker has GPUs: set use_gpu=True too")
        if self.use_gpu and given.get("GPU") == 0:
            raise ValueError("use_gpu=True, but resources_per_worker has 0 GPUs")
        if not self.use_tpu and not self.worker_resources:
            raise ValueError(f"resources_per_worker={given!r} leaves a worker nothing to hold: give an amount above 0")

    def _check_labels(self) -> None:
        kind, labels = self.accelerator_type, self.label_selector
        if kind is not None and (not isinstance(kind, str) or not kind):
            raise TypeError(f'ScalingConfig.accelerator_type must be a string like "A100", not {kind!r}')
        if isinstance(labels, list) and len(labels) != self.max_workers:
            raise ValueError(
                f"ScalingConfig.label_selector has {len(labels)} selectors for {self.max_workers} workers: give one "
                "for each, or one dict for all of them"
            )
        if labels is not None:
            if not isinstance(labels, (dict, list)):
                raise TypeError(f"ScalingConfig.label_selector must be a dict or a list of dicts, not {labels!r}")
            validate_placement_group([{"CPU": 1}] * self.max_workers, bundle_label_selector=self.selectors)

    def _check_tpus(self) -> None:
        if not isinstance(self.use_tpu, bool):
            raise TypeError(f"ScalingConfig.use_tpu must be a bool, not {type(self.use_tpu).__name__}")
        given = (self.resources_per_worker or {}).get("TPU")
        if not self.use_tpu:
            for what in ["topology"] * bool(self.topology) + ["TPU in resources_per_worker"] * bool(given):
                raise ValueError(f"ScalingConfig has {what}: set use_tpu=True too")
            return
        if self.use_gpu:
            raise ValueError("ScalingConfig has use_gpu=True and use_tpu=True: give one of them")
        if self.resources_per_worker is not None and not given:
            raise ValueError("use_tpu=True, but resources_per_worker has 0 TPUs")
        if self.max_workers > 1:
            for name in ("topology", "accelerator_type"):
                if not getattr(self, name):
                    raise ValueError(f"ScalingConfig.{name} is needed with use_tpu=True and more than one worker")
            if self.label_selector:
                raise ValueError("ScalingConfig.label_selector: with use_tpu=True the slices choose the nodes")
        if self.topology and self.accelerator_type:
            per_slice, each = get_tpu_worker_resources(self.topology, self.accelerator_type, self.resources_per_worker)
            check_topology(self.topology.strip().lower(), get_tpu_version_from_type(self.accelerator_type))
            for name, count in (("num_workers", self.max_workers), ("min_workers", self.min_workers)):
                if count % per_slice:
                    raise ValueError(
                        f"ScalingConfig.{name} is {count}: it must be a multiple of {per_slice}, the workers of a "
                        f"slice {self.topology}"
                    )
            self.resources_per_worker = self.resources_per_worker or each

    @property
    def workers_per_slice(self) -> int:
        """Of whole slices of TPUs, how many workers each has; 0 where the run does not ask for slices."""
        if not (self.use_tpu and self.topology and self.accelerator_type):
            return 0
        return get_tpu_worker_resources(self.topology, self.accelerator_type, self.resources_per_worker)[0]

    @property
    def selectors(self) -> list[dict[str, str]]:
        """For each worker, in the order of their bundles, the labels that its node must have; [] where any will do."""
        labels = self.label_selector
        return list(labels) if isinstance(labels, list) else [labels] * self.max_workers if labels else []

    @property
    def elasticity_enabled(self) -> bool:
        """Whether the number of workers may change."""
        return isinstance(self.num_workers, tuple)

    @property
    def min_workers(self) -> int:
        """The run begins when there is room for so many."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """There are never more."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def worker_resources(self) -> dict[str, float]:
        """What each worker holds: amounts above 0 by name."""
        given = self.resources_per_worker
        if given is None:
            given = {"GPU": 1.0} if self.use_gpu else {"TPU": 1.0} if self.use_tpu else {"CPU": 1.0}
        found = {name: float(amount) for name, amount in given.items() if amount}
        if self.use_gpu:
            found.setdefault("GPU", 1.0)
        if self.accelerator_type:
            found[f"{ACCELERATOR}{self.accelerator_type}"] = ACCELERATOR_SHARE
        return found


@dataclass(frozen=True)
class TrainRunContext:
    """The run that a callback is told of. ``run_config.name`` is the run's name, also where none was given."""

    run_config: RunConfig
    scaling_config: ScalingConfig
    train_loop_config: dict[str, Any] | None
