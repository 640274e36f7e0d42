"""What a replica knows of its gang: the replicas that begin and end together with it. Ray Serve's name and fields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class GangContext:
    """The gang of a replica.

    rank: its own, from 0. world_size: how many replicas it has. member_replica_ids: theirs, by their ranks. pg_name: of
    the placement group that all of them share."""

    gang_id: str
    rank: int
    world_size: int
    member_replica_ids: list[str]
    pg_name: str = ""


__all__ = ["GangContext"]
