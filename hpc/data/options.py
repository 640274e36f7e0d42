"""What may be said of an execution: its limits, its order, seeds of what is random, and modes of writing."""

from __future__ import annotations

import enum
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

#: The hexadecimal id of a node.
NodeIdStr = str

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
INF = math.inf


def memory_text(nbytes: float) -> str:
    """A number of bytes for people."""
    if nbytes == INF:
        return "inf"
    for unit in _UNITS[:-1]:
        if abs(nbytes) < 1024:
            return f"{nbytes:.1f}{unit}"
        nbytes /= 1024
    return f"{nbytes:.1f}{_UNITS[-1]}"


class ExecutionResources:
    """Numbers of CPUs and GPUs, and bytes of the object store and of memory: an amount, or a limit (`for_limits`).

    What is not given is 0 in an amount and unlimited in a limit. Objects do not change."""

    __slots__ = ("_cpu", "_gpu", "_memory", "_object_store_memory")

    def __init__(
        self,
        cpu: float | None = None,
        gpu: float | None = None,
        object_store_memory: float | None = None,
        memory: float | None = None,
    ) -> None:
        self._cpu = _rounded(cpu, 5)
        self._gpu = _rounded(gpu, 5)
        self._object_store_memory = _rounded(object_store_memory, 0)
        self._memory = _rounded(memory, 0)

    @classmethod
    def for_limits(
        cls,
        cpu: float | None = None,
        gpu: float | None = None,
        object_store_memory: float | None = None,
        memory: float | None = None,
    ) -> ExecutionResources:
        """A limit: what is None is without one."""
        return cls(*(INF if one is None else one for one in (cpu, gpu, object_store_memory, memory)))

    def as_limits(self) -> ExecutionResources:
        """The limit with these numbers: what was not given is unlimited, and what is 0 stays 0."""
        return self.for_limits(self._cpu, self._gpu, self._object_store_memory, self._memory)

    @classmethod
    def from_resource_dict(cls, resource_dict: dict[str, float]) -> ExecutionResources:
        """The amount of a dict with the keys CPU, GPU, object_store_memory and memory."""
        take = resource_dict.get
        cpu, gpu = take("CPU") or take("num_cpus"), take("GPU") or take("num_gpus")
        return cls(cpu, gpu, take("object_store_memory"), take("memory"))

    def to_resource_dict(self) -> dict[str, float]:
        """The dict that `from_resource_dict` takes."""
        return {
            "CPU": self.cpu,
            "GPU": self.gpu,
            "object_store_memory": self.object_store_memory,
            "memory": self.memory,
        }

    @classmethod
    def zero(cls) -> ExecutionResources:
        """Nothing."""
        return cls(0.0, 0.0, 0.0, 0.0)

    @classmethod
    def inf(cls) -> ExecutionResources:
        """Everything."""
        return cls.for_limits()

    @classmethod
    def combine(
        cls, resources: Iterable[ExecutionResources], fn: Callable[[float, float], float]
    ) -> ExecutionResources | None:
        """All of them folded by a function of two numbers, kind by kind; None where there are none."""
        found = [one._all() for one in resources]
        if not found:
            return None
        total = found[0]
        for one in found[1:]:
            total = tuple(map(fn, total, one))
        return cls(*total)

    @classmethod
    def combine_sum(cls, resources: Iterable[ExecutionResources]) -> ExecutionResources:
        """The sum of all."""
        return cls.combine(resources, lambda a, b: a + b) or cls.zero()

    @property
    def cpu(self) -> float:
        """Number of CPUs."""
        return self._cpu or 0.0

    @property
    def gpu(self) -> float:
        """Number of GPUs."""
        return self._gpu or 0.0

    @property
    def object_store_memory(self) -> float:
        """Bytes of the object store."""
        return self._object_store_memory or 0.0

    @property
    def memory(self) -> float:
        """Bytes of memory."""
        return self._memory or 0.0

    def _all(self) -> tuple[float, ...]:
        return self.cpu, self.gpu, self.object_store_memory, self.memory

    def __repr__(self) -> str:
        store, memory = self.object_store_memory_str(), self.memory_str()
        return f"ExecutionResources(cpu={self.cpu}, gpu={self.gpu}, object_store_memory={store}, memory={memory})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecutionResources) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def is_zero(self) -> bool:
        """Whether it is nothing."""
        return not any(self._all())

    def is_non_negative(self) -> bool:
        """Whether no part of it is below 0."""
        return min(self._all()) >= 0

    def object_store_memory_str(self) -> str:
        """The bytes of the object store, for people."""
        return memory_text(self.object_store_memory)

    def memory_str(self) -> str:
        """The bytes of memory, for people."""
        return memory_text(self.memory)

    def copy(
        self,
        cpu: float | None = None,
        gpu: float | None = None,
        memory: float | None = None,
        object_store_memory: float | None = None,
    ) -> ExecutionResources:
        """The same with other values for those that are given."""
        given = (cpu, gpu, object_store_memory, memory)
        return ExecutionResources(*(old if new is None else new for new, old in zip(given, self._all())))

    def add(self, other: ExecutionResources) -> ExecutionResources:
        """The sum of both."""
        return ExecutionResources(*(a + b for a, b in zip(self._all(), other._all())))

    def subtract(self, other: ExecutionResources) -> ExecutionResources:
        """What is left without the other; parts may be below 0."""
        return ExecutionResources(*(a - b for a, b in zip(self._all(), other._all())))

    def max(self, other: ExecutionResources) -> ExecutionResources:
        """The larger of each kind."""
        return ExecutionResources(*map(max, self._all(), other._all()))

    def min(self, other: ExecutionResources) -> ExecutionResources:
        """The smaller of each kind."""
        return ExecutionResources(*map(min, self._all(), other._all()))

    def satisfies_limit(self, limit: ExecutionResources, *, ignore_object_store_memory: bool = False) -> bool:
        """Whether no kind is above the limit."""
        fits = [a <= b for a, b in zip(self._all(), limit._all())]
        return all(fit for place, fit in enumerate(fits) if place != 2 or not ignore_object_store_memory)

    def scale(self, f: float) -> ExecutionResources:
        """The f-fold of it. Raises ValueError for f below 0."""
        if f < 0:
            raise ValueError("Scaling factor must be non-negative.")
        return ExecutionResources(*(one * f if one and f else 0.0 for one in self._all()))

    def floordiv(self, other: ExecutionResources) -> ExecutionResources:
        """How often the other fits, kind by kind."""
        pairs = zip(self._all(), other._all())
        return ExecutionResources(*(INF if b == 0 or a == INF else math.floor(a / b) for a, b in pairs))


