"""Ray's place for the expansion of search spaces."""

from __future__ import annotations

from hpc.tune.naming import values_text as format_vars
from hpc.tune.space import grid_search
from hpc.tune.variants import RecursiveDependencyError, assign_value, generate_variants
from hpc.tune.variants import split_space as parse_spec_vars

__all__ = [
    "RecursiveDependencyError", "assign_value", "format_vars", "generate_variants", "grid_search", "parse_spec_vars",
]  # fmt: skip
