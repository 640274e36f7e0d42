"""What a trial needs of the nodes: Ray's PlacementGroupFactory, and plain dicts of resources. Pure: no session."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroupFactory:
    """The room of one trial: bundles of resources, and how they are placed.

    The first bundle holds the trial's own actor; the others are for what the trial starts. An empty first bundle: the
    actor holds nothing. ``kwargs`` are options of `hpc.util.placement_group.placement_group`.

    Raises ValueError for bundles or a strategy that make no placement group.
    """

    def __init__(
        self, bundles: Sequence[Mapping[str, float]], strategy: str = "PACK", *args: Any, **kwargs: Any
    ) -> None:
        if isinstance(bundles, (str, Mapping)) or not isinstance(bundles, Sequence) or not bundles:
            raise ValueError(f"PlacementGroupFactory needs a list of at least one bundle, not {bundles!r}")
        if strategy not in STRATEGIES:
            raise ValueError(f"the strategy of a PlacementGroupFactory is one of {STRATEGIES}, not {strategy!r}")
        found = [_bundle(one) for one in bundles]
        self.head_bundle_is_empty = not found[0]
        self._bundles = found[1:] if self.head_bundle_is_empty else found
        if not self._bundles:
            raise ValueError("the only bundle of a PlacementGroupFactory is empty: a trial needs some resource")
        if not all(self._bundles):
            raise ValueError("only the first bundle of a PlacementGroupFactory may be empty")
        self.strategy = strategy
        self._args, self._kwargs = args, kwargs
        named = tuple(tuple(sorted(one.items())) for one in self._bundles)
        #: What makes it equal to others. It is asked for often: of each waiting trial, in each turn.
        self._key = (named, strategy, self.head_bundle_is_empty, repr(args), repr(sorted(kwargs.items())))
        self._hash = hash(self._key)

    @property
    def bundles(self) -> list[dict[str, float]]:
        """The bundles that hold something."""
        return [dict(one) for one in self._bundles]

    @property
    def head_cpus(self) -> float:
        """The CPUs of the trial's own actor."""
        return self.head.get("CPU", 0.0)

    @property
    def head(self) -> dict[str, float]:
        """What the trial's own actor holds."""
        return {} if self.head_bundle_is_empty else dict(self._bundles[0])

    @property
    def required_resources(self) -> dict[str, float]:
        """The sum of all bundles."""
        total: dict[str, float] = {}
        for bundle in self._bundles:
            for name, amount in bundle.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    @property
    def is_plain(self) -> bool:
        """Whether an actor with resources is all that is needed."""
        return len(self._bundles) == 1 and not (self.head_bundle_is_empty or self._args or self._kwargs)

    def to_placement_group(self) -> Any:
        """A new placement group of these bundles."""
        from hpc.util.placement_group import placement_group

        return placement_group(self.bundles, self.strategy, *self._args, **self._kwargs)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PlacementGroupFactory) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:  # hashes of texts differ from process to process
        bundles = [{}, *self._bundles] if self.head_bundle_is_empty else self._bundles
        made = functools.partial(PlacementGroupFactory, bundles, self.strategy, *self._args, **self._kwargs)
        return made, ()

    def __repr__(self) -> str:
        bundles = [{}, *self._bundles] if self.head_bundle_is_empty else self._bundles
        return f"PlacementGroupFactory({bundles}, strategy={self.strategy!r})"


def resource_dict_to_pg_factory(spec: Mapping[str, Any] | None = None) -> PlacementGroupFactory:
    """The room that a dict such as ``{"cpu": 2, "gpu": 0.5}`` means: one bundle. None or {}: one CPU."""
    given = dict(spec or {"cpu": 1})
    named = {name: given.pop(name.lower(), given.pop(name, 0)) for name in ("CPU", "GPU")}
    memory = given.pop("memory", 0)
    custom = given.pop("custom_resources", None)
    others = dict(custom) if custom else given
    return PlacementGroupFactory([{**others, **named, "memory": memory}])


def _bundle(given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise ValueError(f"a bundle is a dict of resources, not {given!r}")
    found = {}
    for name, amount in given.items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise ValueError(f"a bundle has numbers by the names of resources, not {name!r}: {amount!r}")
        if amount != amount or amount < 0:
            raise ValueError(f"a bundle cannot hold {amount} of {name}")
        if amount:
            found[name] = float(amount)
    return found