def _rounded(value: float | None, digits: int) -> float | None:
    return value if value is None or value == INF else round(value, digits)


class ExecutionOptions:
    """What an execution may use and how it keeps order.

    * ``resource_limits``: the most that it may use at a time; a kind that is not given has no limit.
    * ``exclude_resources``: what it leaves to others.
    * ``preserve_order``: blocks come in the order of their source. Without it they come as they are made. A
      `DataContext` has it at first; options that are made anew have not, as in Ray.
    * ``verbose_progress``: progress of each operator.

    ``label_selector`` and ``actor_locality_enabled=False`` have no effect, and give a warning."""

    actor_locality_enabled: bool

    def __init__(
        self,
        resource_limits: ExecutionResources | None = None,
        exclude_resources: ExecutionResources | None = None,
        preserve_order: bool = False,
        actor_locality_enabled: bool = True,
        verbose_progress: bool | None = None,
        label_selector: dict[str, str] | None = None,
    ) -> None:
        self.resource_limits = ExecutionResources() if resource_limits is None else resource_limits
        self.exclude_resources = exclude_resources
        self.preserve_order = preserve_order
        self.actor_locality_enabled = actor_locality_enabled
        self.verbose_progress = True if verbose_progress is None else verbose_progress
        self.label_selector = label_selector

    @property
    def resource_limits(self) -> ExecutionResources:
        """The most that an execution may use at a time: what is not given when it is set is unlimited."""
        return self._resource_limits

    @resource_limits.setter
    def resource_limits(self, limits: ExecutionResources) -> None:
        if not isinstance(limits, ExecutionResources):
            raise TypeError(f"resource_limits must be ExecutionResources, not {limits!r}")
        self._resource_limits = limits.as_limits()

    @property
    def exclude_resources(self) -> ExecutionResources:
        """What an execution leaves to others; None, when it is set, is nothing."""
        return self._exclude_resources

    @exclude_resources.setter
    def exclude_resources(self, amount: ExecutionResources | None) -> None:
        if amount is not None and not isinstance(amount, ExecutionResources):
            raise TypeError(f"exclude_resources must be ExecutionResources, not {amount!r}")
        self._exclude_resources = ExecutionResources.zero() if amount is None else amount

    def __setattr__(self, name: str, value: Any) -> None:
        if (name == "label_selector" and value) or (name == "actor_locality_enabled" and not value):
            advice = "; give it to each read and map" if name == "label_selector" else ""
            warnings.warn(f"ExecutionOptions.{name} has no effect in hpc.data{advice}", UserWarning, stacklevel=2)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        told = ", ".join(f"{word.lstrip('_')}={value}" for word, value in vars(self).items())
        return f"ExecutionOptions({told})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecutionOptions) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def is_resource_limits_default(self) -> bool:
        """Whether there is no limit."""
        return self.resource_limits == ExecutionResources.for_limits()

    def validate(self) -> None:
        """Raises ValueError where a kind of resource has both a limit and an amount that is left to others."""
        for kind in ("cpu", "gpu", "object_store_memory", "memory"):
            if getattr(self.resource_limits, kind) != INF and getattr(self.exclude_resources, kind) > 0:
                raise ValueError(f"resource_limits and exclude_resources cannot both be set for {kind} resource.")


