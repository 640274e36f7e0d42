"""From options to what travels: resources, and the strategy as plain data.

The forms are "DEFAULT", "SPREAD", ("node", number, soft), ("pg", group, bundle, capture children) and ("where", base
strategy, label selectors, the best first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc.api.placement_groups import PlacementGroup
from hpc.api.strategies import (
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from hpc.core.policy.labels import Selector, check_value, parse_selector
from hpc.core.process.context import process
from hpc.core.resources import fits, show, to_units

#: The value of the option placement_group that is the same as none.
NO_GROUP = "default"

#: What a task with an accelerator_type takes of the resource of that name, of which a node has 1: next to nothing.
ACCELERATOR_UNITS = 10


def check_strategy(name: str, value: Any) -> None:
    """Raises ValueError for a name that is no strategy's, TypeError for what is neither a name nor a strategy."""
    kinds = (NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy, PlacementGroupSchedulingStrategy)
    if value not in (None, "DEFAULT", "SPREAD") and not isinstance(value, kinds):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f'{name} must be "DEFAULT", "SPREAD" or a strategy object, not {value!r}')
    if isinstance(value, PlacementGroupSchedulingStrategy):
        check_group("placement_group", value.placement_group)


def check_group(name: str, value: Any) -> None:
    """Raises TypeError for what is no placement group."""
    if value is not None and value != NO_GROUP and not isinstance(value, PlacementGroup):
        raise TypeError(f"{name} must be a placement group or None, not {type(value).__name__}")


def check_bundle_index(name: str, value: Any) -> None:
    """Raises ValueError for what is no index of a bundle."""
    PlacementGroupSchedulingStrategy(None, value)


def check_label_selector(name: str, value: Any) -> None:
    """Raises TypeError or ValueError for what is no label selector."""
    if value is not None:
        parse_selector(value)


def check_fallback(name: str, value: Any) -> None:
    """Raises TypeError or ValueError for what is no list of fallbacks."""
    if value is None:
        return
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of dicts, as in [{{'label_selector': {{'zone': 'b'}}}}]")
    for one in value:
        if not isinstance(one, Mapping) or set(one) != {"label_selector"}:
            raise ValueError(f"each element of {name} must be a dict with the key 'label_selector', not {one!r}")
        parse_selector(one["label_selector"])


def check_accelerator(name: str, value: Any) -> None:
    """Raises TypeError or ValueError for what is no kind of accelerator."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string like 'A100', not {type(value).__name__}")
    if not check_value(value):
        raise ValueError(f"{name} must not be empty")


def requirements(
    options: Mapping[str, Any], held: dict[str, int], placement: dict[str, int], actor: bool
) -> tuple[dict[str, int], dict[str, int], Any]:
    """Resources that are held, resources for placement, strategy. Raises ValueError for what can never be placed."""
    kind = options.get("accelerator_type")
    if kind:
        extra = {f"accelerator_type:{kind}": ACCELERATOR_UNITS}
        held, placement = {**held, **extra}, {**placement, **extra}
    selectors = _selectors(options)
    strategy = _base(_older_form(options) or options.get("scheduling_strategy"))
    if isinstance(strategy, PlacementGroupSchedulingStrategy):
        if selectors:
            raise ValueError("label selectors of what runs in a placement group belong to its bundles")
        placement = _check_fit(options, strategy, placement, actor)
        capture = strategy.placement_group_capture_child_tasks
        if capture is None:
            capture = bool(process.group and process.group[1])
        assert strategy.placement_group is not None
        group = ["pg", strategy.placement_group._ident, strategy.placement_group_bundle_index, capture]
        return held, placement, group
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        if selectors:
            raise ValueError("give either a NodeLabelSchedulingStrategy or a label_selector, not both")
        return held, placement, ["where", "DEFAULT", strategy.alternatives()]
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        strategy = ["node", int(str(strategy.node_id)), strategy.soft]
    elif strategy == "DEFAULT" and not selectors and process.group and process.group[1]:
        strategy = ["pg", process.group[0], -1, True]
    return held, placement, ["where", strategy, selectors] if selectors else strategy


def check_older_form(options: Mapping[str, Any]) -> None:
    """Raises for what does not go together of the options that were there before strategies."""
    group = options.get("placement_group", NO_GROUP)
    index = options.get("placement_group_bundle_index", -1)
    if group is not None and group != NO_GROUP and options.get("scheduling_strategy") is not None:
        raise ValueError("give either scheduling_strategy or placement_group, not both")
    if (group is None or group == NO_GROUP) and index != -1:
        raise ValueError("placement_group_bundle_index needs a placement_group")


def _older_form(options: Mapping[str, Any]) -> PlacementGroupSchedulingStrategy | None:
    """The strategy that the options ``placement_group...`` stand for; None where they are not given."""
    group = options.get("placement_group", NO_GROUP)
    if group == NO_GROUP:
        return None
    return PlacementGroupSchedulingStrategy(
        group,
        options.get("placement_group_bundle_index", -1),
        options.get("placement_group_capture_child_tasks"),
    )


def _base(value: Any) -> Any:
    """The strategy that was given; none, or no group, is DEFAULT."""
    if value is None:
        return "DEFAULT"
    if isinstance(value, PlacementGroupSchedulingStrategy):
        group = value.placement_group
        # "outside of all groups" is said by a condition that holds everywhere, so that it is not captured either
        return ["where", "DEFAULT", [[]]] if group is None or group.is_empty else value
    return value


def _selectors(options: Mapping[str, Any]) -> list[Selector]:
    first, others = options.get("label_selector"), options.get("fallback_strategy") or []
    if not first and not others:
        return []
    return [parse_selector(first or {}), *(parse_selector(one["label_selector"]) for one in others)]


def _check_fit(
    options: Mapping[str, Any], strategy: PlacementGroupSchedulingStrategy, placement: dict[str, int], actor: bool
) -> dict[str, int]:
    """What is needed to be placed in the group, checked against its bundles."""
    assert strategy.placement_group is not None
    specs, index = strategy.placement_group.bundle_specs, strategy.placement_group_bundle_index
    if index >= len(specs):
        raise ValueError(f"the placement group has {len(specs)} bundles: there is none of index {index}")
    chosen = specs if index < 0 else [specs[index]]
    bundles = [{name: to_units(name, amount) for name, amount in bundle.items()} for bundle in chosen]
    if actor and options.get("num_cpus") is None and not any(bundle.get("CPU") for bundle in bundles):
        placement = {name: units for name, units in placement.items() if name != "CPU"}
    if specs and not any(fits(bundle, placement) for bundle in bundles):
        where = "any bundle" if index < 0 else f"bundle {index}"
        has = " or ".join(sorted({f"{{{show(bundle)}}}" for bundle in bundles}))
        raise ValueError(f"{{{show(placement)}}} does not fit into {where} of the placement group: {has}")
    return placement


def is_pinned(strategy: Any) -> bool:
    """Whether a strategy, as it travels, takes one node and no other."""
    if not isinstance(strategy, (list, tuple)):
        return False
    return strategy[0] == "node" and not strategy[2] if strategy[0] != "where" else is_pinned(strategy[1])
