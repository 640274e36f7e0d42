"""Placement groups: bundles of resources that are reserved together, on one node or on many.

A group is planned by the head and reserved in two phases, all of it or nothing. Tasks and actors are placed in it by
`PlacementGroupSchedulingStrategy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpc.core.idtypes import PlacementGroupID
from hpc.core.policy.labels import NODE_ID, PREFIXES, Selector, check_key, parse_selector
from hpc.core.resources import to_units

if TYPE_CHECKING:
    from hpc.core.owner.ref import ObjectRef

#: Ray's strategies; how they choose is in core/policy/bundles.py, which takes numpy to import.
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
#: Ray's name for the label that each node has alone.
THEIR_NODE_ID = PREFIXES[1] + NODE_ID.removeprefix(PREFIXES[0])
#: Labels of one topology_strategy.
MAX_LABELS = 10


class PlacementGroup:
    """A handle to a placement group. It can be passed anywhere; dropping it does not remove the group."""

    __module__ = "hpc.util.placement_group"

    def __init__(
        self,
        id: PlacementGroupID | bytes,
        bundle_cache: list[dict[str, float]] | None = None,
        made: ObjectRef[None] | None = None,
    ) -> None:
        self._ident = id.binary() if isinstance(id, PlacementGroupID) else id
        self._bundles = bundle_cache
        #: In the process that made the group: an object that has a value while everything is reserved.
        self._made = made

    @staticmethod
    def empty() -> PlacementGroup:
        """No group."""
        return PlacementGroup(b"", [])

    @property
    def id(self) -> PlacementGroupID:
        """The group's id; for no group the id of nothing."""
        return PlacementGroupID(self._ident) if self._ident else PlacementGroupID.nil()

    @property
    def is_empty(self) -> bool:
        """Whether this is no group."""
        return not self._ident

    def ready(self) -> ObjectRef[PlacementGroup]:
        """A reference that has a value (the group) once everything is reserved.

        Getting it raises TaskPlacementGroupRemoved if the group is removed before.
        """
        from hpc.api.connection import ensure_client
        from hpc.core import serialization

        return ensure_client().when_group(self._ident, serialization.dumps(self).to_bytes())

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until everything is reserved; False if that takes longer, or the group is removed."""
        from hpc.api.objects import get, wait
        from hpc.core.exceptions import TaskPlacementGroupRemoved
        from hpc.core.process.current import current

        made = self._made if self._made is not None and self._made._client is current.client else None
        done, _ = wait([made or self.ready()], timeout=timeout_seconds)
        if not done:
            return False
        try:
            get(done)
        except TaskPlacementGroupRemoved:
            return False
        return True

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        if self._bundles is None:
            rows = _rows(self._ident)
            self._bundles = rows[0]["bundles"] if rows else []
        return [{name: float(amount) for name, amount in bundle.items()} for bundle in self._bundles]

    @property
    def bundle_count(self) -> int:
        """How many bundles there are."""
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and other._ident == self._ident

    def __hash__(self) -> int:
        return hash(self._ident)

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacementGroup, (self._ident, self._bundles)

    def __repr__(self) -> str:
        return f"PlacementGroup({self._ident.hex()})"


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
    topology_strategy: Mapping[str, str] | None = None,
) -> PlacementGroup:
    """Ask for a placement group; returns at once (see `PlacementGroup.ready`).

    bundles: resources by name, as {"CPU": 2, "GPU": 1}. strategy: "PACK" (few nodes; the default), "SPREAD" (many
    nodes), "STRICT_PACK" (one node) or "STRICT_SPREAD" (a node for each). name: for `get_placement_group`. lifetime:
    None (the group ends with the driver, or with the actor, that made it) or "detached" (with the session).
    bundle_label_selector: for each bundle, the labels that its node must have. topology_strategy: in place of
    strategy, one of the four for labels of nodes, as {"hpc.io/switch": "STRICT_PACK"}: all below one switch. The label
    "ray.io/node-id" says the strategy over nodes. One label at most has a strategy other than "STRICT_PACK".

    Raises ValueError or TypeError for what makes no sense, ValueError if the name is taken.
    """
    from hpc.api.connection import ensure_client, namespace_of
    from hpc.core.process.context import process
    from hpc.core.wire import PgCreate

    amounts, selectors, over_nodes, topology = _checked(
        bundles, strategy, lifetime, bundle_label_selector, topology_strategy
    )
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}")
    client = ensure_client()
    creator = client.addr if process.actor else client.driver
    namespace = namespace_of(client)

    def describe(number: int, ident: bytes) -> PgCreate:
        return PgCreate(
            number, ident, name, namespace, over_nodes, amounts, selectors, lifetime == "detached", creator, topology
        )

    made = client.make_group(describe, bool(name))
    return PlacementGroup(made._id, [dict(bundle) for bundle in bundles], made)


def validate_placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str | None = None,
    lifetime: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
    topology_strategy: Mapping[str, str] | None = None,
) -> None:
    """Raise ValueError or TypeError for what `placement_group` would refuse."""
    _checked(bundles, strategy, lifetime, bundle_label_selector, topology_strategy)


def check_placement_group_index(placement_group: PlacementGroup, bundle_index: int) -> None:
    """Raise ValueError if the group has no bundle of this index; -1 means any of them."""
    if not isinstance(placement_group, PlacementGroup):
        raise TypeError(f"placement_group must be a PlacementGroup, not {type(placement_group).__name__}")
    if placement_group.is_empty:
        if bundle_index != -1:
            raise ValueError(f"without a placement group the index of a bundle must be -1, not {bundle_index}")
    elif not -1 <= bundle_index < placement_group.bundle_count:
        raise ValueError(
            f"the placement group has {placement_group.bundle_count} bundles: the index must be one of them, or -1, "
            f"not {bundle_index}"
        )


def _checked(
    bundles: Any,
    strategy: str | None,
    lifetime: str | None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None,
    topology_strategy: Any,
) -> tuple[list[dict[str, int]], list[Selector], str, list[list[str]]]:
    """The amounts and selectors of the bundles, the strategy over nodes, those over labels; ValueError or TypeError
    for what makes no sense."""
    amounts = _amounts(bundles)
    if strategy is not None and strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    over_nodes = strategy or "PACK"
    topology: list[list[str]] = []
    if topology_strategy is not None:
        if strategy is not None:
            raise ValueError(
                f"give strategy or topology_strategy, not both: in this, {THEIR_NODE_ID!r} has the strategy over nodes"
            )
        over_nodes, topology = _topology(topology_strategy, len(amounts))
    if lifetime not in (None, "detached"):
        raise ValueError(f'lifetime must be None or "detached", not {lifetime!r}')
    if not bundle_label_selector:
        return amounts, [], over_nodes, topology
    if len(bundle_label_selector) != len(amounts):
        raise ValueError(
            f"bundle_label_selector has {len(bundle_label_selector)} selectors for {len(amounts)} bundles: give "
            "one for each ({} where none is meant)"
        )
    return amounts, [parse_selector(selector) for selector in bundle_label_selector], over_nodes, topology


def _topology(given: Any, count: int) -> tuple[str, list[list[str]]]:
    """The strategy over nodes, and (label, strategy) of the labels. ValueError for what makes no sense."""
    if not isinstance(given, Mapping):
        raise ValueError(f"topology_strategy must be a dict of labels and strategies, not {type(given).__name__}")
    over_nodes = ""
    topology: list[list[str]] = []
    for key, how in given.items():
        if how not in STRATEGIES:
            raise ValueError(f"topology_strategy[{key!r}] must be one of {', '.join(STRATEGIES)}, not {how!r}")
        if check_key(key) not in (NODE_ID, THEIR_NODE_ID):
            topology.append([key, how])
        elif over_nodes:
            raise ValueError(f"topology_strategy has {NODE_ID!r} twice: {THEIR_NODE_ID!r} is the same label")
        else:
            over_nodes = how
    if len(topology) > MAX_LABELS:
        raise ValueError(f"topology_strategy has {len(topology)} labels; {MAX_LABELS} at most make sense")
    loose = [f"{key}: {how}" for key, how in topology if how != "STRICT_PACK"]
    if len(loose) > 1:
        raise ValueError(
            f"topology_strategy may have one label with a strategy other than STRICT_PACK, not {' and '.join(loose)}"
        )
    if over_nodes == "STRICT_PACK" and count > 1 and any(how == "STRICT_SPREAD" for _, how in topology):
        raise ValueError(f"topology_strategy asks for one node and for {loose[0]}: they exclude each other")
    return over_nodes or "PACK", topology


def _amounts(bundles: Any) -> list[dict[str, int]]:
    if isinstance(bundles, (str, bytes, Mapping)) or not isinstance(bundles, Sequence):
        raise ValueError(f"bundles must be a list of dicts, not {bundles!r}")
    if not bundles:
        raise ValueError("a placement group needs at least one bundle")
    amounts = []
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping) or not bundle:
            raise ValueError(f"bundle {index} must be a dict of resources and amounts, not {bundle!r}")
        for key, amount in bundle.items():
            if not isinstance(key, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)):
                raise ValueError(f"bundle {index} must map names of resources to numbers, not {key!r} to {amount!r}")
        amounts.append({name: to_units(name, amount) for name, amount in bundle.items() if amount})
        if not amounts[-1]:
            raise ValueError(f"bundle {index} reserves nothing: {bundle!r}")
    return amounts


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Have the group removed and what runs in it ended; returns at once. Tasks fail with TaskPlacementGroupRemoved,
    actors die."""
    from hpc.api.connection import ensure_client

    if not isinstance(placement_group, PlacementGroup):
        raise TypeError(f"remove_placement_group takes a PlacementGroup, not {type(placement_group).__name__}")
    why = "its placement group was removed by remove_placement_group()"
    ensure_client().remove_group(placement_group._ident, why)


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of this name (in this namespace). Raises ValueError if there is none, TypeError for what is no name."""
    from hpc.api.connection import ensure_client, namespace_of

    if not placement_group_name:
        raise ValueError("the name of a placement group must not be empty")
    if not isinstance(placement_group_name, str):
        raise TypeError(f"the name of a placement group must be a string, not {type(placement_group_name).__name__}")
    rows = _rows(name=placement_group_name, namespace=namespace_of(ensure_client()))
    if not rows:
        raise ValueError(f"there is no placement group named {placement_group_name!r}")
    return PlacementGroup(bytes.fromhex(rows[0]["group"]), rows[0]["bundles"])


def get_current_placement_group() -> PlacementGroup | None:
    """The group in which this task or actor runs; None outside of all groups, and in drivers."""
    from hpc.core.process.context import process
    from hpc.core.process.current import need_client

    need_client()
    return PlacementGroup(process.group[0]) if process.group else None


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """What the head knows of one group, or of all by their ids: name, strategies, state, bundles, and their nodes.

    The domains of these are the labels that say where a node is in the network."""
    if placement_group is not None:
        rows = _rows(placement_group._ident)
        return _row(rows[0]) if rows else {}
    return {row["group"]: _row(row) for row in _rows()}


def _rows(group: bytes = b"", name: str = "", namespace: str = "") -> list[dict[str, Any]]:
    import msgspec

    from hpc.api.connection import ensure_client
    from hpc.core.wire import PgTable

    answer = ensure_client().conversation.ask_head(lambda req: PgTable(req, group, namespace, name))
    rows: list[dict[str, Any]] = msgspec.json.decode(answer.data)
    return rows


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "placement_group_id": row["group"],
        "name": row["name"],
        "strategy": row["strategy"],
        "topology_strategy": row["topology_strategy"],
        "topology_assignments": row["topology_assignments"],
        "state": row["state"],
        "bundles": dict(enumerate(row["bundles"])),
        "bundles_to_node_id": {i: str(node) if node else "" for i, node in enumerate(row["nodes"])},
        "bundles_to_domains": dict(enumerate(row["domains"])),
        "is_detached": row["detached"],
        "why": row["why"],
    }