def _checked_seed(seed: Any) -> None:
    if seed is not None and not isinstance(seed, int):
        raise ValueError("Seed must be an integer or None.")


@dataclass
class RandomSeedConfig:
    """A seed. With ``reseed_after_execution`` each execution has another order, and the n-th always the same."""

    seed: int | None = None
    reseed_after_execution: bool = True
    use_timestamp_as_default: bool = False

    def __post_init__(self) -> None:
        _checked_seed(self.seed)

    @classmethod
    def create_seed_config(
        cls, seed: int | RandomSeedConfig | None, *, use_timestamp_as_default: bool = False
    ) -> RandomSeedConfig:
        """The config that an argument ``seed`` means: a number is the same seed in each execution."""
        if isinstance(seed, RandomSeedConfig):
            return cls(seed.seed, seed.reseed_after_execution, use_timestamp_as_default)
        if seed is None or isinstance(seed, int):
            return cls(seed, False, use_timestamp_as_default)
        raise ValueError(f"Invalid seed type: {type(seed)}")

    def of_execution(self, number: int) -> int | None:
        """The seed of the n-th execution (from 0), or None where there is no seed."""
        if self.seed is None or not self.reseed_after_execution:
            return self.seed
        return (self.seed * 0x9E3779B97F4A7C15 + number + 1) % (1 << 63)


@dataclass
class FileShuffleConfig:
    """The order of a source's files: with ``reseed_after_execution`` another one in each execution."""

    seed: int | None = None
    reseed_after_execution: bool = True

    def __post_init__(self) -> None:
        _checked_seed(self.seed)

    def get_seed(self, execution_idx: int = 0) -> int | None:
        """The seed of the n-th execution (from 0), or None where there is no seed."""
        return RandomSeedConfig(self.seed, self.reseed_after_execution).of_execution(execution_idx)


class SaveMode(enum.Enum):
    """What a write does where the path has files: add to them, replace them, do nothing, or raise an error."""

    CREATE = "create"
    APPEND = "append"
    OVERWRITE = "overwrite"
    IGNORE = "ignore"
    ERROR = "error"
    UPSERT = "upsert"


class SinkMode(enum.Enum):
    """What a write into a table of a database does with the table."""

    CREATE = 1
    APPEND = 2
    OVERWRITE = 3


class MixStoppingCondition(enum.Enum):
    """When a mix of datasets ends: with the first of them, or with the last."""

    STOP_ON_SHORTEST = "stop_on_shortest"
    STOP_ON_LONGEST_DROP = "stop_on_longest_drop"
