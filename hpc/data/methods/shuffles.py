"""Methods that move rows between blocks: sort, random_shuffle, repartition, join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc.data import facts
from hpc.data.methods import staging
from hpc.data.methods.order import seed_of
from hpc.data.options import RandomSeedConfig
from hpc.data.plan import nodes
from hpc.data.planned import D, Planned
from hpc.data.shuffle.hashed import HashShuffle, Spread
from hpc.data.shuffle.join import Join, Joining
from hpc.data.shuffle.order import SortKey
from hpc.data.shuffle.random import RandomShuffle
from hpc.data.shuffle.ranges import Repartition
from hpc.data.shuffle.sort import Sort
from hpc.data.shuffle.states import no_column


def names_of(what: str, given: Any) -> tuple[str, ...]:
    """The names of one column, or of several. Raises ValueError for anything else."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what} is the name of a column, or a list of names, and {given!r} is neither")
    return tuple(names)


def check_columns(self: Planned, names: Sequence[str]) -> None:
    """Raises ValueError for a column that is not there, if the columns are known without a run."""
    schema = facts.schema_of(self.plan)
    for name in names:
        if schema is not None and name not in schema.names:
            raise ValueError(no_column(name, schema.names))


def check_partitions(number: Any, what: str) -> None:
    """Raises ValueError for what is not a positive number of partitions."""
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise ValueError(f"{what} must be a positive number, not {number!r}")


def sort(
    self: D,
    key: str | list[str],
    descending: bool | list[bool] = False,
    boundaries: list[Any] | None = None,
) -> D:
    """The rows in the order of one column or of several; null behind all, NaN before them, in either direction.

    Rows with equal keys stay in their order. ``descending``: for all keys, or for each. ``boundaries``: values of the
    first key at which blocks begin, and no others. Raises ValueError for keys that are not there."""
    if key is None:
        raise ValueError("sort needs a key: the name of a column, or a list of names")
    names = names_of("the key of a sort", key)
    if not names:
        raise ValueError("sort needs a key: the list of names is empty")
    directions = [descending] * len(names) if isinstance(descending, bool) else list(descending)
    if len(directions) != len(names):
        raise ValueError(f"descending has {len(directions)} values for {len(names)} keys")
    check_columns(self, names)
    keys = tuple(SortKey(name, down) for name, down in zip(names, directions))
    bounds = None if boundaries is None else tuple(boundaries)
    return self.derived(nodes.Exchanged((self.plan,), Sort(keys, bounds)))


def random_shuffle(
    self: D, *, seed: int | RandomSeedConfig | None = None, num_blocks: int | None = None, **ray_remote_args: Any
) -> D:
    """All rows in a random order. With a seed the order is the same whatever the timing of tasks is."""
    if num_blocks is not None:
        raise DeprecationWarning("random_shuffle does not change the number of blocks: use repartition for that")
    options = staging.options(remote=ray_remote_args)
    return self.derived(nodes.Exchanged((self.plan,), RandomShuffle(seed_of(seed)), None, options))


def repartition(
    self: D,
    num_blocks: int | None = None,
    target_num_rows_per_block: int | None = None,
    *,
    strict: bool = False,
    shuffle: bool = False,
    keys: list[str] | None = None,
    sort: bool = False,
) -> D:
    """The rows in other blocks.

    * ``num_blocks``: so many, in the order of the rows; with ``shuffle``, each takes every n-th row.
    * ``keys``: rows with equal values of these columns in one block; ``sort``: blocks in the order of the keys.
    * ``target_num_rows_per_block``: at most so many rows; ``strict``: exactly, except for the last block."""
    if (num_blocks is None) == (target_num_rows_per_block is None):
        words = "neither is" if num_blocks is None else "both are"
        raise ValueError(
            f"repartition takes exactly one of num_blocks and target_num_rows_per_block, and {words} given"
        )
    if target_num_rows_per_block is not None:
        if shuffle:
            raise ValueError("shuffle cannot be used with target_num_rows_per_block")
        check_partitions(target_num_rows_per_block, "target_num_rows_per_block")
        return self.derived(nodes.Resize(self.plan, target_num_rows_per_block, strict))
    check_partitions(num_blocks, "num_blocks")
    assert num_blocks is not None
    exchange: Any
    if keys:
        names = names_of("keys", keys)
        check_columns(self, names)
        exchange = HashShuffle(names, num_blocks, sort)
    else:
        exchange = Spread(num_blocks) if shuffle else Repartition(num_blocks)
    return self.derived(nodes.Exchanged((self.plan,), exchange))


def join(
    self: D,
    ds: Planned,
    join_type: str,
    num_partitions: int,
    on: tuple[str, ...] | list[str] = ("id",),
    right_on: tuple[str, ...] | list[str] | None = None,
    left_suffix: str | None = None,
    right_suffix: str | None = None,
    *,
    partition_size_hint: int | None = None,
    aggregator_ray_remote_args: dict[str, Any] | None = None,
    validate_schemas: bool = False,
) -> D:
    """The rows of two datasets with equal keys. Null is equal to nothing.

    * ``join_type``: inner, left_outer, right_outer, full_outer; left_semi, right_semi (the rows of a side that have a
      match), left_anti, right_anti (those that have none).
    * ``on``, ``right_on``: the keys of this side, and of the other if they have other names there.
    * ``left_suffix``, ``right_suffix``: what columns that both sides have get behind their names.
    * ``validate_schemas``: raise ValueError now if the keys are not there, or of other types."""
    if not hasattr(ds, "plan"):
        raise TypeError(f"join takes a dataset, not {type(ds).__name__}")
    for what, names in (("on", on), ("right_on", right_on)):
        if names is not None and not isinstance(names, (tuple, list)):
            raise ValueError(f"`{what}` is a tuple or a list of names, not {type(names).__name__}")
    check_partitions(num_partitions, "num_partitions")
    lefts = names_of("on", on)
    rights = lefts if right_on is None else names_of("right_on", right_on)
    joining = Joining(join_type, lefts, rights, left_suffix, right_suffix)
    check_columns(self, lefts)
    check_columns(ds, rights)
    if validate_schemas:
        _check_types(self, ds, joining)
    options = staging.options(remote=aggregator_ray_remote_args)
    return self.derived(nodes.Exchanged((self.plan, ds.plan), Join(joining, num_partitions), None, options))


def _check_types(self: Planned, ds: Planned, joining: Joining) -> None:
    from hpc.data.methods.look import schema

    found = [schema(self), schema(ds)]
    for one, other in zip(joining.left_on, joining.right_on):
        kinds = []
        for name, some in zip((one, other), found):
            names = [] if some is None else some.base_schema.names
            if name not in names:
                raise ValueError(no_column(name, names))
            kinds.append(some.base_schema.field(name).type)  # type: ignore[union-attr]
        if kinds[0] != kinds[1]:
            raise ValueError(f"keys of a join are of one type: {one!r} is {kinds[0]}, {other!r} is {kinds[1]}")
