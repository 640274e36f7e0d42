"""Strategies that say where a task or an actor goes, beside the strings "DEFAULT" and "SPREAD"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from hpc.core.idtypes import NodeID
from hpc.core.policy.labels import Selector, check_key, check_value

if TYPE_CHECKING:
    from hpc.api.placement_groups import PlacementGroup


@dataclass(frozen=True)
class NodeAffinitySchedulingStrategy:
    """On the node with this id (``get_runtime_context().get_node_id()``, or ``NodeID`` of ``hpc.nodes()``).

    It waits while the node is busy. If the node is dead, or could never provide what is needed, the task fails with
    TaskUnschedulableError (an actor with ActorUnschedulableError). With ``soft`` another node is taken then.
    """

    node_id: str | int | NodeID
    soft: bool = False

    def __post_init__(self) -> None:
        given = self.node_id.hex() if isinstance(self.node_id, NodeID) else self.node_id
        object.__setattr__(self, "node_id", given)
        is_text = isinstance(given, str) and given.isascii() and given.isdigit()
        if not (is_text or (isinstance(given, int) and not isinstance(given, bool))) or int(given) < 1:
            raise ValueError(f"node_id must be the id of a node, like {'1'!r}; not {given!r}")


@dataclass(frozen=True)
class PlacementGroupSchedulingStrategy:
    """In a placement group: in the bundle of this index, or (-1) in any that has room.

    placement_group_capture_child_tasks: tasks and actors that the task submits without a strategy of their own go into
    the group too. None: as it is for the task that submits (False in a driver). ``placement_group=None`` is outside of
    all groups.
    """

    placement_group: PlacementGroup | None
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None

    def __post_init__(self) -> None:
        index = self.placement_group_bundle_index
        if isinstance(index, bool) or not isinstance(index, int) or index < -1:
            raise ValueError(f"placement_group_bundle_index must be -1 or the index of a bundle, not {index!r}")


class _Values:
    operator = ""

    def __init__(self, *values: str) -> None:
        if not values:
            raise ValueError(f"{type(self).__name__}() needs at least one value")
        self.values = [check_value(value) for value in values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.values))})"


class In(_Values):
    """The label has one of these values."""

    operator = "in"


class NotIn(_Values):
    """The label has none of these values, or is not there."""

    operator = "!in"


class Exists:
    """The label is there."""

    operator = "exists"
    values: tuple[str, ...] = ()


class DoesNotExist:
    """The label is not there."""

    operator = "!exists"
    values: tuple[str, ...] = ()


Condition = Union[In, NotIn, Exists, DoesNotExist]


class NodeLabelSchedulingStrategy:
    """On a node whose labels meet all conditions in ``hard``, and those in ``soft`` too if such a node has room.

    Raises ValueError if both are empty, TypeError or ValueError for what is no condition.
    """

    def __init__(self, hard: Mapping[str, Condition], *, soft: Mapping[str, Condition] | None = None) -> None:
        self.hard = _selector("hard", hard)
        self.soft = _selector("soft", soft or {})
        if not self.hard and not self.soft:
            raise ValueError("hard and soft of NodeLabelSchedulingStrategy cannot both be empty")

    def alternatives(self) -> list[Selector]:
        """Selectors, the best first."""
        return [self.hard + self.soft, self.hard] if self.soft else [self.hard]


def _selector(name: str, given: Mapping[str, Condition]) -> Selector:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a dict of labels and conditions, not {type(given).__name__}")
    for key, condition in given.items():
        if not isinstance(condition, (In, NotIn, Exists, DoesNotExist)):
            raise ValueError(
                f"the condition on label {key!r} must be In(...), NotIn(...), Exists() or DoesNotExist(), "
                f"not {condition!r}"
            )
    return [(check_key(key), condition.operator, list(condition.values)) for key, condition in given.items()]


SchedulingStrategyT = Union[
    None, str, NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy, NodeLabelSchedulingStrategy
]

#: The module from which users import these, as it stands in their names and pickles.
for _public in (
    NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy, NodeLabelSchedulingStrategy, In, NotIn, Exists,
    DoesNotExist,
):  # fmt: skip
    _public.__module__ = "hpc.util.scheduling_strategies"
