"""All rules: a plan that gives the same rows for less."""

from __future__ import annotations

from collections.abc import Callable

from hpc.data.plan.nodes import Node
from hpc.data.plan.rules_exchange import combine_early
from hpc.data.plan.rules_filter import filter_early
from hpc.data.plan.rules_limit import limit_early
from hpc.data.plan.rules_project import select_early

Rule = Callable[[Node], Node]


def optimized(plan: Node) -> Node:
    """The plan after all rules. Filters first: they move what columns are wanted of a source."""
    for rule in (filter_early, select_early, limit_early, combine_early):
        plan = _everywhere(plan, rule, {})
    return plan


def _everywhere(node: Node, rule: Rule, done: dict[int, tuple[Node, Node]]) -> Node:
    """A rule at each node, inputs first. A node that is used twice is looked at once."""
    known = done.get(id(node))
    if known is not None:
        return known[1]
    inputs = tuple(_everywhere(one, rule, done) for one in node.inputs)
    same = all(new is old for new, old in zip(inputs, node.inputs))
    made = rule(node if same else node.with_inputs(inputs))
    done[id(node)] = (node, made)
    return made
