"""Helpers with Ray's names.

Those of placement groups are imported at once: `hpc.util.placement_group` is the function, although there is a module
of that name to import from.
"""

from hpc.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

__all__ = [
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]
