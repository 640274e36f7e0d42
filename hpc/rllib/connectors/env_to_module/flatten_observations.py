"""Flat vectors of observations, between environment and module."""

from hpc.rllib.connectors.common.flatten_observations import FlattenObservations

__all__ = ["FlattenObservations"]
