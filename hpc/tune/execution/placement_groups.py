"""Ray's place for the room of trials."""

from __future__ import annotations

from hpc.tune.placement import PlacementGroupFactory, resource_dict_to_pg_factory

__all__ = ["PlacementGroupFactory", "resource_dict_to_pg_factory"]
